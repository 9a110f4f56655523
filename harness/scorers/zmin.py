"""Smallest of several scorers, each in units of how normal training clips that it has not seen score."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.scoring.choice import parse_scorer, settle_members
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.folds import standardised
from harness.scoring.reference_sets import check_embeddings

NAME, MEMBERS = "zmin", "knn+mahalanobis"


def score(request: ScoreRequest, *, of: str = MEMBERS) -> NDArray[np.float64]:
    """Return the smallest of the members' standardised scores: (q,).

    The minimum is large only if every member finds the clip anomalous. Each member's scores are standardised by those
    of held-out training clips (`harness.scoring.folds.standardised`). Source: minimum of z-normalised back ends as in
    arXiv 2606.19269. The scorer `ensemble` is their mean instead.

    Args:
        request: what is scored.
        of: scorers by name, joined by +, each with its default options.

    Raises:
        HarnessError: a member is unknown or reads no embeddings, there are fewer than two references, or a member
            cannot work with four fifths of them.
    """
    check_embeddings(request)
    return np.asarray(np.min([standardised(scorer, request) for scorer in map(parse_scorer, of.split("+"))], axis=0))


SCORER = Scorer(
    name=NAME,
    reads="embedding",
    score=score,
    summary="smallest of several scorers, standardised by held-out training clips",
    options={"of": MEMBERS},
    settle=partial(settle_members, NAME),
)
