"""Nearest neighbour, its distance measured against how densely the references lie around that neighbour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.contract import HarnessError, Scorer, ScoreRequest
from harness.scorers.knn import QUERY_ROWS, REFERENCE_ROWS, check_request, exact_distances, inverse_norms, nearest

K = 1  # neighbours that a reference's density is taken over; the paper's first choice
LEAST = 1e-3  # of the mean spacing: duplicates among the references would divide by zero


def score(request: ScoreRequest) -> NDArray[np.float64]:
    """Return the smallest rescaled distance to a reference: (q,).

    min over references y of D(x, y) / (1/K sum over the K nearest other references y_k of y of D(y, y_k)), with D the
    cosine distance (Wilkinghoff, Yang, Ebbers, Germain, Wichern and Le Roux 2025, "Keeping the Balance: Anomaly Score
    Calculation for Domain Generalization"). Few target references lie far apart and many source references close
    together, so the division makes distances of both domains comparable and the domains are not read. A spacing counts
    as at least a thousandth of the mean one; where all references are equal distances stay as they are.

    Raises:
        HarnessError: there are not K + 1 references, or a vector is not finite.
    """
    check_request(request)
    references = request.references
    if len(references) <= K:
        raise HarnessError(
            f"knn_rescaled needs at least {K + 1} references, K = {K} neighbours for each, but got {len(references)}."
        )
    spacing = nearest(references, references, k=K, exclude=np.arange(len(references)))[0].mean(axis=1)  # (r,)
    mean = float(spacing.mean())
    weights = 1.0 / np.maximum(spacing, LEAST * mean) if mean > 0 else np.ones_like(spacing)
    return _smallest_rescaled(request.queries, references, weights)


def _smallest_rescaled(
    queries: NDArray[np.float32], references: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return min over references of weight times cosine distance: (q, d), (r, d), (r,) -> (q,)."""
    scores = np.full(len(queries), np.inf)
    inverse = inverse_norms(references)
    for start in range(0, len(queries), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        scaled = queries[rows] * inverse_norms(queries[rows])[:, None]
        for first in range(0, len(references), REFERENCE_ROWS):
            block = slice(first, first + REFERENCE_ROWS)
            similar = (scaled @ references[block].T) * inverse[block]
            places = ((1.0 - similar) * weights[block]).argmin(axis=1) + first
            exact = exact_distances(queries[rows], references, places[:, None])[:, 0]
            scores[rows] = np.minimum(scores[rows], exact * weights[places])
    return scores


SCORER = Scorer(
    name="knn_rescaled",
    reads="embedding",
    score=score,
    summary="nearest neighbour, the distance divided by the references' spacing around it",
)
