"""Cluster-wise propagation on blobs whose clusters are plain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from labeling.clusters import START_CLIPS, cluster, cluster_names
from labeling.contract import LabelingError
from labeling.strategies.cluster_wise import rank


def row_of(ranked, clip):
    """Find a clip's names without pads."""
    return [name for name in ranked.names[list(ranked.ids).index(clip)] if name]


def test_partial_takes_the_attributes_of_its_cluster(make_blobs):
    """An unlabeled clip takes its own cluster's attribute and no other; labeled clips keep theirs."""
    ranked = rank(make_blobs({"a": (3, 2), "b": (3, 2)}, case="partial"))
    assert row_of(ranked, "a-004") == ["a"]
    assert row_of(ranked, "b-004") == ["b"]
    assert ranked.labeled.sum() == 6
    assert ranked.retained.all()


def test_partial_ranks_by_distance(make_blobs):
    """Of two attributes in one cluster the one with the nearest clip comes first, though the other is more frequent."""
    request = make_blobs({"a": (3, 1), "b": (1, 0)}, case="partial", k2=1, dims=1)
    request.features[:, 0] = [0.0, 0.1, 0.2, 5.0, 6.0]  # a, a, a, the clip, b
    assert row_of(rank(request), "a-003") == ["b"]


def test_partial_confidence_is_the_inverse_square_share(make_blobs):
    """At distances 1 and 2 from two attributes the shares are 4/5 and 1/5."""
    request = make_blobs({"a": (1, 1), "b": (1, 0), "c": (2, 0)}, case="partial", k2=2, dims=1)
    request.features[:, 0] = [1.0, 0.0, -2.0, 90.0, 91.0]
    ranked = rank(request)
    clip = list(ranked.ids).index("a-001")
    assert ranked.names[clip].tolist() == ["a", "b"]
    assert ranked.confidence[clip] == pytest.approx([0.8, 0.2])


def test_a_cluster_without_labels_borrows_from_the_nearest(make_blobs):
    """Clips of an unlabeled blob take the attributes of the nearest labeled blob, not of a farther one."""
    ranked = rank(make_blobs({"a": (3, 0), "b": (3, 0), "?": (0, 3)}, case="partial"))
    assert row_of(ranked, "?-000") == ["b"]


def test_fragmented_goes_by_dominance(make_blobs):
    """Every clip of a cluster, labeled ones too, puts the cluster's most frequent attribute first."""
    request = make_blobs({"a": (5, 0), "b": (5, 0)}, case="fragmented")
    request.attributes[:5] = ["old", "new", "new", "new", "old"]
    ranked = rank(request)
    assert all(row_of(ranked, f"a-{number:03d}") == ["new", "old"] for number in range(5))
    assert ranked.confidence[0].tolist() == [0.6, 0.4]
    assert not ranked.labeled.any()


def test_fragmented_ties_go_by_distance(make_blobs):
    """Of two equally frequent attributes a clip's own, at distance 0, comes first."""
    request = make_blobs({"a": (4, 0), "b": (4, 0)}, case="fragmented")
    request.attributes[:4] = ["old", "new", "new", "old"]
    ranked = rank(request)
    assert row_of(ranked, "a-000") == ["old", "new"]
    assert row_of(ranked, "a-001") == ["new", "old"]


def test_unlabeled_ranks_all_clusters_by_distance(make_blobs):
    """A clip's first candidate is its own cluster, then come the others by distance: all K2 of them."""
    ranked = rank(make_blobs({"a": (0, 3), "b": (0, 3), "c": (0, 3)}, case="unlabeled"))
    own = {clip[0]: row_of(ranked, f"{clip[0]}-000")[0] for clip in ranked.ids}
    assert row_of(ranked, "a-000") == [own["a"], own["b"], own["c"]]
    assert row_of(ranked, "c-001") == [own["c"], own["b"], own["a"]]
    assert set(own.values()) == {"cluster_00", "cluster_01", "cluster_02"}
    assert ranked.confidence.sum(axis=1) == pytest.approx(1.0)


def test_unlabeled_ignores_labels(make_blobs):
    """In the unlabeled case a stray attribute neither leads nor stays."""
    with_labels = rank(make_blobs({"a": (1, 2), "b": (0, 3)}, case="unlabeled"))
    assert not with_labels.labeled.any()
    assert set(with_labels.names.ravel()) == {"cluster_00", "cluster_01"}


