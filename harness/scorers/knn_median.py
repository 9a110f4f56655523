"""Nearest neighbour per domain, each domain's distances in units of how far its own clips usually lie apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, nearest
from harness.scoring.reference_sets import check_embeddings, reference_sets

K = 1  # neighbours
LEAST = 1e-12  # a smaller median (half of the clips are copies) would divide by zero: distances are then not scaled


def score(request: ScoreRequest, *, k: int = K, metric: str = "cosine") -> NDArray[np.float64]:
    """Return the smallest over domains of distance / median leave-one-out distance: (q,).

    For each domain, a query's mean distance to the k nearest references of that domain is divided by the median of the
    same distance among these references themselves, each compared with the others (leave one out). A domain with too
    few references for that is compared with the references of all domains. The division puts the ten target clips of a
    machine, which lie far apart, and its 990 source clips, which lie close together, on the same scale. Source: back
    end of the winning system of DCASE 2026 Task 2 (Fujimura et al.), as its ablation describes it.

    Args:
        request: what is scored.
        k: neighbours.
        metric: "cosine" or "euclidean".

    Raises:
        HarnessError: there are fewer than k + 1 references, a domain has fewer than k, all are equal, or a vector is
            not finite.
    """
    check_embeddings(request)
    best = np.full(len(request.queries), np.inf)
    for references in reference_sets(request):
        bank = references if len(references) > k else request.references
        usual = _usual_distance(bank, k=k, metric=metric)
        away = nearest(request.queries, references, k=k, metric=metric)[0].mean(axis=1)
        best = np.minimum(best, away / usual if usual > LEAST else away)
    return best


def _usual_distance(bank: NDArray[np.float32], *, k: int, metric: str) -> float:
    if len(bank) <= k:
        raise HarnessError(
            f"knn_median needs at least {k + 1} references, k = {k} neighbours for each of them, but there are "
            f"{len(bank)}; take a smaller k."
        )
    among = nearest(bank, bank, k=k, metric=metric, exclude=np.arange(len(bank)))[0]
    return float(np.median(among.mean(axis=1)))


SCORER = Scorer(
    name="knn_median",
    reads="embedding",
    score=score,
    summary="nearest neighbour per domain, over the domain's median leave-one-out distance",
    options={"k": K, "metric": "cosine"},
    words={"metric": METRICS},
)
