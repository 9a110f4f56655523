"""A trial's metrics: per section, per machine type, and the official score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.rules import rule_of
from harness.statistics.intervals import ClipDraws, ScoreIntervals, score_intervals
from harness.trials.contract import TrialSpec, machine_name


@dataclass(frozen=True)
class Numbers:
    """The metrics of a trial, each a mapping by scorer.

    Attributes:
        metrics: each machine type's sections.
        official: the official score as a fraction; None where undefined.
        machines: the harmonic mean of each machine type, as a fraction.
    """

    metrics: dict[str, tuple[Any, ...]]
    official: dict[str, float | None]
    machines: dict[str, dict[str, float]]


def measure_scorers(spec: TrialSpec, scored: pd.DataFrame) -> Numbers:
    """Measure the column of every scorer that a trial names, each year by its own rule."""
    metrics = {scorer: measure_years(scored, scorer) for scorer in spec.scorers}
    return Numbers(
        metrics=metrics,
        official={scorer: joined_official_score(rows) for scorer, rows in metrics.items()},
        machines={scorer: machine_scores(spec, rows) for scorer, rows in metrics.items()},
    )


def scorer_intervals(scored: pd.DataFrame, scorers: Sequence[str]) -> dict[str, ScoreIntervals]:
    """Return the intervals of each scorer's column, all of them on the same resamples of the clips."""
    rules, draws = {str(name): rule_of(str(name)) for name in scored["dataset"].unique()}, ClipDraws()
    return {
        scorer: score_intervals(scored.assign(score=scored[f"score_{scorer}"]), rules, draws=draws)
        for scorer in scorers
    }


def measure_years(scored: pd.DataFrame, scorer: str) -> tuple[Any, ...]:
    """Measure one scorer's column, each year by its own rule."""
    rows: list[Any] = []
    for dataset, clips in scored.groupby("dataset", sort=True):
        rows += measure(clips.assign(score=clips[f"score_{scorer}"]), rule_of(str(dataset)))
    return tuple(rows)


def joined_official_score(rows: tuple[Any, ...]) -> float | None:
    """Return the official score of one year, or the harmonic mean of several years'; None if any is undefined."""
    scores = []
    for dataset in dict.fromkeys(each.dataset for each in rows):
        score = official_score([each for each in rows if each.dataset == dataset], rule_of(dataset))
        if score is None:
            return None
        scores.append(max(score, float(np.finfo(float).eps)))
    return float(len(scores) / sum(1 / score for score in scores))


def machine_scores(spec: TrialSpec, rows: tuple[Any, ...]) -> dict[str, float]:
    """Return the harmonic mean of each machine type by its name in results; undefined ones are left out."""
    found = {}
    for dataset in dict.fromkeys(each.dataset for each in rows):
        h_means = machine_h_means([each for each in rows if each.dataset == dataset], rule_of(dataset))
        for (_, machine), value in h_means.items():
            if value is not None:
                found[machine_name(spec, dataset, machine)] = value
    return found
