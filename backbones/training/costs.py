"""What clips cost an encoder: measured on a few of them, or counted in operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones.contract import Encoder, ReadClips, evaluating
from backbones.embed import embed
from backbones.networks.transformer import attending_by
from backbones.training.finetune import finetune
from backbones.training.projection import learn_projection
from backbones.training.recipe import PROJECTION, FinetuneRecipe

FEW = 8  # clips that are measured, what is embedded at once on a processor


@dataclass(frozen=True)
class ClipCost:
    """What a clip costs.

    Attributes:
        embed_seconds: to read it and embed it.
        train_seconds: of an epoch of fine-tuning, or of a projection's learning; 0 where nothing learns.
        flops: of one pass forward.
        feature_bytes: of its log-mel features, which fine-tuning keeps in memory.
        dim: numbers of the embedding that is scored.
    """

    embed_seconds: float
    train_seconds: float
    flops: float
    feature_bytes: int
    dim: int


def measure_clip(encoder: Encoder, read: ReadClips, n: int, *, recipe: FinetuneRecipe, learns: bool) -> ClipCost:
    """Embed a few clips, and learn from them for an epoch, with the clock on.

    Args:
        encoder: as it is before any fine-tuning; it is left so.
        read: from positions to its input.
        n: clips that a trial learns from.
        recipe: of fine-tuning.
        learns: whether trials of this encoder learn.
    """
    few = min(FEW, n)
    first = read(np.zeros(1, dtype=np.int64))
    counting = FlopCounterMode(display=False)
    # products inside a compiled kernel would not be counted
    with evaluating(encoder), torch.inference_mode(), attending_by("fused"), counting as counted:
        fbank = encoder.fbank(first)
        encoder.pool(encoder.tokens(fbank))
    embedding = _seconds(lambda: embed(encoder, read, few)) / few
    training, dim = 0.0, encoder.dim
    quick = replace(recipe, epochs=1, warmup_epochs=0, batch_size=min(recipe.batch_size, n))
    if learns and recipe.train == PROJECTION:
        vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
        targets, dim = np.arange(n) % 2, recipe.projection_dim
        training = _seconds(lambda: learn_projection(vectors, targets, n_classes=2, recipe=quick)) / n
    elif learns:
        quick = replace(quick, batch_size=min(recipe.batch_size, few))
        training = _seconds(lambda: finetune(encoder, read, np.arange(few) % 2, n_classes=2, recipe=quick)) / few
    return ClipCost(
        embed_seconds=embedding,
        train_seconds=training,
        flops=float(counted.get_total_flops()),
        feature_bytes=fbank.numel() * fbank.element_size(),
        dim=dim,
    )


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
