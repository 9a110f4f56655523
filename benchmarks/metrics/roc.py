"""Areas under ROC curves, of scored clips and of their resamples.

Every area is computed over resamples: `counts[i, j]` says how often clip i stands in resample j, and a plain metric is
the resample that holds each clip once. So a metric and its bootstrap cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.contract import BenchmarkError

MAX_FPR = 0.1  # pAUC range of the official evaluators

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]


def auc(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Return the area under the ROC curve of (n,) scores, as a fraction; ties count half.

    Raises:
        BenchmarkError: scores are not finite, or clips of one class only.
    """
    return _single(scores, anomalous, resampled_auc)


def partial_auc(scores: ArrayLike, anomalous: ArrayLike, *, max_fpr: float = MAX_FPR) -> float:
    """Return the McClish-standardised area under the ROC curve up to a false positive rate.

    0.5 (1 + (A - p^2/2) / (p - p^2/2)) with A the area over [0, p], p = `max_fpr` (McClish 1989, as in scikit-learn's
    roc_auc_score); chance is 0.5, and p = 1 is the plain AUC.

    Args:
        scores: (n,) higher = more anomalous.
        anomalous: (n,) True for anomalies.
        max_fpr: p in (0, 1].

    Raises:
        BenchmarkError: scores are not finite, clips of one class only, or p out of range.
    """
    if not 0 < max_fpr <= 1:
        raise BenchmarkError(f"max_fpr must lie in (0, 1], a false positive rate, but got {max_fpr}.")
    return _single(scores, anomalous, lambda s, a, c: resampled_partial_auc(s, a, c, max_fpr=max_fpr))


def _single(scores: ArrayLike, anomalous: ArrayLike, metric: Callable[[Floats, Bools, Floats], Floats]) -> float:
    checked, labels = np.asarray(scores, dtype=np.float64), np.asarray(anomalous, dtype=np.bool_)
    if checked.ndim != 1 or checked.shape != labels.shape:
        raise BenchmarkError(f"Scores and labels must be (n,) alike, but got {checked.shape} and {labels.shape}.")
    if not np.isfinite(checked).all():
        first = np.flatnonzero(~np.isfinite(checked))[0]
        raise BenchmarkError(f"Scores must be finite numbers, but got {checked[first]} in place {first}.")
    if labels.all() or not labels.any():
        raise BenchmarkError(f"An AUC needs normal and anomalous clips, but all {labels.size} are of one class.")
    return metric(checked, labels, np.ones((checked.size, 1))).item()  # of the one resample


def resampled_auc(scores: Floats, anomalous: Bools, counts: NDArray[Any]) -> Floats:
    """Return the AUC of each resample: (n,) scores and labels, (n, b) counts -> (b,); NaN without both classes.

    An anomaly earns the number of normal clips that it outranks, and half of those that it ties with (the
    Mann-Whitney statistic; Hanley and McNeil 1982). All sums are of halves of integers, so they are exact.
    """
    normal, anomaly = scores[~anomalous], scores[anomalous]
    order = np.argsort(normal, kind="stable")
    normal, below = normal[order], _cumulated(counts[~anomalous][order])  # (n0,), (n0 + 1, b)
    drawn = counts[anomalous].astype(np.float64)  # (n1, b)
    outranked = below[np.searchsorted(normal, anomaly, "left")]
    outranked += below[np.searchsorted(normal, anomaly, "right")]
    outranked *= drawn
    with np.errstate(invalid="ignore"):
        areas: Floats = outranked.sum(axis=0) / (2.0 * below[-1] * drawn.sum(axis=0))
    return areas


def resampled_partial_auc(
    scores: Floats, anomalous: Bools, counts: NDArray[Any], *, max_fpr: float = MAX_FPR
) -> Floats:
    """Return the standardised partial AUC of each resample; shapes as in `resampled_auc`.

    The curve runs through one point a distinct score; a group of normal clips that tie, `wide` of them, moves it
    `wide` to the right and by the tied anomalies up, in a straight line that the limit may cut.
    """
    if max_fpr == 1:
        return resampled_auc(scores, anomalous, counts)
    normal, false = _ranked(scores[~anomalous], counts[~anomalous])  # (n0,), (n0 + 1, b)
    anomaly, hits = _ranked(scores[anomalous], counts[anomalous])  # (n1,), (n1 + 1, b)
    distinct, starts = np.unique(normal, return_index=True)  # (g,)
    before, after = false[starts], false[np.append(starts, normal.size)[1:]]  # (g, b)
    limit = max_fpr * false[-1]
    reached = (before < limit).any(axis=1).sum()  # groups further on lie behind the limit in every resample
    before, wide = before[:reached], after[:reached] - before[:reached]
    inside = np.clip(limit - before, 0.0, wide)
    first, last = (np.searchsorted(anomaly, distinct[:reached], side) for side in ("left", "right"))
    area = (inside * hits[first]).sum(axis=0)
    tied = last > first
    rise = hits[last[tied]] - hits[first[tied]]
    area += (rise * inside[tied] ** 2 / np.maximum(2.0 * wide[tied], 1.0)).sum(axis=0)  # 0 wide: 0 inside
    with np.errstate(invalid="ignore"):
        area /= false[-1] * hits[-1]
    least = max_fpr**2 / 2
    standardised: Floats = 0.5 * (1.0 + (area - least) / (max_fpr - least))
    return standardised


def _ranked(scores: Floats, counts: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return negated scores, most anomalous first, and the clips drawn before each place: (n,), (n + 1, b)."""
    order = np.argsort(-scores, kind="stable")
    return -scores[order], _cumulated(counts[order])


def _cumulated(counts: NDArray[Any]) -> Floats:
    """Return how many clips come before each place: (n, b) counts -> (n + 1, b)."""
    cumulated = np.zeros((counts.shape[0] + 1, counts.shape[1]))
    np.cumsum(counts, axis=0, out=cumulated[1:])
    return cumulated
