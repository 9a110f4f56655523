"""What the tests of the backbones share: oracles, clips, small encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones.contract import ReadClips

ORACLES = Path(__file__).parents[1] / "data" / "backbones"
SMALL = {
    "beats": {
        "embed_dim": 16,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "conv_pos": 16,
        "conv_pos_groups": 4,
    },
    "audiomae": {"frames": 96, "embed_dim": 32, "layers": 2, "heads": 4},
    "tiny": {"dim": 16, "width": 4},
}
FIXED: dict[str, dict[str, object]] = {"logmel": {}}  # without weights to learn
WHOLE: dict[str, dict[str, object]] = {"yamnet": {}}  # of one size, too large to be trained in every test
ALL = {**SMALL, **FIXED, **WHOLE}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Keep torch to one thread: small models gain nothing from two, and lose tenfold beside a busy neighbour."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], dict[str, Tensor]]:
    """Reads the numbers of an oracle by its name."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(ORACLES / f"{name}.npz") as numbers:
            return {key: torch.from_numpy(numbers[key]) for key in numbers}

    return read


def tones(n: int, *, classes: int = 2, seconds: float = 0.5, seed: int = 0) -> Tensor:
    """Make (n, samples) clips of noise with a tone; clip i's class is i % classes."""
    chance = torch.Generator().manual_seed(seed)
    time = torch.arange(int(16_000 * seconds)) / 16_000
    pitch = 300.0 * 2.0 ** (2 * (torch.arange(n) % classes))
    tone = torch.sin(2 * torch.pi * pitch[:, None] * time)
    return 0.1 * tone + 0.02 * torch.randn(n, len(time), generator=chance)


def reader(waveforms: Tensor) -> ReadClips:
    """Return a function that reads clips from memory."""
    return lambda positions: waveforms[torch.from_numpy(positions)]
