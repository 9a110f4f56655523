"""The metrics of recorded trials as arrays, section by section, in the order of the year's rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.metrics.measures import measure
from benchmarks.metrics.rules import metric_rule
from harness.errors import HarnessError
from harness.rules import rule_of
from harness.statistics.bootstrap import Floats, Section
from harness.stores.results import Results


def recorded_numbers(
    results: Results, keys: Sequence[str], *, scorer: str, dataset: str
) -> dict[str, dict[Section, Floats]]:
    """Return trial key -> section -> (k,) numbers of one year, NaN where undefined.

    They are read from the table of metrics; where that has no column for a number of the rule, as for the pAUC of each
    domain in 2021, they are measured on the recorded clip scores.

    Args:
        results: the results tables.
        keys: of finished trials.
        scorer: whose metrics.
        dataset: year.

    Raises:
        HarnessError: a number is in neither.
    """
    fields = [number.field for number in metric_rule(rule_of(dataset)).numbers]
    metrics = results.metrics(keys)
    metrics = metrics[(metrics["scorer"] == scorer) & (metrics["dataset"] == dataset)]
    if set(fields) <= set(metrics.columns):
        return {str(key): _by_section(rows, fields) for key, rows in metrics.groupby("key", sort=False)}
    clips = results.clip_scores(keys, scorer)
    if alone := sorted(set(keys) - set(clips)):
        raise HarnessError(
            f"The numbers of {dataset} ({', '.join(fields)}) are measured on clip scores, but trial {alone[0]} is "
            "recorded without any; record it with its clip scores."
        )
    return {key: _measured(table[table["dataset"] == dataset], dataset, fields) for key, table in clips.items()}


def _by_section(rows: pd.DataFrame, fields: Sequence[str]) -> dict[Section, Floats]:
    names = rows[["dataset", "machine", "section"]].astype(str).itertuples(index=False, name=None)
    values = rows[list(fields)].to_numpy(dtype=np.float64)
    return {(year, machine, section): value for (year, machine, section), value in zip(names, values, strict=True)}


def _measured(clips: pd.DataFrame, dataset: str, fields: Sequence[str]) -> dict[Section, Floats]:
    sections = measure(clips, rule_of(dataset))
    return {
        (each.dataset, each.machine, each.section): np.array(
            [getattr(each, field) for field in fields], dtype=np.float64
        )
        for each in sections
    }
