"""Nearest neighbour, its distance measured against how densely the references lie around that neighbour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, QUERY_ROWS, REFERENCE_ROWS, exact_distances, inverse_norms, nearest
from harness.scoring.reference_sets import check_embeddings

K = 1  # neighbours that a reference's density is taken over; the paper's first choice
LEAST = 1e-3  # of the mean spacing: duplicates among the references would divide by zero


def score(request: ScoreRequest, *, k: int = K, metric: str = "cosine") -> NDArray[np.float64]:
    """Return the smallest rescaled distance to a reference: (q,).

    min over references y of D(x, y) / (1/k sum over the k nearest other references y_k of y of D(y, y_k)), with D the
    distance (Wilkinghoff, Yang, Ebbers, Germain, Wichern and Le Roux 2025, "Keeping the Balance: Anomaly Score
    Calculation for Domain Generalization"). Few target references lie far apart and many source references close
    together, so the division makes distances of both domains comparable and the domains are not read. A spacing counts
    as at least a thousandth of the mean one; where all of them are 0 distances stay as they are.

    Args:
        request: what is scored.
        k: neighbours that a reference's spacing is taken over.
        metric: "cosine" or "euclidean".

    Raises:
        HarnessError: there are not k + 1 references, all are equal, or a vector is not finite.
    """
    check_embeddings(request)
    references = request.references
    if len(references) <= k:
        raise HarnessError(
            f"knn_rescaled needs at least {k + 1} references, k = {k} neighbours for each, but got {len(references)}."
        )
    among = nearest(references, references, k=k, metric=metric, exclude=np.arange(len(references)))[0]
    spacing = among.mean(axis=1)  # (r,)
    mean = float(spacing.mean())
    weights = 1.0 / np.maximum(spacing, LEAST * mean) if mean > 0 else np.ones_like(spacing)
    return _smallest_rescaled(request.queries, references, weights, metric)


def _smallest_rescaled(
    queries: NDArray[np.float32], references: NDArray[np.float32], weights: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """Return min over references of weight times distance: (q, d), (r, d), (r,) -> (q,)."""
    scores = np.full(len(queries), np.inf)
    centre = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    for start in range(0, len(queries), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        for first in range(0, len(references), REFERENCE_ROWS):
            block = slice(first, first + REFERENCE_ROWS)
            away = _distances(queries[rows], references[block], centre, metric)
            places = (away * weights[block]).argmin(axis=1) + first
            exact = exact_distances(queries[rows], references, places[:, None], metric).ravel()
            scores[rows] = np.minimum(scores[rows], exact * weights[places])
    return scores


def _distances(
    queries: NDArray[np.float32], references: NDArray[np.float32], centre: NDArray[np.float32], metric: str
) -> NDArray[np.float32]:
    """Return distances to the precision of float32: (q, d), (m, d) -> (q, m)."""
    if metric == "cosine":
        scaled = queries * inverse_norms(queries)[:, None]
        return np.asarray(1.0 - (scaled @ references.T) * inverse_norms(references))
    queries, references = queries - centre, references - centre  # fewer digits are lost around the mean
    squares = (queries**2).sum(axis=1)[:, None] + (references**2).sum(axis=1) - 2.0 * (queries @ references.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


SCORER = Scorer(
    name="knn_rescaled",
    reads="embedding",
    score=score,
    summary="nearest neighbour, the distance divided by the references' spacing around it",
    options={"k": K, "metric": "cosine"},
    words={"metric": METRICS},
)
