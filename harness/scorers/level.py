"""Distance of a clip's level to the nearest level of a normal training clip: no network at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.reference_sets import check_request


def score(request: ScoreRequest) -> NDArray[np.float64]:
    """Return the distance to the nearest reference level in dB: (q,).

    Source and target references are searched apart and the smaller distance counts, which for one neighbour is the
    distance to the nearest level of all.

    Raises:
        HarnessError: vectors are no levels, (r, 1) and (q, 1), there is none to compare with, or one is not finite.
    """
    check_request(request)
    if request.references.shape[1] != 1:
        raise HarnessError(
            f"The level scorer reads one number a clip, its level in dB, but got {request.references.shape[1]}."
        )
    levels = np.sort(request.references.ravel().astype(np.float64))
    queries = request.queries.ravel().astype(np.float64)
    above = np.searchsorted(levels, queries)  # place of the first level that is no lower
    upper = np.abs(levels[np.minimum(above, levels.size - 1)] - queries)
    lower = np.abs(levels[above - 1] - queries)  # of the lowest queries this is the highest level, which is no nearer
    return np.minimum(lower, upper)


SCORER = Scorer(
    name="level",
    reads="level",
    score=score,
    summary="distance in dB to the nearest level of a normal training clip",
)
