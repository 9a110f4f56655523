"""Intervals and tests on simulated studies whose true difference is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.statistics.comparison import Comparison, compare_arms
from harness.statistics.significance import holm

MACHINES = ("bearing", "fan", "gearbox", "slider", "ToyCar", "ToyTrain", "valve")


@dataclass(frozen=True)
class World:
    """How simulated recordings and training runs come about, in standard deviations of a normal clip's score.

    Attributes:
        gain: how much further apart the arm keeps normal and anomalous clips.
        machines: spread of that gain over machines.
        runs: spread of a training run's luck, which all its machines share.
        cells: spread of a run's luck on one machine.
        seeds: training runs of an arm.
        clips: of each domain and condition.
    """

    gain: float = 0.0
    machines: float = 0.0
    runs: float = 0.0
    cells: float = 0.0
    seeds: int = 3
    clips: int = 50

    def arms(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Draw machines, runs and clips, and return the scored clips of the arm and of its reference."""
        random = np.random.default_rng(seed)
        domains, conditions = (
            np.repeat(["source", "target"], 2 * self.clips),
            np.tile(np.repeat(["normal", "anomaly"], self.clips), 2),
        )
        kinds = domains.size
        clips = pd.DataFrame(
            {
                "dataset": "dcase2023",
                "machine": np.repeat(MACHINES, kinds),
                "section": "00",
                "domain": np.tile(domains, len(MACHINES)),
                "condition": np.tile(conditions, len(MACHINES)),
                "clip_id": [f"{machine}/{at}" for machine in MACHINES for at in range(kinds)],
            }
        )
        anomalous = (clips["condition"] == "anomaly").to_numpy().reshape(len(MACHINES), kinds)
        own = random.normal(size=anomalous.shape)  # what is particular about a recording, whoever scores it
        apart = random.uniform(0.3, 1.2, size=(len(MACHINES), 1))
        gains = random.normal(self.gain, self.machines, size=(len(MACHINES), 1))
        arms = []
        for of_arm in (gains, np.zeros_like(gains)):
            tables = []
            for run in range(self.seeds):
                luck = random.normal() * self.runs + random.normal(size=apart.shape) * self.cells
                noise = 0.5 * random.normal(size=own.shape)
                tables.append(clips.assign(seed=run, score=(own + noise + anomalous * (apart + of_arm + luck)).ravel()))
            arms.append(pd.concat(tables, ignore_index=True))
        return arms[0], arms[1]

    def compare(self, seed: int, *, resamples: int = 200) -> Comparison:
        """Compare the arms of one draw."""
        return compare_arms(*self.arms(seed), "dcase2022", resamples=resamples, seed=seed)


WORLDS = {
    "nothing but clips": World(gain=0.3),
    "machines differ": World(gain=0.3, machines=0.3),
    "runs differ": World(gain=0.3, machines=0.2, runs=0.15, cells=0.15, seeds=5),
    "one seed": World(gain=0.3, machines=0.3, seeds=1),
}
NOTHING = {
    "nothing at all": World(clips=20),
    "luck of runs": World(runs=0.1, cells=0.2, clips=20),
    "machines up and down": World(machines=0.3, cells=0.1, seeds=5, clips=20),
    "one seed": World(cells=0.2, seeds=1, clips=20),
}


def coverage(world: World, repetitions: int, *, resamples: int) -> float:
    """Return the share of intervals that hold the true difference, which is the mean over all repetitions."""
    compared = [world.compare(seed, resamples=resamples) for seed in range(repetitions)]
    truth = np.mean([one.delta for one in compared])
    return float(np.mean([one.ci_low <= truth <= one.ci_high for one in compared]))


def test_intervals_cover_about_as_often_as_they_say() -> None:
    """Of 40 intervals of a small study at 95 %, at least 34 hold the truth."""
    assert coverage(World(gain=0.3, machines=0.3, seeds=2, clips=15), 40, resamples=60) >= 34 / 40


def test_a_plain_difference_is_found_and_none_is_not() -> None:
    """A gain of a standard deviation on every machine is found; two arms of the same kind are not told apart."""
    found = World(gain=1.0, clips=25).compare(0)
    assert found.p_value < 0.01
    assert found.ci_low > 0.03
    assert (found.machines_won, found.machines_lost) == (7, 0)
    assert World(clips=25).compare(1).p_value > 0.05


def in_ci(worlds: Mapping[str, World], name: str) -> list[Any]:
    """Return the names of worlds for `parametrize`, of which all but one are left to the long tests."""
    return [each if each == name else pytest.param(each, marks=pytest.mark.long) for each in worlds]


@pytest.mark.slow
@pytest.mark.parametrize("name", in_ci(WORLDS, "one seed"))
def test_the_interval_covers_a_known_difference(name: str) -> None:
    """The 95 % interval holds the known difference in 93 to 97 % of 1,000 repetitions."""
    covered = coverage(WORLDS[name], 1000, resamples=200)
    assert 0.93 <= covered <= 0.97, covered


@pytest.mark.slow
@pytest.mark.parametrize("name", in_ci(NOTHING, "one seed"))
def test_no_difference_is_rarely_called_one(name: str) -> None:
    """Without a difference, a family of three corrected tests rejects in at most 6 % of 1,000 repetitions."""
    p_values = np.array([NOTHING[name].compare(seed, resamples=1).p_value for seed in range(3000)]).reshape(1000, 3)
    rejected = np.mean([holm(family).min() < 0.05 for family in p_values])
    assert rejected <= 0.06, rejected
