"""The official metric of each year: which numbers, and how they become a score."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from benchmarks.contract import BenchmarkError, Domain, RuleName
from benchmarks.metrics.roc import Floats

EPSILON = sys.float_info.epsilon  # official evaluators: harmonic mean of max(x, epsilon)
Field: TypeAlias = Literal["auc", "s_auc", "t_auc", "p_auc", "p_auc_source", "p_auc_target"]


@dataclass(frozen=True)
class Number:
    """One number of a section: which clips enter it and where it is kept.

    Attributes:
        field: of `MachineMetrics`.
        metric: what listings call it.
        domain: what listings say beside it; None where it is of no single domain.
        normals: domain of the normal clips that enter; None takes all.
        anomalies: domain of the anomalous clips that enter; None takes all.
        partial: whether it is the partial AUC.
    """

    field: Field
    metric: str
    domain: Domain | None
    normals: Domain | None
    anomalies: Domain | None
    partial: bool = False


@dataclass(frozen=True)
class MetricRule:
    """One year's definition.

    Attributes:
        numbers: (k,) what a section is measured by.
        official: (s, k, b) numbers of s sections and (s, b) weights -> (b,) official scores.
        machine: (s, k, b) numbers of one machine's sections -> (b,) its harmonic mean.
    """

    numbers: tuple[Number, ...]
    official: Callable[[Floats, Floats], Floats]
    machine: Callable[[Floats], Floats]


def arithmetic_mean(values: Floats, weights: Floats) -> Floats:
    """Average the defined numbers: (s, k, b) values, (s, b) weights -> (b,); NaN where none is defined."""
    weight, filled = _defined(values, weights)
    with np.errstate(invalid="ignore"):
        mean: Floats = (weight * filled).sum(axis=(0, 1)) / weight.sum(axis=(0, 1))
    return mean


def harmonic_mean(values: Floats, weights: Floats) -> Floats:
    """Return the harmonic mean of the defined numbers, none taken below epsilon; shapes as in `arithmetic_mean`."""
    weight, filled = _defined(values, weights)
    with np.errstate(invalid="ignore"):
        mean: Floats = weight.sum(axis=(0, 1)) / (weight / np.maximum(filled, EPSILON)).sum(axis=(0, 1))
    return mean


def harmonic_of_all(values: Sequence[float | None]) -> float | None:
    """Return the harmonic mean of numbers that must all be there: None where one is missing, or there are none.

    So a mean over two domains never is that of one, as `harmonic_mean` would make it.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return len(known) / sum(1 / max(value, EPSILON) for value in known)


def _defined(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return weights that are 0 where a number is undefined, and numbers without NaN: both (s, k, b)."""
    defined = ~np.isnan(values)
    return np.where(defined, weights[:, None, :], 0.0), np.where(defined, values, 1.0)


def _machine_over_numbers(values: Floats) -> Floats:
    return harmonic_mean(values, np.ones((values.shape[0], values.shape[2])))


def _machine_over_means(values: Floats) -> Floats:
    """Average each number over the machine's IDs, then take the harmonic mean: (s, k, b) -> (b,)."""
    ones = np.ones((values.shape[0], values.shape[2]))
    means = np.stack([arithmetic_mean(values[:, [k]], ones) for k in range(values.shape[1])])  # (k, b)
    return _machine_over_numbers(means[None])


RULES: Mapping[RuleName, MetricRule] = {
    # Places: y-kawagu/dcase2020_task2_evaluator, evaluator.py. The challenge ranked teams by mean rank and printed no
    # single score; the arithmetic mean of every AUC and pAUC is what others report.
    "dcase2020": MetricRule(
        numbers=(
            Number("auc", "auc", None, normals=None, anomalies=None),
            Number("p_auc", "p_auc", None, normals=None, anomalies=None, partial=True),
        ),
        official=arithmetic_mean,
        machine=_machine_over_means,
    ),
    # dcase2021_task2_evaluator.py: a domain's normals against the same domain's anomalies; no pAUC over both.
    "dcase2021": MetricRule(
        numbers=(
            Number("s_auc", "s_auc", "source", normals="source", anomalies="source"),
            Number("t_auc", "t_auc", "target", normals="target", anomalies="target"),
            Number("p_auc_source", "p_auc", "source", normals="source", anomalies="source", partial=True),
            Number("p_auc_target", "p_auc", "target", normals="target", anomalies="target", partial=True),
        ),
        official=harmonic_mean,
        machine=_machine_over_numbers,
    ),
    # dcase2022_task2_evaluator.py, the same to 2025: a domain's normals against the anomalies of both domains.
    "dcase2022": MetricRule(
        numbers=(
            Number("s_auc", "s_auc", "source", normals="source", anomalies=None),
            Number("t_auc", "t_auc", "target", normals="target", anomalies=None),
            Number("p_auc", "p_auc", None, normals=None, anomalies=None, partial=True),
        ),
        official=harmonic_mean,
        machine=_machine_over_numbers,
    ),
}


def metric_rule(rule: RuleName) -> MetricRule:
    """Return a year's rule by its name; BenchmarkError for a name that no year has."""
    if rule not in RULES:
        raise BenchmarkError(f"The metric rule must be one of {', '.join(RULES)}, but got {rule!r}.")
    return RULES[rule]
