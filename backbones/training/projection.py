"""Projection: a small network learns on embeddings that an encoder has made once, and the encoder stays as it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from backbones.contract import BackboneError, Encoder, OnEpoch, ReadClips
from backbones.embed import embed
from backbones.training.checkpoint import TrainingCheckpoint
from backbones.training.finetune import SEEDS, finetune
from backbones.training.recipe import FinetuneRecipe

AT_ONCE = 1024  # embeddings; they are small, and no clip's projection depends on the others'


class Projection(Encoder):
    """Embeddings to embeddings: standardised, then one linear map, or two with a ReLU between them.

    It stands where an encoder stands, with embeddings in place of waveforms, so that what teaches encoders teaches it.

    Attributes:
        mean: (d,) of the embeddings that it learns from.
        scale: (d,) their standard deviation, 1 where they do not differ.
    """

    mean: Tensor
    scale: Tensor
    bins_are_mel = False

    def __init__(self, width: int, *, dim: int, hidden: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        sizes = [width, hidden, dim] if hidden else [width, dim]
        self.maps = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Take embeddings as they are: (b, d) -> (b, 1, d)."""
        return waveforms[:, None]

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Project: (b, 1, d) -> (b, 1, p)."""
        del padding_mask
        x = (fbank - self.mean) / self.scale
        for number, linear in enumerate(self.maps):
            x = linear(x if number == 0 else torch.relu(x))
        return x


def learn_projection(
    vectors: NDArray[np.float32],
    targets: NDArray[Any],
    *,
    n_classes: int,
    recipe: FinetuneRecipe,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    checkpoint: TrainingCheckpoint | None = None,
) -> Projection:
    """Teach a projection of embeddings to tell classes apart, with the recipe's loss, optimiser and mixup.

    What a recipe says of the encoder (masks, layers, adapters, micro-batches) has nothing to act on here.

    Args:
        vectors: (n, d) embeddings of the clips, from an encoder that was not fine-tuned.
        targets: as of `finetune`.
        n_classes: as of `finetune`.
        recipe: how to learn, and how large the projection is.
        seed: of the projection, the loss and the order.
        on_epoch: is told of each epoch.
        checkpoint: as of `finetune`.

    Raises:
        BackboneError: the projection has no size, there is no clip, or as of `finetune`.
    """
    if recipe.projection_dim < 1 or recipe.projection_hidden < 0:
        raise BackboneError(
            "projection_dim must be 1 or more and projection_hidden 0 or more, but got "
            f"{recipe.projection_dim} and {recipe.projection_hidden}."
        )
    if not len(vectors):
        raise BackboneError("A projection needs at least one clip, but got none; see which clips labeling kept.")
    fresh = _fresh(vectors, recipe, seed=seed)
    learning = replace(
        recipe,
        train="all",
        micro_batch=recipe.batch_size,
        masks=0, layer_decay=1.0, gradient_decay=1.0, freeze_layers=0, lora_rank=0,
        precision="float32" if recipe.precision == "auto" else recipe.precision,  # the same digits on every processor
    )  # fmt: skip
    learned = finetune(
        fresh, _reader(vectors), targets, n_classes=n_classes, recipe=learning, seed=seed, on_epoch=on_epoch,
        checkpoint=checkpoint,
    )  # fmt: skip
    assert isinstance(learned, Projection)
    return learned


def project(projection: Projection, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project embeddings: (n, d) -> (n, p)."""
    return embed(projection, _reader(vectors), len(vectors), batch_size=AT_ONCE)


def _fresh(vectors: NDArray[np.float32], recipe: FinetuneRecipe, *, seed: int) -> Projection:
    """Return a projection that has learned nothing yet; torch's own generator draws nothing."""
    with torch.device("meta"):
        empty = Projection(vectors.shape[1], dim=recipe.projection_dim, hidden=recipe.projection_hidden)
    made = empty.to_empty(device="cpu")
    generator = Generator().manual_seed(int(np.random.default_rng([seed, 0, 2]).integers(SEEDS)))
    with torch.no_grad():
        exact = vectors.astype(np.float64)
        spread = exact.std(axis=0)
        made.mean.copy_(torch.from_numpy(exact.mean(axis=0)))
        made.scale.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))
        for linear in made.maps:
            assert isinstance(linear, nn.Linear)
            # numbers keep their size: variance 1 / inputs, behind a ReLU, which halves it, twice that (He et al., 2015)
            deviation = ((1.0 if linear is made.maps[0] else 2.0) / linear.in_features) ** 0.5
            linear.weight.normal_(0.0, deviation, generator=generator)
            linear.bias.zero_()
    return made


def _reader(vectors: NDArray[np.float32]) -> ReadClips:
    return lambda positions: torch.from_numpy(vectors[positions])
