"""Scorers over banks of references: each against a few lines of its own definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from harness.errors import HarnessError
from harness.scorers import gwrp, knn, knn_bands, knn_median, zmin
from harness.scoring.choice import parse_scorer
from harness.scoring.contract import ScoreRequest
from harness.scoring.folds import standardised
from tests.harness.scorers.test_contract import request

METRICS = ("cosine", "euclidean")


def banks(asked: ScoreRequest) -> list[NDArray[np.float64]]:
    """Return the references of each domain in double precision."""
    wide = asked.references.astype(np.float64)
    return [wide[asked.reference_domains == domain] for domain in ("source", "target")]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3])
def test_knn_median_is_its_definition(metric: str, k: int) -> None:
    """Mean of k distances over the median of what the bank's own clips have, the smaller of both domains."""
    asked = request(target=8)
    scores = []
    for bank in banks(asked):
        among = cdist(bank, bank, metric)
        np.fill_diagonal(among, np.inf)
        usual = np.median(np.sort(among, axis=1)[:, :k].mean(axis=1))
        away = np.sort(cdist(asked.queries.astype(np.float64), bank, metric), axis=1)[:, :k].mean(axis=1)
        scores.append(away / usual)
    np.testing.assert_allclose(knn_median.score(asked, k=k, metric=metric), np.min(scores, axis=0), rtol=1e-9)


def test_knn_median_puts_both_domains_on_one_scale() -> None:
    """A target clip as far from its bank as that bank's clips lie apart scores as a source clip does from its own."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(200, 6)), 50 + 20 * rng.normal(size=(40, 6))
    queries = np.concatenate([rng.normal(size=(60, 6)), 50 + 20 * rng.normal(size=(60, 6))])
    domains = np.array(["source"] * 200 + ["target"] * 40, dtype=object)
    asked = ScoreRequest(np.concatenate([source, target]).astype(np.float32), domains, queries.astype(np.float32))
    ours = knn_median.score(asked, metric="euclidean")
    plain = knn.score(asked, metric="euclidean")
    assert plain[60:].mean() > 10 * plain[:60].mean()
    assert 0.5 < ours[60:].mean() / ours[:60].mean() < 2


def test_knn_median_of_copies() -> None:
    """A bank whose clips are mostly copies has no usual distance: distances stay as they are, and finite."""
    asked = request()
    copied = np.repeat(asked.references[:2], [20, 16], axis=0)
    scores = knn_median.score(replace(asked, references=copied))
    assert np.isfinite(scores).all()
    with pytest.raises(HarnessError, match="at least 4 references, k = 3"):
        knn_median.score(request(source=0, target=3), k=3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_gwrp_is_its_definition(metric: str, decay: float) -> None:
    """Sorted distances, weights decay ** rank that sum to 1, a small bank in full, the smaller of both domains."""
    asked = request()
    scores = []
    for bank in banks(asked):
        away = np.sort(cdist(asked.queries.astype(np.float64), bank, metric), axis=1)[:, :10]
        weights = np.array([decay**rank for rank in range(away.shape[1])])
        scores.append((away * weights / weights.sum()).sum(axis=1))
    np.testing.assert_allclose(gwrp.score(asked, decay=decay, metric=metric), np.min(scores, axis=0), rtol=1e-9)


def test_gwrp_between_the_nearest_and_the_mean() -> None:
    """A decay near 0 is the nearest neighbour; a decay of 1 is the mean of k."""
    asked = request(target=12)
    np.testing.assert_allclose(gwrp.score(asked, decay=1e-12), knn.score(asked), rtol=1e-9)
    np.testing.assert_allclose(gwrp.score(asked, decay=1.0, k=5), knn.score(asked, k=5), rtol=1e-9)
    with pytest.raises(HarnessError, match="above 0 and at most 1"):
        gwrp.score(asked, decay=1.5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("join", ["mean", "max"])
def test_knn_bands_is_its_definition(metric: str, join: str) -> None:
    """Each band has its own nearest neighbour; bands are joined; the smaller of both domains counts."""
    asked = request()
    scores = []
    for bank in banks(asked):
        away = [
            cdist(asked.queries[:, at : at + 2].astype(np.float64), bank[:, at : at + 2], metric).min(axis=1)
            for at in (0, 2, 4, 6)
        ]
        scores.append(getattr(np, join)(away, axis=0))
    ours = knn_bands.score(asked, bands=4, join=join, metric=metric)
    np.testing.assert_allclose(ours, np.min(scores, axis=0), rtol=1e-9, atol=1e-12)


def test_knn_bands_hears_one_band() -> None:
    """A fault in one of many bands moves the maximum more than the plain nearest neighbour's distance."""
    rng = np.random.default_rng(1)
    references = (1 + 0.1 * rng.normal(size=(60, 32))).astype(np.float32)
    queries = (1 + 0.1 * rng.normal(size=(40, 32))).astype(np.float32)
    queries[20:, 4:8] += np.array([0.6, -0.6, 0.6, -0.6], dtype=np.float32)
    asked = ScoreRequest(references, np.array([None] * 60, dtype=object), queries)
    banded, plain = knn_bands.score(asked, bands=8, join="max"), knn.score(asked)

    def apart(scores: NDArray[np.float64]) -> float:
        return float((scores[20:].mean() - scores[:20].mean()) / scores[:20].std())

    assert apart(banded) > apart(plain) > 0
    assert knn_bands.score(asked, bands=1) == pytest.approx(plain)
    with pytest.raises(HarnessError, match="must divide the 32 numbers"):
        knn_bands.score(asked, bands=5)


