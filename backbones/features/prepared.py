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
from backbones.modes import evaluating, leaving_no_trace

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
            return encoder.fbank(waveforms.to(device))

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
    return (lambda positions: kept[torch.from_numpy(positions).to(kept.device)].to(device)), (frames, bins)


def make_all(features: Features, n: int, *, device: torch.device) -> tuple[Features, tuple[int, int]]:
    """Have the features of n clips made, where they are kept one by one.

    Args:
        features: by position.
        n: number of clips, 1 or more.
        device: where the features are wanted.

    Returns:
        The features by position on the device, and the shape (frames, mel bins) of one clip's.
    """
    for start in range(0, n, READ_AT_ONCE):
        made = features(np.arange(start, min(start + READ_AT_ONCE, n), dtype=np.int64))
    return (lambda positions: features(positions).to(device)), (made.shape[1], made.shape[2])


class FeatureStore:
    """Log-mel features of a set of clips in memory, each made when it is first asked for, whoever asks.

    Features are made clip by clip, so that their last bits do not hang on what was asked for before.

    Args:
        n: number of clips.
        most_bytes: that all of them may take.
    """

    def __init__(self, n: int, most_bytes: int) -> None:
        self.n, self.most_bytes = n, most_bytes
        self._made = np.zeros(n, dtype=bool)
        self._kept: Tensor | None = None  # (n, frames, bins)
        self._probe = torch.empty(0)  # (frames, bins) of noise, by which front ends are told apart

    @property
    def size(self) -> int:
        """Return the bytes that all features take."""
        return 0 if self._kept is None else self._kept.numel() * self._kept.element_size()

    def features(
        self,
        encoder: Encoder,
        read: ReadClips,
        rows: NDArray[np.int64],
        *,
        make_room: Callable[[int], None] = lambda _size: None,
    ) -> Features | None:
        """Return the features of some of the clips as an encoder makes them.

        Args:
            encoder: on the CPU, where features are kept.
            read: from positions in `rows` to waveforms.
            rows: (k,) the clips, numbered 0 .. n - 1.
            make_room: told how many bytes are about to be taken.

        Returns:
            The features by position in `rows`; None where they would not fit, where the encoder makes others of a clip
            or of noise than those that are kept, or others in training than in evaluation, or rolls dice.
        """

        def make(position: int) -> Tensor:
            with evaluating(encoder), torch.no_grad():
                return encoder.fbank(read(np.array([position], dtype=np.int64)))[0]

        if not len(rows):
            return None
        with leaving_no_trace(encoder):
            first, probe = make(0), _probe(encoder, samples=read(np.zeros(1, dtype=np.int64)).shape[-1])
        if probe is None:
            return None
        if self._kept is None:
            size = self.n * first.numel() * first.element_size()
            if size > self.most_bytes:
                return None
            make_room(size)
            with torch.inference_mode(mode=False):  # one made in there could not be learned from
                self._kept = torch.empty((self.n, *first.shape), dtype=first.dtype)
            self._probe = probe
        kept = self._kept
        if first.shape != kept.shape[1:] or first.dtype != kept.dtype or not torch.equal(self._probe, probe):
            return None
        if not self._made[rows[0]]:
            kept[rows[0]], self._made[rows[0]] = first, True
        if not torch.equal(kept[rows[0]], first):
            return None

        def features(positions: NDArray[np.int64]) -> Tensor:
            for position in positions[~self._made[rows[positions]]].tolist():
                made = make(position)
                if made.shape != first.shape:
                    raise BackboneError(
                        f"All clips must have one length, but clip 0 has {len(first)} frames and clip {position} "
                        f"{len(made)}."
                    )
                kept[rows[position]] = made
                self._made[rows[position]] = True
            return kept[torch.from_numpy(rows[positions])]

        return features


def _probe(encoder: Encoder, *, samples: int) -> Tensor | None:
    """Return an encoder's features of noise; None where they are others in training, or each time."""
    noise = 0.1 * torch.randn((1, samples), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with evaluating(encoder):
            made = encoder.fbank(noise)[0]
        encoder.train()
        again = encoder.fbank(noise)[0]
    return made if torch.equal(made, again) else None


def _place(size: int, device: torch.device) -> torch.device:
    if device.type == "cuda" and size < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")
