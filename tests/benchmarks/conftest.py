"""Fixtures of the benchmarks room's tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from benchmarks.contract import Dataset


@pytest.fixture
def load_dataset() -> Callable[[str], Dataset]:
    """Give a year's declaration by its name."""

    def load(name: str) -> Dataset:
        dataset = importlib.import_module(f"benchmarks.datasets.{name}").DATASET
        assert isinstance(dataset, Dataset)
        return dataset

    return load


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a short recording at a path below the test's folder."""

    def write(
        path: str,
        samples: NDArray[np.generic] | None = None,
        *,
        rate: int = 16_000,
        subtype: str = "PCM_16",
        kind: str = "WAV",
    ) -> Path:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if samples is None:
            samples = np.random.default_rng(len(path)).integers(-9000, 9000, 800).astype(np.int16)
        soundfile.write(place, samples, rate, subtype=subtype, format=kind)
        return place

    return write
