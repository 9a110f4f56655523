"""Where a scorer stops dividing, shrinking or searching: each border from either side, each constant at its value."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.mixture import GaussianMixture

from harness.errors import HarnessError
from harness.scorers import gmm, gwrp, kmeans, knn, knn_median, knn_rescaled, level, mahalanobis
from harness.scoring import folds, neighbours, reference_sets
from harness.scoring.choice import parse_scorer
from harness.scoring.contract import Part, ScoreRequest
from harness.scoring.reference_sets import check_embeddings
from tests.harness.scorers.test_by_hand import mixed, wide
from tests.harness.scorers.test_contract import request


def asked_of(references: object, queries: object, domains: object = None) -> ScoreRequest:
    """Ask for scores of some vectors by others, of one domain unless others are said."""
    vectors = np.array(references, dtype=np.float32)
    named = np.array([None] * len(vectors) if domains is None else domains, dtype=object)
    return ScoreRequest(vectors, named, np.array(queries, dtype=np.float32))


def test_numbers_stay() -> None:
    """Constants are those with which scores were recorded."""
    assert (gmm.COMPONENTS, gmm.CLIPS_A_COMPONENT, gmm.PRIOR_CLIPS, gmm.STEPS, gmm.ENOUGH) == (4, 20, 10.0, 100, 1e-4)
    assert (gmm.EPSILON, mahalanobis.LEAST_SHARE, knn_median.LEAST, knn_rescaled.LEAST) == (1e-12, 1e-6, 1e-12, 1e-3)
    assert (folds.FOLDS, folds.ROUNDING, reference_sets.SMALLEST, reference_sets.LARGEST) == (5, 1e-12, 1e-15, 1e15)


@pytest.mark.parametrize(("steps", "enough"), [(1, 1e-4), (3, 1e-4), (100, 0.02)])
def test_steps_of_the_mixture(steps: int, enough: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """EM stops after so many steps, or where one gains less than so much a dimension; in blocks of any size."""
    asked = mixed(source=90, target=0)
    plain = gmm.score(asked)
    for name, value in (("STEPS", steps), ("ENOUGH", enough), ("ROWS", 7)):
        monkeypatch.setattr(gmm, name, value)
    bank = wide(asked, "source")
    centre, scale = bank.mean(axis=0), bank.std(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = GaussianMixture(
            4, covariance_type="diag", reg_covar=40 / 90, tol=enough * 4, max_iter=steps, random_state=0
        ).fit((bank - centre) / scale)
    clips = fitted.weights_[:, None] * 90
    variances = (clips * (fitted.covariances_ - 40 / 90) + 10.0) / (clips + 10.0)
    parts = [
        np.log(weight) + stats.norm.logpdf((asked.queries - centre) / scale, mean, np.sqrt(variance)).sum(axis=1)
        for weight, mean, variance in zip(fitted.weights_, fitted.means_, variances, strict=True)
    ]
    found = gmm.score(asked)
    np.testing.assert_allclose(found, -np.logaddexp.reduce(parts, axis=0) / 4, rtol=1e-9)
    assert np.abs(found / plain - 1).max() > 1e-3  # so that other steps would be seen


def test_a_clip_alone_is_fitted_twice_and_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn fits no single vector, and a clip twice has its mean; more clips are fitted as they are."""
    seen: list[int] = []
    fit = GaussianMixture.fit
    monkeypatch.setattr(GaussianMixture, "fit", lambda self, vectors: seen.append(len(vectors)) or fit(self, vectors))
    for source, target in ((30, 1), (25, 2)):
        gmm.score(mixed(source=source, target=target))
    assert seen == [30, 2, 25, 2]


