"""What travels into and out of the backbones room: backbones, encoders, embeddings, recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MEL_BINS = 128  # paper, section 4.2


MOST_LETTERS = 1_000  # of a sentence; names in other people's files can be megabytes long


class BackboneError(ValueError):
    """A backbone, checkpoint or fine-tuning run that cannot go on, said in one sentence.

    The sentence is one line without control signs, which names in a file may contain, and of a readable length.
    """

    def __init__(self, sentence: str = "") -> None:
        plain = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in sentence)
        if len(plain) > MOST_LETTERS:  # the way out stands at the end
            plain = f"{plain[: MOST_LETTERS // 2]} ... {plain[-MOST_LETTERS // 3 :]}"
        super().__init__(plain)


class Encoder(nn.Module):
    """An audio encoder: waveforms in, one embedding a clip out.

    Subclasses set `dim` and implement `fbank` and `tokens`; `pool` and `forward` follow from them.

    Attributes:
        dim: size d of an embedding.
        sample_rate: Hz of the waveforms it takes.
        n_layers: layers that `layer_index` tells apart; 0 where the encoder is one piece.
        gradient_decay: factor on the gradient below each layer in training, for encoders that have one, else None.
        bins_are_mel: whether the last axis of its features is frequency, which SpecAugment may mask.
        weights_sha256: sum of the checkpoint that it was loaded from, None for random weights.
    """

    dim: int
    sample_rate: int = 16_000
    n_layers: int = 0
    gradient_decay: float | None = None
    bins_are_mel: bool = True
    weights_sha256: str | None = None

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return raw log-mel features: (b, samples) in -1..1 -> (b, frames, 128), no clip seeing another."""
        raise NotImplementedError

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode log-mel features: (b, frames, 128) [, (b, frames) True = padding] -> (b, n, d)."""
        raise NotImplementedError

    def pool(self, tokens: Tensor) -> Tensor:
        """Reduce a clip's tokens to its embedding: (b, n, d) -> (b, d)."""
        return tokens.mean(dim=1)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Embed clips: (b, samples) in -1..1 -> (b, d)."""
        return self.pool(self.tokens(self.fbank(waveforms)))

    def read_named(self, ids: NDArray[np.str_]) -> ReadClips | None:
        """Return what gives this encoder's input by position where it knows clips by their ids; None takes waveforms.

        Args:
            ids: (n,) of the clips.
        """
        del ids
        return None

    def layer_index(self, name: str) -> int:
        """Place a parameter for layer-wise learning rates: 0 is the stem, `n_layers` what stands next to the head."""
        del name
        return self.n_layers

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the modules whose outputs a scorer can name as layers, lowest first; none where it is one piece."""
        return ()

    def grid(self, output: Tensor) -> Tensor:
        """Arrange the output of one of `layer_modules`: tokens in the order of time, (b, n, d) -> (b, n, 1, d).

        An encoder whose tokens keep frequency returns (b, time, frequency, width).
        """
        return output.unsqueeze(2)

    def tokens_and_layers(self, fbank: Tensor, numbers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Encode log-mel features in one pass, and keep what some layers gave on the way.

        Args:
            fbank: (b, frames, bins).
            numbers: of the layers, 1 is the first of `layer_modules`.

        Returns:
            `tokens(fbank)`, and (b, time, frequency, width) of each layer. A module that is called window by window has
            the windows one after the other in time.

        Raises:
            BackboneError: a layer's module takes no part in encoding.
        """
        modules = self.layer_modules()
        given: dict[int, list[Tensor]] = {number: [] for number in numbers}

        def keep(number: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                given[number].append(self.grid(output[0] if isinstance(output, tuple) else output))

            return hook

        hooks = [modules[number - 1].register_forward_hook(keep(number)) for number in given]
        try:
            tokens = self.tokens(fbank)
        finally:
            for each in hooks:
                each.remove()
        if silent := [number for number in given if not given[number]]:
            raise BackboneError(f"The module of layer {silent[0]} of {type(self).__name__} takes no part in encoding.")
        return tokens, [torch.cat(given[number], dim=1) for number in numbers]


@dataclass(frozen=True)
class MaskedPass:
    """What one pass of masked reconstruction gives.

    Attributes:
        loss: scalar, mean squared error over the masked patches.
        pred: (b, n, patch * patch) predicted patches, rows of frames.
        mask: (b, n) 1 = masked, 0 = visible.
    """

    loss: Tensor
    pred: Tensor
    mask: Tensor


class MaskedEncoder(Encoder):
    """An encoder with what pre-training by masked reconstruction needs beside it.

    Attributes:
        n_patches: that a clip is cut into.
        n_frames: of log-mel features that it takes; fewer are padded, more are cut.
    """

    n_patches: int
    n_frames: int

    def forward_masked(self, fbank: Tensor, noise: Tensor, *, mask_ratio: float) -> MaskedPass:
        """Reconstruct: (b, frames, 128) raw log-mel, (b, n) noise; the patches with the smallest stay visible.

        A clip's loss must not depend on the others, and every clip's must weigh the same.
        """
        raise NotImplementedError

    def panels(self, fbank: Tensor, masked: MaskedPass) -> tuple[Tensor, Tensor, Tensor]:
        """Return input, input without the masked patches (NaN), and reconstruction, each (b, frames, 128)."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        """Return what a checkpoint file in the backbone's official format holds, from which `build` loads it."""
        raise NotImplementedError


class EncoderBuilder(Protocol):
    """Makes an encoder from a checkpoint, or with random weights from a seed when there is none."""

    def __call__(self, *, weights: Path | None, seed: int, **options: Any) -> Encoder:
        """Build it."""
        ...


@dataclass(frozen=True)
class Backbone:
    """An encoder that a study can name, declared by a file as `BACKBONE`.

    Attributes:
        name: the file's name.
        build: makes the encoder.
        summary: one line for listings.
        options: defaults that `build` takes, shown by listings.
        learns: whether it has weights that fine-tuning could change; one without stands in frozen trials alone.
        build_masked: makes a `MaskedEncoder` for pre-training, of the same options; None where there is none.
        find_weights: from weights as a study names them to their file or folder; None looks for a checkpoint's file
            (`backbones.weights.find_checkpoint`).
    """

    name: str
    build: EncoderBuilder
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    learns: bool = True
    build_masked: EncoderBuilder | None = None
    find_weights: Callable[[str | Path], Path] | None = None


class LossHead(nn.Module):
    """What stands behind an encoder while it is fine-tuned: embeddings in, the loss out; it is thrown away afterwards.

    Attributes:
        n_classes: number of classes c.
    """

    n_classes: int

    def forward(self, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Judge embeddings.

        Args:
            embeddings: (b, d) float32.
            targets: (b,) class of each clip, or (b, c) its weights, which sum to 1.

        Returns:
            The loss summed over the clips, and (b, c) scores, of which a clip's largest is its most probable class.
        """
        raise NotImplementedError

    def begin_step(self) -> None:
        """Forget what was seen of a batch that is begun again, since memory did not suffice; most keep nothing."""

    def end_step(self) -> None:
        """Adapt to the batch that has been seen, once its gradient has been taken; most losses have nothing to."""


@dataclass(frozen=True)
class Loss:
    """A loss that a recipe can name, declared by a file as `LOSS`.

    Attributes:
        name: the file's name.
        build: makes the loss from `dim`, `n_classes`, a `generator` of the CPU that draws its weights, and its options.
        summary: one line for listings.
        options: name -> default of what `build` takes; a value is of its default's type.
        soft: whether targets may be weights over several classes, as soft fusion and mixup make them.
    """

    name: str
    build: Callable[..., LossHead]
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    soft: bool = True


@dataclass(frozen=True)
class Embeddings:
    """One vector a clip.

    Attributes:
        ids: (n,) clip ids.
        vectors: (n, d) float32.
    """

    ids: NDArray[np.str_]
    vectors: NDArray[np.float32]


ReadClips: TypeAlias = Callable[[NDArray[np.int64]], Tensor]
"""Positions (b,) of clips -> waveforms (b, samples) float32 in -1..1, all of one length."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch of fine-tuning did; nothing in it has seen a test clip.

    Attributes:
        epoch: 1 is the first.
        loss: mean cross-entropy in nats over the epoch's clips.
        accuracy: share of training clips whose class was the most probable one.
        learning_rate: at the end of the epoch.
        seconds: the epoch took.
        classes: that are told apart; 0 where nobody said.
        precision: "float32" or "bfloat16", what the recipe's "auto" came to on this processor.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    classes: int = 0
    precision: str = "float32"


OnEpoch: TypeAlias = Callable[[EpochReport], None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode within a `with` block, and each of its parts back into its own afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def pick_device() -> torch.device:
    """Return the first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