@pytest.mark.parametrize("case", ["fragmented", "partial", "unlabeled"])
def test_identical_features_make_one_cluster(make_blobs, case):
    """Clips that do not differ fall into one cluster however many were asked for."""
    request = make_blobs({"a": (3, 1), "b": (2, 0)}, case=case, k2=4)
    ranked = rank(replace(request, features=np.ones((6, 3))))
    expected = {"fragmented": ["a", "b"], "partial": ["a", "b"], "unlabeled": ["cluster_00"]}[case]
    assert row_of(ranked, "a-003") == expected
    assert ranked.names.shape == (6, 4)


@pytest.mark.parametrize("k2", [0, 7])
def test_refuses_k2_outside_the_clips(make_blobs, k2):
    """K2 must be 1 to the number of clips."""
    with pytest.raises(LabelingError, match=f"k2 must be between 1 and 6, the clips .* but got {k2}"):
        rank(make_blobs({"a": (3, 3)}, case="partial", k2=k2))


@pytest.mark.parametrize("case", ["fragmented", "partial"])
def test_refuses_cases_that_need_labels(make_blobs, case):
    """Fragmented and partial need a labeled clip; the message says what to choose."""
    with pytest.raises(LabelingError, match=rf"{case} needs at least one labeled clip.*choose unlabeled"):
        rank(make_blobs({"a": (0, 4)}, case=case))


def test_clusterings_are_made_once_per_k2_and_shared_by_cases(make_blobs, memo):
    """Labels do not enter K-means: the three cases share a clustering, another K2 makes another."""
    request = make_blobs({"a": (3, 2), "b": (3, 2)}, memo=memo)
    for case in ("fragmented", "partial", "unlabeled"):
        rank(replace(request, case=case))
    assert memo.made == ["clusters"]
    rank(replace(request, case="partial", k2=3))
    assert memo.made == ["clusters", "clusters"]


def test_starts_on_a_sample_find_the_same_blobs():
    """Above 2,000 clips the starts run on a sample; well-separated blobs are found whole all the same."""
    rng = np.random.default_rng(0)
    blob = rng.integers(0, 5, START_CLIPS + 500)
    found = cluster(10.0 * np.eye(5)[blob] + 0.1 * rng.normal(size=(len(blob), 5)), k2=5, seed=1)
    assert Counter(zip(blob.tolist(), found.members.tolist(), strict=True)).total() == len(blob)
    assert len(set(zip(blob.tolist(), found.members.tolist(), strict=True))) == 5


def test_a_sample_with_too_few_kinds_is_no_obstacle():
    """Three kinds of clips, two of them so rare that the sample may miss them, still make three clusters or fewer."""
    features = np.zeros((START_CLIPS + 1000, 2))
    features[0], features[1] = [5.0, 0.0], [0.0, 5.0]
    found = cluster(features, k2=3, seed=0)
    assert 1 <= len(found.between) <= 3
    assert found.members.max() + 1 == len(found.between)


def test_cluster_names_sort_as_numbers():
    """Names are padded, so that their order is the numbers' order."""
    assert cluster_names(3).tolist() == ["cluster_00", "cluster_01", "cluster_02"]
    assert sorted(cluster_names(120)) == list(cluster_names(120))


def test_copies_are_at_no_distance_in_many_dimensions(make_blobs):
    """A clip equal to a labeled one takes all from it, to the last digit, whatever 300 rounded products sum up to."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 300)) + 40 * rng.normal(size=300)
    request = make_blobs({"a": (6, 6), "b": (6, 6)}, case="partial", k2=1)
    ranked = rank(replace(request, features=np.concatenate([points[:6], points[:6], points[6:], points[6:]])))
    copies = ~ranked.labeled
    assert (ranked.names[copies, 0] == [clip[0] for clip in ranked.ids[copies]]).all()
    assert ranked.confidence[copies, 0].tolist() == [1.0] * 12


@pytest.mark.parametrize("case", ["fragmented", "partial"])
def test_blocks_change_nothing(make_blobs, monkeypatch, case):
    """However many clips are measured at once, candidates and confidences are the same."""
    request = make_blobs({"a": (6, 7), "b": (5, 9), "c": (4, 3)}, case=case, k2=4, spread=6.0)
    whole = rank(request)
    monkeypatch.setattr("labeling.strategies.cluster_wise.ROWS", 3)
    parts = rank(request)
    assert (parts.names == whole.names).all()
    np.testing.assert_allclose(parts.confidence, whole.confidence, rtol=1e-9)
