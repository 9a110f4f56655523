"""Distance to the nearest normal training clips, source and target clips apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, nearest
from harness.scoring.reference_sets import check_embeddings, reference_sets

K = 1  # neighbours; the frozen-backbone leaderboards (RMIS) and ASDKit score by the nearest one


def score(request: ScoreRequest, *, k: int = K, metric: str = "cosine", domains: str = "apart") -> NDArray[np.float64]:
    """Return the mean distance to the k nearest references, of the nearer domain: (q,).

    With k = 1 this is the distance to the nearest of all references. With a larger k, keeping the domains apart
    matters: a query near the ten target clips would otherwise be compared with source clips, too. A section whose
    references are of one domain has one set. A zero vector has no direction; its cosine distance to everything is
    defined as 1.

    Args:
        request: what is scored.
        k: neighbours.
        metric: "cosine", distances in 0..2, or "euclidean".
        domains: "apart", the smaller of the distances to source and to target references; or "together".

    Raises:
        HarnessError: a domain has fewer than k references, there is none at all, all are equal, or a vector is not
            finite.
    """
    check_embeddings(request)
    best = np.full(len(request.queries), np.inf)
    for references in reference_sets(request, domains=domains):
        distances, _ = nearest(request.queries, references, k=k, metric=metric)
        best = np.minimum(best, distances.mean(axis=1))
    return best


SCORER = Scorer(
    name="knn",
    reads="embedding",
    score=score,
    summary="distance to the nearest normal training clips, domains apart",
    options={"k": K, "metric": "cosine", "domains": "apart"},
    words={"metric": METRICS, "domains": ("apart", "together")},
)
