"""The official metrics of DCASE Challenge Task 2, each year's rule in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError, Domain, MachineMetrics, RuleName
from benchmarks.metrics.roc import Bools, Floats, auc, partial_auc, resampled_auc, resampled_partial_auc
from benchmarks.metrics.sections import SectionScores, split_sections

__all__ = [
    "RULES",
    "MetricRule",
    "Number",
    "SectionScores",
    "auc",
    "entering",
    "machine_h_means",
    "measure",
    "metric_rows",
    "metric_rule",
    "official_score",
    "partial_auc",
    "section_h_mean",
    "section_numbers",
    "split_sections",
    "why_undefined",
]

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


def entering(section: SectionScores, number: Number) -> Bools:
    """Return which clips enter a number: (n,)."""
    normals = ~section.anomalous & _of_domain(section, number.normals)
    anomalies = section.anomalous & _of_domain(section, number.anomalies)
    return normals | anomalies


def _of_domain(section: SectionScores, domain: Domain | None) -> Bools:
    return np.ones(section.scores.size, dtype=np.bool_) if domain is None else section.domains == domain


def why_undefined(section: SectionScores, number: Number) -> str | None:
    """Return the reason why a number of a section has no value, in one sentence; None where it has one."""
    where = f" in the {number.domain} domain" if number.domain else ""
    subject = f"{number.metric}{where} of {section.machine}, section {section.section}, {section.dataset}"
    if section.unlabeled:
        return f"{subject} is undefined: {section.unlabeled} of {section.scores.size} clips have no known condition."
    homeless = sum(domain is None for domain in section.domains)
    if number.normals and homeless:
        return f"{subject} is undefined: {homeless} of {section.scores.size} clips have no known domain."
    taken = section.anomalous[entering(section, number)]
    for absent, word, domain in (
        (taken.all(), "normal", number.normals),
        (~taken.any(), "anomalous", number.anomalies),
    ):
        if absent:
            return f"{subject} is undefined: there is no {word} clip{f' of the {domain} domain' if domain else ''}."
    return None


def section_numbers(section: SectionScores, rule: RuleName, counts: NDArray[Any]) -> Floats:
    """Return a section's numbers in every resample: (n, b) counts -> (k, b), NaN where undefined."""
    numbers = metric_rule(rule).numbers
    values = np.full((len(numbers), counts.shape[1]), np.nan)
    for k, number in enumerate(numbers):
        if why_undefined(section, number) is None:
            clips = entering(section, number)
            metric = resampled_partial_auc if number.partial else resampled_auc
            values[k] = metric(section.scores[clips], section.anomalous[clips], counts[clips])
    return values


def measure(scored: pd.DataFrame, rule: RuleName) -> list[MachineMetrics]:
    """Return the metrics of every section by a year's rule, as fractions, sorted by dataset, machine and section.

    What a year does not define is None (2021 has no joint pAUC: there `p_auc` is None and the two domains' stand in
    `p_auc_source` and `p_auc_target`); what it defines and these clips do not allow is None with a reason in
    `undefined`. `auc`, over all clips, is reported in every year and is official in 2020 alone.

    Args:
        scored: columns `dataset machine section domain condition score`, and `clip_id` if there is one.
        rule: the year's rule.

    Raises:
        BenchmarkError: as `split_sections`, or no such rule.
    """
    metric_rule(rule)
    return [_measure_section(section, rule) for section in split_sections(scored)]


def _measure_section(section: SectionScores, rule: RuleName) -> MachineMetrics:
    everything = Number("auc", "auc", None, normals=None, anomalies=None)
    values: dict[Field, float | None] = dict.fromkeys(("auc", "s_auc", "t_auc", "p_auc"))
    if why_undefined(section, everything) is None:
        values["auc"] = auc(section.scores, section.anomalous)
    numbers = metric_rule(rule).numbers
    reasons = [why_undefined(section, number) for number in numbers]
    for number, reason, value in zip(
        numbers, reasons, section_numbers(section, rule, np.ones((section.scores.size, 1)))[:, 0], strict=True
    ):
        values[number.field] = None if reason else float(value)
    undefined = tuple(reason for reason in reasons if reason)
    return MachineMetrics(*section.key, **values, undefined=undefined)  # type: ignore[arg-type]  # fields by name


def official_score(metrics: Iterable[MachineMetrics], rule: RuleName) -> float | None:
    """Return the official score of all sections, as a fraction; None where no number is defined.

    2020: arithmetic mean of AUC and pAUC over (machine, ID); later: harmonic mean of every section's numbers. It goes
    over the numbers that are defined; `MachineMetrics.undefined` says which are missing.
    """
    sections = list(metrics)
    if not sections:
        return None
    values = _values(sections, rule)
    return _known(metric_rule(rule).official(values, np.ones((len(sections), 1))))


def machine_h_means(metrics: Iterable[MachineMetrics], rule: RuleName) -> dict[tuple[str, str], float | None]:
    """Return each machine's harmonic mean by (dataset, machine); None where no number of it is defined.

    2020: harmonic mean of the machine's mean AUC and mean pAUC over its IDs; later: of all its sections' numbers.
    """
    machines: dict[tuple[str, str], list[MachineMetrics]] = {}
    for section in metrics:
        machines.setdefault((section.dataset, section.machine), []).append(section)
    return {key: _known(metric_rule(rule).machine(_values(sections, rule))) for key, sections in machines.items()}


def section_h_mean(metrics: MachineMetrics, rule: RuleName) -> float | None:
    """Return the harmonic mean of one section's defined numbers."""
    return _known(_machine_over_numbers(_values([metrics], rule)))


def metric_rows(metrics: Iterable[MachineMetrics], rule: RuleName) -> pd.DataFrame:
    """Return a row a number: `dataset machine section domain metric value`, value NaN where undefined."""
    return pd.DataFrame(
        [
            (
                section.dataset,
                section.machine,
                section.section,
                number.domain,
                number.metric,
                getattr(section, number.field),
            )
            for section in metrics
            for number in metric_rule(rule).numbers
        ],
        columns=["dataset", "machine", "section", "domain", "metric", "value"],
    ).astype({"domain": object, "value": np.float64})


def _values(metrics: Sequence[MachineMetrics], rule: RuleName) -> Floats:
    """Return (s, k, 1) numbers, NaN where undefined."""
    fields = [number.field for number in metric_rule(rule).numbers]
    rows = [[getattr(section, field) for field in fields] for section in metrics]
    return np.array(rows, dtype=np.float64)[:, :, None]


def _known(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])
