"""The official metrics of DCASE Challenge Task 2, each year's rule in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import Domain, MachineMetrics, RuleName
from benchmarks.metrics.roc import Bools, Floats, auc, partial_auc, resampled_auc, resampled_partial_auc
from benchmarks.metrics.rules import RULES, Field, MetricRule, Number, _machine_over_numbers, metric_rule
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
    return [_measure_section(section, rule) for section in split_sections(scored)]


def _measure_section(section: SectionScores, rule: RuleName) -> MachineMetrics:
    everything = Number("auc", "auc", None, normals=None, anomalies=None)
    values: dict[Field, float | None] = dict.fromkeys(("auc", "s_auc", "t_auc", "p_auc"))
    if why_undefined(section, everything) is None:
        values["auc"] = auc(section.scores, section.anomalous)
    numbers = metric_rule(rule).numbers
    reasons = [why_undefined(section, number) for number in numbers]
    found = section_numbers(section, rule, np.ones((section.scores.size, 1))).ravel()  # each clip once: (k, 1) -> (k,)
    for number, reason, value in zip(numbers, reasons, found, strict=True):
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
    value = values.item()  # of the one resample
    return None if np.isnan(value) else value
