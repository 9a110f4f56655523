"""Confidence intervals of every metric and of the official score, over clips and over machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import section_numbers
from benchmarks.metrics.rules import harmonic_mean, metric_rule
from benchmarks.metrics.sections import SectionScores
from harness.statistics.bootstrap import (
    Bootstrap,
    Counts,
    Floats,
    bootstrap_sections,
    draw_clips,
    identified,
    machine_places,
)
from harness.statistics.significance import crossed_spread, interval, stretched_interval

RESAMPLES = 1000
LEVEL = 0.95

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class ScoreIntervals:
    """Intervals of one scorer's numbers, as fractions; None where a number is undefined.

    Attributes:
        official: of the official score, over clips: what other recordings of the same machines would score.
        official_machines: of the official score, over machines and clips: what other machines of the same kind would
            score; None for a single machine.
        h_means: of each machine type's harmonic mean, over clips, by (dataset, machine).
        numbers: of each number, over clips, by (dataset, machine, section) and field of `MachineMetrics`.
    """

    official: Interval | None
    official_machines: Interval | None
    h_means: Mapping[tuple[str, str], Interval | None]
    numbers: Mapping[tuple[str, str, str], Mapping[str, Interval | None]]

    def content(self) -> dict[str, Any]:
        """Return all of it ready for JSON, a row a number."""
        return {
            "official": self.official,
            "official_machines": self.official_machines,
            "rows": [
                {"dataset": dataset, "machine": machine, "section": section, "field": name, "interval": found}
                for (dataset, machine, section), fields in self.numbers.items()
                for name, found in fields.items()
            ],
        }


@dataclass
class ClipDraws:
    """The bootstrap's draws of clips, made once for all scorers of a trial, since they do not depend on scores.

    Attributes:
        resamples: of the bootstrap.
        seed: of the draws.
    """

    resamples: int = RESAMPLES
    seed: int = 0
    _kept: dict[tuple[str, str, str], Counts] = field(default_factory=dict, repr=False)

    def of(self, section: SectionScores) -> Counts:
        """Return how often each clip of a section was drawn: (n, resamples)."""
        if section.key not in self._kept:
            self._kept[section.key] = draw_clips(section, resamples=self.resamples, seed=self.seed)
        return self._kept[section.key]


def score_intervals(
    scored: pd.DataFrame, rules: Mapping[str, RuleName], *, draws: ClipDraws | None = None, level: float = LEVEL
) -> ScoreIntervals:
    """Return the intervals of a scored clip table's numbers.

    Over clips: percentiles of a bootstrap that draws clips within section, domain and condition (Efron and Tibshirani
    1993, chapters 8 and 13). Over machines: the same with machines drawn again too, at the width of the jackknife's
    spread over machines with Student's tails, as a bootstrap over a handful is too narrow (`stretched_interval`).

    Args:
        scored: clips with `clip_id` and `score`, of one year or several, each clip in the same place for every scorer
            that shares `draws`.
        rules: year -> its rule.
        draws: pass the same object for every scorer of the same clips to draw only once; None makes new draws.
        level: of the intervals.

    Raises:
        BenchmarkError: the table cannot be measured.
        HarnessError: there is no `clip_id`, or `resamples` or `seed` is out of range.
    """
    draws = draws or ClipDraws()
    years = [_year(sections, rules[dataset], draws) for dataset, sections in _by_year(scored)]
    over_clips = _joined([drawn.official for drawn, _, _ in years])
    over_machines = _joined([machines for _, machines, _ in years])
    return ScoreIntervals(
        official=_interval(over_clips, level),
        official_machines=_machine_interval(over_machines, over_clips, [parts for _, _, parts in years], level),
        h_means={key: _interval(values, level) for drawn, _, _ in years for key, values in drawn.h_means.items()},
        numbers={
            key: {name: _interval(values, level) for name, values in fields.items()}
            for drawn, _, _ in years
            for key, fields in drawn.numbers.items()
        },
    )


@dataclass(frozen=True)
class _Parts:
    """The official score of one year as recorded, and without each of its machines in turn: (machines,)."""

    official: float
    without: Floats


def _by_year(scored: pd.DataFrame) -> Iterator[tuple[str, list[SectionScores]]]:
    sections = identified(scored)
    for dataset in dict.fromkeys(section.dataset for section in sections):
        yield dataset, [section for section in sections if section.dataset == dataset]


def _year(sections: Sequence[SectionScores], rule: RuleName, draws: ClipDraws) -> tuple[Bootstrap, Floats, _Parts]:
    """Resample one year's clips, and its machines besides; and leave each machine out once."""
    drawn, over_machines = bootstrap_sections(sections, [draws.of(one) for one in sections], rule, seed=draws.seed)
    as_they_are = np.stack([section_numbers(one, rule, np.ones((one.scores.size, 1))) for one in sections])  # (s, k, 1)
    definition, ones = metric_rule(rule), np.ones((len(sections), 1))
    without = []
    for at in machine_places(sections).values():
        weights = ones.copy()
        weights[at] = 0.0
        without.append(float(definition.official(as_they_are, weights)[0]))
    return drawn, over_machines, _Parts(float(definition.official(as_they_are, ones)[0]), np.array(without))


def _joined(years: Sequence[Floats]) -> Floats:
    """Return the harmonic mean over years, as the joined official score is: (years, b) -> (b,).

    NaN if any year is undefined. `harmonic_mean` would leave an undefined number out, but then the score over two years
    would silently become the score of one.
    """
    official = np.stack(years)  # (y, b)
    mean = harmonic_mean(official[:, None], np.ones_like(official))
    return np.where(np.isnan(official).any(axis=0), np.nan, mean)


def _interval(samples: Floats, level: float) -> Interval | None:
    """Return the percentile interval of the samples that are defined; None where none is."""
    known = samples[~np.isnan(samples)]
    return interval(known, level=level) if known.size else None


def _machine_interval(samples: Floats, over_clips: Floats, years: Sequence[_Parts], level: float) -> Interval | None:
    """Return the interval over machines, from resampled scores and the jackknife's pseudo-values (Tukey 1958)."""
    official = float(_joined([np.array([parts.official]) for parts in years])[0])
    pseudo = []
    for place, parts in enumerate(years):
        for without in parts.without:
            others = [each.official for each in years]
            others[place] = float(without)
            machines = sum(len(each.without) for each in years)
            left = float(_joined([np.array([each]) for each in others])[0])
            pseudo.append(machines * official - (machines - 1) * left)
    known = samples[~np.isnan(samples)]
    if len(pseudo) < 2 or not np.isfinite(pseudo).all() or not known.size:
        return None
    spread = crossed_spread(np.array(pseudo)[:, None], clips=float(np.nanvar(over_clips)))
    low, high = stretched_interval(known, around=official, spread=spread, level=level)
    return max(low, 0.0), min(high, 1.0)
