"""The official score of one system over several seeds, with an interval over machines and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.contract import RuleName
from benchmarks.metrics.rules import metric_rule
from harness.errors import HarnessError
from harness.statistics.arms import measured_arms, pseudo_values
from harness.statistics.significance import crossed_spread, score_interval


@dataclass(frozen=True)
class Estimate:
    """What a system scores, mean over its seeds; fractions.

    Attributes:
        score: official score.
        ci_low: lower end of its interval over machines and seeds; of a single machine over clips and seeds.
        ci_high: upper end.
        h_means: harmonic mean of each machine type.
    """

    score: float
    ci_low: float
    ci_high: float
    h_means: Mapping[str, float]


def estimate_score(
    scored: pd.DataFrame, rule: RuleName, *, resamples: int, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Measure one system's scored clips of one year over all of its seeds.

    Args:
        scored: a row a seed and clip: `seed dataset machine section domain condition clip_id score`.
        rule: the year's rule.
        resamples: of the clips, by which a single machine's interval is made.
        seed: of the draws.
        level: of the interval; see `harness.statistics.significance.score_interval`.

    Raises:
        BenchmarkError: scores cannot be measured.
        HarnessError: the seeds scored other clips, or no machine has a metric.
    """
    arms = measured_arms(scored, scored, rule, resamples=resamples, seed=seed)
    values, places, definition = arms.values[0], arms.places(), metric_rule(rule)
    if not places:
        raise HarnessError("A score needs a machine with normal and anomalous clips, but there is none.")
    ones = np.ones((len(arms.sections), 1 + arms.resamples))
    official = np.stack([definition.official(of_seed, ones) for of_seed in values]).mean(axis=0)  # (1 + b,)
    spread = crossed_spread(pseudo_values(values[..., 0], places, rule), clips=float(official[1:].var()))
    low, high = score_interval(float(official[0]), spread, level=level)
    h_means = {
        machine: float(np.mean([definition.machine(of_seed[at, :, :1])[0] for of_seed in values]))
        for (_, machine), at in places.items()
    }
    return Estimate(float(official[0]), low, high, h_means)
