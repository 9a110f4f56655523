"""Every option of every scorer acts, and scores follow the unit of the vectors: what holds for all of a kind."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import cho_factor, cho_solve

from harness.scorers import kmeans, knn_bands, knn_median, mahalanobis
from harness.scoring import folds
from harness.scoring.choice import ScorerChoice, load_scorer, parse_scorer
from harness.scoring.contract import Part, ScoreRequest
from tests.harness.scorers.test_by_hand import mixed, wide
from tests.harness.scorers.test_contract import NAMES, request

OTHER = {
    "bands": "2", "clusters": "5", "components": "1", "covariance": "domain", "decay": "0.9", "domains": "together",
    "join": "max", "k": "3", "metric": "euclidean", "neighbours": "1", "of": "gwrp+knn",
}  # fmt: skip
OPTIONS = [(name, option) for name in NAMES for option in load_scorer(name).options]
WITH_DOMAINS = [name for name in NAMES if "domains" in load_scorer(name).options]
LENGTHS = ["gwrp", "kmeans:clusters=4", "knn:k=2", "knn_bands", "knn_bands:join=max", "smote_knn"]  # scores are lengths
RATIOS = ["knn_median", "knn_rescaled:k=2"]  # scores are lengths over lengths


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_changes_the_scores(name: str, option: str) -> None:
    """Another value of an option gives other scores, on the same request."""
    plain = f"{name}:k=2" if (name, option) == ("knn", "domains") else name  # the nearest of all is that of a domain
    other = f"{plain}{',' if ':' in plain else ':'}{option}={OTHER[option]}"
    assert not np.array_equal(*(parse_scorer(text).score(mixed(dims=8)) for text in (plain, other)))


@pytest.mark.parametrize("name", WITH_DOMAINS)
def test_domains_together_are_one_set(name: str) -> None:
    """Asked for together, references of both domains are scored as those of a year without domains are."""
    asked = mixed(source=40, target=12)
    nameless = replace(asked, reference_domains=np.full(52, None, dtype=object))
    k = "k=4," if "k" in load_scorer(name).options else "bands=1,"
    together = parse_scorer(f"{name}:{k}domains=together").score(asked)
    np.testing.assert_array_equal(together, parse_scorer(f"{name}:{k[:-1]}").score(nameless))


def scaled(asked: ScoreRequest, factor: float) -> ScoreRequest:
    """Tell all vectors in another unit, and ask about the first query alone."""
    return replace(
        asked,
        references=asked.references * np.float32(factor),
        queries=asked.queries[:1] * np.float32(factor),
    )


@pytest.mark.parametrize("text", [*LENGTHS, *RATIOS])
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_scores_are_lengths_in_the_unit_of_the_vectors(text: str, factor: float) -> None:
    """However large or small the numbers are, a distance is told in their unit, and a share has none."""
    asked, scorer = mixed(source=40, target=12), parse_scorer(text)
    euclidean = ScorerChoice(scorer.name, (*scorer.options, ("metric", "euclidean")))
    unit = 1.0 if text in RATIOS else factor
    one, other = euclidean.score(scaled(asked, 1.0)), euclidean.score(scaled(asked, factor))
    assert one[0] > 0
    np.testing.assert_allclose(other, one * unit, rtol=1e-6)


def test_one_centre_is_enough() -> None:
    """K-means of one cluster has one centre, the mean."""
    asked = replace(request(target=0), reference_domains=np.full(30, None, dtype=object))
    mean = asked.references.mean(axis=0)
    wanted = np.linalg.norm(asked.queries - mean, axis=1)
    np.testing.assert_allclose(kmeans.score(asked, clusters=1, metric="euclidean"), wanted, rtol=1e-5)


def test_a_usual_distance_at_the_border_scales_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A median that equals the least one counts as none, and distances stay as they are."""
    references = np.array([[0.0], [0.25], [0.5], [0.75]], dtype=np.float32)
    asked = ScoreRequest(references, np.array([None] * 4, dtype=object), np.array([[1.25]], dtype=np.float32))
    for least, wanted in ((0.25, 0.5), (0.2499, 2.0)):
        monkeypatch.setattr(knn_median, "LEAST", least)
        np.testing.assert_allclose(knn_median.score(asked, metric="euclidean"), [wanted], rtol=1e-12)


