"""A generated tree of the six years that train: official layout and names, very short clips, any number of them."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contract import Dataset, Part
from benchmarks.protocols import PAPER_YEARS
from benchmarks.synthetic.plan import PlannedClip, plan_clips
from benchmarks.synthetic.tables import write_tables
from harness.trials.recordings import load_datasets

RATE = 16_000
SAMPLES = 1600  # 0.1 s: long enough for every front end, and a tree of 150,000 clips is under a gigabyte
LEAST = 16  # clips of a machine type that stands in one year alone: K2 = 15 clusters need more than 15


@dataclass(frozen=True)
class Counts:
    """Official clips of one section, rounded: training clips by domain, test clips of each domain and condition."""

    source: int
    target: int
    test: int


# 2020 has no domains; 2021 has three target clips a section, the later years ten
OFFICIAL = {"dcase2020": Counts(875, 0, 236), "dcase2021": Counts(1000, 3, 100)}
LATER = Counts(990, 10, 50)


def write_tree(root: Path, clips: int) -> int:
    """Write a tree with about so many training clips, in proportion to the official ones, and return their number.

    Test clips of the development sets are in the same proportion, and come on top. No two clips have the same samples;
    clips of one state of a machine sound alike, so that clusters are found as quickly as in real recordings.

    Args:
        root: folder, which must be empty.
        clips: how many training clips, from 1,000.
    """
    share, random, trained = share_for(clips), np.random.default_rng(0), 0
    for dataset in years():
        planned = list(plan(dataset, share))
        for folder in {(root / dataset.folder / clip.path).parent for clip in planned}:
            folder.mkdir(parents=True)
        for clip in planned:
            _write(root / dataset.folder / clip.path, sound(clip, random))
        write_tables(root, dataset, planned)
        trained += sum(clip.truth.split == "train" for clip in planned)
    return trained


def share_for(clips: int) -> float:
    """Return the share of the official counts that gives so many training clips, to a clip a section."""
    low, high = 0.0, 10.0
    for _ in range(40):
        share = (low + high) / 2
        low, high = (share, high) if training_clips(share) < clips else (low, share)
    return high


def training_clips(share: float) -> int:
    """Count the training clips of a tree without planning each."""
    return sum(
        sum(counts_of(dataset, part, machine, share)[domain] for domain in domains) * len(sections)
        for dataset in years()
        for domains in [("source", "target") if dataset.has_domains else ("source",)]
        for part in ("dev", "additional")
        for machine, sections in dataset.sections[part].items()
    )


def plan(dataset: Dataset, share: float) -> Iterator[PlannedClip]:
    """Yield the clips of a year: both training parts, and the development set's test clips."""
    parts: tuple[Part, ...] = ("dev", "additional")
    for part in parts:
        for machine in dataset.machines[part]:
            yield from plan_clips(dataset, part, [machine], counts=counts_of(dataset, part, machine, share))


def counts_of(dataset: Dataset, part: Part, machine: str, share: float) -> Mapping[str, int]:
    """Return how many clips a section has at a share of the official counts."""
    official = OFFICIAL.get(dataset.name, LATER)
    alone = part == "additional" and len(dataset.sections[part][machine]) == 1
    return {
        "source": max(LEAST if alone else 2, round(official.source * share)),
        "target": max(1, round(official.target * share)),
        "test": max(2, round(official.test * share)),
    }


@cache
def years() -> tuple[Dataset, ...]:
    """Return the years that the paper's protocol trains on."""
    return load_datasets(PAPER_YEARS)


def sound(clip: PlannedClip, random: np.random.Generator) -> NDArray[np.int16]:
    """Return a clip's samples: its state's tones, and noise of its own."""
    noise = random.integers(-2000, 2000, SAMPLES)
    return (_tones(clip.machine, clip.state.levels) + noise).astype("<i2")


@cache
def _tones(machine: str, levels: tuple[str, ...]) -> NDArray[np.float64]:
    random = np.random.default_rng(list(f"{machine} {levels}".encode()))
    times = np.arange(SAMPLES) / RATE
    tones = [np.sin(2 * math.pi * random.uniform(80, 6000) * times + random.uniform(0, 6)) for _ in range(4)]
    return np.asarray(3000 * sum(tones))


def _write(path: Path, samples: NDArray[np.int16]) -> None:
    with path.open("wb") as file, wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes(samples.tobytes())
