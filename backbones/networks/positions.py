"""Fixed position embeddings of a grid of patches: sines and cosines of both coordinates."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

PositionOrder: TypeAlias = Literal["official", "time_mel"]
ORDERS: tuple[PositionOrder, ...] = ("official", "time_mel")


def waves(places: Tensor, size: int) -> Tensor:
    """Return sines, then cosines at falling frequencies (Vaswani et al., 2017): (n,) -> (n, size), size even."""
    falling = torch.arange(size // 2, dtype=torch.float64) / (size / 2)
    angles = places.double()[:, None] / 10_000.0**falling
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def position_embedding(times: int, mels: int, *, dim: int, order: PositionOrder) -> Tensor:
    """Make the position embedding of a class token and times * mels patches.

    Token k lies at time k // mels and mel k % mels ("time_mel"). The released AudioMAE weights were trained with the
    grid's two sides exchanged, so that token k takes the place (k % times, k // times) ("official"; see
    facebookresearch/AudioMAE, PatchEmbed_org.patch_hw and get_2d_sincos_pos_embed_flexible).

    Args:
        times: patches along time.
        mels: patches along mel bins.
        dim: of the embedding, a multiple of 4.
        order: which of the two.

    Returns:
        (1, 1 + times * mels, dim) float32; the class token's row is zero. The first half of a row tells the time.
    """
    token = torch.arange(times * mels)
    if order == "official":
        time, mel = token % times, token // times
    else:
        time, mel = token // mels, token % mels
    patches = torch.cat((waves(time, dim // 2), waves(mel, dim // 2)), dim=1)
    return torch.cat((torch.zeros(1, dim, dtype=torch.float64), patches)).float().unsqueeze(0)
