"""Clips through an encoder: one embedding each."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backbones.contract import BackboneError, Encoder, ReadClips, pick_device
from backbones.memory import free_cached_memory, ran_out_of_memory
from backbones.modes import evaluating

logger = logging.getLogger(__name__)

CPU_BATCH = 8  # clips; larger batches leave the cache and gain nothing
CUDA_BATCH = 256


def embed(
    encoder: Encoder,
    read: ReadClips,
    n: int,
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> NDArray[np.float32]:
    """Embed clips 0 .. n - 1, in evaluation mode; a clip's embedding does not depend on the others'.

    Args:
        encoder: is moved to the device and stays there; its mode is as before afterwards.
        read: from positions to waveforms.
        n: number of clips.
        batch_size: clips at once; None takes 8 on a CPU, and on a GPU what fits, up to 256.
        device: None takes the first GPU where there is one, else the CPU.
        precision: of the encoder's arithmetic; embeddings are float32 either way.

    Returns:
        (n, d).

    Raises:
        BackboneError: when an embedding is not finite, memory does not suffice for one clip, or an argument is wrong.
    """
    device = pick_device() if device is None else device
    if n < 0 or (batch_size is not None and batch_size < 1):
        raise BackboneError(f"n must be 0 or more and batch_size 1 or more, but got {n} and {batch_size}.")
    at_once = batch_size or (CPU_BATCH if device.type == "cpu" else CUDA_BATCH)
    encoder.to(device)
    vectors = np.empty((n, encoder.dim), dtype=np.float32)
    start = 0
    with evaluating(encoder), torch.inference_mode():
        while start < n:
            positions = np.arange(start, min(start + at_once, n), dtype=np.int64)
            try:
                vectors[positions] = _embed_batch(encoder, read, positions, device=device, precision=precision)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                at_once = _halved(at_once, device)
                continue
            start = int(positions[-1]) + 1
    return vectors


def _embed_batch(
    encoder: Encoder,
    read: ReadClips,
    positions: NDArray[np.int64],
    *,
    device: torch.device,
    precision: str,
) -> NDArray[np.float32]:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        embedded = encoder(read(positions).to(device))
    vectors: NDArray[np.float32] = embedded.float().cpu().numpy()
    if vectors.shape != (len(positions), encoder.dim):
        raise BackboneError(
            f"An encoder must give {len(positions)} clips embeddings of shape {(len(positions), encoder.dim)}, "
            f"but gave {vectors.shape}."
        )
    broken = positions[~np.isfinite(vectors).all(axis=1)]
    if len(broken):
        raise BackboneError(
            f"Embeddings must be finite, but clip {broken[0]} has NaN or infinite numbers ({len(broken)} clips of "
            f"{len(positions)} in its batch); check the recording and the encoder's weights."
        )
    return vectors


def _halved(at_once: int, device: torch.device) -> int:
    if at_once == 1:
        raise BackboneError(
            f"The memory of {device} does not suffice for one clip; give shorter clips or a smaller backbone."
        )
    free_cached_memory(device)
    logger.info("memory does not suffice for %d clips at once; trying %d", at_once, at_once // 2)
    return at_once // 2
