"""Labeling, written a second time in a few plain lines: each ranking against its definition on random clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.mixture import GaussianMixture

from labeling import clusters as clusters_module
from labeling.clusters import cluster
from labeling.contract import LabelingError, RankedCandidates, RankRequest
from labeling.distances import nearest, standardise
from labeling.fusion import fuse_top_m, label_statistics
from labeling.quality import label_quality
from labeling.routing import route
from labeling.strategies import cluster_wise, gmm, sample_wise
from labeling.table import inverse_shares


def random_request(case: str, *, clips: int = 90, dims: int = 5, labeled: float = 0.5, **options) -> RankRequest:
    """Clips in no order, with features of very different scales and attributes that overlap."""
    rng = np.random.default_rng(7)
    ids = np.array([f"clip-{number:03d}" for number in rng.permutation(clips)])
    features = rng.normal(size=(clips, dims)) * 10.0 ** np.arange(dims) / 100 + rng.normal(size=dims)
    told = ((features - features.mean(axis=0)) / features.std(axis=0)).sum(axis=1) + rng.normal(size=clips)
    names = np.array(["low", "mid", "high", "top"])[np.digitize(told, np.quantile(told, [0.3, 0.5, 0.8]))]
    attributes = np.where(rng.random(clips) < labeled, names, None).astype(object)
    return RankRequest(ids, features, attributes, case, **{"k1": 7, "k2": 6, **options})  # type: ignore[arg-type]


def by_id(request: RankRequest):
    """The request's clips in the order of their ids: ids, features, attributes."""
    order = np.argsort(request.ids)
    return request.ids[order], request.features[order], request.attributes[order]


def rows_of(ranked: RankedCandidates) -> dict[str, list[tuple[str, float]]]:
    """Name and confidence of every candidate, by clip."""
    return {
        clip: [(name, share) for name, share in zip(names, shares, strict=True) if name]
        for clip, names, shares in zip(ranked.ids, ranked.names, ranked.confidence, strict=True)
    }


def same(found, wanted):
    """Whether rows agree: names exactly, confidences to rounding."""
    assert found.keys() == wanted.keys()
    for clip, row in wanted.items():
        assert [name for name, _ in found[clip]] == [name for name, _ in row], clip
        assert [share for _, share in found[clip]] == pytest.approx([share for _, share in row], abs=1e-9), clip


@pytest.mark.parametrize("seed", [0, 4])
def test_sample_wise_is_its_definition(seed):
    """The K1 nearest in standardised features, ranked by a forest of 100 trees with the request's seed."""
    request = random_request("sample-wise", seed=seed)
    ids, features, attributes = by_id(request)
    known = np.array([a is not None for a in attributes])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    away = cdist(scaled[~known], scaled[known])
    forest = RandomForestClassifier(100, random_state=seed)
    shares = forest.fit(features[known].astype(np.float32), attributes[known].astype(str)).predict_proba(
        features[~known].astype(np.float32)
    )
    wanted = {clip: [(attribute, 1.0)] for clip, attribute in zip(ids[known], attributes[known], strict=True)}
    for row, clip in enumerate(ids[~known]):
        near = np.argsort(away[row], kind="stable")[:7]
        reach: dict[str, float] = {}
        for place in near:
            reach.setdefault(attributes[known][place], away[row, place])
        share = dict(zip(forest.classes_, shares[row], strict=True))
        order = sorted(reach, key=lambda name: (-share[name], reach[name], name))
        wanted[clip] = [(name, share[name]) for name in order]
    ranked = sample_wise.rank(request)
    same(rows_of(ranked), wanted)
    best = {clip: row[0][1] for clip, row in wanted.items()}
    assert ranked.retained.tolist() == [best[clip] >= 0.9 for clip in ranked.ids]
    assert 0 < ranked.retained.sum() < len(ids)
    assert ranked.names.shape[1] == 7


def test_features_of_other_units_change_no_neighbour():
    """Sample-wise neighbours are the same in millivolts and in volts: features are standardised."""
    request = random_request("sample-wise")
    scaled = replace(request, features=request.features * np.array([1e-3, 1.0, 50.0, 1.0, 1e4]))
    assert [{name for name, _ in row} for row in rows_of(sample_wise.rank(request)).values()] == [
        {name for name, _ in row} for row in rows_of(sample_wise.rank(scaled)).values()
    ]


