"""Log-mel features of clips: made once and kept where they fit, else made for each batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.contract import BackboneError, Encoder, ReadClips
from backbones.memory import send

logger = logging.getLogger(__name__)

READ_AT_ONCE = 32  # clips
GPU_SHARE = 0.25  # of its free memory that features may take

Features: TypeAlias = Callable[[NDArray[np.int64]], Tensor]
"""Positions (b,) of clips -> log-mel features (b, frames, 128) on the encoder's device."""


def prepare_features(
    encoder: Encoder, read: ReadClips, n: int, *, device: torch.device, budget_gb: float
) -> tuple[Features, tuple[int, int]]:
    """Make the features of n clips, now and for good if they fit into the budget, else at each call.

    Args:
        encoder: on the device.
        read: from positions to waveforms.
        n: number of clips, 1 or more.
        device: where the features are wanted.
        budget_gb: GiB that kept features may take.

    Returns:
        The features by position, and the shape (frames, mel bins) of one clip's.

    Raises:
        BackboneError: when clips differ in length.
    """

    def make(positions: NDArray[np.int64]) -> Tensor:
        waveforms = read(positions)
        if waveforms.ndim != 2 or len(waveforms) != len(positions):
            raise BackboneError(
                f"Reading {len(positions)} clips must give waveforms of shape ({len(positions)}, samples), "
                f"but gave {tuple(waveforms.shape)}."
            )
        with torch.no_grad():
            return encoder.fbank(send(waveforms, device))

    first = make(np.zeros(1, dtype=np.int64))
    frames, bins = first.shape[1:]
    size = n * first.numel() * first.element_size()
    if size > budget_gb * 2**30:
        logger.info("log-mel features of %d clips take %.1f GiB and are made anew each epoch", n, size / 2**30)
        return make, (frames, bins)
    kept = torch.empty((n, frames, bins), dtype=first.dtype, device=_place(size, device))
    for start in range(0, n, READ_AT_ONCE):
        made = make(np.arange(start, min(start + READ_AT_ONCE, n), dtype=np.int64))
        if tuple(made.shape[1:]) != (frames, bins):
            raise BackboneError(
                f"All clips must have one length, but the first has {frames} frames and clip {start} or one after it "
                f"{made.shape[1]}."
            )
        kept[start : start + len(made)] = made
    return (lambda positions: send(kept[send(torch.from_numpy(positions), kept.device)], device)), (frames, bins)


def _place(size: int, device: torch.device) -> torch.device:
    if device.type == "cuda" and size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")
