"""Distances, the neighbour search and the ranking of rows, against the plainest way to do them."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from labeling.distances import ROWS, nearest, squared_distances, standardise
from labeling.table import inverse_shares, ranked_rows


def test_nearest_agrees_with_sorting_all_distances():
    """The search finds what sorting every distance finds, over more queries than one block."""
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(ROWS + 50, 6)), rng.normal(size=(80, 6))
    plain = np.linalg.norm(queries[:, None] - references[None], axis=2)
    positions, distances = nearest(queries, references, k=7)
    assert (positions == np.argsort(plain, axis=1, kind="stable")[:, :7]).all()
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :7], rtol=1e-6)


def test_nearest_takes_ties_by_position():
    """Of many equally near references those that stand first are taken, in their order."""
    references = np.vstack([np.ones((50, 4)) * 3.3, np.zeros((50, 4))])
    positions, distances = nearest(np.zeros((5, 4)), references, k=6)
    assert (positions == [50, 51, 52, 53, 54, 55]).all()
    assert (distances == 0.0).all()


def test_nearest_does_not_hang_on_threads():
    """One thread or four give the same distances bit for bit."""
    rng = np.random.default_rng(1)
    queries, references = rng.normal(size=(300, 40)), rng.normal(size=(400, 40))
    with threadpool_limits(1):
        one = nearest(queries, references, k=20)
    with threadpool_limits(4):
        four = nearest(queries, references, k=20)
    assert (one[0] == four[0]).all()
    assert (one[1] == four[1]).all()


def test_equal_points_are_at_distance_0():
    """Rounding to the grid takes away what cancellation leaves of a distance of 0."""
    points = np.random.default_rng(2).normal(size=(30, 768))
    assert (np.diag(squared_distances(points, points)) == 0.0).all()


def test_standardise_leaves_constant_columns_at_0():
    """A column that does not vary says nothing, whatever its value; others get mean 0 and deviation 1."""
    features = np.column_stack([np.full(50, 0.1), np.arange(50.0)])
    scaled = standardise(features)
    assert (scaled[:, 0] == 0.0).all()
    assert scaled[:, 1].mean() == pytest.approx(0.0, abs=1e-12)
    assert scaled[:, 1].std() == pytest.approx(1.0)


def test_rows_rank_by_confidence_then_distance_then_name():
    """Equal confidence goes by distance, equal distance by name, and what is infinitely far is no candidate."""
    names = np.array(["a", "b", "c", "d"])
    confidence = np.array([[0.2, 0.4, 0.4, 0.9], [0.3, 0.3, 0.3, 0.1]])
    distances = np.array([[1.0, 3.0, 2.0, np.inf], [5.0, 5.0, 5.0, 1.0]])
    ranked, shares = ranked_rows(names, confidence, distances, width=5)
    assert ranked.tolist() == [["c", "b", "a", "", ""], ["a", "b", "c", "d", ""]]
    assert shares.tolist() == [[0.4, 0.4, 0.2, 0.0, 0.0], [0.3, 0.3, 0.3, 0.1, 0.0]]


def test_inverse_shares_of_points_on_top():
    """A centroid at distance 0 takes all, two share it, and a row without candidates stays 0."""
    distances = np.array([[0.0, 1.0, np.inf], [0.0, 0.0, 2.0], [np.inf, np.inf, np.inf], [1.0, 2.0, np.inf]])
    expected = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.8, 0.2, 0.0]]
    np.testing.assert_allclose(inverse_shares(distances), expected)