def test_confidence_at_the_border():
    """A clip whose best confidence equals `min_confidence` is retained; one a hair under it is not."""
    ranked = sample_wise.rank(random_request("sample-wise"))
    border = float(np.unique(ranked.confidence[~ranked.labeled, 0])[3])
    at = sample_wise.rank(random_request("sample-wise", min_confidence=border))
    over = sample_wise.rank(random_request("sample-wise", min_confidence=np.nextafter(border, 1)))
    on = ~ranked.labeled & (ranked.confidence[:, 0] == border)
    assert at.retained[on].all() and not over.retained[on].any()
    assert RankRequest(at.ids, np.zeros((1, 1)), at.names, "direct", 1, 1).min_confidence == 0.9


@pytest.mark.parametrize(("rank", "case"), [(sample_wise.rank, "sample-wise"), (cluster_wise.rank, "unlabeled")])
def test_a_shared_memo_knows_seeds_apart(rank, case, memo):
    """With one memo for all, each seed and K2 answers as without any: forests and clusters are kept by both."""
    for seed, k2 in ((0, 6), (1, 6), (2, 6), (0, 4)):
        wanted = rows_of(rank(random_request(case, seed=seed, k2=k2)))
        same(rows_of(rank(random_request(case, seed=seed, k2=k2, memo=memo))), wanted)
    confidences = [rank(random_request(case, seed=seed, memo=memo)).confidence for seed in (0, 1)]
    assert not np.array_equal(*confidences)


