"""Recognise that memory did not suffice, on a GPU or a CPU."""

from __future__ import annotations

import torch

SIGNS = ("out of memory", "can't allocate memory", "not enough memory")  # torch raises plain RuntimeError on a CPU


def ran_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Say whether an error means that a smaller batch might have worked."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error).lower() for sign in SIGNS)


def free_cached_memory(device: torch.device) -> None:
    """Give what torch keeps for later back to the GPU, so that a smaller batch finds it in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
