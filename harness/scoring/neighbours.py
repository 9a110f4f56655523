"""Exact nearest neighbours among many references, by cosine or Euclidean distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it ships no types

from harness.errors import HarnessError

QUERY_ROWS = 512  # rows of a block of similarities
REFERENCE_ROWS = 8192  # columns of it: 16 MB in float32
SLACK = 2e-5  # of two unit vectors' product: far above what float32 rounds away
# bounds by a few directions pay where they save most of a large product
BOUND_DIMENSION, BOUND_REFERENCES, BOUND_QUERIES = 256, 2048, 256
SAMPLE, DIRECTIONS = 128, 48
OUTSIDE = 0.5  # share of a query's square outside the directions, from which on bounds say nothing
PROBE = 64  # queries that tell whether bounds leave little to look at
LEFT = 0.004  # share of the pairs that bounds may leave; above it the whole product is quicker
PAIRS = 4096  # whose products are taken at once: 25 MB of vectors of 768 numbers

Metric: TypeAlias = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")
Vectors: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]


def nearest(
    queries: Vectors, references: Vectors, *, k: int, metric: str = "cosine", exclude: Places | None = None
) -> tuple[Floats, Places]:
    """Return the k nearest references of each query, nearest first.

    Neighbours are found by float32 products and their distances then computed in float64, so that near duplicates do
    not drown in rounding. No block grows with the number of references. Where references have few directions that
    matter, as embeddings do, most pairs are ruled out by a bound that is never wrong; see `_Bounds`.

    Args:
        queries: (q, d).
        references: (r, d).
        k: neighbours.
        metric: "cosine" or "euclidean".
        exclude: (q,) a reference that is no neighbour of the query: itself.

    Returns:
        (q, k) distances, cosine 1 - cos in 0..2, and (q, k) places in `references`.

    Raises:
        HarnessError: there are fewer than k references to choose from.
    """
    available = len(references) - (exclude is not None)
    if available < k:
        raise HarnessError(
            f"There must be at least k = {k} references of a domain to compare with, but one has {available}; "
            "take a smaller k, or domains=together."
        )
    centre = references.mean(axis=0, dtype=np.float64).astype(np.float32) if metric == "euclidean" else None
    asked = _prepared(queries, centre)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    places = np.zeros((len(queries), k), dtype=np.intp)
    bounds: _Bounds | None = None
    for first in range(0, len(references), REFERENCE_ROWS):
        block = _prepared(references[first : first + REFERENCE_ROWS], centre)
        offset = None if centre is None else -0.5 * np.einsum("ij,ij->i", block, block)
        if first == 0 and exclude is None and _worth_bounds(asked, block):
            bounds = _Bounds.of(asked, block)
        within = bounds.side(block) if bounds else None
        start = 0
        while start < len(queries):
            rows = slice(start, start + (PROBE if bounds and not first and not start else QUERY_ROWS))
            found = None
            if bounds is not None and within is not None:
                found = bounds.candidates(rows, within, queries=asked, references=block, offset=offset, best=best[rows])
                bounds = bounds if found else None
            if found is None:
                found = _most_similar(asked[rows], block, offset, k, None if exclude is None else exclude[rows] - first)
            _merge(best[rows], places[rows], *found, first)
            start = rows.stop
    return _in_order(queries, references, places, metric)


def exact_distances(queries: Vectors, references: Vectors, places: Places, metric: str = "cosine") -> Floats:
    """Return distances in float64: (q, d), (r, d), (q, k) places -> (q, k)."""
    cosine = metric == "cosine"
    wide = _unit(queries) if cosine else queries.astype(np.float64)
    distances = np.empty(places.shape)
    for rank in range(places.shape[1]):
        neighbours = references[places[:, rank]]
        away = wide - (_unit(neighbours) if cosine else neighbours)
        squares = np.einsum("ij,ij->i", away, away)
        if cosine:
            # |a - b|^2 / 2 of unit vectors keeps the digits that 1 - cos would lose for near duplicates
            empty = ~queries.any(axis=1) | ~neighbours.any(axis=1)
            distances[:, rank] = np.where(empty, 1.0, 0.5 * squares)
        else:
            distances[:, rank] = np.sqrt(squares)
    return distances


def inverse_norms(vectors: Vectors) -> Vectors:
    """Return 1 / |v| of each row in float32, 0 for a zero vector: (n, d) -> (n,)."""
    norms: Vectors = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float32))
    inverse: Vectors = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse


@dataclass(frozen=True)
class _Side:
    """Vectors as bounds see them: (n, DIRECTIONS) coordinates, and the length of what these leave, in one matrix."""

    extended: Vectors
    longest: float


@dataclass(frozen=True)
class _Bounds:
    """Upper bounds of products from a few orthonormal directions.

    a.b = a1.b1 + a2.b2 <= a1.b1 + |a2| |b2| (Cauchy and Schwarz), with a1 the part of a in the directions and a2 the
    rest: one product of 49 instead of 768 columns. Only pairs whose bound reaches the k-th largest product found so
    far can be among the k largest; for these the product itself is taken.
    """

    directions: Vectors
    queries: _Side

    @staticmethod
    def of(queries: Vectors, references: Vectors) -> _Bounds | None:
        """Take the main directions of a sample of the references; None where these hold too little of the queries."""
        sample = references[np.linspace(0, len(references) - 1, SAMPLE).astype(np.intp)].astype(np.float64)
        with _blas().limit(limits=1, user_api="blas"):
            # matrices this small gain nothing by threads, and on a busy machine wait long for one another's
            values, vectors = np.linalg.eigh(sample @ sample.T)
            kept = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-300))[-DIRECTIONS:]
            directions = np.linalg.qr(sample.T @ vectors[:, kept])[0].astype(np.float32)
        side = _side(queries, directions)
        outside = np.median(side.extended[:, -1] ** 2 / np.maximum((side.extended**2).sum(axis=1), 1e-30))
        return _Bounds(directions, side) if outside < OUTSIDE else None

    def side(self, references: Vectors) -> _Side:
        """Return references as bounds see them."""
        return _side(references, self.directions)

    def candidates(
        self,
        rows: slice,
        within: _Side,
        *,
        queries: Vectors,
        references: Vectors,
        offset: Vectors | None,
        best: Vectors,
    ) -> tuple[Vectors, Places] | None:
        """Return the k largest products of each query among these references; None where bounds rule out too little.

        Args:
            rows: of the queries.
            within: the references as bounds see them.
            queries: (q, d) all of them.
            references: (m, d).
            offset: (m,) added to each product.
            best: (rows, k) largest products found so far.
        """
        k, block = best.shape[1], queries[rows]
        bound = self.queries.extended[rows] @ within.extended.T
        if offset is not None:
            bound += offset
        likely = _largest(bound, k)
        reached = np.concatenate([best, _products(block, references, offset, likely)], axis=1)
        # the k-th largest of what is known can only grow, so what does not reach it is out
        least = np.sort(reached, axis=1)[:, -k] - SLACK * self.queries.longest * within.longest
        left = bound >= least[:, None]
        if np.count_nonzero(left) > LEFT * left.size:
            return None
        row, place = np.divmod(np.flatnonzero(left), left.shape[1])  # many times faster than nonzero of two dimensions
        products = np.concatenate(
            [
                _pair_products(block, references, offset, row[at : at + PAIRS], place[at : at + PAIRS])
                for at in range(0, len(row), PAIRS)
            ]
            or [np.empty(0, dtype=np.float32)]
        )
        return _grouped(row, place, products, len(block), k)


@cache
def _blas() -> ThreadpoolController:
    """Return the libraries that numpy multiplies with; looking for them takes longer than the small products do."""
    return ThreadpoolController()


def _side(vectors: Vectors, directions: Vectors) -> _Side:
    extended = np.empty((len(vectors), directions.shape[1] + 1), dtype=np.float32)
    extended[:, :-1] = vectors @ directions
    squares = np.einsum("ij,ij->i", vectors, vectors)
    inside = np.einsum("ij,ij->i", extended[:, :-1], extended[:, :-1])
    # rounding may make the rest look shorter than it is: a few millionths of the square more keep the bound true
    extended[:, -1] = np.sqrt(np.maximum(squares - inside, 0) + 4e-6 * squares)
    return _Side(extended, float(np.sqrt(squares.max(initial=0.0))))


def _worth_bounds(queries: Vectors, references: Vectors) -> bool:
    return (
        references.shape[1] >= BOUND_DIMENSION and len(references) >= BOUND_REFERENCES and len(queries) >= BOUND_QUERIES
    )


def _prepared(vectors: Vectors, centre: Vectors | None) -> Vectors:
    """Return unit vectors, or vectors around a centre, which loses fewer digits."""
    return vectors * inverse_norms(vectors)[:, None] if centre is None else vectors - centre


def _most_similar(
    queries: Vectors, references: Vectors, offset: Vectors | None, k: int, exclude: Places | None
) -> tuple[Vectors, Places]:
    """Return the k largest products of each query, or as many as there are, and their places: (q, <= k), unordered."""
    similar: Vectors = queries @ references.T
    if offset is not None:
        similar += offset
    if exclude is not None:
        inside = np.flatnonzero((exclude >= 0) & (exclude < similar.shape[1]))
        similar[inside, exclude[inside]] = -np.inf
    places = _largest(similar, k)
    return np.take_along_axis(similar, places, axis=1), places


def _products(queries: Vectors, references: Vectors, offset: Vectors | None, places: Places) -> Vectors:
    return np.stack(
        [
            _pair_products(queries, references, offset, np.arange(len(queries)), places[:, rank])
            for rank in range(places.shape[1])
        ],
        axis=1,
    )


def _pair_products(
    queries: Vectors, references: Vectors, offset: Vectors | None, rows: Places, places: Places
) -> Vectors:
    products: Vectors = np.einsum("ij,ij->i", queries[rows], references[places])
    return products if offset is None else products + offset[places]


def _grouped(row: Places, place: Places, products: Vectors, rows: int, k: int) -> tuple[Vectors, Places]:
    """Return each row's k largest products and their places, -inf where a row has fewer: (rows, k)."""
    order = np.lexsort((-products, row))
    row, place, products = row[order], place[order], products[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < k
    best, places = np.full((rows, k), -np.inf, dtype=np.float32), np.zeros((rows, k), dtype=np.intp)
    best[row[kept], rank[kept]] = products[kept]
    places[row[kept], rank[kept]] = place[kept]
    return best, places


def _merge(best: Vectors, places: Places, more: Vectors, at: Places, first: int) -> None:
    """Keep the k largest of what was known and what a block adds, in place."""
    if first == 0 and more.shape[1] == best.shape[1]:
        best[:], places[:] = more, at
        return
    values = np.concatenate([best, more], axis=1)
    both = np.concatenate([places, at + first], axis=1)
    kept = _largest(values, best.shape[1])
    best[:], places[:] = np.take_along_axis(values, kept, axis=1), np.take_along_axis(both, kept, axis=1)


def _largest(values: Vectors, k: int) -> Places:
    """Return where the k largest values of each row stand: (n, m) -> (n, min(k, m))."""
    if k == 1:
        first: Places = np.argmax(values, axis=1)[:, None]
        return first
    if values.shape[1] <= k:
        return np.tile(np.arange(values.shape[1]), (len(values), 1))
    places: Places = np.argpartition(values, -k, axis=1)[:, -k:]
    return places


def _in_order(queries: Vectors, references: Vectors, places: Places, metric: str) -> tuple[Floats, Places]:
    distances = np.empty(places.shape)
    for start in range(0, len(queries), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        distances[rows] = exact_distances(queries[rows], references, places[rows], metric)
    if places.shape[1] == 1:
        return distances, places
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(places, order, axis=1)


def _unit(vectors: Vectors) -> Floats:
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    unit: Floats = np.divide(wide, norms, out=wide, where=norms > 0)
    return unit
