"""Weighted mean of the distances to many neighbours, the nearest counting most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, nearest
from harness.scoring.reference_sets import check_embeddings, reference_sets

K = 10  # neighbours at most; a domain with fewer references has all of them
DECAY = 0.5


def score(
    request: ScoreRequest, *, k: int = K, decay: float = DECAY, metric: str = "cosine", domains: str = "apart"
) -> NDArray[np.float64]:
    """Return the smaller over domains of the weighted mean distance to the k nearest references: (q,).

    The neighbour of rank r = 0, 1, ... has the weight decay ** r, divided by the sum of the weights: generalised
    weighted-rank pooling (Kolesnikov and Lampert 2016, equation 4), here over neighbours instead of over pixels. A
    decay near 0 is the nearest neighbour, a decay of 1 the plain mean of k.

    Args:
        request: what is scored.
        k: neighbours at most.
        decay: weight of a rank over the weight of the rank before it, above 0 and at most 1.
        metric: "cosine" or "euclidean".
        domains: "apart" or "together".

    Raises:
        HarnessError: decay is out of range, all references are equal, or a vector is not finite.
    """
    if not 0 < decay <= 1:
        raise HarnessError(f"gwrp:decay must be above 0 and at most 1, but got {decay:g}.")
    check_embeddings(request)
    best = np.full(len(request.queries), np.inf)
    for references in reference_sets(request, domains=domains):
        distances, _ = nearest(request.queries, references, k=min(k, len(references)), metric=metric)  # (q, k)
        weights = decay ** np.arange(distances.shape[1])
        best = np.minimum(best, distances @ weights / weights.sum())
    return best


SCORER = Scorer(
    name="gwrp",
    reads="embedding",
    score=score,
    summary="weighted mean of the distances to the k nearest, each rank weighing decay times the one before",
    options={"k": K, "decay": DECAY, "metric": "cosine", "domains": "apart"},
    words={"metric": METRICS, "domains": ("apart", "together")},
)
