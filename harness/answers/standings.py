"""The input of leaderboards: the metrics of finished trials as arrays, and their grouping into cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.metrics.rules import EPSILON
from harness.statistics.significance import within
from harness.stores.readings import BETWEEN, MACHINE_NUMBERS
from harness.stores.results import Results

METRICS = ("auc", "s_auc", "t_auc", "p_auc")
LEVEL = 0.95  # of intervals

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True)
class Standings:
    """Metrics of finished trials as arrays of length n, an entry for each trial and scorer; NaN where undefined.

    Attributes:
        columns: column name -> (n,) values, from `Results.trial_columns`.
        years: (w,) dataset of each machine type.
        types: (w,) machine types.
        h_means: (n, w) harmonic mean of each machine type.
        metrics: name of a metric -> (n,) harmonic means over machine types and sections.
    """

    columns: Mapping[str, Sequence[Any]]
    years: tuple[str, ...]
    types: tuple[str, ...]
    h_means: Floats
    metrics: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.columns["key"])

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.columns[name]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the years that are scored."""
        return tuple(dict.fromkeys(self.years))

    @property
    def machines(self) -> tuple[str, ...]:
        """Return how the machine types are called: with their year where several are scored."""
        if len(self.datasets) == 1:
            return self.types
        return tuple(f"{year}/{name}" for year, name in zip(self.years, self.types, strict=True))

    @property
    def official(self) -> Floats:
        """Return official scores: (n,)."""
        return self.numeric("official_score")

    def numeric(self, name: str) -> Floats:
        """Return a column as numbers: (n,)."""
        return np.array(self.columns[name], dtype=np.float64)

    def machine(self, name: str) -> Floats:
        """Return one machine type's harmonic means: (n,), NaN where this board does not score it."""
        if name not in self.machines:
            return np.full(len(self), np.nan)
        return self.h_means[:, self.machines.index(name)]

    def only(self, places: Sequence[int] | Places) -> Standings:
        """Keep the trials at these positions, and the machine types that any of them scores."""
        if len(places) == len(self):
            return self
        h_means = self.h_means[places]
        scored = np.asarray(np.isfinite(h_means).any(axis=0))
        return Standings(
            {name: [column[place] for place in places] for name, column in self.columns.items()},
            tuple(compress(self.years, scored)),
            tuple(compress(self.types, scored)),
            h_means[:, scored],
            {name: column[places] for name, column in self.metrics.items()},
        )

    def cells(self, names: Sequence[str]) -> Cells:
        """Group the trials that agree in these columns."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for place, cell in enumerate(zip(*(self.columns[name] for name in names), strict=True)):
            found.setdefault(cell, []).append(place)
        places = list(found.values())
        sizes = np.array([len(each) for each in places])
        return Cells(self, places, np.concatenate(places), np.cumsum(sizes) - sizes)


@dataclass(frozen=True)
class Cells:
    """Trials grouped into c cells; within a cell they differ in their seed alone.

    Attributes:
        standings: the trials.
        places: for each cell, the positions of its trials in `standings`.
        order: (n,) all of `places`, concatenated.
        starts: (c,) index in `order` at which each cell begins.
    """

    standings: Standings
    places: list[list[int]]
    order: Places
    starts: Places

    def first(self, name: str) -> list[Any]:
        """Return a column of each cell's first trial: (c,)."""
        column = self.standings[name]
        return [column[places[0]] for places in self.places]

    def values(self, at: int, name: str) -> list[Any]:
        """Return a column of a cell's trials."""
        column = self.standings[name]
        return [column[place] for place in self.places[at]]

    def by_seed(self, values: Floats) -> list[tuple[tuple[int, ...], Floats]]:
        """Return for each cell its sorted distinct seeds (s,), and the mean values of each seed: (n, w) -> (s, w).

        All cells are sorted in one step, since sorting a thousand cells one by one would dominate the run time.
        """
        sizes = [len(each) for each in self.places]
        cell = np.repeat(np.arange(len(sizes)), sizes)
        seeds = np.array(self.standings["seed"])[self.order]
        sorted_by = np.lexsort((seeds, cell))
        ordered, every = values[self.order[sorted_by]], seeds[sorted_by].tolist()
        found = []
        for start, size in zip(self.starts.tolist(), sizes, strict=True):
            own, rows = tuple(every[start : start + size]), ordered[start : start + size]
            once = tuple(dict.fromkeys(own))
            if len(once) < size:
                rows = np.stack([rows[np.array(own) == one].mean(axis=0) for one in once])
            found.append((once, rows))
        return found

    def mean(self, values: Floats) -> Floats:
        """Return the mean of what is defined: (n,) or (n, w) -> (c,) or (c, w)."""
        count = self._sums(np.isfinite(values).astype(float))
        return np.asarray(self._sums(np.nan_to_num(values)) / np.where(count > 0, count, np.nan))

    def spread(self, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return mean, standard deviation and the ends of the mean's interval over trials: (n,) scores -> four of (c,).

        The interval is Student's (1908, Biometrika 6:1) on the logit, on which a score cannot leave 0 to 1
        (`harness.statistics.significance.within`); with one trial there is none, nor a deviation.
        """
        there = np.isfinite(values)
        count = self._sums(there.astype(float))
        mean = self.mean(values)
        of_trials = np.empty(len(values))
        of_trials[self.order] = np.repeat(mean, np.diff(self.starts, append=len(values)))
        freedom = np.where(count > 1, count - 1, np.nan)
        deviation = np.sqrt(self._sums(np.where(there, values - of_trials, 0.0) ** 2) / freedom)
        half = stdtrit(freedom, 0.5 + LEVEL / 2) * deviation / np.sqrt(count)
        return mean, deviation, *within(mean, half, half, scale="score")

    def _sums(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values[self.order], self.starts))


def read_standings(results: Results, study_key: str | None = None) -> Standings:
    """Read the numbers of every finished trial, or of a study's."""
    columns = results.trial_columns(study_key)
    scorers = {scorer: code for code, scorer in enumerate(dict.fromkeys(columns["scorer"]))}
    rows = results.machine_numbers(study_key)
    split = {name: tuple(name.split(BETWEEN)) for name in dict.fromkeys(row[1] for row in rows)}
    split = {name: parts for name, parts in split.items() if parts[0] in scorers}
    rows = [row for row in rows if row[1] in split]  # not of a scorer that came after the trials were read
    names = [row[1] for row in rows]
    types = sorted(dict.fromkeys((year, machine) for _, year, machine in split.values()))
    column_of = {name: types.index((year, machine)) for name, (_, year, machine) in split.items()}
    places, known = _places(
        np.array(columns["id"]) * len(scorers) + np.array([scorers[scorer] for scorer in columns["scorer"]]),
        np.array([row[0] for row in rows]) * len(scorers) + np.array([scorers[split[name][0]] for name in names]),
    )
    machines = np.array([column_of[name] for name in names], dtype=np.intp)[known]
    ends = range(2, 2 + len(MACHINE_NUMBERS))
    numbers = [np.array([row[at] for row in rows], dtype=np.float64)[known] for at in ends]
    h_means = np.full((len(columns["id"]), len(types)), np.nan)
    h_means[places, machines] = numbers[0]
    return Standings(
        columns,
        tuple(year for year, _ in types),
        tuple(machine for _, machine in types),
        h_means,
        {name: _harmonic(each, places, len(h_means)) for name, each in zip(METRICS, numbers[1:], strict=True)},
    )


def _places(trials: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[Places, NDArray[np.bool_]]:
    """Return where each row's trial stands, and which rows have one: (n,), (k,) -> (j,), (k,).

    Another process may record a trial after the trials were read and before their metrics are read. Such metrics have
    no trial here, and are left out of this leaderboard.
    """
    order = np.argsort(trials)
    places = order[np.minimum(np.searchsorted(trials, rows, sorter=order), len(trials) - 1)]
    known = trials[places] == rows
    return places[known], known


def _harmonic(values: Floats, places: Places, n: int) -> Floats:
    """Return the harmonic mean of each trial's values, which is NaN where none is defined: (k,) -> (n,).

    As `benchmarks.metrics.rules.harmonic_mean` for each trial by itself, all trials at once: ten thousand of them one
    by one would take seconds.
    """
    there = np.isfinite(values)
    inverse = np.bincount(places[there], 1 / np.maximum(values[there], EPSILON), minlength=n)
    count = np.bincount(places[there], minlength=n)
    return np.asarray(count / np.where(count > 0, inverse, np.nan))
