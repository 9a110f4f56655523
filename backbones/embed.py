"""Clips through an encoder: one embedding each, and beside it what its layers gave."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from backbones.contract import BackboneError, Encoder, ReadClips, evaluating, pick_device
from backbones.layers import Heard, embed_and_hear
from backbones.memory import free_cached_memory, ran_out_of_memory

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
    return embed_layers(encoder, read, n, (), batch_size=batch_size, device=device, precision=precision)[0]


def embed_layers(
    encoder: Encoder,
    read: ReadClips,
    n: int,
    heard: Sequence[Heard],
    *,
    batch_size: int | None = None,
    device: torch.device | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Embed clips, and keep what is heard of layers: all of it from one pass over the clips.

    Args:
        encoder: as of `embed`.
        read: as of `embed`.
        n: number of clips.
        heard: what to keep of which layers.
        batch_size: as of `embed`.
        device: as of `embed`.
        precision: as of `embed`.

    Returns:
        (n, d) embeddings, and (n, bands, width) of each of `heard`.

    Raises:
        BackboneError: as `embed`, or the encoder has no such layer.
    """
    device = pick_device() if device is None else device
    if n < 0 or (batch_size is not None and batch_size < 1):
        raise BackboneError(f"n must be 0 or more and batch_size 1 or more, but got {n} and {batch_size}.")
    at_once = batch_size or (CPU_BATCH if device.type == "cpu" else CUDA_BATCH)
    encoder.to(device)
    vectors = np.empty((n, encoder.dim), dtype=np.float32)
    layers: list[NDArray[np.float32]] = [np.empty((0, 0, 0), dtype=np.float32) for _ in heard]
    start = 0
    with evaluating(encoder), torch.inference_mode():
        while start < n:
            positions = np.arange(start, min(start + at_once, n), dtype=np.int64)
            try:
                found, kept = _embed_batch(encoder, read, positions, heard, device=device, precision=precision)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                at_once = _halved(at_once, device)
                continue
            vectors[positions] = found
            for place, values in enumerate(kept):
                if not start:
                    layers[place] = np.empty((n, *values.shape[1:]), dtype=np.float32)
                layers[place][positions] = values
            start = int(positions[-1]) + 1
    return vectors, layers


def _embed_batch(
    encoder: Encoder,
    read: ReadClips,
    positions: NDArray[np.int64],
    heard: Sequence[Heard],
    *,
    device: torch.device,
    precision: str,
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        embedded, layers = embed_and_hear(encoder, read(positions).to(device), heard)
    vectors: NDArray[np.float32] = embedded.float().cpu().numpy()
    kept = [layer.float().cpu().numpy() for layer in layers]
    if vectors.shape != (len(positions), encoder.dim):
        raise BackboneError(
            f"An encoder must give {len(positions)} clips embeddings of shape {(len(positions), encoder.dim)}, "
            f"but gave {vectors.shape}."
        )
    for values in (vectors, *kept):
        broken = positions[~np.isfinite(values).reshape(len(positions), -1).all(axis=1)]
        if len(broken):
            raise BackboneError(
                f"Embeddings must be finite, but clip {broken[0]} has NaN or infinite numbers ({len(broken)} clips of "
                f"{len(positions)} in its batch); check the recording and the encoder's weights."
            )
    return vectors, kept


def _halved(at_once: int, device: torch.device) -> int:
    if at_once == 1:
        raise BackboneError(
            f"The memory of {device} does not suffice for one clip; give shorter clips or a smaller backbone."
        )
    free_cached_memory(device)
    logger.info("memory does not suffice for %d clips at once; trying %d", at_once, at_once // 2)
    return at_once // 2
