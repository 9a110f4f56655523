"""Scorers, written a second time in double precision: each against its definition, defaults and seeds included."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture

from harness.errors import HarnessError
from harness.scorers import (
    ensemble,
    gmm,
    gwrp,
    kmeans,
    knn,
    knn_bands,
    knn_median,
    knn_rescaled,
    level,
    mahalanobis,
    smote_knn,
    zmin,
)
from harness.scoring import folds, thresholds
from harness.scoring.contract import ScoreRequest
from harness.scoring.neighbours import nearest
from harness.scoring.reference_sets import check_embeddings, check_request, of_domain, reference_sets
from tests.harness.scorers.test_contract import request

Floats = NDArray[np.float64]


def mixed(*, source: int = 90, target: int = 21, dims: int = 4, seed: int = 0) -> ScoreRequest:
    """References of both domains in no order, of groups; queries between and beyond them."""
    rng = np.random.default_rng(seed)
    domains = rng.permutation(np.array(["source"] * source + ["target"] * target, dtype=object))
    groups = rng.normal(scale=3, size=(5, dims))
    places = groups[rng.integers(5, size=source + target)] + np.where(domains == "target", 6.0, 0.0)[:, None]
    references = places + rng.normal(size=places.shape) * rng.uniform(0.3, 3, size=dims)
    queries = rng.normal(scale=6, size=(40, dims)) + 2
    return ScoreRequest(references.astype(np.float32), domains, queries.astype(np.float32), seed=seed)


def wide(asked: ScoreRequest, domain: str) -> Floats:
    """The references of a domain in double precision."""
    return asked.references[asked.reference_domains == domain].astype(np.float64)


DEFAULTS = {
    ensemble: {"of": "knn+mahalanobis"},
    gmm: {"components": 4},
    gwrp: {"k": 10, "decay": 0.5, "metric": "cosine", "domains": "apart"},
    kmeans: {"clusters": 16, "metric": "cosine"},
    knn: {"k": 1, "metric": "cosine", "domains": "apart"},
    knn_bands: {"bands": 4, "join": "mean", "metric": "cosine", "domains": "apart"},
    knn_median: {"k": 1, "metric": "cosine"},
    knn_rescaled: {"k": 1, "metric": "cosine"},
    level: {},
    mahalanobis: {"covariance": "shared"},
    smote_knn: {"k": 1, "metric": "cosine", "neighbours": 5},
    zmin: {"of": "knn+mahalanobis"},
}


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_are_those_of_recorded_scores(module) -> None:
    """A scorer without options is recorded by its name alone, so its defaults may not move."""
    arguments = {name: one.default for name, one in inspect.signature(module.score).parameters.items()}
    del arguments["request"]
    assert arguments == dict(module.SCORER.options) == DEFAULTS[module]


@pytest.mark.parametrize(("source", "target", "components"), [(90, 21, 4), (79, 40, 4), (80, 39, 3), (100, 20, 9)])
def test_gmm_is_its_definition(source: int, target: int, components: int) -> None:
    """Scaled within domains; a component for twenty clips, at most so many; variances shrunk by ten clips."""
    asked = mixed(source=source, target=target)
    banks = [wide(asked, domain) for domain in ("source", "target")]
    centre = asked.references.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(sum(len(bank) * bank.var(axis=0) for bank in banks) / (source + target))
    queries, likelihoods = (asked.queries - centre) / scale, []
    for bank in banks:
        count = max(1, min(components, len(bank) // 20))
        added = 10.0 * count / len(bank)
        fitted = GaussianMixture(
            count, covariance_type="diag", reg_covar=added, tol=1e-4 * 4, max_iter=100, random_state=asked.seed
        ).fit((bank - centre) / scale)
        clips = fitted.weights_[:, None] * len(bank)
        variances = (clips * (fitted.covariances_ - added) + 10.0) / (clips + 10.0)
        parts = [
            np.log(weight) + stats.norm.logpdf(queries, mean, np.sqrt(variance)).sum(axis=1)
            for weight, mean, variance in zip(fitted.weights_, fitted.means_, variances, strict=True)
        ]
        likelihoods.append(np.logaddexp.reduce(parts, axis=0))
    wanted = -np.max(likelihoods, axis=0) / 4
    np.testing.assert_allclose(gmm.score(asked, components=components), wanted, rtol=1e-9)


def test_gmm_leaves_a_constant_dimension_centred() -> None:
    """A dimension that never changes among references counts as it is: one away costs half a nat over two."""
    asked = mixed(dims=2, source=30, target=0)
    asked.references[:, 1] = 7.0
    at, off = (replace(asked, queries=np.array([[0.0, value]], dtype=np.float32)) for value in (7.0, 8.0))
    assert gmm.score(at) < gmm.score(off)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4])
def test_knn_rescaled_is_its_definition(metric: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distance over the mean distance of a reference to its k nearest others, over several blocks."""
    monkeypatch.setattr(knn_rescaled, "QUERY_ROWS", 7)
    monkeypatch.setattr(knn_rescaled, "REFERENCE_ROWS", 13)
    asked = mixed()
    bank, queries = asked.references.astype(np.float64), asked.queries.astype(np.float64)
    among = cdist(bank, bank, metric)
    np.fill_diagonal(among, np.inf)
    spacing = np.sort(among, axis=1)[:, :k].mean(axis=1)
    wanted = (cdist(queries, bank, metric) / spacing).min(axis=1)
    np.testing.assert_allclose(knn_rescaled.score(asked, k=k, metric=metric), wanted, rtol=1e-5)