@pytest.mark.parametrize("sampled", [False, True])
def test_clusters_are_those_of_k_means(sampled, monkeypatch):
    """Ten starts of at most 300 steps; of many clips, ten starts on a sample first, then one run on all."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(400, 3))
    if sampled:
        monkeypatch.setattr(clusters_module, "START_CLIPS", 150)
        monkeypatch.setattr(clusters_module, "START_CLIPS_PER_CLUSTER", 10)
    found = cluster(features, k2=9, seed=3)
    centred = features - features.mean(axis=0)
    whole = KMeans(9, n_init=10, max_iter=300, random_state=3)
    if sampled:
        sample = np.sort(np.random.default_rng(3).choice(400, 150, replace=False))
        starts = whole.fit(centred[sample]).cluster_centers_
        whole = KMeans(9, init=starts, n_init=1, max_iter=300, random_state=3)
    wanted = whole.fit(centred)
    numbers: dict[int, int] = {}
    assert found.members.tolist() == [numbers.setdefault(one, len(numbers)) for one in wanted.labels_.tolist()]
    centres = np.stack([centred[found.members == number].mean(axis=0) for number in range(9)])
    np.testing.assert_allclose(found.distances, cdist(centred, centres), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.between, cdist(centres, centres), rtol=1e-5, atol=1e-5)
    once = KMeans(9, n_init=1, max_iter=300, random_state=3).fit(centred).inertia_
    short = KMeans(9, n_init=10, max_iter=1, random_state=3).fit(centred).inertia_
    assert min(once, short) > wanted.inertia_ * 1.0001  # so that fewer starts or steps would be seen


def test_as_many_clusters_as_clips_and_no_more():
    """K2 lies between 1 and the number of clips, both included."""
    points = np.arange(5.0)[:, None]
    assert [cluster(points, k2=k2, seed=0).members.max() + 1 for k2 in (1, 5)] == [1, 5]
    for k2 in (0, 6):
        with pytest.raises(LabelingError, match=f"k2 must be between 1 and 5, .* but got {k2}"):
            cluster(points, k2=k2, seed=0)


def test_the_search_for_clusters_stays_as_large():
    """Starts, steps and the size of the sample are those with which trials were recorded."""
    assert (clusters_module.STARTS, clusters_module.MAX_ITERATIONS) == (10, 300)
    assert (clusters_module.START_CLIPS, clusters_module.START_CLIPS_PER_CLUSTER) == (2000, 40)


@pytest.mark.parametrize("case", ["fragmented", "partial", "unlabeled"])
def test_cluster_wise_is_its_definition(case):
    """Dominance then distance; distance alone; clusters by distance: the nearest labeled clip of the lender counts."""
    request = random_request(case, clips=70, labeled=0.12 if case == "partial" else 0.5, k2=9, seed=1)
    ids, features, attributes = by_id(request)
    found = cluster(features, k2=9, seed=1)
    known = np.array([a is not None for a in attributes])
    wanted = {}
    for place, clip in enumerate(ids):
        if case == "unlabeled":
            reach = {f"cluster_{number:02d}": away for number, away in enumerate(found.distances[place])}
            lent = {}
        else:
            members = found.members == found.members[place]
            if not (members & known).any():
                near = np.argsort(found.between[found.members[place]], kind="stable")
                lender = next(number for number in near if (known & (found.members == number)).any())
                members = found.members == lender
            lent = {name: np.flatnonzero(members & (attributes == name)) for name in set(attributes[members & known])}
            reach = {
                name: float(np.sqrt(((features[places] - features[place]) ** 2).sum(axis=1)).min())
                for name, places in lent.items()
            }
        if case == "partial" and known[place]:
            wanted[clip] = [(attributes[place], 1.0)]
            continue
        if case == "fragmented":
            total = sum(map(len, lent.values()))
            share = {name: len(places) / total for name, places in lent.items()}
        else:
            inverse = {name: away**-2 for name, away in reach.items()}
            share = {name: one / sum(inverse.values()) for name, one in inverse.items()}
        order = sorted(reach, key=lambda name: (-share[name], reach[name], name))
        wanted[clip] = [(name, share[name]) for name in order]
    if case == "partial":
        assert any(not (known & (found.members == number)).any() for number in range(9))  # some have to borrow
    ranked = cluster_wise.rank(request)
    rows = rows_of(ranked)
    assert rows.keys() == wanted.keys()
    for clip, row in wanted.items():
        if case == "fragmented":  # a clip is its own nearest; rounding of distances near 0 is not compared
            assert [name for name, _ in rows[clip]] == [name for name, _ in row], clip
        assert dict(rows[clip]) == pytest.approx(dict(row), rel=1e-4, abs=1e-6), clip
    assert ranked.retained.all()


def test_a_clip_identical_to_a_labeled_one():
    """It takes that clip's attribute with all the confidence; of two such attributes, each half."""
    features = np.array([[0.0, 0], [0, 0], [1, 0], [9, 9], [9, 9], [9, 9], [8, 9]])
    attributes = np.array(["a", None, "b", "a", "b", None, "c"], dtype=object)
    ids = np.array([f"c{number}" for number in range(7)])
    rows = rows_of(cluster_wise.rank(RankRequest(ids, features, attributes, "partial", k1=1, k2=2)))
    assert rows["c1"] == [("a", 1.0), ("b", 0.0)]
    assert rows["c5"] == [("a", 0.5), ("b", 0.5)]  # and none for "c", a little away
    nearest_first = sample_wise.rank(RankRequest(ids, features, attributes, "sample-wise", k1=1, k2=2))
    assert [name for name, _ in rows_of(nearest_first)["c1"]] == ["a"]


def test_shares_of_distances():
    """u_j = d_j^-2 / sum of d_l^-2: distances 1, 2, inf give 0.8, 0.2, 0; 0, 0, 3 give a half each and 0."""
    shares = inverse_shares(np.array([[1.0, 2, np.inf], [0, 0, 3], [np.inf] * 3]))
    np.testing.assert_allclose(shares, [[0.8, 0.2, 0], [0.5, 0.5, 0], [0, 0, 0]])


def test_nearest_are_the_nearest_in_order():
    """Positions and rooted distances of the k nearest, in order, over more queries than a block holds."""
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(1500, 2)), rng.normal(size=(30, 2))
    positions, distances = nearest(queries, references, k=4)
    away = cdist(queries, references)
    assert np.array_equal(positions, np.argsort(away, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :4], rtol=1e-5, atol=1e-6)