@pytest.mark.parametrize("text", ["gwrp:decay=0", "gwrp:decay=nan", "gwrp:decay=inf", "gwrp:decay=much"])
def test_a_number_is_above_0(text: str) -> None:
    """A fraction among the options is read as one, and refused where it is none."""
    with pytest.raises(HarnessError, match="must be a number above 0"):
        parse_scorer(text)
    assert str(parse_scorer("gwrp:decay=0.50")) == "gwrp"
    assert str(parse_scorer("gwrp:decay=0.25")) == "gwrp:decay=0.25"


def test_zmin_is_its_definition() -> None:
    """Each member in units of how it scores training clips of held-out fifths, then the smallest.

    Written without the harness's folds: domain by domain in the seed's order, references are dealt out like cards.
    """
    asked, found = request(source=23, target=9, seed=3), []
    random = np.random.default_rng(asked.seed)
    order = np.concatenate(
        [random.permutation(np.flatnonzero(asked.reference_domains == domain)) for domain in ("source", "target")]
    )
    wide = asked.references.astype(np.float64)
    for metric in METRICS:
        unseen = []
        for part in range(5):
            held, rest = order[part::5], np.setdiff1d(order, order[part::5])
            unseen += cdist(wide[held], wide[rest], metric).min(axis=1).tolist()
        away = cdist(asked.queries.astype(np.float64), wide, metric).min(axis=1)
        found.append((away - np.mean(unseen)) / np.std(unseen))
    members = [parse_scorer(f"knn:metric={metric}") for metric in METRICS]
    ours = [standardised(member, asked) for member in members]
    np.testing.assert_allclose(ours, found, rtol=1e-9, atol=1e-9)
    both = zmin.score(asked, of="gwrp+knn")
    alone = [standardised(parse_scorer(name), asked) for name in ("gwrp", "knn")]
    np.testing.assert_array_equal(both, np.minimum(*alone))
    np.testing.assert_allclose(alone[1], found[0], rtol=1e-9, atol=1e-9)


def test_zmin_needs_every_member_to_agree() -> None:
    """What one member alone finds strange scores no higher than the other member says."""
    asked = request(source=40, target=8)
    alone = [standardised(parse_scorer(name), asked) for name in ("knn", "mahalanobis")]
    assert (zmin.score(asked) <= np.minimum(*alone)).all()
    assert str(parse_scorer("zmin:of=mahalanobis+knn")) == "zmin"
    for text, said in (
        ("zmin:of=knn", "zmin:of must name at least two"),
        ("zmin:of=knn+ensemble", "but ensemble is none"),
        ("ensemble:of=knn+zmin", "but zmin is none"),
        ("zmin:of=knn+level", "but level is none"),
    ):
        with pytest.raises(HarnessError, match=said):
            parse_scorer(text)
