"""Scored clips, checked and parted into sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError

NAMES = ("dataset", "machine", "section")  # of a part
COLUMNS = (*NAMES, "domain", "condition", "score")
SHOWN = 5  # clip ids that an error names


@dataclass(frozen=True)
class SectionScores:
    """Scored clips of one section (machine ID in 2020), checked.

    Attributes:
        dataset: year.
        machine: machine type.
        section: section or machine ID.
        ids: (n,) clip ids, or row numbers where the table has none.
        scores: (n,) finite; higher = more anomalous.
        anomalous: (n,) True for anomalies; False also where the condition is not known.
        domains: (n,) "source", "target" or None.
        unlabeled: clips whose condition is not known.
    """

    dataset: str
    machine: str
    section: str
    ids: NDArray[np.object_]
    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    domains: NDArray[np.object_]
    unlabeled: int

    @property
    def key(self) -> tuple[str, str, str]:
        """Return (dataset, machine, section)."""
        return self.dataset, self.machine, self.section


def split_sections(scored: pd.DataFrame) -> list[SectionScores]:
    """Check scored clips and part them by dataset, machine and section, sorted by these, clips in the order given.

    Args:
        scored: columns `dataset machine section domain condition score`, and `clip_id` if there is one.

    Raises:
        BenchmarkError: a column is missing, there is no clip, an id stands twice, a score is not finite, or a domain
            or condition is a word that clips do not have.
    """
    missing = [column for column in COLUMNS if column not in scored.columns]
    if missing:
        raise BenchmarkError(f"Scored clips must have the columns {' '.join(COLUMNS)}, but miss {' '.join(missing)}.")
    if scored.empty:
        raise BenchmarkError("There must be at least one scored clip to measure, but the table is empty.")
    ids = (scored["clip_id"] if "clip_id" in scored.columns else scored.index.to_series()).to_numpy(dtype=object)
    repeated = pd.unique(ids[pd.Series(ids).duplicated().to_numpy()])
    if "clip_id" in scored.columns and repeated.size:
        raise BenchmarkError(f"Each clip must be scored once, but these have several scores: {_some(repeated)}.")
    scores = scored["score"].to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse_non_finite(scores, ids)
    domains = _words(scored["domain"], ("source", "target"), ids)
    conditions = _words(scored["condition"], ("normal", "anomaly"), ids)
    anomalous, unlabeled = _are(conditions, "anomaly"), _are(conditions, None)
    return [
        SectionScores(
            *names, ids=ids[rows], scores=scores[rows], anomalous=anomalous[rows], domains=domains[rows],
            unlabeled=int(unlabeled[rows].sum()),
        )
        for names, rows in _sections(scored, ids)
    ]  # fmt: skip


def _sections(scored: pd.DataFrame, ids: NDArray[Any]) -> list[tuple[tuple[str, str, str], NDArray[np.intp]]]:
    """Return dataset, machine and section of each part, sorted, with its rows; pandas' own grouping takes longer."""
    unnamed = scored[list(NAMES)].isna().any(axis=1).to_numpy()
    if unnamed.any():
        raise BenchmarkError(f"Each clip must have a dataset, machine and section; not so: {_some(ids[unnamed])}.")
    place, words = np.zeros(len(ids), np.intp), []
    for column in NAMES:
        values = scored[column].to_numpy()
        if pd.api.types.infer_dtype(values) != "string":  # 1 and 1.0 are equal, but not the same word
            values = scored[column].astype(str).to_numpy()
        codes, found = pd.factorize(values)
        words.append(sorted(found.tolist()))
        rank = {word: at for at, word in enumerate(words[-1])}
        ranks = np.array([rank[word] for word in found.tolist()], np.intp)
        place = place * len(words[-1]) + ranks[codes]
    order = np.argsort(place, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(place[order])) + 1)
    datasets, machines, sections = words
    named = []
    for rows in parts:
        rest, section = divmod(place[rows[0]], len(sections))
        dataset, machine = divmod(rest, len(machines))
        named.append(((datasets[dataset], machines[machine], sections[section]), rows))
    return named


def _refuse_non_finite(scores: NDArray[np.float64], ids: NDArray[Any]) -> None:
    bad = ~np.isfinite(scores)
    if bad.any():
        raise BenchmarkError(f"Scores must be finite numbers, but {int(bad.sum())} are not: {_some(ids[bad])}.")


def _words(column: pd.Series[Any], words: tuple[str, str], ids: NDArray[Any]) -> NDArray[np.object_]:
    """Return a column as (n,) words with None where it is empty."""
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = None
    strange = ~(_are(values, None) | _are(values, words[0]) | _are(values, words[1]))
    if strange.any():
        raise BenchmarkError(
            f"The {column.name} of a clip must be {words[0]!r}, {words[1]!r} or empty, but is "
            f"{values[strange][0]!r} for {_some(ids[strange])}."
        )
    return values


def _are(values: NDArray[np.object_], word: str | None) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = values == word  # a comparison of each element, with None too
    return same


def _some(ids: Sequence[object] | NDArray[Any]) -> str:
    more = len(ids) - SHOWN
    return ", ".join(str(name) for name in ids[:SHOWN]) + (f" and {more} more" if more > 0 else "")