def test_standardised_columns():
    """Mean 0 and population deviation 1 a column; a constant column is 0, a small one is not."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.normal(5, 3, 50), np.full(50, 0.1), 1.0 + 1e-6 * rng.normal(size=50)])
    scaled = standardise(points)
    np.testing.assert_allclose(scaled[:, 0], (points[:, 0] - points[:, 0].mean()) / points[:, 0].std(), atol=1e-12)
    assert not scaled[:, 1].any() and scaled[:, 2].std() == pytest.approx(1.0)


@pytest.mark.parametrize(("clips", "dims", "largest"), [(90, 24, 6), (60, 4, 30), (30, 40, 9)])
def test_mixtures_are_their_definition(clips, dims, largest):
    """Standardised, at most 16 principal components and half the clips, BIC over 1 to min(K2, clips / 5) components."""
    rng = np.random.default_rng(dims)
    features = rng.normal(size=(clips, dims)) * rng.uniform(0.1, 50, size=dims) + 40.0 * (np.arange(clips) % 3)[:, None]
    points = (features - features.mean(axis=0)) / features.std(axis=0)
    kept = min(16, dims, clips // 2)
    axes = np.linalg.svd(points, full_matrices=False)[2][:kept]
    reduced = points @ axes.T
    floor = 0.01 * reduced.var(axis=0).mean()
    fits = [
        GaussianMixture(count, covariance_type="diag", reg_covar=floor, max_iter=100, random_state=5).fit(reduced)
        for count in range(1, min(largest, clips // 5) + 1)
    ]
    best = min(fits, key=lambda mixture: mixture.bic(reduced))
    found = gmm.fit_mixture(features, largest=largest, seed=5).posterior
    assert found.shape[1] == best.n_components
    np.testing.assert_allclose(np.sort(found), np.sort(best.predict_proba(reduced)), atol=1e-4)


def test_mixtures_use_what_they_may():
    """Clips of ten tight groups use ten components where K2 and the clips allow it, and fewer where they do not."""
    rng = np.random.default_rng(0)
    points = rng.normal(scale=20, size=(10, 3))[np.arange(50) % 10] + 0.01 * rng.normal(size=(50, 3))
    assert gmm.fit_mixture(points, largest=30, seed=0).posterior.shape[1] == 10  # 50 clips allow 10
    assert gmm.fit_mixture(points, largest=7, seed=0).posterior.shape[1] <= 7
    assert gmm.fit_mixture(points[:49], largest=30, seed=0).posterior.shape[1] <= 9


def columns(labeled: int, clips: int, *, names: int = 2, years=None, clusters=None):
    """Route clips of which so many are labeled, the attributes by turns."""
    attributes = np.array(
        [f"car_{number % names}" if number < labeled else None for number in range(clips)], dtype=object
    )
    return route(attributes, years=None if years is None else np.array(years, dtype=object), clusters=clusters).case


def test_borders_of_routing():
    """Each threshold at its border: half labeled, five clips an attribute, 64 attributes, 30 clips, half the keys."""
    conflict = np.arange(60) // 2 % 2  # balanced against the attributes, so agreement is that of chance
    assert columns(30, 60, clusters=conflict) == "fragmented"  # half is enough
    assert columns(29, 60, clusters=conflict) == "sample-wise"
    assert columns(29, 29, clusters=conflict[:29]) == "direct"  # too few labeled clips to tell
    assert columns(30, 30, clusters=conflict[:30]) == "fragmented"
    assert columns(10, 60) == "sample-wise" and columns(9, 60) == "partial"  # 5 and 4.5 clips an attribute
    assert columns(320, 2000, names=64) == "sample-wise" and columns(325, 2000, names=65) == "partial"
    late = ["2022"] * 20 + ["2023"] * 20
    mixed = [*["2023"] * 10, *["2022"] * 5, *["2023"] * 10, *["2022"] * 100]
    assert columns(15, len(mixed), years=mixed) == "partial"  # half of the newest year's clips are labeled
    assert (
        columns(14, len(mixed), years=[*["2023"] * 9, *["2022"] * 5, *["2023"] * 11, *["2022"] * 100]) == "sample-wise"
    )
    assert columns(20, 40, years=late) == "sample-wise"


def test_years_that_share_half_their_keys_do_not_conflict():
    """Sharing 1 of 2 keys is no conflict; 1 of 3 is."""
    for attribute, case in (("car_A_vel_1", "direct"), ("car_A_mic_1_loc_2", "fragmented")):
        others = {"direct": "car_A_spd_1", "fragmented": "car_A_spd_1_vel_3"}[case]
        attributes = np.array([attribute, others] * 4, dtype=object)
        assert route(attributes, years=np.array(["2022", "2023"] * 4, dtype=object)).case == case


def test_clusters_that_agree_a_little():
    """Labels and clusters conflict where their adjusted mutual information is under 0.05, and not from there on."""
    from sklearn.metrics import adjusted_mutual_info_score

    labels = np.array([f"car_{number % 2}" for number in range(200)], dtype=object)
    seen = set()
    for moved in range(0, 100, 4):
        numbers = (np.arange(200) % 2 + (np.arange(200) // 2 < moved) * np.arange(200) // 2) % 2
        agreement = adjusted_mutual_info_score(labels.tolist(), numbers)
        assert route(labels, clusters=numbers).case == ("fragmented" if agreement < 0.05 else "direct")
        if 0.02 < abs(agreement) < 0.09:
            seen.add(agreement < 0.05)
    assert seen == {True, False}


def made(names, *, labeled=(), left=()) -> RankedCandidates:
    """Candidates with falling confidence; clips at `labeled` keep their own, those at `left` are not retained."""
    table = np.array(names)
    clips = np.arange(len(table))
    return RankedCandidates(
        np.array([f"c{clip}" for clip in clips]), table, np.where(table == "", 0.0, [[0.6, 0.3, 0.1]]),
        ~np.isin(clips, left), np.isin(clips, labeled), "sample-wise", "sample_wise",
    )  # fmt: skip


ROWS = [["a", "b", "c"], ["a", "", ""], ["b", "a", ""], ["c", "b", "a"]]


def test_widest_bounds_m():
    """M may be as large as the protocol's K1 or K2 even where rows are shorter, and no larger where they are longer."""
    fused = fuse_top_m({"fan": made(ROWS)}, m=5, widest=5)
    assert sorted(fused.classes) == ["fan|a", "fan|a_b_c", "fan|b_a", "fan|c_b_a"]
    judged = {"c0": "a"}
    for refused in ({"m": 3, "widest": 2}, {"m": 4}):
        with pytest.raises(LabelingError, match="m must be between 1"):
            fuse_top_m({"fan": made(ROWS)}, **refused)
        with pytest.raises(LabelingError, match="m must be between 1"):
            label_quality({"fan": made(ROWS)}, judged, **refused)
    assert label_quality({"fan": made(ROWS)}, judged, m=5, widest=5)["fan"].recall_at_m == 1.0


