"""Exact nearest neighbours among many references, by cosine or Euclidean distance."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Floats

QUERY_ROWS = 512  # rows of a block of similarities
REFERENCE_ROWS = 8192  # columns of it: 16 MB in float32

Metric: TypeAlias = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")
Vectors: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.intp]


def nearest(
    queries: Vectors, references: Vectors, *, k: int, metric: str = "cosine", exclude: Places | None = None
) -> tuple[Floats, Places]:
    """Return the k nearest references of each query, nearest first.

    Neighbours are found with float32 matrix products; their distances are then computed in float64, since rounding
    errors of float32 exceed the distances of near duplicates. Products are computed in blocks, so that memory does not
    grow with the number of references.

    Args:
        queries: (q, d).
        references: (r, d).
        k: neighbours.
        metric: "cosine" or "euclidean".
        exclude: (q,) position of a reference that does not count as the query's neighbour, for example itself.

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
    for first in range(0, len(references), REFERENCE_ROWS):
        block = _prepared(references[first : first + REFERENCE_ROWS], centre)
        half_squares = 0.5 * np.einsum("ij,ij->i", block, block)
        for start in range(0, len(queries), QUERY_ROWS):
            rows = slice(start, start + QUERY_ROWS)
            similar = asked[rows] @ block.T
            if metric == "euclidean":
                similar -= half_squares  # |a - b|^2 is smallest where a.b - |b|^2 / 2 is largest
            if exclude is not None:
                inside = (exclude[rows] >= first) & (exclude[rows] < first + len(block))
                similar[inside, exclude[rows][inside] - first] = -np.inf
            found = _largest(similar, k)
            values, at = np.take_along_axis(similar, found, axis=1), found + first
            if first:  # the k largest of the blocks before and of this one
                values, at = np.concatenate([best[rows], values], axis=1), np.concatenate([places[rows], at], axis=1)
                found = _largest(values, k)
                values, at = np.take_along_axis(values, found, axis=1), np.take_along_axis(at, found, axis=1)
            best[rows, : values.shape[1]], places[rows, : values.shape[1]] = values, at
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
            # 1 - cos = |a - b|^2 / 2 for unit vectors, and the right side does not cancel for near duplicates
            empty = ~queries.any(axis=1) | ~neighbours.any(axis=1)
            distances[:, rank] = np.where(empty, 1.0, 0.5 * squares)
        else:
            distances[:, rank] = np.sqrt(squares)
    return distances


def inverse_norms(vectors: Vectors) -> Vectors:
    """Return 1 / |v| of each row in float32, 0 for a zero vector: (n, d) -> (n,)."""
    norms: Vectors = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    inverse: Vectors = np.divide(1, norms, out=norms, where=norms > 0)  # 0 stays
    return inverse


def _prepared(vectors: Vectors, centre: Vectors | None) -> Vectors:
    """Return unit vectors (cosine), or vectors minus a centre (Euclidean), which loses fewer digits."""
    return vectors * inverse_norms(vectors)[:, None] if centre is None else vectors - centre


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