def test_the_floor_of_the_local_density() -> None:
    """Two copies lie 0 apart; they count as a thousandth of the mean spacing apart."""
    references = np.array([[0.0, 0], [0, 0], [4, 0], [9, 0]], dtype=np.float32)
    domains = np.array([None] * 4, dtype=object)
    asked = ScoreRequest(references, domains, np.array([[0.5, 0], [4.5, 0]], dtype=np.float32))
    mean = (0 + 0 + 4 + 5) / 4
    scores = knn_rescaled.score(asked, metric="euclidean")
    np.testing.assert_allclose(scores, [min(0.5 / (1e-3 * mean), 3.5 / 4, 8.5 / 5), 0.5 / 4], rtol=1e-6)
    near = replace(asked, queries=np.array([[1e-4, 0]], dtype=np.float32))
    np.testing.assert_allclose(knn_rescaled.score(near, metric="euclidean"), [1e-4 / (1e-3 * mean)], rtol=1e-4)


@pytest.mark.parametrize(("neighbours", "count"), [(1, 9), (3, 9), (50, 9), (5, 2)])
def test_smote_is_its_definition(neighbours: int, count: int) -> None:
    """Every target clip in turn, mixed with one of its nearest by the seed's draws, up to the source's number."""
    asked = mixed(source=40, target=count, seed=3)
    source, target = (asked.references[asked.reference_domains == domain] for domain in ("source", "target"))
    among = cdist(target.astype(np.float64), target.astype(np.float64), "euclidean")
    np.fill_diagonal(among, np.inf)
    beside = np.argsort(among, axis=1, kind="stable")[:, : min(neighbours, count - 1)]
    random = np.random.default_rng(3)
    one = np.arange(40 - count) % count
    other = beside[one, random.integers(beside.shape[1], size=40 - count)]
    share = random.random((40 - count, 1), dtype=np.float32)
    filled = np.concatenate([source, target, target[one] + share * (target[other] - target[one])])
    away = np.sort(cdist(asked.queries.astype(np.float64), filled.astype(np.float64)), axis=1)
    for k in (1, 2):
        scores = smote_knn.score(asked, k=k, metric="euclidean", neighbours=neighbours)
        np.testing.assert_allclose(scores, away[:, :k].mean(axis=1), rtol=1e-5)
    other_seed = smote_knn.score(replace(asked, seed=4), metric="euclidean", neighbours=neighbours)
    assert not np.array_equal(other_seed, smote_knn.score(asked, metric="euclidean", neighbours=neighbours))


@pytest.mark.parametrize("covariance", ["shared", "domain"])
def test_mahalanobis_is_its_definition(covariance: str) -> None:
    """Rooted, about the nearer domain's mean, with Ledoit and Wolf's covariance around the domains' means."""
    asked = mixed()
    banks = [wide(asked, domain) for domain in ("source", "target")]
    both = np.concatenate([bank - bank.mean(axis=0) for bank in banks])
    scores = []
    for bank in banks:
        around = both if covariance == "shared" else bank - bank.mean(axis=0)
        precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(around).covariance_)
        away = asked.queries - bank.mean(axis=0)
        scores.append(np.sqrt((away @ precision * away).sum(axis=1)))
    np.testing.assert_allclose(mahalanobis.score(asked, covariance=covariance), np.min(scores, axis=0), rtol=1e-4)


def test_mahalanobis_of_one_clip_or_copies() -> None:
    """A domain of one clip has no covariance of its own and takes the shared one; no spread at all leaves distances."""
    asked = mixed(source=40, target=1)
    shared, own = (mahalanobis.score(asked, covariance=each) for each in ("shared", "domain"))
    np.testing.assert_allclose(shared, own, rtol=0.2)
    copies = ScoreRequest(
        np.array([[0.0, 0]] * 3 + [[9, 9]] * 2, dtype=np.float32),
        np.array(["source"] * 3 + ["target"] * 2, dtype=object),
        np.array([[3.0, 4], [9, 8]], dtype=np.float32),
    )
    np.testing.assert_allclose(mahalanobis.score(copies), [5.0, 1.0], rtol=1e-6)


