"""Goals of a search: the number of a trial that it optimises, or several (multi-objective optimisation)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from benchmarks.metrics.rules import harmonic_of_all
from harness.trials.contract import Measured, TrialResult

Goal: TypeAlias = Literal["score", "source", "target", "seconds", "memory"]
MINIMISED: tuple[Goal, ...] = ("seconds", "memory")
# The stages that count for the goal "seconds". Ranking and drawing do not: all M share them, so that their time would
# be charged to whichever trial happens to run first.
TRIALS_OWN = ("fuse", "finetune", "embed", "score", "measure")


def measured(result: TrialResult, scorer: str) -> Measured:
    """Return the numbers of a trial's result that goals are computed from."""
    rows = result.metrics[scorer]
    return Measured(
        official=result.official[scorer],
        s_auc=[row.s_auc for row in rows],
        t_auc=[row.t_auc for row in rows],
        seconds=result.seconds,
        peak_mb=result.peak_mb,
    )


def goal_values(numbers: Measured, goals: Iterable[Goal]) -> list[float] | None:
    """Return a trial's value of each goal, or None where one of them is undefined.

    - "score": the official score.
    - "source", "target": harmonic mean over sections of the AUC of that domain's normals against the anomalies of
      both, as in the official score.
    - "seconds": of the stages that the trial does not share with others.
    - "memory": the highest of the stages, MiB.
    """
    found = [_value(numbers, goal) for goal in goals]
    return None if any(value is None for value in found) else [value for value in found if value is not None]


def _value(numbers: Measured, goal: Goal) -> float | None:
    if goal == "score":
        return numbers.official
    if goal == "source":
        return harmonic_of_all(numbers.s_auc)
    if goal == "target":
        return harmonic_of_all(numbers.t_auc)
    if goal == "seconds":
        return sum((numbers.seconds or {}).get(stage, 0.0) for stage in TRIALS_OWN)
    return max((numbers.peak_mb or {}).values(), default=None)
