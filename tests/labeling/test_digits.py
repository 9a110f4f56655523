"""Labeling to the last digit, in any unit and any precision: what a rounding must not move."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.mixture import GaussianMixture

from labeling import clusters as clusters_module
from labeling import routing
from labeling.clusters import Clusters, cluster, cluster_names
from labeling.contract import RankRequest
from labeling.distances import nearest, single_thread, squared_distances, standardise
from labeling.strategies import cluster_wise, gmm, iterated
from labeling.table import inverse_shares, ranked_rows

UNITS = [2.0**-40, 2.0**-20, 1.0, 2.0**20]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_changes_no_digit_of_a_distance(unit: float) -> None:
    """Distances in another unit are the same numbers in that unit, and points at equal distances stay so."""
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(9, 5)), rng.normal(size=(12, 5))
    references[6:] = references[:6][:, ::-1]
    queries[:, 3:] = queries[:, 1::-1]  # a palindrome is as far from a point as from that point turned round
    found = squared_distances(queries * unit, references * unit)
    np.testing.assert_array_equal(found, squared_distances(queries, references) * unit**2)
    np.testing.assert_array_equal(found[:, 6:], found[:, :6])
    positions, distances = nearest(queries * unit, references * unit, k=12)
    whole = nearest(queries, references, k=12)
    np.testing.assert_array_equal(positions, whole[0])
    np.testing.assert_array_equal(distances, whole[1] * unit)
    np.testing.assert_array_equal(distances, np.sqrt(np.take_along_axis(found, positions, axis=1)))


@pytest.mark.parametrize("unit", [1e-14, 1e-7, 1.0, 1e7, 1e14])
def test_a_unit_standardises_alike(unit: float) -> None:
    """Columns in any unit come to mean 0 and deviation 1, and a constant one, whose mean may be rounded, to 0."""
    features = np.column_stack([np.random.default_rng(0).normal(size=(50, 2)), np.full(50, 0.1)])
    scaled = standardise(features * unit)
    np.testing.assert_allclose(scaled[:, :2], standardise(features[:, :2]), rtol=1e-9)
    assert not scaled[:, 2].any()


def test_no_more_clusters_are_asked_for_than_clips_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """K-means gets K2, or the number of different clips where that is less; 0 and -0 are no difference."""
    asked = []
    plain = clusters_module._partition

    def told(features, *, k, seed):
        asked.append(k)
        return plain(features, k=k, seed=seed)

    monkeypatch.setattr(clusters_module, "_partition", told)
    rows = np.array([[0.0, 1.0], [2.0, 0.0], [-2.0, -0.0], [-0.0, -1.0]])[np.arange(12) % 4]
    for k2 in (1, 3, 4, 5, 12):
        cluster(rows, k2=k2, seed=0)
    signed = np.array([[0.0], [-0.0], [0.0], [-0.0], [5.0], [-5.0]])
    cluster(signed, k2=6, seed=0)
    assert asked == [1, 3, 4, 4, 4, 3]


def test_shares_warn_of_nothing() -> None:
    """Neither a distance of 0 nor one without end is divided by aloud."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shares = inverse_shares(np.array([[0.0, 0.0, 1.0, np.inf], [np.inf] * 4, [1.0, 2.0, np.inf, np.inf]]))
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0, 0], [0] * 4, [0.8, 0.2, 0, 0]])


