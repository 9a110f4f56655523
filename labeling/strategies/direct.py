"""Direct use: the attribute as it stands (paper, section 2, "Direct Use of Ground-Truth Labels")."""

from __future__ import annotations

import numpy as np

from labeling.contract import Case, RankedCandidates, RankRequest, Strategy
from labeling.pool import answer, open_pool, require_labels
from labeling.table import with_own

CASES: tuple[Case, ...] = ("direct",)


def rank(request: RankRequest) -> RankedCandidates:
    """Give each clip its own attribute alone; a clip without one has an empty row, its class the machine type.

    Raises:
        LabelingError: no clip has an attribute, or the request does not hold together (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES, reads_features=False)
    require_labels(pool, request.case, "choose unlabeled instead")
    unlabeled = np.flatnonzero(~pool.labeled)
    empty = np.full((len(unlabeled), 1), ""), np.zeros((len(unlabeled), 1))
    names, confidence = with_own(empty, pool.names, pool.codes, unlabeled=unlabeled)
    return answer(request, pool, names=names, confidence=confidence, labeled=pool.labeled, strategy=STRATEGY.name)


STRATEGY = Strategy(
    name="direct",
    features="none",
    cases=CASES,
    rank=rank,
    summary="the attribute as it stands, one a clip",
)
