"""Euclidean distances that are the same with any number of threads, and the nearest of many points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

ROWS = 1024  # queries at once: a (1024, 10,000) float64 block is 82 MB
GRID = 1e-11  # rounding step of squared distances, as a share of the largest squared norm: equal ones compare equal


@contextmanager
def single_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread: how many there are changes the last bits of a sum."""
    with threadpool_limits(limits=1):
        yield


def standardise(features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Bring every column of (n, d) to mean 0 and standard deviation 1 over the n clips; a constant one to 0."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    # The deviation of a constant column is rounding noise, which a division would blow up.
    constant = spread <= 1e-10 * np.abs(features).max(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def squared_distances(
    queries: NDArray[np.floating[Any]], references: NDArray[np.floating[Any]], *, spread: float | None = None
) -> NDArray[np.float64]:
    """Measure squared Euclidean distances: (q, d), (r, d) -> (q, r).

    They are rounded to multiples of `GRID` times `spread`: two points at the same distance then give exactly the same
    number, and the caller can break the tie by name. Centre the points first: |a|^2 - 2ab + |b|^2 loses its digits to
    cancellation when points lie far from the origin.

    Args:
        queries: points, one a row.
        references: points, one a row.
        spread: the largest squared norm; None takes it from the points at hand.
    """
    left, right = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    query_norms, reference_norms = _squared_norms(left), _squared_norms(right)
    if spread is None:
        spread = _largest(query_norms, reference_norms)
    squared = left @ right.T
    squared *= -2.0
    squared += query_norms[:, None]
    squared += reference_norms[None, :]
    if spread > 0.0:
        squared /= spread * GRID
        np.rint(squared, out=squared)
        squared *= spread * GRID
    return np.maximum(squared, 0.0, out=squared)


def _squared_norms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.einsum("nd,nd->n", points, points)
    return norms


def _largest(*norms: NDArray[np.float64]) -> float:
    return float(max(each.max(initial=0.0) for each in norms))


def nearest(
    queries: NDArray[np.float64], references: NDArray[np.float64], *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the k nearest references of each query, nearest first, ties by position.

    Args:
        queries: (q, d).
        references: (r, d), at least k of them.
        k: how many.

    Returns:
        Their positions (q, k) and their distances (q, k).
    """
    positions = np.empty((len(queries), k), dtype=np.int32)
    distances = np.empty((len(queries), k))
    spread = _largest(_squared_norms(queries), _squared_norms(references))
    with single_thread():
        for start in range(0, len(queries), ROWS):
            rows = slice(start, start + ROWS)
            squared = squared_distances(queries[rows], references, spread=spread)
            chosen = _smallest(squared, k)
            positions[rows] = chosen
            distances[rows] = np.sqrt(np.take_along_axis(squared, chosen, axis=1))
    return positions, distances


def _smallest(squared: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Find the columns of the k smallest of each row of (q, r), in order, ties by column: (q, k)."""
    columns = np.argpartition(squared, k - 1)[:, :k]
    worst = np.take_along_axis(squared, columns, axis=1).max(axis=1, keepdims=True)  # (q, 1)
    # If several references tie for the k-th place, argpartition picks any of them; a stable sort takes the first ones.
    crowded = (squared <= worst).sum(axis=1) > k
    columns[crowded] = np.argsort(squared[crowded], kind="stable")[:, :k]
    columns.sort()
    within = np.take_along_axis(squared, columns, axis=1)
    return np.take_along_axis(columns, np.argsort(within, kind="stable"), axis=1)
