"""Cross-validation: scores of normal training clips, as if the scorer had never seen them.

A nearest-neighbour scorer would find every training clip at distance 0 from itself, and any scorer fits the clips that
it was trained on better than new ones. So the clips are dealt into folds, and each fold is scored against the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Floats, ScoreRequest
from harness.scoring.reference_sets import of_domain

FOLDS = 5
ROUNDING = 1e-12  # a smaller standard deviation means equal scores, as of references that are copies of one another


class Scoring(Protocol):
    """A scorer with its options."""

    def score(self, request: ScoreRequest) -> Floats:
        """Score the queries of a request: (q,); higher = more anomalous."""
        ...


def deal(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Deal references into folds in turn, like cards: (r,) positions in dealing order -> (r,) fold of each reference.

    The order lists one domain after the other, and dealing continues from one domain to the next, so that folds have
    equal sizes: with 7 source and 3 target clips, 2 folds get 2 source clips, and 3 folds get 1 source and 1 target
    clip.
    """
    parts = np.empty(len(order), dtype=np.intp)
    parts[order] = np.arange(len(order)) % FOLDS
    return parts


def score_unseen(scorer: Scoring, request: ScoreRequest, parts: NDArray[np.intp]) -> Floats:
    """Score the references themselves, each fold against the other folds: (r,).

    Args:
        scorer: with its options.
        request: gives the references; its queries are ignored.
        parts: (r,) the fold of each reference, from `deal`.

    Raises:
        HarnessError: the scorer cannot score a fold.
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
    """Score queries and standardise the scores (z-scores) by those of held-out training clips: (q,).

    Mean and standard deviation come from the references, scored in folds. They do not depend on the queries, so a clip
    gets the same score whichever other clips are scored with it.

    Args:
        scorer: with its options.
        request: what is scored; its seed decides how references are dealt into folds.

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
    """Return the positions of the references, domain by domain, shuffled within a domain by the seed: (r,)."""
    random = np.random.default_rng(request.seed)
    domains = ("source", "target", None)
    return np.concatenate([random.permutation(np.flatnonzero(of_domain(request, domain))) for domain in domains])
