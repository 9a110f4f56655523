"""Training clips scored as new ones are: dealt into parts, each part scored against the others.

A neighbour-based scorer would find every reference at distance 0 from itself, and any scorer knows what it was fitted
on better than a new clip. So what a scorer gives to a clip that it has not seen is learnt from parts that are held out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Floats, ScoreRequest
from harness.scoring.reference_sets import of_domain

FOLDS = 5  # parts
ROUNDING = 1e-12  # deviation of scores that are equal but for rounding: where references are copies of one another


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


def standardised(scorer: Scoring, request: ScoreRequest) -> Floats:
    """Score queries in units of how the scorer judges training clips that it has not seen: (q,).

    The mean of those scores is taken away and their deviation divided by; no number comes from the queries, so that a
    query scores alike in any company.

    Args:
        scorer: with its options.
        request: what is scored; its seed decides how references are dealt into parts, domain by domain.

    Raises:
        HarnessError: there are fewer than two references, or the scorer cannot work with four fifths of them.
    """
    if len(request.references) < 2:
        raise HarnessError(
            f"Standardised scores need at least 2 references, to score one against the others, but got "
            f"{len(request.references)}."
        )
    parts = deal(in_any_order(request))
    unseen = score_unseen(scorer, request, parts)[np.argsort(parts, kind="stable")]
    deviation = float(unseen.std())
    scores: Floats = (scorer.score(request) - unseen.mean()) / (deviation if deviation > ROUNDING else 1.0)
    return scores


def in_any_order(request: ScoreRequest) -> NDArray[np.intp]:
    """Return the places of the references, domain by domain, in an order that the seed decides: (r,)."""
    random = np.random.default_rng(request.seed)
    domains = ("source", "target", None)
    return np.concatenate([random.permutation(np.flatnonzero(of_domain(request, domain))) for domain in domains])