def test_one_target_clip_is_a_component() -> None:
    """Its mean is the clip, its variance (1 * 0 + 10 * 1) / 11; the source's component is farther away here."""
    asked = mixed(source=30, target=1)
    source, target = wide(asked, "source"), wide(asked, "target")
    scale = np.sqrt(30 * source.var(axis=0) / 31)
    query = (target + 0.7 * scale).astype(np.float32)
    wanted = -stats.norm.logpdf(0.7, 0, np.sqrt(10 / 11))
    np.testing.assert_allclose(gmm.score(replace(asked, queries=query)), [wanted], rtol=1e-5)


def test_deviations_that_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 1e-12 of the largest a dimension is constant and stays in its unit, in whatever unit all of them are."""
    signs = np.array([[1.0], [-1.0]])
    spread = gmm._spread_within([(signs * [1.0, 1.05e-12, 0.95e-12, 0.0]).astype(np.float32)])
    np.testing.assert_allclose(spread, [1.0, 1.05e-12, 1.0, 1.0], rtol=1e-6)
    small = gmm._spread_within([(signs * [1e-14, 3e-14]).astype(np.float32)])
    np.testing.assert_allclose(small, [1e-14, 3e-14], rtol=1e-6)
    assert gmm._spread_within([np.ones((3, 2), np.float32), np.zeros((2, 2), np.float32)]).tolist() == [1.0, 1.0]
    monkeypatch.setattr(gmm, "EPSILON", 0.25)
    assert gmm._spread_within([(signs * [1.0, 0.25, 0.5]).astype(np.float32)]).tolist() == [1.0, 1.0, 0.5]


def test_the_least_shrinkage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two references have spread along one axis: across it there is a millionth of the mean variance, in any blocks."""
    monkeypatch.setattr(mahalanobis, "ROWS", 2)
    asked = asked_of([[1, 0], [-1, 0]], [[2, 0], [0, 2], [0, -1], [0, 0], [3, 0]])
    across = 1e-6 * 0.5
    wanted = [2 / np.sqrt(1 - across), 2 / np.sqrt(across), 1 / np.sqrt(across), 0.0, 3 / np.sqrt(1 - across)]
    np.testing.assert_allclose(mahalanobis.score(asked), wanted, rtol=1e-9)


def test_a_usual_distance_of_nearly_nothing() -> None:
    """Down to 1e-12 distances are divided by the usual one; from there on they stay as they are."""
    for step, scaled in ((1.05e-12, True), (0.95e-12, False)):
        asked = asked_of([[0.0], [step], [2 * step], [3 * step]], [[5 * step]])
        wanted = 2 * step / (step if scaled else 1.0)
        np.testing.assert_allclose(knn_median.score(asked, metric="euclidean"), [wanted], rtol=1e-5)


def test_a_domain_too_small_for_a_usual_distance_takes_that_of_all() -> None:
    """Two target clips have no two neighbours each among themselves: the median is that over all references."""
    asked = asked_of([[0.0], [1], [3], [6], [20], [24]], [[21.0]], ["source"] * 4 + ["target"] * 2)
    usual = np.median([(1 + 3) / 2, (1 + 2) / 2, (2 + 3) / 2, (3 + 5) / 2, (4 + 14) / 2, (4 + 18) / 2])
    np.testing.assert_allclose(knn_median.score(asked, k=2, metric="euclidean"), [(1 + 3) / 2 / usual], rtol=1e-6)
    three = asked_of([[0.0], [1], [3]], [[5.0]])
    np.testing.assert_allclose(knn_median.score(three, k=2, metric="euclidean"), [(2 + 4) / 2 / 2], rtol=1e-6)


def test_spacings_that_are_all_0() -> None:
    """Of pairs of copies nothing is known of how densely they lie: distances stay as they are."""
    asked = asked_of([[0.0, 1], [0, 1], [4, 1], [4, 1]], [[1, 1], [6, 1]])
    np.testing.assert_allclose(knn_rescaled.score(asked, metric="euclidean"), [1.0, 2.0], rtol=1e-6)


def test_a_decay_is_above_0_and_at_most_1() -> None:
    """Both borders, asked for in Python, where no text is read."""
    assert np.isfinite(gwrp.score(request(), decay=1.0)).all()
    for decay in (0.0, 1.0 + 1e-9):
        with pytest.raises(HarnessError, match="above 0 and at most 1"):
            gwrp.score(request(), decay=decay)


