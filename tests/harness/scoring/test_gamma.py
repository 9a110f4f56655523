"""Thresholds step by step: the start from moments, the distance of a fit, and which of two searches is taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.errors import HarnessError
from harness.scoring import thresholds
from harness.scoring.contract import ScoreRequest
from harness.scoring.thresholds import Threshold, decision_threshold, decisions, threshold_of, training_scores


def test_the_start_from_moments() -> None:
    """Shape 4 / skewness^2, 10,000 at most, and the location and scale that give the scores' mean and deviation."""
    scores = np.random.default_rng(0).gamma(3.0, 2.0, size=300) + 7
    for sign in (1.0, -1.0):
        shape, location, scale = thresholds._moments(sign * scores)
        assert shape == pytest.approx(4 / stats.skew(scores) ** 2)
        assert shape * scale + location == pytest.approx(sign * scores.mean())
        assert shape**0.5 * scale == pytest.approx(scores.std())
    even = np.array([-1.0, 0.0, 1.0])
    shape, location, scale = thresholds._moments(even)
    assert shape == 1e4
    assert (location, scale) == (pytest.approx(-1e4 * even.std() / 100), pytest.approx(even.std() / 100))


def test_the_distance_of_a_fit() -> None:
    """Kolmogorov and Smirnov's: the largest gap of shares of scores to the distribution, at a score and before it."""
    for seed, fit in ((0, (3.0, 1.0, 2.0)), (1, (2.0, 3.0, 2.0)), (2, (5.0, 0.0, 3.0)), (3, (3.0, -1.0, 1.5))):
        scores = np.sort(np.random.default_rng(seed).gamma(3.0, 2.0, size=25) + 1)
        wanted = stats.kstest(scores, stats.gamma(*fit).cdf).statistic
        assert thresholds._distance(scores, fit) == pytest.approx(wanted, rel=1e-12)


def test_which_fit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first if it lies within 1.63 / sqrt(n), and else the nearer of two; one that is not finite is none."""
    scores, limit = np.arange(1.0, 26.0), 1.63 / 5
    one, two = (3.0, 0.0, 1.0), (4.0, 0.0, 1.0)
    values = {fit: float(stats.gamma.ppf(0.9, *fit)) for fit in (one, two)}
    broken = (float("nan"), 0.0, 1.0)
    for fits, distances, wanted, asked in (
        ((one, two), (limit, 0.1), one, 1),
        ((one, two), (limit + 1e-3, 0.1), two, 2),
        ((one, two), (limit + 0.1, limit + 0.2), one, 2),
        ((None, two), (0.9,), two, 2),
        ((broken, two), (0.9,), two, 2),
        ((one, None), (0.9,), one, 2),
    ):
        starts: list[object] = []
        left, told = list(fits), list(distances)

        def fit(_, start, left=left, starts=starts):
            starts.append(start)
            return left.pop(0)

        monkeypatch.setattr(thresholds, "_fit", fit)
        monkeypatch.setattr(thresholds, "_distance", lambda *_, told=told: told.pop(0))
        assert decision_threshold(scores) == pytest.approx(values[wanted])
        assert starts == [None, thresholds._moments(scores)][:asked]
    monkeypatch.setattr(thresholds, "_fit", lambda *_: None)
    with pytest.raises(HarnessError, match=r"must fit the 25 training scores, 1 to 25, but no search found one"):
        decision_threshold(scores)


def test_a_second_search_starts_where_it_is_told() -> None:
    """Scipy's search from given shape, location and scale; what fails gives no fit."""
    scores = np.sort(np.random.default_rng(3).gamma(3.0, 2.0, size=60))
    start = (2.0, -1.0, 3.0)
    assert thresholds._fit(scores, start) == pytest.approx(stats.gamma.fit(scores, 2.0, loc=-1.0, scale=3.0))
    assert thresholds._fit(scores, None) == pytest.approx(stats.gamma.fit(scores))
    assert thresholds._fit(np.array([1.0, np.inf]), None) is None


