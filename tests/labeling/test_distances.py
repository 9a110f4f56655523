"""Distances, the neighbour search and the ranking of rows, against the plainest way to do them."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from labeling.distances import ROWS, nearest, single_thread, squared_distances, standardise
from labeling.table import inverse_shares, ranked_rows, with_own


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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_distances_are_rounded_to_the_grid(scale, dtype):
    """Squared distances are those of 64 bits, in whole steps of 1e-11 of the largest squared norm or of `spread`."""
    rng = np.random.default_rng(0)
    queries, references = ((scale * rng.normal(size=(rows, 3))).astype(dtype) for rows in (7, 9))
    exact = ((queries[:, None].astype(np.float64) - references[None].astype(np.float64)) ** 2).sum(axis=2)
    largest = max((points.astype(np.float64) ** 2).sum(axis=1).max() for points in (queries, references))
    for options, spread in (({}, largest), ({"spread": 50 * largest}, 50 * largest)):
        found = squared_distances(queries, references, **options)
        steps = found / (spread * 1e-11)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        np.testing.assert_allclose(found, exact, rtol=0, atol=0.5001 * spread * 1e-11)
    far = queries * 5  # either side may hold the largest norm
    for one, other in ((far, references), (references, far)):
        wide = (far.astype(np.float64) ** 2).sum(axis=1).max() * 1e-11
        steps = squared_distances(one, other) / wide
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_points_at_the_origin_and_no_points():
    """All points at 0 are at distance 0; no query or no reference gives an empty table."""
    assert not squared_distances(np.zeros((2, 3)), np.zeros((4, 3))).any()
    assert squared_distances(np.zeros((0, 3)), np.ones((4, 3))).shape == (0, 4)
    assert squared_distances(np.ones((2, 3)), np.zeros((0, 3))).shape == (2, 0)
    positions, distances = nearest(np.zeros((0, 3)), np.ones((4, 3)), k=2)
    assert positions.shape == distances.shape == (0, 2)


@pytest.mark.parametrize("k", [1, 2, 3, 17, 25, 33, 39, 40])
def test_nearest_among_many_ties_is_a_stable_sort(k):
    """On a coarse grid of points every query has ties, before, at and behind the k-th place; positions decide."""
    rng = np.random.default_rng(k)
    queries, references = rng.integers(0, 3, (30, 2)).astype(float), rng.integers(0, 3, (40, 2)).astype(float)
    squared = ((queries[:, None] - references[None]) ** 2).sum(axis=2)
    positions, distances = nearest(queries, references, k=k)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    assert np.array_equal(positions, order)
    np.testing.assert_allclose(distances, np.sqrt(np.take_along_axis(squared, order, axis=1)), rtol=1e-9)
    assert (positions.dtype, distances.dtype) == (np.int32, np.float64)


def test_a_search_has_one_grid_for_all_blocks(monkeypatch):
    """The rounding step is that of all queries and references, so that blocks of other queries change no distance."""
    rng = np.random.default_rng(0)
    queries = np.vstack([rng.normal(size=(5, 2)), 1e4 * np.ones((1, 2))])
    references = rng.normal(size=(8, 2))
    whole = nearest(queries, references, k=3)
    monkeypatch.setattr("labeling.distances.ROWS", 2)
    parts = nearest(queries, references, k=3)
    assert np.array_equal(whole[0], parts[0]) and np.array_equal(whole[1], parts[1])
    steps = parts[1] ** 2 / (2e8 * 1e-11)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_columns_that_count_as_constant():
    """A column whose deviation is up to 1e-10 of its largest magnitude is constant, of either sign; 0 is, too."""
    wave = np.where(np.arange(50) % 2, 1.0, -1.0)
    columns = [sign * (1.0 + wave * step) for sign in (1.0, -1.0) for step in (0.7e-10, 1.05e-10)]
    scaled = standardise(np.column_stack([*columns, np.zeros(50)]))
    assert [bool(column.any()) for column in scaled.T] == [False, True, False, True, False]
    np.testing.assert_allclose(np.abs(scaled[:, [1, 3]]), 1.0, rtol=1e-4)


def test_means_are_of_64_bits():
    """Columns of 32 bits far from 0 are standardised as their numbers in 64 bits are."""
    features = (np.random.default_rng(0).normal(size=(4000, 3)) + 1000).astype(np.float32)
    exact = features.astype(np.float64)
    exact = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    scaled = standardise(features)
    assert scaled.dtype == np.float64
    np.testing.assert_allclose(scaled, exact, atol=1e-9)


def test_one_thread_inside_and_all_outside():
    """Within the context every pool of BLAS and OpenMP has one thread; after it as many as before."""
    with threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpool_info()]
        with single_thread():
            assert [pool["num_threads"] for pool in threadpool_info()] == [1] * len(before)
        assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_shares_against_the_formula():
    """u_j = d_j^-2 / sum of d_l^-2 over candidates, on distances of every size; no column has no share."""
    rng = np.random.default_rng(0)
    distances = 10.0 ** rng.uniform(-3, 3, size=(20, 4))
    distances[rng.random((20, 4)) < 0.3] = np.inf
    distances[:, 0] = np.where(np.isinf(distances).all(axis=1), 1.0, distances[:, 0])
    wanted = distances**-2.0 / (distances**-2.0).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(inverse_shares(distances), wanted, rtol=1e-12)
    assert inverse_shares(np.zeros((2, 0))).shape == (2, 0)


def test_rows_narrower_than_their_names():
    """A row holds its `width` best candidates, and none that is infinitely far though its confidence is the highest."""
    names, confidence = np.array(["a", "b", "c"]), np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 0.9]])
    distances = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, np.inf]])
    ranked, shares = ranked_rows(names, confidence, distances, width=2)
    assert ranked.tolist() == [["b", "c"], ["b", "a"]]
    assert shares.tolist() == [[0.5, 0.3], [0.0, 0.0]]


def test_own_attributes_and_ranked_rows_in_one_table():
    """Each stands at its clip, however long the names on either side are."""
    rows = np.array([["long_name", "x"]]), np.array([[0.7, 0.2]])
    for own in (["a", "b"], ["a_very_long_attribute", "b"]):
        table, confidence = with_own(rows, np.array(own), np.array([1, -1, 0]), unlabeled=np.array([1]))
        assert table.tolist() == [["b", ""], ["long_name", "x"], [own[0], ""]]
        assert confidence.tolist() == [[1.0, 0.0], [0.7, 0.2], [1.0, 0.0]]