class Scaled:
    """Scores a query by its first number, in some unit."""

    def __init__(self, unit: float) -> None:
        self.unit = unit

    def score(self, request: ScoreRequest) -> NDArray[np.float64]:
        return self.unit * request.queries[:, 0].astype(np.float64)


def test_a_deviation_of_nearly_nothing_is_no_unit() -> None:
    """Standardised scores are divided by a deviation above 1e-12, and by 1 from there down; two references do."""
    asked = asked_of([[1.0], [-1.0]], [[3.0], [-2.0]])
    np.testing.assert_allclose(folds.standardised(Scaled(1.05e-12), asked), [3.0, -2.0], rtol=1e-9)
    np.testing.assert_allclose(folds.standardised(Scaled(0.95e-12), asked), [2.85e-12, -1.9e-12], rtol=1e-9)
    with pytest.raises(HarnessError, match="at least 2 references"):
        folds.standardised(Scaled(1.0), asked_of([[1.0]], [[3.0]]))


def test_vectors_that_can_be_squared() -> None:
    """References from 1e-15 to 1e15, queries from nothing to 1e15; a single number out of range is found."""
    for largest, fine in ((0.95e15, True), (1.05e15, False), (1.05e-15, True), (0.95e-15, False)):
        asked = asked_of([[largest, 0], [0, -largest / 2]], [[0, 0]])
        flipped = replace(asked, references=-asked.references)
        for one in (asked, flipped):
            if fine:
                check_embeddings(one)
            else:
                with pytest.raises(HarnessError, match="largest of the reference vectors"):
                    check_embeddings(one)
    for query, fine in ((0.0, True), (1e-30, True), (-0.95e15, True), (1.05e15, False), (-1.05e15, False)):
        asked = asked_of([[1, 0], [0, 1]], [[0, 0], [query, 0]])
        if fine:
            check_embeddings(asked)
        else:
            with pytest.raises(HarnessError, match="largest of the query vectors"):
                check_embeddings(asked)
    for largest in (1e15, 1e-15):  # exactly, which 32 bits do not hold
        check_embeddings(ScoreRequest(largest * np.eye(2), np.array([None] * 2, dtype=object), np.zeros((1, 2))))  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match="all 2 reference vectors are equal"):
        check_embeddings(asked_of([[1, 2], [1, 2]], [[0, 0]]))
    check_embeddings(asked_of([[1, 2], [1, 2], [1, 3]], [[0, 0]]))
    for value, said in ((1e25, "float32 can hold"), (np.inf, "must be finite"), (np.nan, "must be finite")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one sentence and no warning beside it
            with pytest.raises(HarnessError, match=said):
                check_embeddings(asked_of([[value, 0], [-value, 1]], [[0, 0]]))


def test_silent_clips_divide_nothing_by_0() -> None:
    """A zero vector has no direction: inverse norm 0, distance 1 to all and from all, and no warning on the way."""
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert neighbours.inverse_norms(vectors).tolist() == pytest.approx([0.2, 0.0])
        distances, places = neighbours.nearest(vectors, vectors, k=2)
        assert distances.tolist() == [[0.0, 1.0], [1.0, 1.0]] and places[0].tolist() == [0, 1]
        asked = asked_of([[1, 0], [0, 0], [0, 1]], [[0, 0], [2, 0], [-1, -1]])
        np.testing.assert_allclose(knn_rescaled.score(asked)[:2], [1.0, 0.0])
        np.testing.assert_allclose(knn.score(asked), [1.0, 0.0, 1.0])
    beside = asked_of([[0, 0], [0.3, 0.91**0.5], [-1, 0]], [[2, 0]])  # at cosines of 0, 0.3 and -1
    np.testing.assert_allclose(knn.score(beside), [0.7], rtol=1e-6)
    assert neighbours.inverse_norms(np.array([[0.3, 0.4]], dtype=np.float32)).tolist() == pytest.approx([2.0])
    short = asked_of([[0.1, 0], [0, 0.2]], [[0.05, 0], [0.1, 0.1], [-0.3, 0]])  # shorter than 1, some numbers 0
    np.testing.assert_allclose(knn.score(short), [0.0, 1 - 0.5**0.5, 1.0], atol=1e-9)


@pytest.mark.parametrize("scorer", [knn, knn_rescaled, knn_median])
def test_digits_far_from_the_origin(scorer) -> None:  # type: ignore[no-untyped-def]
    """Vectors that differ by about 1 at places of thousands have the neighbours that double precision finds."""
    rng = np.random.default_rng(0)
    places = np.array([4e3, -4e3, 1e3, 0.0])
    asked = asked_of(places + rng.normal(size=(60, 4)), places + 2 * rng.normal(size=(30, 4)))
    near = replace(
        asked,
        references=(asked.references.astype(np.float64) - places).astype(np.float32),
        queries=(asked.queries.astype(np.float64) - places).astype(np.float32),
    )
    np.testing.assert_allclose(
        scorer.score(asked, metric="euclidean"), scorer.score(near, metric="euclidean"), rtol=1e-6
    )


@pytest.mark.parametrize(
    "text", ["gmm", "mahalanobis", "mahalanobis:covariance=domain", "kmeans:clusters=5,metric=euclidean"]
)
def test_moments_far_from_the_origin(text: str) -> None:
    """Means and variances are of 64 bits: whatever place the vectors lie at, their scores are those near 0."""
    rng = np.random.default_rng(1)
    places = np.array([4e3, -4e3, 1e3, 0.0])
    domains = ["source"] * 60 + ["target"] * 9
    asked = asked_of(places + rng.normal(size=(69, 4)), places + 2 * rng.normal(size=(30, 4)), domains)
    near = replace(
        asked,
        references=(asked.references.astype(np.float64) - places).astype(np.float32),
        queries=(asked.queries.astype(np.float64) - places).astype(np.float32),
    )
    scorer = parse_scorer(text)
    np.testing.assert_allclose(scorer.score(asked), scorer.score(near), rtol=1e-3 if "kmeans" in text else 1e-6)


def test_of_equal_neighbours_the_first_is_the_nearest() -> None:
    """Copies among the references: the one that stands first."""
    vectors = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 1], [1, 0]], dtype=np.float32)
    for metric in ("cosine", "euclidean"):
        _, places = neighbours.nearest(vectors[[1, 5]], vectors, k=1, metric=metric)
        assert places[:, 0].tolist() == [1, 0]
        many = np.tile(vectors[:2], (30, 1))  # and of all neighbours each kind in the order in which its copies stand
        _, places = neighbours.nearest(vectors[:1], many, k=60, metric=metric)
        assert places[0].tolist() == [*range(0, 60, 2), *range(1, 60, 2)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [2, 7, 300])
