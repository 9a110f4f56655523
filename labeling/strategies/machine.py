"""Machine type alone, the lower bound: no candidate at all, so that a clip's class is its machine type."""

from __future__ import annotations

import numpy as np

from labeling.contract import CASES, RankedCandidates, RankRequest, Strategy
from labeling.pool import answer, open_pool


def rank(request: RankRequest) -> RankedCandidates:
    """Leave every row empty, labeled clips' too.

    Raises:
        LabelingError: the request does not hold together (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES, reads_features=False)
    count = len(pool.ids)
    return answer(
        request,
        pool,
        names=np.full((count, 1), ""),
        confidence=np.zeros((count, 1)),
        labeled=np.zeros(count, dtype=np.bool_),
        strategy=STRATEGY.name,
    )


STRATEGY = Strategy(
    name="machine",
    features="none",
    cases=CASES,
    rank=rank,
    summary="the machine type alone, no attribute: the lower bound",
    stands_alone=True,
)
