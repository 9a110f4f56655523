"""Depthwise-separable convolutions over log-mel features: a backbone that lives outside asdbench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import MEL_BINS, Backbone, BackboneError, Encoder
from backbones.features.log_mel import BEATS_LOG_MEL, log_mel

FBANK_MEAN, FBANK_STD = 15.4, 6.6  # of these log-mel features over AudioSet


class Depthwise(Encoder):
    """Blocks of a depthwise convolution over time and a linear map over channels, then a norm.

    Args:
        dim: size of an embedding.
        blocks: how many.
    """

    def __init__(self, *, dim: int, blocks: int) -> None:
        super().__init__()
        self.dim = dim  # what pooling, class heads and scorers count on
        self.n_layers = blocks + 1  # for layer-wise learning rates; leave it at 0 to have none
        self.stem = nn.Linear(MEL_BINS, dim)
        self.depthwise = nn.ModuleList(nn.Conv1d(dim, dim, 9, padding=4, groups=dim) for _ in range(blocks))
        self.pointwise = nn.ModuleList(nn.Linear(dim, dim) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return features, made once a clip: (b, samples) in -1..1 at 16 kHz -> (b, frames, 128)."""
        return log_mel(waveforms, BEATS_LOG_MEL)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode them: (b, frames, 128) [, (b, frames) True = padding] -> (b, frames, dim)."""
        x = self.stem((fbank - FBANK_MEAN) / (2 * FBANK_STD))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            if padding_mask is not None:  # before each look along time, so that no clip hears its padding
                x = x.masked_fill(padding_mask[..., None], 0.0)
            x = x + pointwise(functional.gelu(depthwise(x.transpose(1, 2)).transpose(1, 2)))
        normed: Tensor = self.norm(x)
        return normed

    def layer_index(self, name: str) -> int:
        """Place a parameter: 0 the stem, then the blocks; the norm stands with the last one."""
        parts = name.split(".")
        if parts[0] == "stem":
            return 0
        return int(parts[1]) + 1 if len(parts) > 2 else self.n_layers


def build(*, weights: Path | None = None, seed: int = 0, dim: int = 64, blocks: int = 4, **unknown: Any) -> Encoder:
    """Build it with random weights: the same seed, the same weights."""
    if unknown or weights is not None:
        raise BackboneError(f"backbone depthwise has the options dim and blocks and no weights, but got {unknown}.")
    model = Depthwise(dim=dim, blocks=blocks)
    generator = Generator().manual_seed(seed)  # never torch's global one
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.fill_(0.0)
        model.norm.weight.fill_(1.0)
    return model


BACKBONE = Backbone(
    name="depthwise",
    build=build,
    summary="depthwise-separable convolutions, random weights",
    options={"dim": 64, "blocks": 4},
)
