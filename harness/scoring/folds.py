"""Training clips scored as new ones are: dealt into parts, each part scored against the others.

A neighbour-based scorer would find every reference at distance 0 from itself, and any scorer knows what it was fitted
on better than a new clip. So what a scorer gives to a clip that it has not seen is learnt from parts that are held out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.scoring.contract import Floats, ScoreRequest

FOLDS = 5  # parts


class Scoring(Protocol):
    """A scorer with its options."""

    def score(self, request: ScoreRequest) -> Floats:
        """Score the queries of a request: (q,); higher = more anomalous."""
        ...


def deal(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Deal references out to the parts in turn, like cards: (r,) places -> (r,) the part of each reference.

    References of one domain stand together in the order, and dealing goes on from one domain to the next: with 7
    source and 3 target clips the parts get 2 source clips or 1, and those with 1 get the target clips.
    """
    parts = np.empty(len(order), dtype=np.intp)
    parts[order] = np.arange(len(order)) % FOLDS
    return parts


def score_unseen(scorer: Scoring, request: ScoreRequest, parts: NDArray[np.intp]) -> Floats:
    """Score the references themselves, each part of them against the other parts: (r,).

    Args:
        scorer: with its options.
        request: its queries are not looked at.
        parts: (r,) of `deal`.

    Raises:
        HarnessError: the scorer refuses a part.
    """
    scores = np.empty(len(parts))
    for part in np.unique(parts):
        held = parts == part
        scores[held] = scorer.score(
            replace(
                request,
                references=request.references[~held],
                reference_domains=request.reference_domains[~held],
                queries=request.references[held],
            )
        )
    return scores
