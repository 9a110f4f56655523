"""K-means as the labeling room uses it: what is drawn, in which precision, and how clusters are named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from labeling import clusters
from labeling.clusters import centroids_of, cluster, cluster_names, renumbered


@pytest.mark.parametrize(("least", "each", "size"), [(150, 10, 150), (50, 20, 100), (1, 1, 5), (400, 1, None)])
def test_starts_steps_and_the_sample_are_what_the_constants_say(least, each, size, monkeypatch) -> None:
    """So many starts of so many steps, on a sample of so many clips or so many a cluster where that is more."""
    monkeypatch.setattr(clusters, "START_CLIPS", least)
    monkeypatch.setattr(clusters, "START_CLIPS_PER_CLUSTER", each)
    monkeypatch.setattr(clusters, "STARTS", 2)
    monkeypatch.setattr(clusters, "MAX_ITERATIONS", 3)
    features = np.random.default_rng(2).normal(size=(400, 3))
    centred = features - features.mean(axis=0)
    whole = KMeans(5, n_init=2, max_iter=3, random_state=3)
    if size is not None:
        sample = np.sort(np.random.default_rng(3).choice(400, size, replace=False))
        whole = KMeans(5, init=whole.fit(centred[sample]).cluster_centers_, n_init=1, max_iter=3)
    assert np.array_equal(cluster(features, k2=5, seed=3).members, renumbered(whole.fit(centred).labels_))


def test_single_precision_stays_and_distances_are_exact() -> None:
    """Features of 32 bits are centred by their mean in 64, rounded, and clustered so; distances are of 64 bits."""
    features = (np.random.default_rng(0).normal(size=(3000, 2)) * 3 + 0.37).astype(np.float32)
    centred = features - features.astype(np.float64).mean(axis=0).astype(np.float32)
    assert centred.dtype == np.float32
    found = cluster(features, k2=3, seed=1)
    assert found.members.dtype == np.int64
    assert np.array_equal(found.members, renumbered(clusters._partition(centred, k=3, seed=1)))
    centres = np.stack([centred[found.members == each].astype(np.float64).mean(axis=0) for each in range(3)])
    for distances, points in ((found.distances, centred.astype(np.float64)), (found.between, centres)):
        np.testing.assert_allclose(distances**2, cdist(points, centres) ** 2, rtol=0, atol=2e-9)


def test_units_and_places_do_not_matter() -> None:
    """The same clusters in any unit, and however far from the origin the clips lie."""
    features = np.random.default_rng(1).normal(size=(40, 3)) + 9.0 * (np.arange(40) % 4)[:, None]
    one = cluster(features, k2=4, seed=0)
    for factor, moved in ((1e-18, 0.0), (1e6, 0.0), (1.0, 1e6)):
        other = cluster(features * factor + moved, k2=4, seed=0)
        assert np.array_equal(other.members, one.members)
        np.testing.assert_allclose(other.distances / factor, one.distances, rtol=1e-5, atol=1e-5)


def test_clips_that_do_not_differ_are_never_parted() -> None:
    """Three kinds of rows give three clusters for any larger K2, also where a kind is written with 0 and with -0."""
    rows = np.array([[0.0, 1.0], [2.0, 0.0], [-2.0, -1.0]])[np.arange(12) % 3]
    for k2 in (3, 5, 12):
        assert cluster(rows, k2=k2, seed=0).members.tolist() == [0, 1, 2] * 4
    assert cluster(rows, k2=1, seed=0).members.tolist() == [0] * 12


@pytest.mark.parametrize(
    ("count", "first", "last"),
    [(1, "cluster_00", "cluster_00"), (100, "cluster_00", "cluster_99"), (101, "cluster_000", "cluster_100")],
)
def test_names_sort_as_numbers(count: int, first: str, last: str) -> None:
    """Names have two digits, or as many as the last number needs."""
    names = cluster_names(count)
    assert (len(names), names[0], names[-1]) == (count, first, last)
    assert names.tolist() == sorted(names.tolist())
    assert cluster_names(2, prefix="x_").tolist() == ["x_00", "x_01"]


def test_numbers_by_first_clip_and_means() -> None:
    """Clusters are numbered in the order in which they are met, and a centroid is the mean of its clips."""
    assert renumbered(np.array([7, 2, 7, 9, 2])).tolist() == [0, 1, 0, 2, 1]
    points = np.array([[0.0, 1], [2, 3], [4, 8]])
    assert centroids_of(points, np.array([0, 1, 0])).tolist() == [[2.0, 4.5], [2.0, 3.0]]
