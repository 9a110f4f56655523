"""Mean and deviation over time of the log-mel features: no parameters, the reference that an encoder has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.contract import MEL_BINS, Backbone, BackboneError, Encoder
from backbones.features.log_mel import BEATS_LOG_MEL, log_mel


class LogMelStatistics(Encoder):
    """Each mel bin's mean and standard deviation over a clip's frames, in the natural logarithm of its energy.

    Nothing in it can learn, so it stands in frozen trials alone; fine-tuning refuses it.
    """

    dim = 2 * MEL_BINS

    def fbank(self, waveforms: Tensor) -> Tensor:
        """Return raw log-mel features: (b, samples) in -1..1 -> (b, frames, 128)."""
        return log_mel(waveforms, BEATS_LOG_MEL)

    def tokens(self, fbank: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Reduce log-mel features to one token: (b, frames, 128) [, (b, frames) True = padding] -> (b, 1, 256).

        Raises:
            BackboneError: when the features have another shape, or a clip is padding alone.
        """
        if fbank.ndim != 3 or fbank.shape[1] < 1 or fbank.shape[2] != MEL_BINS:
            raise BackboneError(f"Features must have shape (clips, frames, {MEL_BINS}), but got {tuple(fbank.shape)}.")
        heard = torch.ones(fbank.shape[:2], dtype=torch.bool, device=fbank.device)
        if padding_mask is not None:
            heard = ~padding_mask
        frames = heard.sum(dim=1)[:, None]  # (b, 1)
        if (frames == 0).any():
            raise BackboneError("Each clip must have a frame that is no padding, but one has none.")
        kept = torch.where(heard[..., None], fbank, 0.0)
        mean = kept.sum(dim=1) / frames
        away = torch.where(heard[..., None], fbank - mean[:, None], 0.0)
        deviation = ((away**2).sum(dim=1) / frames).sqrt()
        return torch.cat([mean, deviation], dim=1)[:, None]


def build(*, weights: Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build it; there is nothing to choose.

    Args:
        weights: must be None, since it has none.
        seed: draws nothing.
        options: must be empty.

    Raises:
        BackboneError: when weights or an option are given.
    """
    del seed
    if weights is not None:
        raise BackboneError(f"backbone logmel has no weights, but weights is {weights}; leave it out.")
    if options:
        raise BackboneError(f"backbone logmel takes no options, but got {', '.join(sorted(options))}.")
    return LogMelStatistics().eval()


BACKBONE = Backbone(
    name="logmel",
    build=build,
    summary="mean and deviation over time of the log-mel features; nothing to learn, frozen trials alone",
    learns=False,
)
