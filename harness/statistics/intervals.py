"""Confidence intervals of every metric and of the official score, over clips and over machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import entering, section_numbers
from benchmarks.metrics.roc import MAX_FPR
from benchmarks.metrics.rules import MetricRule, Number, harmonic_mean, metric_rule
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
from harness.statistics.significance import (
    ROUNDING,
    Spread,
    crossed_spread,
    score_interval,
    spread_of_parts,
)

RESAMPLES = 1000
LEVEL = 0.95
STEP = 1e-6  # by which a number is moved to see how much a score follows it

Part: TypeAlias = tuple[float, float]  # what a number's clips add to the variance of a score; degrees of freedom

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
    _kept: dict[tuple[str, str, str], Counts] = field(default_factory=dict)

    def of(self, section: SectionScores) -> Counts:
        """Return how often each clip of a section was drawn: (n, resamples)."""
        if section.key not in self._kept:
            self._kept[section.key] = draw_clips(section, resamples=self.resamples, seed=self.seed)
        return self._kept[section.key]


def score_intervals(
    scored: pd.DataFrame, rules: Mapping[str, RuleName], *, draws: ClipDraws | None = None, level: float = LEVEL
) -> ScoreIntervals:
    """Return the intervals of a scored clip table's numbers. None of them leaves 0 to 1.

    Over clips: the standard error of a bootstrap that draws clips within section, domain and condition (Efron and
    Tibshirani 1993, chapters 6 and 8), with Student's tails, on the logit (`harness.statistics.significance.within`).
    The degrees of freedom are one fewer than the clips that a number hangs on: the smaller class of an AUC, and of a
    partial AUC at most the tenth of the normal clips that it looks at; a score of several numbers has Satterthwaite's.
    Percentiles of the bootstrap would hold the truth in 87 to 93 % of cases near 1 instead of 95 %, as simulated in
    `tests/harness/statistics/test_coverage.py`. A number that is exactly 1, which no resample moves, has
    the lower end at which so perfect a sample has the chance (1 - level) / 2 (Clopper and Pearson 1934, Biometrika
    26:404).

    Over machines: Student's on the logit, by the spread of the jackknife's pseudo-values (Tukey 1958) over machines
    (`harness.statistics.significance.score_interval`). The spread over machines holds that over their clips.

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
    years = [_Year.of(sections, rules[dataset], draws) for dataset, sections in _by_year(scored)]
    return ScoreIntervals(
        official=_official_interval(years, level),
        official_machines=_machine_interval(years, level),
        h_means={key: found for year in years for key, found in year.machine_intervals(level).items()},
        numbers={key: found for year in years for key, found in year.number_intervals(level).items()},
    )


def _by_year(scored: pd.DataFrame) -> Iterator[tuple[str, list[SectionScores]]]:
    sections = identified(scored)
    for dataset in dict.fromkeys(section.dataset for section in sections):
        yield dataset, [section for section in sections if section.dataset == dataset]


@dataclass(frozen=True)
class _Year:
    """One year's numbers as recorded and resampled.

    Attributes:
        sections: (s,) scored clips.
        rule: the year's definition of the metrics.
        values: (s, k) numbers as recorded; NaN where undefined.
        drawn: the same, and the scores made of them, in every resample.
        hung: (s, k) clips that a number hangs on, see `_hung_on`.
    """

    sections: Sequence[SectionScores]
    rule: MetricRule
    values: Floats
    drawn: Bootstrap
    hung: Floats

    @classmethod
    def of(cls, sections: Sequence[SectionScores], rule: RuleName, draws: ClipDraws) -> _Year:
        """Measure and resample one year's sections."""
        definition = metric_rule(rule)
        return cls(
            sections,
            definition,
            np.stack([section_numbers(one, rule, np.ones((one.scores.size, 1)))[:, 0] for one in sections]),
            bootstrap_sections(sections, [draws.of(one) for one in sections], rule),
            np.array([[_hung_on(one, number) for number in definition.numbers] for one in sections]),
        )

    @cached_property
    def variances(self) -> Floats:
        """Return the variance of each number over clips: (s, k)."""
        return np.array(
            [
                [_variance(self.drawn.numbers[one.key][each.field]) for each in self.rule.numbers]
                for one in self.sections
            ]
        )

    @cached_property
    def official(self) -> float:
        """Return the year's official score as recorded."""
        return float(self._official(self.values[..., None])[0])

    def without_each_machine(self) -> Floats:
        """Return the official score without each machine in turn: (machines,), those without any number left out."""
        every = machine_places([one.key for one in self.sections])
        places = {key: at for key, at in every.items() if not np.isnan(self.values[at]).all()}
        if not places:
            return np.empty(0)
        weights = np.ones((len(self.sections), len(places)))
        for column, at in enumerate(places.values()):
            weights[at, column] = 0.0
        return self.rule.official(np.repeat(self.values[..., None], len(places), axis=-1), weights)

    def number_intervals(self, level: float) -> dict[tuple[str, str, str], dict[str, Interval | None]]:
        """Return the interval of every number, by section and field."""
        found: dict[tuple[str, str, str], dict[str, Interval | None]] = {}
        for s, one in enumerate(self.sections):
            found[one.key] = {}
            for k, number in enumerate(self.rule.numbers):
                parts = [(float(self.variances[s, k]), max(self.hung[s, k] - 1, 1.0))]
                found[one.key][number.field] = _clip_interval(
                    float(self.values[s, k]), self.drawn.numbers[one.key][number.field], parts, self.hung[s, k], level
                )
        return found

    def machine_intervals(self, level: float) -> dict[tuple[str, str], Interval | None]:
        """Return the interval of each machine's harmonic mean."""
        found = {}
        for key, at in machine_places([one.key for one in self.sections]).items():
            value = float(self.rule.machine(self.values[at][..., None])[0])
            parts = self._parts(self.rule.machine, at)
            found[key] = _clip_interval(value, self.drawn.h_means[key], parts, self.hung[at].min(), level)
        return found

    def official_parts(self) -> list[Part]:
        """Return what each number's clips add to the variance of the year's official score."""
        return self._parts(self._official, np.arange(len(self.sections)))

    def _official(self, values: Floats) -> Floats:
        return self.rule.official(values, np.ones((values.shape[0], values.shape[2])))

    def _parts(self, score: Callable[[Floats], Floats], at: Any) -> list[Part]:
        """Return each number's part in a score's variance, by the slope of the score along that number."""
        values, variances, hung = self.values[at], self.variances[at], self.hung[at]
        places = [tuple(place) for place in np.argwhere(np.isfinite(values) & np.isfinite(variances))]
        moved = np.repeat(values[..., None], 1 + len(places), axis=-1)
        for column, (s, k) in enumerate(places, start=1):
            moved[s, k, column] += STEP
        scores = score(moved)
        slopes = (scores[1:] - scores[0]) / STEP
        return [
            (float(slope**2 * variances[s, k]), max(float(hung[s, k]) - 1, 1.0))
            for slope, (s, k) in zip(slopes, places, strict=True)
        ]