def test_scores_that_count_as_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that differ by up to 1e-12 of the largest magnitude are equal, and the largest is the threshold."""
    monkeypatch.setattr(thresholds, "_fit", lambda *_: None)
    for sign in (1.0, -1.0):
        near, far = sign * np.array([8.0, 8.0 + 7.6e-12]), sign * np.array([8.0, 8.0 + 8.4e-12])
        assert decision_threshold(near) == near.max()
        with pytest.raises(HarnessError, match="no search found one"):
            decision_threshold(far)
    assert decision_threshold(np.zeros(3)) == 0.0
    assert decision_threshold([2.0, 2.0]) == 2.0
    for wrong in ([[1.0, 2.0]], [1.0]):
        with pytest.raises(HarnessError, match="at least two training clips"):
            decision_threshold(wrong)


def test_scores_of_less_precision_are_taken_at_their_value() -> None:
    """Scores in float32 decide as the same numbers in float64, and as a list."""
    scores = np.random.default_rng(0).gamma(3.0, 2.0, size=50).astype(np.float32)
    found = decision_threshold(scores)
    assert found == decision_threshold(scores.astype(np.float64)) == decision_threshold(scores.tolist())
    tenth = np.float32(0.1)  # 0.10000000149
    assert decisions(np.array([tenth]), 0.1).tolist() == [1], "0.1 rounded to float32 would be no more than it"
    assert decisions(np.array([tenth]), float(tenth)).tolist() == [0]


def test_no_training_clip_lies_above_the_threshold_of_equal_ones() -> None:
    """Where scores differ by rounding alone, the largest of them is the threshold."""
    scores = np.array([1.0, 1.0, 1.0, np.nextafter(1.0, 2.0)])
    assert decision_threshold(scores) == scores[-1] > scores[1]
    assert not decisions(scores, decision_threshold(scores)).any()


def test_two_training_clips_are_enough() -> None:
    """Each is scored against the other; one alone has nothing to be compared with."""

    class First:
        def score(self, request: ScoreRequest):
            return request.queries[:, 0].astype(float) - request.references[:, 0].mean()

    vectors = np.array([[1.0], [4.0]], dtype=np.float32)
    asked = ScoreRequest(vectors, np.array(["source", "target"], dtype=object), vectors)
    assert training_scores(First(), asked).tolist() == [-3.0, 3.0]


def test_a_section_s_threshold_is_that_of_its_training_scores() -> None:
    """Training clips are scored against others, a gamma distribution is fitted, and its place is kept with it."""

    class First:
        def score(self, request: ScoreRequest):
            return request.queries[:, 0].astype(float) ** 2

    vectors = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    asked = ScoreRequest(vectors, np.array(["source", "target"] * 15, dtype=object), vectors)
    wanted = decision_threshold(vectors[:, 0].astype(float) ** 2)
    found = thresholds.section_threshold(First(), asked, dataset="d", machine="fan", section="00")
    assert found == Threshold("d", "fan", "00", wanted)
    several = thresholds.SectionThresholds()
    for section in ("00", "01"):
        several.add("first", First(), asked, ("d", "fan", section))
    assert several.by_scorer == {"first": (found, Threshold("d", "fan", "01", wanted))}


def test_recorded_thresholds_are_found_by_section() -> None:
    """A trial's detail gives those of one scorer by year, machine type and section; none where none are recorded."""
    row = {"dataset": "dcase2023", "machine": "fan", "section": "00", "value": 1.5, "why": ""}
    found = threshold_of({"thresholds": {"knn": [row]}}, "knn")
    assert found == {("dcase2023", "fan", "00"): Threshold("dcase2023", "fan", "00", 1.5)}
    assert threshold_of({"thresholds": {"knn": [row]}}, "gmm") == threshold_of({}, "knn") == {}
