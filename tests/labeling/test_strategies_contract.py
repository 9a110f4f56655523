"""What every file in labeling/strategies must keep; a new file is enrolled by being there."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import labeling.strategies
from labeling.contract import CASES, LabelingError, RankRequest, Strategy

FOLDER = Path(labeling.strategies.__file__).parent
FILES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def declared(name: str) -> Strategy:
    """Load what a file declares."""
    return import_module(f"labeling.strategies.{name}").STRATEGY


SERVED = [(name, case) for name in FILES for case in declared(name).cases]


def request_for(case: str, **options: object) -> RankRequest:
    """Make 24 clips of three attributes; in the cases with unlabeled clips a third of them are."""
    rng = np.random.default_rng(0)
    names = np.array(["a_1", "b_1", "c_1"], dtype=object)[np.arange(24) % 3]
    features = 3.0 * (np.arange(24) % 3)[:, None] + rng.normal(size=(24, 5))
    hidden = {"direct": 24, "fragmented": 24, "unlabeled": 0}.get(case, 16)
    names[hidden:] = None
    request = RankRequest(
        ids=np.array([f"clip_{number:02d}" for number in rng.permutation(24)]),
        features=features,
        attributes=names,
        case=case,  # type: ignore[arg-type]
        k1=6,
        k2=4,
    )
    return replace(request, **options)


@pytest.mark.parametrize("name", FILES)
def test_the_file_name_is_the_plugin_name(name):
    """A file declares one Strategy under its own name, with cases of the paper and a summary of one line."""
    strategy = declared(name)
    assert isinstance(strategy, Strategy)
    assert strategy.name == name
    assert strategy.cases and set(strategy.cases) <= set(CASES)
    assert strategy.features in ("mfcc", "latent", "finetuned", "none")
    assert strategy.summary and "\n" not in strategy.summary


@pytest.mark.parametrize("name", [name for name in FILES if declared(name).stands_alone])
def test_what_labels_every_machine_type_serves_every_case(name):
    """A strategy that may be a value of `labels` ranks in all cases, and says which of m, k1 and k2 matter to it."""
    strategy = declared(name)
    assert set(strategy.cases) == set(CASES)
    assert set(strategy.choices) <= {"m", "k1", "k2"}
    for case in CASES:
        request = request_for(case)
        ranked = strategy.rank(request)
        if "m" not in strategy.choices:
            assert ((ranked.names != "").sum(axis=1) <= 1).all()
        for number in {"k1", "k2"} - set(strategy.choices):
            same = strategy.rank(replace(request, **{number: getattr(request, number) - 1}))
            assert (same.names == ranked.names).all() and (same.confidence == ranked.confidence).all()


def test_the_baselines_stand_alone():
    """The machine type alone and the mixtures may label every machine type; the paper's three strategies may not."""
    choices = {name: declared(name).choices for name in FILES if declared(name).stands_alone}
    assert choices.items() >= {"machine": (), "gmm": ("m", "k2")}.items()
    assert not any(declared(name).stands_alone for name in ("sample_wise", "cluster_wise", "direct"))


@pytest.mark.parametrize("value", [1e16, -1e200, 3e38])
@pytest.mark.parametrize(("name", "case"), [(name, case) for name, case in SERVED if declared(name).features != "none"])
def test_features_beyond_float32_s_squares_are_refused(name, case, value):
    """One feature so large that distances overflow is an error that names its clip."""
    request = request_for(case)
    request.features[5, 2] = value
    with pytest.raises(
        LabelingError, match=rf"within 1e\+15 of 0, but 1 of 24 clips hold larger ones: {request.ids[5]};"
    ):
        declared(name).rank(request)


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_the_table_is_well_formed(name, case):
    """Ids as they came; rows best first, padded at the end, without repeats; confidence in 0..1, never rising."""
    request = request_for(case)
    ranked = declared(name).rank(request)
    assert ranked.ids.tolist() == request.ids.tolist()
    assert (ranked.strategy, ranked.case) == (name, case)
    n, k = ranked.names.shape
    assert n == 24 and 1 <= k <= max(request.k1, request.k2)
    assert ranked.confidence.shape == (n, k)
    assert (np.diff(ranked.confidence, axis=1) <= 0).all()
    assert ((ranked.confidence >= 0) & (ranked.confidence <= 1)).all()
    filled = ranked.names != ""
    assert (filled[:, 1:] <= filled[:, :-1]).all()
    assert (ranked.confidence[~filled] == 0).all()
    assert all(len(set(row[row != ""])) == (row != "").sum() for row in ranked.names)
    assert ranked.retained.dtype == ranked.labeled.dtype == np.bool_


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_labeled_rows_hold_the_own_attribute_alone(name, case):
    """Where `labeled` is True the row is the clip's own attribute with confidence 1, and the clip is retained."""
    request = request_for(case)
    ranked = declared(name).rank(request)
    known = ranked.labeled
    assert (ranked.names[known, 0] == request.attributes[known].astype(str)).all()
    assert (ranked.names[known, 1:] == "").all()
    assert (ranked.confidence[known, 0] == 1.0).all()
    assert ranked.retained[known].all()


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_the_seed_settles_the_answer(name, case):
    """The same request twice gives the same table."""
    one, other = (declared(name).rank(request_for(case, seed=5)) for _ in range(2))
    assert (one.names == other.names).all()
    assert (one.confidence == other.confidence).all()


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_the_request_is_left_as_it_was(name, case):
    """Ranking changes nothing in the request's arrays."""
    request, untouched = request_for(case), request_for(case)
    declared(name).rank(request)
    assert (request.features == untouched.features).all()
    assert request.attributes.tolist() == untouched.attributes.tolist()


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_refuses_ids_that_stand_twice(name, case):
    """Clip ids are unique; the message names the first that are not."""
    with pytest.raises(LabelingError, match=r"clip ids must be unique.*same"):
        declared(name).rank(request_for(case, ids=np.array(["same"] * 24)))


