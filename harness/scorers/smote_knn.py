"""Nearest neighbours among references whose rarer domain was filled up by interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, nearest
from harness.scoring.reference_sets import check_embeddings, reference_sets

K = 1
NEIGHBOURS = 5  # that a clip may be mixed with; Chawla, Bowyer, Hall and Kegelmeyer 2002


def score(
    request: ScoreRequest, *, k: int = K, metric: str = "cosine", neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """Return the mean distance to the k nearest references, as many of each domain: (q,).

    The domain with fewer references, usually target with 10 against 990, is filled up to the other's number by
    SMOTE (Chawla, Bowyer, Hall and Kegelmeyer 2002, Journal of Artificial Intelligence Research 16:321): a new point
    lies anywhere between a reference and one of its nearest of the same domain. A domain of one reference has nothing
    to interpolate with, and of one domain alone there is nothing to balance: then references stay as they are.

    Args:
        request: what is scored.
        k: neighbours.
        metric: "cosine", distances in 0..2, or "euclidean".
        neighbours: of the same domain that a reference may be mixed with; fewer where there are no more.

    Raises:
        HarnessError: there are fewer than k references, all are equal, or a vector is not finite.
    """
    check_embeddings(request)
    sets = list(reference_sets(request))
    most = max(len(vectors) for vectors in sets)
    random = np.random.default_rng(request.seed)
    filled = [_filled(vectors, most, metric=metric, neighbours=neighbours, random=random) for vectors in sets]
    distances, _ = nearest(request.queries, np.concatenate(filled), k=k, metric=metric)
    return np.asarray(distances.mean(axis=1))


def _filled(
    vectors: NDArray[np.float32], size: int, *, metric: str, neighbours: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Add interpolated vectors up to a size: (n, d) -> (size, d), or (n, d) where n is 1 or size."""
    missing = size - len(vectors)
    if len(vectors) < 2 or not missing:
        return vectors
    each = np.arange(len(vectors))
    _, beside = nearest(vectors, vectors, k=min(neighbours, len(vectors) - 1), metric=metric, exclude=each)
    one = np.resize(each, missing)  # every reference in turn, so that none is favoured by chance
    other = beside[one, random.integers(beside.shape[1], size=missing)]
    share = random.random((missing, 1), dtype=np.float32)
    return np.concatenate([vectors, vectors[one] + share * (vectors[other] - vectors[one])])


SCORER = Scorer(
    name="smote_knn",
    reads="embedding",
    score=score,
    summary="nearest neighbours, the rarer domain filled up by interpolation (SMOTE)",
    options={"k": K, "metric": "cosine", "neighbours": NEIGHBOURS},
    words={"metric": METRICS},
)