def test_level_is_the_nearest_level() -> None:
    """The smaller of the distances to the levels above and below, beyond both ends too, domains together."""
    references = np.array([[-30.0], [-10], [-20]], dtype=np.float32)
    asked = ScoreRequest(
        references, np.array(["target", "source", "source"], dtype=object),
        np.array([[-50.0], [-30], [-26], [-24], [-15], [-10], [3]], dtype=np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(level.score(asked), [20, 0, 4, 4, 5, 0, 13])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_kmeans_is_its_definition(metric: str) -> None:
    """Ten starts over the source clips, normalised first for the cosine; every target clip is a centre of its own."""
    asked = mixed(seed=2)
    source, target = wide(asked, "source"), wide(asked, "target")
    if metric == "cosine":
        source = source / np.linalg.norm(source, axis=1, keepdims=True)
    centred = (source - source.mean(axis=0)).astype(np.float32)
    found = KMeans(7, n_init=10, max_iter=300, random_state=2).fit(centred).labels_
    centres = np.stack([source[found == number].mean(axis=0) for number in range(7)])
    wanted = cdist(asked.queries.astype(np.float64), np.concatenate([target, centres]), metric).min(axis=1)
    np.testing.assert_allclose(kmeans.score(asked, clusters=7, metric=metric), wanted, rtol=1e-4, atol=1e-7)


def test_kmeans_may_have_a_cluster_a_clip() -> None:
    """As many clusters as source clips are the source clips themselves."""
    asked = mixed(source=12, target=3)
    np.testing.assert_allclose(
        kmeans.score(asked, clusters=12, metric="euclidean"), knn.score(asked, metric="euclidean"), rtol=1e-4
    )
    with pytest.raises(HarnessError, match="at most the 12 source"):
        kmeans.score(asked, clusters=13)


def test_neighbours_stand_in_order() -> None:
    """Nearest first, itself left out where it is asked for, as many as there are."""
    bank = np.array([[0.0], [1], [3], [7]], dtype=np.float32)
    distances, places = nearest(bank, bank, k=3, metric="euclidean", exclude=np.arange(4))
    assert places.tolist() == [[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]]
    np.testing.assert_allclose(distances, [[1, 3, 7], [1, 2, 6], [2, 3, 4], [4, 6, 7]])
    with pytest.raises(HarnessError, match="at least k = 4"):
        nearest(bank, bank, k=4, exclude=np.arange(4))
    assert nearest(bank, bank, k=4)[0].shape == (4, 4)


def test_reference_sets() -> None:
    """Source, then target, then those without a domain, each whole and once; one set where there is one domain."""
    asked = request(source=3, target=2)
    domains = np.array(["target", None, "source", "source", "target"], dtype=object)
    asked = replace(asked, reference_domains=domains)
    sets = list(reference_sets(asked))
    wanted = [asked.references[places] for places in ([2, 3], [0, 4], [1])]
    assert len(sets) == 3 and all(np.array_equal(one, two) for one, two in zip(sets, wanted, strict=True))
    assert np.array_equal(next(iter(reference_sets(asked, domains="together"))), asked.references)
    for domain in ("source", "target", None):
        alone = replace(asked, reference_domains=np.array([domain] * 5, dtype=object))
        assert [len(one) for one in reference_sets(alone)] == [5]
        assert of_domain(alone, domain).all()


def test_borders_of_what_can_be_scored() -> None:
    """Numbers up to 1e15 and down to 1e-15 are scored, beyond they are refused; seeds lie in 0 to 2^32 - 1."""
    asked = request()
    for largest, fine in ((0.99e15, True), (1.1e15, False), (1.1e-15, True), (0.9e-15, False)):
        scaled = (asked.references / np.abs(asked.references).max() * largest).astype(np.float32)
        scaled_request = replace(asked, references=scaled, queries=np.zeros_like(asked.queries))
        if fine:
            check_embeddings(scaled_request)
        else:
            with pytest.raises(HarnessError, match="float32 can hold"):
                check_embeddings(scaled_request)
    check_request(replace(asked, seed=0))
    check_request(replace(asked, seed=2**32 - 1))
    with pytest.raises(HarnessError, match="seed must be between 0 and 4294967295"):
        check_request(replace(asked, seed=2**32))
    one = replace(asked, references=asked.references[:1], reference_domains=asked.reference_domains[:1])
    check_embeddings(one)
    sums = check_request(asked)
    np.testing.assert_allclose(sums, [(asked.references**2).sum(), (asked.queries**2).sum()], rtol=1e-5)


def test_cards_are_dealt_domain_by_domain() -> None:
    """Folds take source clips in the seed's order, then target clips; five folds, sizes equal to one."""
    asked = mixed(source=7, target=3, seed=5)
    random = np.random.default_rng(5)
    source, target = (np.flatnonzero(asked.reference_domains == domain) for domain in ("source", "target"))
    order = np.concatenate([random.permutation(source), random.permutation(target), random.permutation(target[:0])])
    assert folds.in_any_order(asked).tolist() == order.tolist()
    parts = folds.deal(order.astype(np.intp))
    assert [parts[place] for place in order] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


class Spy:
    """Scores a query by its first number; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ScoreRequest] = []

    def score(self, request: ScoreRequest) -> Floats:
        self.asked.append(request)
        return request.queries[:, 0].astype(np.float64) ** 3


def test_standardised_scores_are_z_scores() -> None:
    """(score - mean) / population deviation of the references' scores, each scored against the other folds."""
    asked, spy = mixed(source=11, target=4), Spy()
    found = folds.standardised(spy, asked)
    unseen = asked.references[:, 0].astype(np.float64) ** 3
    np.testing.assert_allclose(found, (asked.queries[:, 0].astype(np.float64) ** 3 - unseen.mean()) / unseen.std())
    assert sorted(len(one.references) for one in spy.asked) == [12, 12, 12, 12, 12, 15]
    for one in spy.asked[:5]:
        assert not {tuple(row) for row in one.references.tolist()} & {tuple(row) for row in one.queries.tolist()}
    same = replace(asked, references=np.ones_like(asked.references))
    np.testing.assert_allclose(folds.standardised(spy, same), asked.queries[:, 0].astype(np.float64) ** 3 - 1.0)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    """z-scores by the references that each fold's others score, added up and divided by how many members there are."""
    asked = mixed(source=23, target=8)
    order = folds.in_any_order(asked)
    parts = np.empty(31, dtype=int)
    parts[order] = np.arange(31) % 5
    standard = []
    for member in (knn, gwrp, mahalanobis):
        unseen = np.empty(31)
        for part in range(5):
            held = parts == part
            rest = replace(asked, references=asked.references[~held], reference_domains=asked.reference_domains[~held])
            unseen[held] = member.score(replace(rest, queries=asked.references[held]))
        standard.append((member.score(asked) - unseen.mean()) / unseen.std())
    for of, wanted in (("knn+gwrp+mahalanobis", np.mean(standard, axis=0)), ("knn", standard[0])):
        np.testing.assert_allclose(ensemble.score(asked, of=of), wanted, rtol=1e-9)
    np.testing.assert_allclose(zmin.score(asked, of="knn+gwrp+mahalanobis"), np.min(standard, axis=0), rtol=1e-9)
    alike = replace(asked, references=np.ones_like(asked.references))
    for module in (ensemble, zmin):
        with pytest.raises(HarnessError, match="all 31 reference vectors are equal"):
            module.score(alike)


def test_thresholds_are_the_ninth_tenth_of_a_gamma_distribution() -> None:
    """0.9 of the fitted distribution unless another quantile is asked for; a score at it is normal."""
    scores = stats.gamma.rvs(3.0, loc=1.0, scale=2.0, size=300, random_state=0)
    fitted = stats.gamma.fit(np.sort(scores))
    assert thresholds.decision_threshold(scores) == pytest.approx(stats.gamma.ppf(0.9, *fitted), rel=1e-6)
    assert thresholds.decision_threshold(scores, quantile=0.5) == pytest.approx(stats.gamma.ppf(0.5, *fitted), rel=1e-6)
    assert thresholds.decisions([1.0, 2.0, 2.0 + 1e-12], 2.0).tolist() == [0, 0, 1]
    for quantile in (0.0, 1.0):
        with pytest.raises(HarnessError, match="between 0 and 1"):
            thresholds.decision_threshold(scores, quantile=quantile)


def test_training_scores_deal_domain_by_domain() -> None:
    """Thresholds deal the references as they stand, one domain after the other, into five folds."""
    asked, spy = mixed(source=7, target=3), Spy()
    found = thresholds.training_scores(spy, asked)
    np.testing.assert_allclose(found, asked.references[:, 0].astype(np.float64) ** 3)
    domains = asked.reference_domains.tolist()
    order = [place for domain in dict.fromkeys(domains) for place, one in enumerate(domains) if one == domain]
    held = [sorted(order[part::5]) for part in range(5)]
    assert [sorted(np.flatnonzero((asked.references[:, None] == one.queries).all(-1).any(1)).tolist())
            for one in spy.asked] == held  # fmt: skip
