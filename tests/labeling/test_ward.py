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
