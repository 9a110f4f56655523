"""Cosine distance to the nearest normal training clip, source and target clips apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.contract import HarnessError, Scorer, ScoreRequest

K = 1  # neighbours; the frozen-backbone leaderboards (RMIS) and ASDKit score by the nearest one
QUERY_ROWS = 512  # rows of a block of similarities
REFERENCE_ROWS = 8192  # columns of it: 16 MB in float32

Vectors: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]


def score(request: ScoreRequest) -> Floats:
    """Return the smaller of the distances to the source and to the target references: (q,), in 0..2.

    With k = 1 that is the distance to the nearest reference of all; apart, the two stay comparable for any k. Where
    the year has no domains there is one set. A zero vector lies at distance 1 from everything, as it points nowhere;
    where all embeddings are equal all scores are.

    Raises:
        HarnessError: a domain has fewer than k references, there is none at all, or a vector is not finite.
    """
    check_request(request)
    best = np.full(len(request.queries), np.inf)
    for references in reference_sets(request):
        distances, _ = nearest(request.queries, references, k=K)
        best = np.minimum(best, distances.mean(axis=1))
    return best


def check_request(request: ScoreRequest) -> None:
    """Refuse vectors that no scorer can work with.

    Raises:
        HarnessError: there is no reference, shapes do not fit, or a vector is not finite.
    """
    references, queries = request.references, request.queries
    if references.ndim != 2 or queries.ndim != 2 or references.shape[1] != queries.shape[1]:
        raise HarnessError(
            f"References and queries must be (r, d) and (q, d) vectors, but got {references.shape} and {queries.shape}."
        )
    if not len(references):
        raise HarnessError("Scoring needs at least one normal training clip as reference, but got none.")
    if request.reference_domains.shape != (len(references),):
        raise HarnessError(
            f"Each of the {len(references)} references needs its domain or None, but got "
            f"{len(request.reference_domains)} of them."
        )
    for name, vectors in (("reference", references), ("query", queries)):
        # a sum is finite only if every addend is, and takes no second copy; a sum that overflows is looked at again
        if not np.isfinite(vectors.sum(dtype=np.float64)):
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if bad.size:
                raise HarnessError(
                    f"Embeddings must be finite, but {bad.size} of {len(vectors)} {name} vectors are not, first number "
                    f"{bad[0]}; the encoder that made them has diverged."
                )


def reference_sets(request: ScoreRequest) -> Iterator[Vectors]:
    """Yield the references of each domain, source first; those without a domain are a set of their own."""
    domains = request.reference_domains
    for domain in ("source", "target", None):
        of_domain = np.array([one == domain for one in domains], dtype=np.bool_)
        if of_domain.all():
            yield request.references
        elif of_domain.any():
            yield request.references[of_domain]


def nearest(queries: Vectors, references: Vectors, *, k: int, exclude: Places | None = None) -> tuple[Floats, Places]:
    """Return the k nearest references of each query by cosine distance, nearest first.

    Neighbours are found in float32 blocks and their distances then computed in float64, so that near duplicates do not
    drown in rounding. No block grows with the number of references.

    Args:
        queries: (q, d).
        references: (r, d).
        k: neighbours.
        exclude: (q,) a reference that is no neighbour of the query: itself.

    Returns:
        (q, k) distances 1 - cos in 0..2, and (q, k) places in `references`.

    Raises:
        HarnessError: there are fewer than k references to choose from.
    """
    available = len(references) - (exclude is not None)
    if available < k:
        raise HarnessError(
            f"Each domain must have at least k = {k} references to compare with, but one has {available}."
        )
    inverse = inverse_norms(references)
    distances = np.empty((len(queries), k))
    places = np.empty((len(queries), k), dtype=np.intp)
    for start in range(0, len(queries), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        own = None if exclude is None else exclude[rows]
        found = _most_similar(queries[rows], references, inverse, k=k, exclude=own)
        exact = exact_distances(queries[rows], references, found)
        order = np.argsort(exact, axis=1, kind="stable")
        distances[rows] = np.take_along_axis(exact, order, axis=1)
        places[rows] = np.take_along_axis(found, order, axis=1)
    return distances, places


def inverse_norms(vectors: Vectors) -> Vectors:
    """Return 1 / |v| of each row in float32, 0 for a zero vector: (n, d) -> (n,)."""
    norms: Vectors = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float32))
    inverse: Vectors = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse


def _most_similar(queries: Vectors, references: Vectors, inverse: Vectors, *, k: int, exclude: Places | None) -> Places:
    """Return the places of the k most similar references of a block of queries, in no order: (q, k)."""
    scaled = queries * inverse_norms(queries)[:, None]
    best = np.empty((len(queries), 0), dtype=np.float32)
    places = np.empty((len(queries), 0), dtype=np.intp)
    for start in range(0, len(references), REFERENCE_ROWS):
        block = slice(start, start + REFERENCE_ROWS)
        similar: Vectors = np.matmul(scaled, references[block].T)  # (q, <= REFERENCE_ROWS)
        similar *= inverse[block]
        if exclude is not None:
            inside = np.flatnonzero((exclude >= start) & (exclude < start + similar.shape[1]))
            similar[inside, exclude[inside] - start] = -np.inf
        of_block = _largest(similar, k)
        best = np.concatenate([best, np.take_along_axis(similar, of_block, axis=1)], axis=1, dtype=np.float32)
        places = np.concatenate([places, of_block + start], axis=1)
        kept = _largest(best, k)
        best, places = np.take_along_axis(best, kept, axis=1), np.take_along_axis(places, kept, axis=1)
    return places


def _largest(values: Vectors, k: int) -> Places:
    """Return where the k largest values of each row stand: (n, m) -> (n, min(k, m))."""
    if k == 1:
        first: Places = np.argmax(values, axis=1)[:, None]
        return first
    if values.shape[1] <= k:
        return np.tile(np.arange(values.shape[1]), (len(values), 1))
    places: Places = np.argpartition(values, -k, axis=1)[:, -k:]
    return places


def exact_distances(queries: Vectors, references: Vectors, places: Places) -> Floats:
    """Return cosine distances in float64: (q, d), (r, d), (q, k) places -> (q, k)."""
    unit = _unit(queries)
    distances = np.empty(places.shape)
    for rank in range(places.shape[1]):
        neighbours = _unit(references[places[:, rank]])
        # |a - b|^2 / 2 of unit vectors keeps the digits that 1 - cos would lose for near duplicates
        near = 0.5 * ((unit - neighbours) ** 2).sum(axis=1)
        empty = ~unit.any(axis=1) | ~neighbours.any(axis=1)
        distances[:, rank] = np.where(empty, 1.0, near)
    return distances


def _unit(vectors: Vectors) -> Floats:
    wide = vectors.astype(np.float64)
    norms = np.sqrt((wide**2).sum(axis=1, keepdims=True))
    unit: Floats = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return unit


SCORER = Scorer(
    name="knn",
    reads="embedding",
    score=score,
    summary="cosine distance to the nearest normal training clip, domains apart",
)