def test_neighbours_among_many(metric: str, k: int) -> None:
    """The k nearest of hundreds in one block are those of a full search, in its order."""
    rng = np.random.default_rng(0)
    queries, references = (rng.normal(size=(rows, 5)).astype(np.float32) for rows in (12, 700))
    distances, places = neighbours.nearest(queries, references, k=k, metric=metric)
    away = cdist(queries.astype(np.float64), references.astype(np.float64), metric)
    assert np.array_equal(places, away.argsort(axis=1)[:, :k])
    np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :k], rtol=1e-9)


def test_whole_numbers_on_either_side_are_refused() -> None:
    """References and queries must both be floating-point numbers."""
    asked = request()
    for side in ("references", "queries"):
        with pytest.raises(HarnessError, match="must be floating-point numbers"):
            check_embeddings(replace(asked, **{side: getattr(asked, side).astype(int)}))


def test_a_silent_layer_joins_as_it_is() -> None:
    """A layer that gives 0 for every clip has no norm to be divided by; the others alone decide."""
    asked = request()
    parts = (Part(1, 8), Part(1, 3))
    silent = replace(
        asked, parts=parts, references=np.pad(asked.references, ((0, 0), (0, 3))),
        queries=np.pad(asked.queries, ((0, 0), (0, 3))),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = parse_scorer("knn:layer=1+2").score(silent)
    np.testing.assert_allclose(found, knn.score(asked), rtol=1e-4)
    heard = replace(silent, queries=np.pad(asked.queries, ((0, 0), (0, 3)), constant_values=0.5))
    norm = np.sqrt((asked.references.astype(np.float64) ** 2).sum(axis=1).mean())
    away = cdist(asked.queries / norm, asked.references / norm).min(axis=1)  # and what a query has there stays too
    found = parse_scorer("knn:layer=1+2,metric=euclidean").score(heard)
    np.testing.assert_allclose(found, np.sqrt(away**2 + 3 * 0.25), rtol=1e-5)


@pytest.mark.parametrize("merge", ["join", "mean", "zmin"])
def test_layers_of_no_clip(merge: str) -> None:
    """Without queries several layers have no score, and without references they are refused in words, as one is."""
    asked, merged = replace(request(), parts=(Part(1, 5), Part(1, 3))), parse_scorer(f"knn:layer=1+2,merge={merge}")
    assert merged.score(replace(asked, queries=asked.queries[:0])).shape == (0,)
    none = replace(asked, references=asked.references[:0], reference_domains=asked.reference_domains[:0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HarnessError, match=r"at least (one normal training clip|2 references)"):
            merged.score(none)


def test_units_of_layers_do_not_matter() -> None:
    """Joined layers are brought to one size, so that none counts more for being told in smaller numbers."""
    asked = replace(request(), parts=(Part(1, 5), Part(1, 3)))
    whole = parse_scorer("knn:layer=1+2").score(asked)
    for unit in (1e-4, 1e4):
        units = np.repeat([1.0, unit], [5, 3]).astype(np.float32)
        other = replace(asked, references=asked.references * units, queries=asked.queries * units)
        np.testing.assert_allclose(parse_scorer("knn:layer=1+2").score(other), whole, rtol=1e-4)


def test_references_without_a_domain_count_as_source() -> None:
    """K-means sums up those that are not of the target domain; a section of target clips alone has them as centres."""
    asked = mixed(source=20, target=5)
    nameless = np.where(asked.reference_domains == "source", None, "target").astype(object)
    one = kmeans.score(asked, clusters=4)
    assert np.array_equal(kmeans.score(replace(asked, reference_domains=nameless), clusters=4), one)
    alone = replace(asked, reference_domains=np.full(25, "target", dtype=object))
    np.testing.assert_allclose(kmeans.score(alone, clusters=99), knn.score(alone), rtol=1e-6, atol=1e-9)


def test_levels_of_one_clip() -> None:
    """One level alone is the nearest from either side."""
    assert level.score(asked_of([[-20.0]], [[-25.0], [-20.0], [-12.0]])).tolist() == [5.0, 0.0, 8.0]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_where_one_is_left_out_in_any_block(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that does not count is left out of the block that holds it, the first of a block and the last."""
    monkeypatch.setattr(neighbours, "REFERENCE_ROWS", 4)
    monkeypatch.setattr(neighbours, "QUERY_ROWS", 3)
    vectors = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32) + 1
    exclude = np.array([0, 3, 4, 7, 8, 10, 5])
    distances, places = neighbours.nearest(vectors[:7], vectors, k=2, metric=metric, exclude=exclude)
    away = cdist(vectors[:7].astype(np.float64), vectors.astype(np.float64), metric)
    away[np.arange(7), exclude] = np.inf
    assert np.array_equal(places, away.argsort(axis=1)[:, :2])
    np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :2], rtol=1e-6, atol=1e-7)
