"""Mean of several scorers, each in units of how normal training clips that it has not seen score."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.scoring.choice import parse_scorer, settle_members
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.folds import standardised
from harness.scoring.reference_sets import check_embeddings

NAME, MEMBERS = "ensemble", "knn+mahalanobis"


def score(request: ScoreRequest, *, of: str = MEMBERS) -> NDArray[np.float64]:
    """Return the mean of the members' standardised scores: (q,), about 0 for a clip like the training clips.

    Each member's scores are standardised by its scores of held-out references: these are dealt into five folds, and
    each fold is scored against the other four (`harness.scoring.folds.standardised`). Nothing depends on the other
    queries, so a clip gets the same score whichever clips are scored with it.

    Args:
        request: what is scored.
        of: scorers by name, joined by +, each with its default options.

    Raises:
        HarnessError: a member is unknown or reads no embeddings, there are fewer than two references, or a member
            cannot work with four fifths of them.
    """
    members = of.split("+")
    check_embeddings(request)
    total = np.zeros(len(request.queries))
    for scorer in map(parse_scorer, members):
        total += standardised(scorer, request)
    return total / len(members)


SCORER = Scorer(
    name=NAME,
    reads="embedding",
    score=score,
    summary="mean of several scorers, standardised by held-out training clips",
    options={"of": MEMBERS},
    settle=partial(settle_members, NAME),
)
