"""Ward clustering as pseudo-labels: against the definition, worked out merge by merge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labeling.contract import LabelingError
from labeling.fusion import fuse_top_m
from labeling.strategies import ward


def by_definition(points: np.ndarray, clusters: int) -> set[frozenset[int]]:
    """Merge the two groups whose union raises the sum of squares least, until enough are left."""

    def spread(group: frozenset[int]) -> float:
        own = points[sorted(group)]
        return float(((own - own.mean(axis=0)) ** 2).sum())

    groups = {frozenset([place]) for place in range(len(points))}
    while len(groups) > clusters:
        pairs = [(a, b) for a in groups for b in groups if min(a) < min(b)]
        best = min(pairs, key=lambda pair: spread(pair[0] | pair[1]) - spread(pair[0]) - spread(pair[1]))
        groups = groups - set(best) | {best[0] | best[1]}
    return groups


@pytest.mark.parametrize("clusters", [1, 2, 3, 7, 18])
def test_ward_is_its_definition(make_blobs, clusters):
    """The first candidate's groups are those of the merges done by hand, for any number of clusters."""
    rng = np.random.default_rng(clusters)
    request = make_blobs({"a": (0, 18)}, case="unlabeled", k2=clusters)
    request = replace(request, features=rng.normal(size=(18, 3)))
    first = ward.rank(request).names[:, 0]
    found = {frozenset(np.flatnonzero(first == name).tolist()) for name in set(first)}
    assert found == by_definition(request.features, clusters)


def test_labeled_clips_keep_their_own(make_blobs):
    """Only unlabeled clips are clustered, except in fragmented, where attributes conflict and all are."""
    ranked = ward.rank(make_blobs({"a": (5, 5), "b": (5, 5)}, case="partial", k2=2))
    assert set(ranked.names[ranked.labeled, 0]) == {"a", "b"}
    assert set(ranked.names[~ranked.labeled, 0]) == {"ward_00", "ward_01"}
    assert not ward.rank(make_blobs({"a": (5, 5), "b": (5, 5)}, case="fragmented", k2=2)).labeled.any()
    assert ward.rank(make_blobs({"a": (5, 0)}, case="partial", k2=2)).labeled.all()


def test_merges_are_made_once_for_all_k2(make_blobs):
    """Another K2 cuts the same tree; the seed plays no part, nor does the order of the clips."""
    made: dict[str, object] = {}

    def memo(name, make):
        return made[name] if name in made else made.setdefault(name, make())

    request = replace(make_blobs({"a": (0, 12), "b": (0, 12)}, case="unlabeled", k2=2), memo=memo)
    two = ward.rank(request)
    ward.rank(replace(request, k2=5))
    assert len(made) == 1
    assert np.array_equal(ward.rank(replace(request, seed=7)).names, two.names)
    turned = np.arange(24)[::-1]
    backwards = replace(request, ids=request.ids[turned], features=request.features[turned],
                        attributes=request.attributes[turned])  # fmt: skip
    assert np.array_equal(ward.rank(backwards).names[turned], two.names)


def test_odd_clips(make_blobs):
    """One clip is one cluster, equal clips are as many as K2 at most; K2 beyond the clips is refused."""
    alone = ward.rank(make_blobs({"a": (0, 1)}, case="unlabeled", k2=1))
    assert alone.names.tolist() == [["ward_00"]]
    request = make_blobs({"a": (0, 6)}, case="unlabeled", k2=3)
    equal = ward.rank(replace(request, features=np.ones((6, 4))))
    assert set(equal.names[:, 0]) <= {"ward_00", "ward_01", "ward_02"}
    labels = fuse_top_m({"fan": equal}, m=2)
    assert len(labels.ids) == 6
    with pytest.raises(LabelingError, match="k2 must be between 1 and 6"):
        ward.rank(replace(request, k2=7))


def test_candidates_and_confidences_by_hand(make_blobs):
    """Own cluster first, at the distance of the nearest; then by distance to the centroids; shares of d^-2."""
    rng = np.random.default_rng(0)
    request = replace(make_blobs({"a": (0, 120)}, case="unlabeled", k2=6), features=rng.normal(size=(120, 2)))
    ranked = ward.rank(request)
    own = np.array([int(name.removeprefix("ward_")) for name in ranked.names[:, 0]])
    assert list(dict.fromkeys(own.tolist())) == list(range(6))  # numbered by their first clip
    centroids = np.stack([request.features[own == each].mean(axis=0) for each in range(6)])
    away = np.linalg.norm(request.features[:, None] - centroids[None], axis=2)
    strayed = np.flatnonzero(away.argmin(axis=1) != own)
    assert (away.argmin(axis=1) < own)[strayed].any()  # so that a tie with the nearest would be lost by name
    assert away[strayed].min() < 1
    away[np.arange(120), own] = away.min(axis=1)
    for row, clip in enumerate(away):
        order = sorted(range(6), key=lambda each, clip=clip, row=row: (clip[each], each != own[row]))
        assert ranked.names[row].tolist() == [f"ward_{each:02d}" for each in order]
        np.testing.assert_allclose(ranked.confidence[row], clip[order] ** -2 / (clip**-2).sum(), rtol=1e-6)


def test_too_many_clips_are_refused(make_blobs, monkeypatch):
    """As many clips as the distances of all pairs allow are ranked, one more is refused."""
    assert ward.MOST_CLIPS == 20_000
    monkeypatch.setattr(ward, "MOST_CLIPS", 6)
    assert len(ward.rank(make_blobs({"a": (0, 6)}, case="unlabeled", k2=2)).ids) == 6
    with pytest.raises(LabelingError, match=r"at most 6 clips of a machine type.* has 7;"):
        ward.rank(make_blobs({"a": (0, 7)}, case="unlabeled", k2=2))


def test_no_more_clusters_than_clips_that_need_one(make_blobs):
    """K2 above the unlabeled clips gives each a cluster, in rows that stay K2 wide; labeled clips stand beside."""
    ranked = ward.rank(make_blobs({"a": (4, 2)}, case="partial", k2=5))
    assert ranked.names.shape == (6, 5)
    assert (ranked.names[~ranked.labeled] != "").sum(axis=1).tolist() == [2, 2]
    full = ward.rank(make_blobs({"a": (3, 0)}, case="partial", k2=2))
    assert full.names.tolist() == [["a", ""]] * 3 and (full.confidence == [[1.0, 0.0]] * 3).all()


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_merges_are_a_table_for_any_number_of_clips(clips):
    """One merge fewer than clips, four numbers each; of one clip there is none, and one cluster."""
    merges = ward.merge_clips(np.random.default_rng(0).normal(size=(clips, 3)))
    assert merges.shape == (clips - 1, 4)
    assert ward.cut(merges, clusters=1).tolist() == [0] * clips
