"""Facts that hold for any table of clips, over generated ones."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from labeling.contract import CASES, RankedCandidates, RankRequest
from labeling.fusion import fuse_top_m, fused_names
from labeling.routing import CASE_STRATEGY

QUICK = settings(max_examples=60, deadline=None)
STRATEGIES = ("machine", "gmm")


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, RankRequest]:
    """Draw a strategy and a request that it can answer: 4 to 30 clips, features with many ties, a few attributes."""
    case = draw(st.sampled_from(CASES))
    strategy = draw(st.sampled_from((CASE_STRATEGY[case], CASE_STRATEGY[case], *STRATEGIES)))
    n = draw(st.integers(4, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = ["a", "a_b", "b", "b_c", "c"][: draw(st.integers(1, 5))]
    attributes = np.array([names[i] for i in rng.integers(0, len(names), n)], dtype=object)
    if case in ("sample-wise", "partial"):
        attributes[rng.random(n) < 0.5] = None
        attributes[0] = names[0]
    if case == "unlabeled":
        attributes[:] = None
    features = rng.integers(0, draw(st.sampled_from([2, 4, 1000])), size=(n, 3)).astype(np.float64)
    labeled = max(1, sum(a is not None for a in attributes))
    return strategy, RankRequest(
        ids=rng.permutation([f"{i:02d}" for i in range(n)]),
        features=features,
        attributes=attributes,
        case=case,
        k1=draw(st.integers(1, labeled)),
        k2=draw(st.integers(1, n)),
        min_confidence=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        seed=draw(st.integers(0, 100)),
    )


def rank(strategy: str, request: RankRequest) -> RankedCandidates:
    """Rank by a strategy's name."""
    return import_module(f"labeling.strategies.{strategy}").rank(request)


def same(one: RankedCandidates, other: RankedCandidates) -> bool:
    """Tell whether two tables are equal bit for bit."""
    columns = ("ids", "names", "confidence", "retained", "labeled")
    return all((getattr(one, column) == getattr(other, column)).all() for column in columns)


@QUICK
@given(requests())
def test_ids_are_kept_and_ranks_follow_confidence(drawn):
    """Ids come back in their order, and confidence never rises along a row."""
    strategy, request = drawn
    ranked = rank(strategy, request)
    assert ranked.ids.tolist() == request.ids.tolist()
    assert (np.diff(ranked.confidence, axis=1) <= 0).all()


@QUICK
@given(requests())
def test_no_attribute_is_invented(drawn):
    """Candidates are attributes of the request, or numbers of clusters and components."""
    strategy, request = drawn
    known = {"", *(a for a in request.attributes if a is not None)}
    numbered = ("cluster_", "gmm_") if strategy == "gmm" or request.case == "unlabeled" else ()
    names = set(rank(strategy, request).names.ravel())
    assert all(name in known or (numbered and name.startswith(numbered)) for name in names)


@QUICK
@given(requests(), st.randoms(use_true_random=False))
def test_permuting_the_clips_permutes_the_answer(drawn, random):
    """The order in which clips come changes nothing but the order of the rows."""
    strategy, request = drawn
    order = list(range(len(request.ids)))
    random.shuffle(order)
    shuffled = replace(
        request, ids=request.ids[order], features=request.features[order], attributes=request.attributes[order]
    )
    one, other = rank(strategy, request), rank(strategy, shuffled)
    assert (other.names == one.names[order]).all()
    assert (other.confidence == one.confidence[order]).all()
    assert (other.retained == one.retained[order]).all()


@settings(max_examples=15, deadline=None)
@given(requests())
def test_threads_change_nothing(drawn):
    """One thread or four, the same seed gives the same table bit for bit."""
    strategy, request = drawn
    with threadpool_limits(1):
        one = rank(strategy, request)
    with threadpool_limits(4):
        four = rank(strategy, request)
    assert same(one, four)


@QUICK
@given(requests())
def test_m_1_is_the_best_candidate(drawn):
    """With M = 1 a clip's class is its best candidate behind the machine type."""
    ranked = rank(*drawn)
    labels = fuse_top_m({"fan": ranked}, m=1, below="machine")
    best = np.where(ranked.retained, ranked.names[:, 0], "")
    expected = [f"fan|{name}" if name else "fan" for name in best]
    assert labels.classes[labels.targets].tolist() == expected


@QUICK
@given(requests())
def test_labels_of_m_are_prefixes_of_m_plus_1(drawn):
    """One more attribute goes to the end and changes nothing before it."""
    ranked = rank(*drawn)
    for m in range(1, ranked.names.shape[1]):
        shorter, longer = fused_names(ranked, m=m), fused_names(ranked, m=m + 1)
        assert all(more[: len(few)] == few for few, more in zip(shorter, longer, strict=True))
        assert all(len(few) <= m for few in shorter)


@QUICK
@given(requests())
def test_different_tuples_are_different_classes(drawn):
    """Classes and tuples of names correspond one to one, underscores or not."""
    ranked = rank(*drawn)
    m = ranked.names.shape[1]
    labels = fuse_top_m({"fan": ranked}, m=m, below="machine")
    tuples = [names if kept else () for names, kept in zip(fused_names(ranked, m=m), ranked.retained, strict=True)]
    pairs = set(zip(tuples, labels.targets.tolist(), strict=True))
    assert len(pairs) == len(set(tuples)) == len(labels.classes)


@QUICK
@given(requests())
def test_soft_weights_sum_to_1(drawn):
    """Each clip's soft target sums to 1 and weighs no more than M attributes."""
    ranked = rank(*drawn)
    for m in (1, ranked.names.shape[1]):
        labels = fuse_top_m({"fan": ranked}, m=m, fusion="soft", below="machine")
        np.testing.assert_allclose(labels.targets.sum(axis=1), 1.0, rtol=1e-5)
        assert (np.count_nonzero(labels.targets, axis=1) <= m).all()