def test_bands_are_those_of_the_layer_that_is_heard() -> None:
    """Bands may divide those of the layer and the numbers of the vector, however many of each there are."""
    asked = replace(request(), parts=(Part(4, 2),))
    for bands in (1, 2, 4):
        same = knn_bands.score(replace(asked, parts=()), bands=bands)
        np.testing.assert_array_equal(knn_bands.score(asked, bands=bands), same)


@pytest.mark.parametrize("text", ["knn", "knn_rescaled", "knn_median", "knn_bands", "gwrp:k=1", "smote_knn"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_copies_of_references_are_at_no_distance(text: str, metric: str) -> None:
    """A query that is a reference scores 0, wherever it lies, and no rounding below 0 is rooted on the way."""
    asked = mixed(dims=8)
    asked = replace(asked, references=asked.references + 50, queries=asked.references + 50)
    scorer = parse_scorer(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = ScorerChoice(scorer.name, (*scorer.options, ("metric", metric))).score(asked)
    np.testing.assert_allclose(scores, 0, atol=1e-7)


def test_no_digit_of_a_mahalanobis_distance_moves() -> None:
    """Distances are those of a lower Cholesky factor, to the last digit."""
    asked = mixed()
    sets = [asked.references[asked.reference_domains == domain] for domain in ("source", "target")]
    means = [wide(asked, domain).mean(axis=0) for domain in ("source", "target")]
    factor = cho_factor(mahalanobis.covariance_around(sets, means), lower=True)
    away = [asked.queries.astype(np.float64) - mean for mean in means]
    wanted = [np.sqrt(np.einsum("ij,ji->i", one, cho_solve(factor, one.T))) for one in away]
    np.testing.assert_array_equal(mahalanobis.score(asked), np.min(wanted, axis=0))


@pytest.mark.parametrize("covariance", ["shared", "domain"])
def test_domains_without_spread_warn_of_nothing(covariance: str) -> None:
    """One target clip, or copies of one, have no covariance of their own; nobody is told of samples to reshape."""
    asked = mixed(source=40, target=1)
    copies = replace(
        asked,
        references=np.concatenate([asked.references, asked.references[asked.reference_domains == "target"]]),
        reference_domains=np.append(asked.reference_domains, "target"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (asked, copies):
            assert np.isfinite(mahalanobis.score(one, covariance=covariance)).all()
    nothing = mahalanobis.covariance_around([np.ones((3, 5), np.float32)], [np.ones(5)])
    assert nothing.shape == (5, 5) and not nothing.any()


class First:
    """Scores a query by its first number."""

    def score(self, request: ScoreRequest) -> np.ndarray:
        return request.queries[:, 0].astype(np.float64)


class Grown:
    """Scores a query by a power of its first number, of which no sum is exact."""

    def score(self, request: ScoreRequest) -> np.ndarray:
        return np.exp(request.queries[:, 0].astype(np.float64) / 3)


def test_no_digit_of_a_standardised_score_moves() -> None:
    """Mean and deviation are taken over the references fold by fold, each fold's in the order of the references."""
    asked = mixed(source=260, target=43)
    parts = folds.deal(folds.in_any_order(asked))
    grown = [np.exp(vectors[:, 0].astype(np.float64) / 3) for vectors in (asked.references, asked.queries)]
    unseen = np.concatenate([grown[0][parts == part] for part in range(5)])
    np.testing.assert_array_equal(folds.standardised(Grown(), asked), (grown[1] - unseen.mean()) / unseen.std())


def test_a_deviation_at_the_border_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores whose deviation is exactly the least one are told as they are, those of a larger one in units of it."""
    references = np.array([[-2.0], [2.0]] * 5, dtype=np.float32)
    asked = ScoreRequest(references, np.array([None] * 10, dtype=object), np.array([[6.0]], dtype=np.float32))
    for least, wanted in ((2.0, 6.0), (1.999, 3.0)):
        monkeypatch.setattr(folds, "ROUNDING", least)
        assert folds.standardised(First(), asked).tolist() == [wanted]
