"""Decision thresholds come from training clips alone, by the official rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness import plugins
from harness.errors import HarnessError
from harness.scoring.contract import ScoreRequest
from harness.scoring.thresholds import decision_threshold, decisions, section_threshold, training_scores


def make_request(n: int = 40, *, seed: int = 0) -> ScoreRequest:
    """Return references of two domains."""
    rng = np.random.default_rng(seed)
    domains = np.array(["source"] * (n - n // 4) + ["target"] * (n // 4), dtype=object)
    return ScoreRequest(rng.normal(size=(n, 8)).astype(np.float32), domains, np.zeros((1, 8), dtype=np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_the_official_rule_is_kept(seed: int) -> None:
    """Where its search ends well, the threshold is scipy's 90 % point of a fitted gamma distribution."""
    scores = np.random.default_rng(seed).gamma(3.0, 2.0, size=400) + 5
    official = float(stats.gamma.ppf(0.9, *stats.gamma.fit(scores)))
    assert decision_threshold(scores) == pytest.approx(official, rel=1e-6)


def test_scores_skewed_to_the_left_have_a_threshold_too() -> None:
    """Where scipy's search goes astray the second one ends near the 90 % point of the scores."""
    scores = 2.0 - np.random.default_rng(0).gamma(4.0, 0.02, size=1000)
    astray = float(stats.gamma.ppf(0.9, *stats.gamma.fit(scores)))
    assert abs(astray - np.quantile(scores, 0.9)) > 0.1
    assert decision_threshold(scores) == pytest.approx(np.quantile(scores, 0.9), abs=0.03)


@given(st.integers(2, 60), st.integers(0, 1000), st.floats(1e-6, 1e6))
@settings(max_examples=8, deadline=None)
def test_a_threshold_is_finite_and_blind_to_order(n: int, seed: int, scale: float) -> None:
    """Any scores have a finite threshold, the same in whichever order they come."""
    scores = np.random.default_rng(seed).exponential(size=n) * scale
    found = decision_threshold(scores)
    assert np.isfinite(found)
    assert decision_threshold(scores[::-1]) == found


def test_equal_scores_are_their_own_threshold() -> None:
    """Training clips that all score alike decide at that score: only what lies above is anomalous."""
    found = decision_threshold(np.full(10, 0.25))
    assert found == 0.25
    assert decisions([0.25, 0.26, 0.1], found).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("scores", "said"), [([1.0], "at least two"), ([1.0, np.nan], "1 of them finite"), ([], "at least two")]
)
def test_too_few_scores_are_refused(scores: list[float], said: str) -> None:
    """One score, none, or one that is not finite fits nothing."""
    with pytest.raises(HarnessError, match=said):
        decision_threshold(scores)
    with pytest.raises(HarnessError, match="between 0 and 1"):
        decision_threshold([1.0, 2.0], quantile=1.0)


@pytest.mark.parametrize("name", plugins.names("scorer"))
def test_training_clips_are_scored_against_others(name: str) -> None:
    """A training clip is scored as a new clip is, by references that do not hold it, and queries play no part."""
    scorer, request = plugins.load("scorer", name), make_request()
    if scorer.reads == "level":
        request = ScoreRequest(request.references[:, :1], request.reference_domains, request.queries[:, :1])
    scores = training_scores(scorer, request)
    assert scores.shape == (40,)
    assert np.isfinite(scores).all()
    moved = ScoreRequest(request.references, request.reference_domains, request.queries + 100)
    assert np.array_equal(training_scores(scorer, moved), scores)


def test_neighbours_of_training_clips_are_not_themselves() -> None:
    """Nearest neighbours would find each training clip at distance 0 from itself; here none is."""
    assert (training_scores(plugins.load("scorer", "knn"), make_request()) > 1e-3).all()


def test_a_section_without_threshold_says_why() -> None:
    """One training clip cannot be scored against others: there is no threshold, and the reason is kept."""
    request = make_request()
    alone = ScoreRequest(request.references[:1], request.reference_domains[:1], request.queries)
    found = section_threshold(plugins.load("scorer", "knn"), alone, dataset="d", machine="fan", section="00")
    assert (found.value, found.why) == (None, "A threshold needs at least two training clips, but there are 1.")