def test_agreement_at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and clusters that agree exactly by the least agreement do not conflict."""
    labels = np.array([f"car_{number % 2}" for number in range(60)], dtype=object)
    numbers = (np.arange(60) + (np.arange(60) < 25)) % 2
    agreement = float(adjusted_mutual_info_score(labels.tolist(), numbers))
    for least, case in ((agreement, "direct"), (np.nextafter(agreement, 1), "fragmented")):
        monkeypatch.setattr(routing, "AGREEMENT", least)
        assert routing.route(labels, clusters=numbers).case == case


def test_mixtures_are_those_of_their_seed() -> None:
    """Where groups overlap, starts decide: a mixture's posterior is scikit-learn's from the same seed."""
    rng = np.random.default_rng(3)
    features = rng.normal(scale=2.0, size=(8, 3))[rng.integers(0, 8, 120)] + 0.6 * rng.normal(size=(120, 3))
    found = [gmm.fit_mixture(features, largest=12, seed=seed).posterior for seed in (0, 1)]
    assert found[0].shape != found[1].shape or not np.allclose(*found, atol=1e-6)
    np.testing.assert_array_equal(found[1], gmm.fit_mixture(features, largest=12, seed=1).posterior)


@pytest.mark.parametrize(
    ("clips", "dims", "kept", "seed"), [(60, 5, 5, 0), (60, 5, 5, 3), (24, 24, 12, 1), (24, 24, 12, 3), (20, 40, 10, 0)]
)
def test_no_digit_of_a_mixture_moves(clips: int, dims: int, kept: int, seed: int) -> None:
    """Axes come of the smaller table, at most half the clips many; EM takes 100 steps at most, from the seed."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4, dims))[rng.integers(0, 4, clips)] + 0.4 * rng.normal(size=(clips, dims))
    points = standardise(features)
    with single_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if clips > dims:
            axes = np.linalg.eigh(points.T @ points)[1][:, ::-1]
        else:
            axes = np.linalg.svd(points, full_matrices=False)[2].T
        reduced = points @ axes[:, :kept]
        floor = 0.01 * reduced.var(axis=0).mean()
        fits = [
            GaussianMixture(count, covariance_type="diag", reg_covar=floor, max_iter=100, random_state=seed).fit(
                reduced
            )
            for count in range(1, min(4, clips // 5) + 1)
        ]
        wanted = min(fits, key=lambda fit: fit.bic(reduced)).predict_proba(reduced)
    assert wanted.shape[1] > 1  # else every clip has 1, whatever came before
    np.testing.assert_array_equal(gmm.fit_mixture(features, largest=4, seed=seed).posterior, wanted)


def test_mixtures_stop_after_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where groups overlap, a mixture that may take one step is not the one that took as many as it needs."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 5))[rng.integers(0, 4, 60)] + 0.4 * rng.normal(size=(60, 5))
    whole = gmm.fit_mixture(features, largest=4, seed=0).posterior
    monkeypatch.setattr(gmm, "MAX_ITERATIONS", 1)
    short = gmm.fit_mixture(features, largest=4, seed=0).posterior
    assert short.shape != whole.shape or not np.allclose(short, whole, atol=1e-3)


def test_no_clusters_have_no_names() -> None:
    """Names are text, also where there are none of them."""
    assert cluster_names(0).shape == (0,) and cluster_names(0).dtype.kind == "U"


def split(request: RankRequest, members: np.ndarray) -> RankRequest:
    """Give a request the clusters that K-means would make, so that only what follows is left to compute."""
    points = request.features.astype(np.float64)
    centres = np.stack([points[members == number].mean(axis=0) for number in range(members.max() + 1)])
    away = np.sqrt(squared_distances(points, centres))
    found = Clusters(members, away, np.sqrt(squared_distances(centres, centres)))
    return replace(request, memo=lambda name, make: found)


def partly(case: str) -> tuple[RankRequest, np.ndarray]:
    """Make 40 clips in the order of their ids, single precision, in three clusters of which the last has no label."""
    rng = np.random.default_rng(4)
    members = np.sort(rng.integers(0, 3, 40))
    attributes = np.array(["a", "b", "c", None], dtype=object)[rng.integers(0, 4, 40)]
    attributes[members == 2] = None
    ids = np.array([f"c{number:02d}" for number in range(40)])
    features = (rng.normal(size=(40, 6)) + 3 * members[:, None] + [900, -500, 0, 30, 7, 1]).astype(np.float32)
    return split(RankRequest(ids, features, attributes, case, k1=1, k2=4), members), members  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["partial", "fragmented"])
def test_no_digit_of_a_cluster_wise_confidence_moves(case: str) -> None:
    """Distances are of clips centred in 64 bits, rounded on the grid of the farthest from the centre, and rooted."""
    request, members = partly(case)
    exact = request.features.astype(np.float64) - request.features.astype(np.float64).mean(axis=0)
    spread = float((exact**2).sum(axis=1).max())
    squared = squared_distances(exact, exact, spread=spread)
    lender = np.where(members == 2, 1, members)  # clusters lie in a row
    known = np.array([name is not None for name in request.attributes])
    reach, shares = np.full((40, 3), np.inf), np.zeros((40, 3))
    for clip in range(40):
        for column, name in enumerate("abc"):
            lent = (members == lender[clip]) & (request.attributes == name)
            reach[clip, column] = np.sqrt(squared[clip, lent].min(initial=np.inf))
            shares[clip, column] = lent.sum() / ((members == lender[clip]) & known).sum()
    if case == "partial":
        shares = inverse_shares(reach)
    names, confidence = ranked_rows(np.array(["a", "b", "c"]), shares, reach, width=4)
    ranked = cluster_wise.rank(request)
    rows = np.ones(40, bool) if case == "fragmented" else ~known
    assert ranked.labeled.tolist() == (~rows).tolist()
    np.testing.assert_array_equal(ranked.names[rows], names[rows])
    np.testing.assert_array_equal(ranked.confidence[rows], confidence[rows])


@pytest.mark.parametrize("case", ["partial", "fragmented"])
def test_blocks_change_no_digit(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clips are measured at once, confidences are equal to the last digit."""
    request, _ = partly(case)
    whole = cluster_wise.rank(request)
    monkeypatch.setattr("labeling.strategies.cluster_wise.ROWS", 3)
    parts = cluster_wise.rank(request)
    np.testing.assert_array_equal(parts.names, whole.names)
    np.testing.assert_array_equal(parts.confidence, whole.confidence)


@pytest.mark.parametrize(("strategy", "prefix"), [(cluster_wise, "cluster"), (iterated, "iterated"), (gmm, "gmm")])
def test_cluster_names_count_clusters_and_not_clips(strategy: ModuleType, prefix: str) -> None:
    """A hundred clips and more in two clusters are named with two digits."""
    request = RankRequest(
        np.array([f"{number:03d}" for number in range(105)]), np.arange(105.0)[:, None] // 60,
        np.full(105, None, dtype=object), "unlabeled", k1=1, k2=2,
    )  # fmt: skip
    assert set(strategy.rank(request).names.ravel()) == {f"{prefix}_00", f"{prefix}_01"}


def test_one_clustering_serves_whatever_is_withheld(memo) -> None:
    """K-means reads no label: with other attributes withheld, trials of one K2 and seed share it."""
    request, _ = partly("partial")
    fewer = request.attributes.copy()
    fewer[:10] = None
    for attributes in (request.attributes, fewer):
        cluster_wise.rank(replace(request, attributes=attributes, memo=memo))
    assert memo.made == ["clusters"]