@pytest.mark.parametrize(("name", "case"), SERVED)
@pytest.mark.parametrize("column", ["features", "attributes", "domains"])
def test_refuses_columns_of_other_lengths(name, case, column):
    """Every column has one row a clip."""
    short = {"features": np.zeros((5, 2)), "attributes": np.array(["a"] * 5), "domains": np.array(["source"] * 5)}
    with pytest.raises(LabelingError, match=f"{column} must have one row a clip, 24, but got 5"):
        declared(name).rank(request_for(case, **{column: short[column]}))


@pytest.mark.parametrize(("name", "case"), SERVED)
def test_refuses_no_clips(name, case):
    """A request without clips is a mistake upstream."""
    empty = request_for(case, ids=np.array([], dtype=str), features=np.zeros((0, 2)), attributes=np.array([], object))
    with pytest.raises(LabelingError, match="at least one clip"):
        declared(name).rank(empty)


@pytest.mark.parametrize(("name", "case"), SERVED)
@pytest.mark.parametrize("strange", ["", float("nan"), 3])
def test_refuses_attributes_that_are_no_names(name, case, strange):
    """A withheld attribute is None: NaN, a number or the empty text is a mistake at the border."""
    attributes = request_for(case).attributes.copy()
    attributes[0] = strange
    with pytest.raises(LabelingError, match="an attribute must be a name or None"):
        declared(name).rank(request_for(case, attributes=attributes))


@pytest.mark.parametrize("name", [name for name in FILES if set(declared(name).cases) != set(CASES)])
def test_refuses_cases_that_it_does_not_serve(name):
    """A case of another strategy is refused with those that this one serves."""
    other = next(case for case in CASES if case not in declared(name).cases)
    with pytest.raises(LabelingError, match=f"{name} serves the cases .* but got {other}"):
        declared(name).rank(request_for(other))


@pytest.mark.parametrize(("name", "case"), [pair for pair in SERVED if declared(pair[0]).features != "none"])
def test_refuses_features_that_are_not_finite(name, case):
    """NaN features are refused, naming the clips."""
    features = request_for(case).features.copy()
    features[[2, 7], 1] = [np.nan, np.inf]
    request = request_for(case, features=features)
    with pytest.raises(LabelingError, match=f"2 of 24 clips hold NaN or infinity: {request.ids[2]}, {request.ids[7]};"):
        declared(name).rank(request)


@pytest.mark.parametrize(("name", "case"), [pair for pair in SERVED if declared(pair[0]).features != "none"])
@pytest.mark.parametrize("features", [np.zeros((24, 0)), np.zeros(24), np.zeros((24, 2), dtype=int)])
def test_refuses_features_that_are_no_table_of_numbers(name, case, features):
    """Features are a floating-point table (clips, dimensions)."""
    with pytest.raises(LabelingError, match="features must be"):
        declared(name).rank(request_for(case, features=features))


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_negative_seed(name):
    """A seed is what scikit-learn takes: 0 to 2^32 - 1."""
    with pytest.raises(LabelingError, match="seed must be between 0 and 4294967295, but got -1"):
        declared(name).rank(request_for(declared(name).cases[0], seed=-1))


