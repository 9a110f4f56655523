"""Mean of several scorers, each in units of how normal training clips that it has not seen score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.choice import parse_scorer
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.folds import deal, score_unseen
from harness.scoring.reference_sets import check_embeddings, of_domain

MEMBERS = "knn+mahalanobis"
ROUNDING = 1e-12  # deviation of scores that are equal but for rounding: where references are copies of one another


def score(request: ScoreRequest, *, of: str = MEMBERS) -> NDArray[np.float64]:
    """Return the mean of the members' standardised scores: (q,), about 0 for a clip like the training clips.

    Each member's scores are brought to mean 0 and deviation 1 by the scores that it gives to references it has not
    seen: these are cut into five parts, domain by domain, and each part is scored against the other four. No number
    comes from the queries, so that a query scores alike in any company.

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
    if len(request.references) < 2:
        raise HarnessError(
            f"ensemble needs at least 2 references, to score one against the others, but got {len(request.references)}."
        )
    parts = deal(_in_any_order(request))
    part_by_part = np.argsort(parts, kind="stable")
    for scorer in map(parse_scorer, members):
        unseen = score_unseen(scorer, request, parts)[part_by_part]
        deviation = float(unseen.std())
        total += (scorer.score(request) - unseen.mean()) / (deviation if deviation > ROUNDING else 1.0)
    return total / len(members)


def settle(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sort the members, and refuse those that cannot be one.

    Raises:
        HarnessError: a member is unknown, is an ensemble, or reads no embeddings; or there are fewer than two.
    """
    choices = [parse_scorer(name) for name in options["of"].split("+")]
    for choice in choices:
        if choice.options or choice.name == SCORER.name or choice.scorer.reads != "embedding":
            raise HarnessError(
                f"ensemble:of takes scorers of embeddings without options, joined by +, but {choice} is none."
            )
    members = sorted(set(map(str, choices)))
    if len(members) < 2:
        raise HarnessError(f"ensemble:of must name at least two scorers joined by +, but got {options['of']!r}.")
    return {**options, "of": "+".join(members)}


def _in_any_order(request: ScoreRequest) -> NDArray[np.intp]:
    """Return the places of the references, domain by domain, in an order that the seed decides: (r,)."""
    random = np.random.default_rng(request.seed)
    domains = ("source", "target", None)
    return np.concatenate([random.permutation(np.flatnonzero(of_domain(request, domain))) for domain in domains])


SCORER = Scorer(
    name="ensemble",
    reads="embedding",
    score=score,
    summary="mean of several scorers, standardised by held-out training clips",
    options={"of": MEMBERS},
    settle=settle,
)
