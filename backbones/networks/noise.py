"""Randomness inside an encoder during training, drawn for each clip by itself.

A clip's dropout masks come from a generator of its own, so they do not depend on how a batch is cut into
micro-batches; whole layers are dropped by one draw a training step. Outside `drawing_from`, torch's own generator
serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from backbones.contract import BackboneError


@dataclass(frozen=True)
class Noise:
    """Where one forward pass draws from.

    Attributes:
        clip_seeds: one for each clip of the pass, in its order.
        step_seed: the same for all passes of one training step.
        device: of the encoder.
    """

    clip_seeds: Sequence[int]
    step_seed: int
    device: torch.device

    @cached_property
    def clips(self) -> tuple[Generator, ...]:
        """One generator a clip, on the encoder's device."""
        return tuple(Generator(self.device).manual_seed(seed) for seed in self.clip_seeds)

    @cached_property
    def step(self) -> Generator:
        """The generator of what all clips share, on the CPU."""
        return Generator().manual_seed(self.step_seed)


_current: ContextVar[Noise | None] = ContextVar("backbones_noise", default=None)


@contextmanager
def drawing_from(noise: Noise) -> Iterator[None]:
    """Let encoders draw from these generators within a `with` block."""
    token = _current.set(noise)
    try:
        yield
    finally:
        _current.reset(token)


def uniform(shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw from 0..1: (b, ...) on the device, row i from the generator of clip i.

    Raises:
        BackboneError: when the rows are not the clips of the pass.
    """
    noise = _current.get()
    if noise is None:
        return torch.rand(tuple(shape), device=device)
    if shape[0] != len(noise.clip_seeds):
        raise BackboneError(
            f"A draw in training must have one row a clip, {len(noise.clip_seeds)}, but got {shape[0]} rows."
        )
    rows = [torch.rand(tuple(shape[1:]), generator=generator, device=device) for generator in noise.clips]
    return torch.stack(rows)


def drops_layer(probability: float, *, training: bool) -> bool:
    """Decide whether a whole layer is left out of this training step; never outside training."""
    if not training or probability <= 0.0:
        return False
    noise = _current.get()
    return torch.rand((), generator=None if noise is None else noise.step).item() < probability


class Dropout(nn.Module):
    """Dropout whose mask for a clip does not depend on the other clips of the batch.

    Attributes:
        probability: share of zeros.
        whole: whether a clip is dropped as a whole (stochastic depth) or number by number.
    """

    def __init__(self, probability: float, *, whole: bool = False) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise BackboneError(f"A dropout probability must be at least 0 and below 1, but got {probability}.")
        self.probability = probability
        self.whole = whole

    def forward(self, values: Tensor) -> Tensor:
        """Drop and scale up what stays: (b, ...) -> (b, ...)."""
        if not self.training or self.probability == 0.0:
            return values
        shape = (len(values), *[1] * (values.ndim - 1)) if self.whole else tuple(values.shape)
        kept = uniform(shape, values.device) >= self.probability
        return values * kept.to(values.dtype).div_(1.0 - self.probability)

    def extra_repr(self) -> str:
        """Describe the module in one line."""
        return f"probability={self.probability}, whole={self.whole}"
