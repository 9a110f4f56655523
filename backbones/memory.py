"""What the processor has room and units for: memory, micro-batches that fit it, bfloat16."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from backbones.contract import BackboneError

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

CPU_MICRO_BATCH = 8  # clips
AMPERE = (8, 0)  # CUDA's compute capability from which on there are bfloat16 units

SIGNS = ("out of memory", "can't allocate memory", "not enough memory")  # torch raises plain RuntimeError on a CPU


def ran_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Say whether an error means that a smaller batch might have worked."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error).lower() for sign in SIGNS)


@contextmanager
def enough_memory(what: str, *, way_out: str) -> Iterator[None]:
    """Say in one sentence that the memory does not suffice for what happens within.

    Args:
        what: is done, for example "to build the backbone beats".
        way_out: what somebody can do.

    Raises:
        BackboneError: it does not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise BackboneError(f"The memory does not suffice {what}; {way_out}.") from error


def free_cached_memory(device: torch.device) -> None:
    """Give what torch keeps for later back to the GPU, so that a smaller batch finds it in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return the values on the device, without waiting for the work that a GPU still has to do.

    A plain copy to a GPU waits until all that it was told before is done, so that it idles while the next micro-batch
    is prepared; one from page-locked memory is queued like any other work.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class MicroBatch:
    """How many clips of a batch are in memory at once: as many as fit, found by trying.

    Attributes:
        size: clips.
    """

    def __init__(self, asked: int | None, batch_size: int, device: torch.device, *, way_out: str) -> None:
        """Start with what is asked for, or as many as may fit.

        Args:
            asked: for good; None lets the size be halved until it fits.
            batch_size: clips that an optimiser step sees.
            device: of the encoder.
            way_out: what somebody can do whose memory does not suffice for one clip.
        """
        default = CPU_MICRO_BATCH if device.type == "cpu" else batch_size
        self.size = min(asked or default, batch_size)
        self._fixed, self._device, self._way_out = asked is not None, device, way_out

    def fitting(self, run: Callable[[], Answer]) -> Answer:
        """Return what a run gives that cuts its batch by `size`; it starts over, halved, when memory does not suffice.

        Raises:
            BackboneError: it does not suffice for one clip.
        """
        while True:
            try:
                return run()
            except (RuntimeError, MemoryError) as error:
                if self._fixed or not ran_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise BackboneError(
                        f"The memory of {self._device} does not suffice to train on one clip; {self._way_out}."
                    ) from error
            self.size //= 2
            free_cached_memory(self._device)
            logger.info("memory does not suffice; now %d clips at once", self.size)


def arithmetic(precision: str, device: torch.device) -> torch.dtype:
    """Return the type in which a recipe's precision multiplies on a device: float32 or bfloat16.

    "auto" takes bfloat16 where matrix units compute in it. Processors that only emulate it are slower with it; those
    whose vector units know it (AVX-512 BF16) gain less than twofold and give other digits than their neighbours, so
    there it must be asked for.
    """
    if precision == "auto":
        return torch.bfloat16 if has_matrix_units(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_matrix_units(device: torch.device) -> bool:
    """Tell whether a device multiplies matrices of bfloat16 in units of their own."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()  # torch has no public name for it
