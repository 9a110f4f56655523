"""What an encoder computes on a device, so that two devices can be compared; the same functions for every device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones import load_encoder
from backbones.contract import Encoder
from backbones.embed import embed
from backbones.networks.transformer import Way, attending_by
from backbones.training.checkpoint import TrainingCheckpoint
from backbones.training.finetune import finetune
from backbones.training.recipe import FinetuneRecipe
from benchmarks.metrics.roc import auc
from harness.scorers import knn
from harness.scoring.contract import ScoreRequest
from labeling.contract import RankRequest
from labeling.fusion import fuse_top_m
from labeling.strategies import cluster_wise
from tests.backbones.conftest import ALL, reader, tones

# Heads of 16 numbers and clips of 144 tokens: what FlexAttention's kernels take at least
SIZES: dict[str, Mapping[str, Any]] = {
    **ALL,
    "beats": {**ALL["beats"], "encoder_embed_dim": 64, "encoder_layerdrop": 0},
}
SECONDS = 3.0
CLIPS = 4
TINY_SHARE = 1e-3  # of the whole gradient: a weight that gets less is held to that part of it, not to its own noise
RECIPE = FinetuneRecipe(
    epochs=2, batch_size=8, learning_rate=1e-3, warmup_epochs=0.5, time_mask=8, mel_mask=16, micro_batch=4,
    precision="float32",
)  # fmt: skip


@dataclass(frozen=True)
class Computed:
    """What an encoder computed, on the CPU in float32.

    Attributes:
        fbank: log-mel features.
        vectors: (n, d) embeddings.
        gradients: by parameter; none of an encoder without weights.
    """

    fbank: Tensor
    vectors: Tensor
    gradients: dict[str, Tensor]


def computed(encoder: Encoder, device: torch.device, *, precision: str = "float32", way: Way | None = None) -> Computed:
    """Encode the same clips forward and backward on a device.

    Args:
        encoder: is moved there.
        device: where.
        precision: "float32" or "bfloat16" (autocast).
        way: of attention; None is the device's own.
    """
    encoder = encoder.to(device).eval()
    fbank = encoder.fbank(tones(CLIPS, seconds=SECONDS).to(device))

    def run() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            return encoder.pool(encoder.tokens(fbank)).float()

    if way is None:
        vectors = run()
    else:
        with attending_by(way):
            vectors = run()
    encoder.zero_grad(set_to_none=True)
    if vectors.requires_grad:
        weights = torch.linspace(0.5, 1.0, vectors.numel(), device=device).view(vectors.shape)
        (vectors.square() * weights).mean().backward()
    gradients = {
        name: parameter.grad.float().cpu()
        for name, parameter in encoder.named_parameters()
        if parameter.grad is not None
    }
    encoder.zero_grad(set_to_none=True)
    return Computed(fbank.float().cpu(), vectors.detach().float().cpu(), gradients)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the length of the difference as a part of the expected length."""
    return ((found - expected).norm() / expected.norm()).item()


def whole_gradient(found: Computed) -> Tensor:
    """Return all gradients in a row."""
    return torch.cat([gradient.flatten() for _, gradient in sorted(found.gradients.items())])


def farthest_gradient(found: Computed, expected: Computed) -> tuple[float, str]:
    """Return the largest relative error of a parameter's gradient, and whose it is."""
    assert found.gradients.keys() == expected.gradients.keys()
    if not expected.gradients:
        return 0.0, ""
    whole = whole_gradient(expected).norm()
    errors = {
        name: ((found.gradients[name] - gradient).norm() / gradient.norm().clamp(min=TINY_SHARE * whole)).item()
        for name, gradient in expected.gradients.items()
    }
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst


def tuned(
    name: str, device: torch.device, *, clips: int = 16, seconds: float = SECONDS, options: Any = None, **recipe: Any
) -> Encoder:
    """Fine-tune a small encoder on tones of two classes.

    Args:
        name: of the backbone.
        device: where.
        clips: number of them.
        seconds: of a clip.
        options: further ones of `finetune`.
        recipe: what differs from `RECIPE`.
    """
    return finetune(
        load_encoder(name, **SIZES[name]), reader(tones(clips, seconds=seconds)), np.arange(clips) % 2, n_classes=2,
        recipe=replace(RECIPE, **recipe), device=device, **(options or {}),
    )  # fmt: skip


def farthest(one: Encoder, other: Encoder) -> float:
    """Return the largest difference between two encoders' weights."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs)


def cut_and_resumed(name: str, device: torch.device, folder: Path) -> Encoder:
    """Fine-tune, stop after the first epoch, and go on from the checkpoint with a new encoder."""
    told: list[int] = []

    def stop(report: Any) -> None:
        told.append(report.epoch)
        if told == [1]:
            raise KeyboardInterrupt

    def again(on_epoch: Callable[[Any], None]) -> Encoder:
        kept = TrainingCheckpoint(folder / "state.pt", every_seconds=0.0)
        return tuned(name, device, epochs=3, options={"checkpoint": kept, "on_epoch": on_epoch})

    with suppress(KeyboardInterrupt):
        again(stop)
    assert told == [1] and (folder / "state.pt").exists()
    resumed = again(stop)
    assert told == [1, 1, 2, 3]  # the first is told again, and not learned again
    return resumed


def cell(m: int, device: torch.device) -> float:
    """Run a trial in small, as a study's cell: label, fine-tune, embed, score by the nearest neighbour, measure.

    Args:
        m: pseudo-labels a clip.
        device: where the encoder learns.

    Returns:
        The AUC of clips whose tone is another one.
    """
    encoder = load_encoder("tiny", **SIZES["tiny"])
    clips, normal, odd = tones(24, classes=3), tones(12, classes=3, seed=1), tones(12, classes=3, seed=2).flip(1) * 2.0
    latents = embed(encoder, reader(clips), len(clips), device=device)
    ids = np.array([f"clip{number:02d}" for number in range(len(clips))])
    unknown = np.full(len(clips), None, dtype=object)
    ranked = cluster_wise.rank(RankRequest(ids, latents, unknown, "unlabeled", k1=3, k2=3))
    labels = fuse_top_m({"fan": ranked}, m=m)
    learned = finetune(
        encoder, reader(clips), labels.targets, n_classes=len(labels.classes), recipe=RECIPE, device=device
    )
    references = embed(learned, reader(clips), len(clips), device=device)
    queries = embed(learned, reader(torch.cat((normal, odd))), 24, device=device)
    scores = knn.score(ScoreRequest(references, np.full(len(references), None, dtype=object), queries))
    return auc(scores, np.arange(24) >= 12)