def test_what_is_left_out_is_counted_among_the_judged():
    """Of four clips one is labeled; of the three judged ones, one is not retained: a third is left out."""
    ranked = made(ROWS, labeled=[1], left=[3])
    truth = {"c0": "b", "c1": "a", "c2": "b", "c3": "c"}
    quality = label_quality({"fan": ranked}, truth, m=1)["fan"]
    assert (quality.clips, quality.left_out) == (3, pytest.approx(1 / 3))
    assert (quality.recall_at_m, quality.recall_at_m_retained) == (pytest.approx(2 / 3), 0.5)
    assert (quality.classes, quality.true_classes, quality.entropy, quality.purity) == (2, 2, 1.0, 1.0)
    counts = label_statistics({"fan": ranked}, fuse_top_m({"fan": ranked}, m=1))["fan"]
    assert (counts.clips, counts.labeled, counts.pseudo_labeled, counts.left_out) == (4, 1, 2, 1)
    assert (counts.candidates, counts.distinct_m) == (2.5, 3)  # of rows abc and ba: M above 3 gives the same
    assert (counts.classes, counts.singletons, counts.mean_confidence) == (2, 1, pytest.approx(0.6))
    alone = label_statistics({"fan": ranked}, fuse_top_m({"fan": ranked}, m=1, below="machine"))["fan"]
    assert (alone.machine_alone, alone.left_out, alone.classes) == (1, 0, 3)


def test_soft_weights_are_confidences_over_their_sum():
    """M = 2 of 0.6, 0.3, 0.1 gives two thirds and a third, in the classes' columns."""
    soft = fuse_top_m({"fan": made(ROWS[:1])}, m=2, fusion="soft")
    assert soft.classes.tolist() == ["fan|a", "fan|b"]
    np.testing.assert_allclose(soft.targets, [[2 / 3, 1 / 3]], rtol=1e-6)