@pytest.mark.parametrize("name", ["ward", "iterated"])
def test_candidates_are_ordered_by_distance(make_blobs, name):
    """Groups that lie apart are found, and a clip's candidates come nearest centroid first, confidence never rising."""
    request = make_blobs({"a": (0, 10), "b": (0, 10), "c": (0, 10)}, case="unlabeled", k2=3)
    ranked = declared(name).rank(request)
    names = sorted(set(ranked.names[:, 0]))
    assert names == [f"{name}_{number:02d}" for number in range(3)]
    centroids = {name: request.features[ranked.names[:, 0] == name].mean(axis=0) for name in names}
    for row, features in zip(ranked.names, request.features, strict=True):
        assert row.tolist() == sorted(names, key=lambda name: float(np.linalg.norm(features - centroids[name])))
    assert (np.diff(ranked.confidence, axis=1) <= 0).all()
    np.testing.assert_allclose(ranked.confidence.sum(axis=1), 1.0)


def rich_request(case: str, **options: object) -> RankRequest:
    """Make 40 overlapping clips of two domains, in single precision, far from the origin."""
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 3, 40)
    names = np.array(["a", "b_2", "c"], dtype=object)[kind]
    names[rng.random(40) < {"direct": 0.0, "unlabeled": 2.0}.get(case, 0.4)] = None
    request = RankRequest(
        ids=np.array([f"clip_{number:02d}" for number in rng.permutation(40)]),
        features=(kind[:, None] + rng.normal(size=(40, 5)) + 30.0).astype(np.float32),
        attributes=names,
        case=case,  # type: ignore[arg-type]
        k1=6,
        k2=5,
        domains=np.array(["source", "target", None], dtype=object)[rng.integers(0, 3, 40)],
    )
    return replace(request, **options)


def same(one, other) -> bool:
    """Tell whether two answers are equal in every number."""
    return all(np.array_equal(getattr(one, each), getattr(other, each)) for each in ("names", "confidence", "retained"))


@pytest.mark.parametrize("name", [name for name in FILES if declared(name).features != "none"])
def test_one_memo_for_all_trials_changes_no_answer(name, memo, monkeypatch):
    """Whatever a memo kept of other cases, seeds, K1, K2, labels or domains, an answer is that without a memo."""
    monkeypatch.setattr("labeling.strategies.sample_wise.TREES", 4)
    monkeypatch.setattr("labeling.clusters.STARTS", 1)
    for case in declared(name).cases:
        plain = rich_request(case)
        fewer = plain.attributes.copy()
        fewer[np.flatnonzero([one is not None for one in fewer])[::3][1:]] = None
        changes = (
            {}, {"seed": 1}, {"k2": 4}, {"k1": 7}, {"attributes": fewer}, {"domains": None},
            {"domains": plain.domains[::-1]},
        )  # fmt: skip
        for change in changes:
            request = replace(plain, **change)
            assert same(declared(name).rank(replace(request, memo=memo)), declared(name).rank(request)), (case, change)


@pytest.mark.parametrize("name", ["ward", "gmm", "sample_wise"])
def test_single_precision_is_read_as_it_is(name):
    """Features of 32 bits give what the same numbers in 64 bits give: no step in between is computed in 32."""
    for case in declared(name).cases:
        single = rich_request(case)
        double = replace(single, features=single.features.astype(np.float64))
        assert same(declared(name).rank(single), declared(name).rank(double)), case


@pytest.mark.parametrize("name", ["ward", "iterated", "cluster_wise"])
def test_where_the_clips_lie_does_not_matter(name):
    """Clips moved together, a million away from the origin, have the same candidates: columns are centred first."""
    for case in declared(name).cases:
        plain = rich_request(case)
        near = replace(plain, features=plain.features.astype(np.float64) - 30)
        one = declared(name).rank(near)
        for away in (1e6, 1e6 * np.array([1.0, -1.0, 3.0, 0.0, -2.0])):
            other = declared(name).rank(replace(near, features=near.features + away))
            assert (one.names == other.names).all(), case
            np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)


def test_kinds_of_features_and_choices():
    """What each strategy reads, whether it stands alone, and which choices change its labels."""
    said = {name: (declared(name).features, declared(name).stands_alone, declared(name).choices) for name in FILES}
    assert (
        said.items()
        >= {
            "sample_wise": ("mfcc", False, ()),
            "cluster_wise": ("latent", False, ()),
            "direct": ("none", False, ()),
            "machine": ("none", True, ()),
            "gmm": ("latent", True, ("m", "k2")),
            "ward": ("latent", True, ("m", "k2")),
            "iterated": ("finetuned", True, ("m", "k2")),
        }.items()
    )
    assert Strategy("a", "none", CASES, len, "b").choices == ()