def _hung_on(section: SectionScores, number: Number) -> float:
    """Return how many clips a number hangs on: those of the smaller class, a tenth of the normal ones for a pAUC."""
    anomalous = section.anomalous[entering(section, number)]
    anomalies = float(anomalous.sum())
    normals = anomalous.size - anomalies
    return max(min(normals * MAX_FPR if number.partial else normals, anomalies), 1.0)


def _variance(samples: Floats) -> float:
    """Return the variance of the samples that are defined; NaN where none is."""
    known = samples[~np.isnan(samples)]
    return float(known.var()) if known.size else np.nan


def _clip_interval(value: float, samples: Floats, parts: Sequence[Part], hung: float, level: float) -> Interval | None:
    """Return a score's interval over clips; None where it, or every resample of it, is undefined.

    Args:
        value: the score as recorded.
        samples: (b,) its resamples.
        parts: what each number's clips add to its variance.
        hung: fewest clips that one of these numbers hangs on.
        level: of the interval.
    """
    variance = _variance(samples)
    if not np.isfinite([value, variance]).all():
        return None
    if variance <= ROUNDING**2 and value in (0.0, 1.0):
        reach = float(((1 - level) / 2) ** (1 / hung))
        return (reach, 1.0) if value else (0.0, 1 - reach)
    total = sum(part for part, _ in parts)
    freedom = spread_of_parts(total, parts).freedom if total > 0 else max(hung - 1, 1.0)
    return score_interval(value, Spread(float(np.sqrt(variance)), freedom), level=level)


def _official_interval(years: Sequence[_Year], level: float) -> Interval | None:
    """Return the official score's interval over clips, the harmonic mean of several years' scores."""
    official = _joined([np.array([year.official]) for year in years])[0]
    parts = [
        ((official**2 / (len(years) * year.official**2)) ** 2 * part, freedom)
        for year in years
        for part, freedom in year.official_parts()
        if year.official > 0
    ]
    samples = _joined([year.drawn.official for year in years])
    return _clip_interval(float(official), samples, parts, min(year.hung.min() for year in years), level)


def _joined(years: Sequence[Floats]) -> Floats:
    """Return the harmonic mean over years, as the joined official score is: (years, b) -> (b,).

    NaN if any year is undefined. `harmonic_mean` would leave an undefined number out, but then the score over two years
    would silently become the score of one.
    """
    official = np.stack(years)  # (y, b)
    mean = harmonic_mean(official[:, None], np.ones_like(official))
    return np.where(np.isnan(official).any(axis=0), np.nan, mean)


def _machine_interval(years: Sequence[_Year], level: float) -> Interval | None:
    """Return the official score's interval over machines, by the jackknife's pseudo-values; None for one machine."""
    officials = [year.official for year in years]
    official = float(_joined([np.array([each]) for each in officials])[0])
    without = [year.without_each_machine() for year in years]
    machines = sum(each.size for each in without)
    pseudo = []
    for place, of_year in enumerate(without):
        for left in of_year:
            others = [*officials[:place], float(left), *officials[place + 1 :]]
            pseudo.append(machines * official - (machines - 1) * float(_joined([np.array([one]) for one in others])[0]))
    if len(pseudo) < 2 or not np.isfinite(pseudo).all():
        return None
    return score_interval(official, crossed_spread(np.array(pseudo)[:, None]), level=level)
