"""A small convolutional encoder on log-mel features, with random weights: the cheapest backbone that learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from backbones.contract import MEL_BINS, Backbone, BackboneError, Encoder
from backbones.features.log_mel import BEATS_LOG_MEL, log_mel
from backbones.options import must_be_positive, updated

FBANK_MEAN = 15.41663  # those of BEATs, whose log-mel features these are
FBANK_STD = 6.55582
STRIDE = 8  # frames and mel bins a token covers, from three convolutions of stride 2


@dataclass(frozen=True)
class TinyConfig:
    """The size of the encoder.

    Attributes:
        dim: of an embedding.
        width: channels of the first convolution; each next one doubles them.
    """

    dim: int = 64
    width: int = 16


class Tiny(Encoder):
    """Three convolutions, then a linear map over all mel bins of a time.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.n_layers = 4
        widths = [1, config.width, 2 * config.width, 4 * config.width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.linear = nn.Linear(widths[-1] * MEL_BINS // STRIDE, config.dim)
        self.norm = nn.LayerNorm(config.dim)

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return raw log-mel features: (b, samples) in -1..1 -> (b, frames, 128)."""
        return log_mel(waveforms, BEATS_LOG_MEL)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Encode log-mel features: (b, frames, 128) [, (b, frames) True = padding] -> (b, ceil(frames / 8), d).

        Raises:
            BackboneError: when the features have another shape.
        """
        if fbank.ndim != 3 or fbank.shape[1] < 1 or fbank.shape[2] != MEL_BINS:
            raise BackboneError(f"Features must have shape (clips, frames, {MEL_BINS}), but got {tuple(fbank.shape)}.")
        x = ((fbank - FBANK_MEAN) / (2 * FBANK_STD)).unsqueeze(1)
        if padding_mask is not None:
            x = x.masked_fill(padding_mask[:, None, :, None], 0.0)
        for convolution in self.convolutions:
            x = functional.gelu(convolution(x))
        tokens: Tensor = self.norm(self.linear(x.transpose(1, 2).flatten(2)))  # (b, c, n, mels) -> (b, n, d)
        return tokens

    def layer_modules(self) -> Sequence[nn.Module]:
        """Return the convolutions, whose activations are the layers, and the norm that gives the tokens."""
        return (*self.convolutions, self.norm)

    def grid(self, output: Tensor) -> Tensor:
        """Arrange a layer: (b, width, time, frequency) before its activation, or (b, n, d) tokens."""
        return functional.gelu(output).permute(0, 2, 3, 1) if output.ndim == 4 else output.unsqueeze(2)

    def layer_index(self, name: str) -> int:
        """Place a parameter: one layer a convolution, then the linear map and its norm."""
        parts = name.split(".")
        return int(parts[1]) + 1 if parts[0] == "convolutions" else self.n_layers


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build the encoder with random weights at the size that the options say.

    Args:
        weights: must be None, since nobody has published any.
        seed: of the weights.
        options: fields of `TinyConfig`.

    Raises:
        BackboneError: when weights are given or an option is wrong.
    """
    if weights is not None:
        raise BackboneError(f"backbone tiny has no checkpoints, but weights is {weights}; leave it out.")
    config = updated(TinyConfig(), options, what="backbone tiny")
    must_be_positive(config, ("dim", "width"), what="backbone tiny")
    with torch.device("meta"):
        empty = Tiny(config)
    model = empty.to_empty(device="cpu")
    _initialise(model, Generator().manual_seed(seed))
    return model


@torch.no_grad()
def _initialise(model: Tiny, generator: Generator) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            assert module.bias is not None
            module.bias.zero_()
    model.norm.weight.fill_(1.0)
    model.norm.bias.zero_()


BACKBONE = Backbone(
    name="tiny",
    build=build,
    summary="a convolutional encoder of 0.1 M parameters with random weights, quick on a CPU",
    options=asdict(TinyConfig()),
)
