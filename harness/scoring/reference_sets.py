"""Checks of a scorer's request, and its references (normal training clips) split by domain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import ScoreRequest

SMALLEST, LARGEST = 1e-15, 1e15  # beyond, squares in float32 are 0 or infinite, and nearest neighbours arbitrary
SEEDS = 2**32  # scikit-learn takes seeds below this


def check_request(request: ScoreRequest) -> tuple[float, float]:
    """Refuse vectors that no scorer can work with.

    Returns:
        The sums of the squares of all references and of all queries; inf if they overflow float32.

    Raises:
        HarnessError: there is no reference, shapes or types do not fit, a domain is none, the seed is out of range, or
            a vector is not finite.
    """
    references, queries = request.references, request.queries
    if references.ndim != 2 or queries.ndim != 2 or references.shape[1] != queries.shape[1]:
        raise HarnessError(
            f"References and queries must be (r, d) and (q, d) vectors, but got {references.shape} and {queries.shape}."
        )
    if not (np.issubdtype(references.dtype, np.floating) and np.issubdtype(queries.dtype, np.floating)):
        raise HarnessError(
            f"References and queries must be floating-point numbers, but got {references.dtype} and {queries.dtype}."
        )
    if not 0 <= request.seed < SEEDS:
        raise HarnessError(f"seed must be between 0 and {SEEDS - 1}, but got {request.seed}.")
    if not len(references):
        raise HarnessError("Scoring needs at least one normal training clip as reference, but got none.")
    if request.reference_domains.shape != (len(references),):
        raise HarnessError(
            f"Each of the {len(references)} references needs its domain or None, but got "
            f"{len(request.reference_domains)} of them."
        )
    if strange := set(request.reference_domains.tolist()) - {"source", "target", None}:
        raise HarnessError(f"A domain must be source, target or None, but got {sorted(map(str, strange))[0]!r}.")
    sums = []
    for name, vectors in (("reference", references), ("query", queries)):
        # cheap check without a copy: a finite sum of squares means that every number is finite; only if it is not are
        # the numbers themselves checked
        flat = np.ravel(vectors)
        with np.errstate(over="ignore"):
            sums.append(float(np.dot(flat, flat)))
        if not np.isfinite(sums[-1]):
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if bad.size:
                raise HarnessError(
                    f"Embeddings must be finite, but {bad.size} of {len(vectors)} {name} vectors are not, first number "
                    f"{bad[0]}; the encoder that made them has diverged."
                )
    return sums[0], sums[1]


def check_embeddings(request: ScoreRequest) -> None:
    """Refuse vectors that no scorer of embeddings can work with, such as those of a collapsed encoder.

    Raises:
        HarnessError: as `check_request`; or all references are equal, which means that the encoder maps every clip to
            the same vector; or vectors are so large or small that their squares overflow or underflow float32.
    """
    sums = check_request(request)
    references = request.references
    for name, vectors, least, squares in zip(
        ("reference", "query"), (references, request.queries), (SMALLEST, 0.0), sums, strict=True
    ):
        if least**2 * vectors.size < squares < LARGEST**2:
            continue  # so is every number; the search below costs as much as a part of the scoring
        largest = float(np.abs(vectors).max(initial=0.0))
        if largest > LARGEST or 0 < largest < least:
            raise HarnessError(
                f"Embeddings must be numbers whose squares float32 can hold, {SMALLEST:g} to {LARGEST:g}, but the "
                f"largest of the {name} vectors is {largest:.3g}; the encoder that made them has diverged or collapsed."
            )
    if len(references) > 1 and (references[1:2] == references[:1]).all() and (references == references[0]).all():
        raise HarnessError(
            f"Embeddings must differ between clips, but all {len(references)} reference vectors are equal; the encoder "
            "that made them has collapsed, or the recordings are copies of one."
        )


def reference_sets(request: ScoreRequest, *, domains: str = "apart") -> Iterator[NDArray[np.float32]]:
    """Yield the references of each domain, source first; those without a domain are a set of their own.

    A section whose references are all of one domain, as in the years before 2021, is scored against that one set.

    Args:
        request: checked.
        domains: "apart", or "together" for one set of all.
    """
    if domains == "together":
        yield request.references
        return
    for domain in ("source", "target", None):
        chosen = of_domain(request, domain)
        if chosen.all():
            yield request.references
        elif chosen.any():
            yield request.references[chosen]


def of_domain(request: ScoreRequest, domain: str | None) -> NDArray[np.bool_]:
    """Tell which references are of a domain: (r,)."""
    return np.array([one == domain for one in request.reference_domains], dtype=np.bool_)
