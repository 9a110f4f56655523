"""Shares of the variance: against sums of squares worked out group by group, and against what chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.effects import (
    beyond_chance,
    permutation_test,
    share_interval,
    variance_share,
    weighted_share,
)  # fmt: skip


def test_shares_are_sums_of_squares() -> None:
    """Squares between groups over all squares, group by group, one table of scores or many."""
    rng = np.random.default_rng(0)
    codes = np.array([0, 1, 2, 2, 1, 0, 2, 2])
    scores = rng.normal(size=(5, 8))
    wanted = []
    for row in scores:
        between = sum((codes == code).sum() * (row[codes == code].mean() - row.mean()) ** 2 for code in range(3))
        wanted.append(between / ((row - row.mean()) ** 2).sum())
    np.testing.assert_allclose(variance_share(scores, codes), wanted, rtol=1e-12)
    assert variance_share(scores[0], codes) == pytest.approx(wanted[0], rel=1e-12)


def test_ends() -> None:
    """Groups that say all have 1, scores that are all equal 0; in a balanced grid shares add up to 1 with the rest."""
    codes = np.repeat([0, 1], 4)
    assert variance_share(codes.astype(float), codes) == 1.0
    assert variance_share(np.full(8, 0.3), codes) == 0.0
    other = np.tile([0, 1], 4)
    scores = 2.0 * codes + 1.0 * other
    assert variance_share(scores, codes) + variance_share(scores, other) == pytest.approx(1.0)
    assert variance_share(scores, codes) == pytest.approx(0.8)


def test_chance_is_what_shuffled_scores_have() -> None:
    """The mean share of groups that say nothing is (g - 1) / (n - 1), and their p-values are even."""
    rng = np.random.default_rng(1)
    codes = np.arange(30) % 5
    shares = variance_share(rng.normal(size=(4000, 30)), codes)
    assert shares.mean() == pytest.approx(4 / 29, rel=0.03)
    tests = [permutation_test(rng.normal(size=30), codes, draws=99, seed=seed) for seed in range(400)]
    assert np.mean([p <= 0.05 for p, _ in tests]) == pytest.approx(0.05, abs=0.03)
    assert np.mean([by_chance for _, by_chance in tests]) == pytest.approx(4 / 29, rel=0.03)
    assert permutation_test(codes + 0.01 * rng.normal(size=30), codes, draws=99, seed=0)[0] == 0.01


def trainings(rng: np.random.Generator, *, count: int = 24, scorers: int = 4) -> dict[str, np.ndarray]:
    """Scores that follow their training and their scorer, and nothing else."""
    units, parts = np.repeat(np.arange(count), scorers), np.tile(np.arange(scorers), count)
    scores = rng.normal(size=count)[units] + 0.5 * parts + 0.1 * rng.normal(size=count * scorers)
    return {"scores": scores, "units": units, "parts": parts}


def test_scores_of_one_training_are_no_evidence_of_their_own() -> None:
    """A choice that means nothing is rejected one time in twenty, although each training has four scores."""
    rng = np.random.default_rng(2)
    alone, whole = [], []
    for seed in range(300):
        made = trainings(rng)
        codes = rng.permutation(24)[made["units"]] % 3  # of the training, and of all of its scores
        whole.append(permutation_test(codes=codes, draws=99, seed=seed, **made)[0] <= 0.05)
        alone.append(permutation_test(made["scores"], codes, draws=99, seed=seed)[0] <= 0.05)
    assert np.mean(whole) == pytest.approx(0.05, abs=0.035)
    assert np.mean(alone) > 0.2  # as it was while scores were shuffled one by one


def test_what_varies_within_trainings_is_tested_within_them() -> None:
    """A scorer that moves every training's score a little is found, however much trainings differ."""
    rng = np.random.default_rng(3)
    made = trainings(rng)
    made["scores"] = made["scores"] + 20.0 * rng.normal(size=24)[made["units"]]
    p, by_chance = permutation_test(codes=made["parts"], draws=199, seed=0, **made)
    assert (p, by_chance < 0.01) == (1 / 200, True)
    assert permutation_test(made["scores"], made["parts"], draws=199, seed=0)[0] > 0.5


def test_trainings_change_places_with_those_of_the_same_scorers() -> None:
    """A training scored by one scorer alone keeps to those like it: every shuffled score is of its own scorer."""
    units, parts = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 1, 0, 0])
    scores = np.array([1.0, 10.0, 1.0, 10.0, 5.0, 5.0])
    codes = np.array([0, 0, 1, 1, 0, 1])
    assert permutation_test(scores, codes, draws=50, seed=0, units=units, parts=parts) == pytest.approx((1.0, 0.0))


def test_weights_are_repetitions() -> None:
    """A score that counts twice is a score that stands there twice; a group without any is none."""
    rng = np.random.default_rng(4)
    scores, codes = rng.normal(size=9), np.arange(9) % 3
    weights = np.array([[2, 0, 1, 1, 3, 0, 1, 1, 0], [1] * 9, [1, 0, 1, 1, 0, 1, 2, 0, 0]])
    found = weighted_share(scores, codes, weights.astype(float))
    for share, often in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(9), often)
        _, there = np.unique(codes[rows], return_inverse=True)
        assert share == pytest.approx(float(variance_share(scores[rows], there)), rel=1e-9)
    assert weighted_share(np.full(9, 0.3), codes, weights.astype(float)).tolist() == [0.0, 0.0, 0.0]


def share(scores: np.ndarray, codes: np.ndarray) -> float:
    """Eta squared, group by group."""
    between = sum((codes == one).sum() * (scores[codes == one].mean() - scores.mean()) ** 2 for one in set(codes))
    total = ((scores - scores.mean()) ** 2).sum()
    return between / total if total else 0.0


def test_shuffles_by_hand() -> None:
    """Whole trainings of the same scorers change places, or scores within each; one as large counts."""
    units = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 5])
    parts = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0, 2])
    scores = np.round(np.random.default_rng(0).normal(size=10), 1)
    tables = [[[0, 1], [2, 3], [4, 5]], [[6], [7]], [[8, 9]]]
    for codes, within in ((np.array([0, 0, 1, 1, 0, 0, 1, 0, 1, 1]), False), (parts, True)):
        random, draws = np.random.default_rng(6), 30
        shuffled = np.tile(scores, (draws, 1))
        for places in map(np.array, tables):
            if within:
                moved = random.permuted(np.tile(scores[places], (draws, 1, 1)), axis=2)
            else:
                moved = scores[places][random.permuted(np.tile(np.arange(len(places)), (draws, 1)), axis=1)]
            shuffled[:, places] = moved
        shares = [share(each, codes) for each in shuffled]
        p = (1 + sum(each >= share(scores, codes) - 1e-12 for each in shares)) / (1 + draws)
        found = permutation_test(scores, codes, draws=draws, seed=6, units=units, parts=parts)
        assert found == pytest.approx((p, np.mean(shares)))
    alone = np.random.default_rng(2)
    order = alone.permuted(np.tile(np.arange(10), (9, 1)), axis=1)
    shares = [share(scores[each], codes) for each in order]
    p = (1 + sum(each >= share(scores, codes) - 1e-12 for each in shares)) / 10
    assert permutation_test(scores, codes, draws=9, seed=2) == pytest.approx((p, np.mean(shares)))


def test_a_shuffle_as_large_but_for_rounding_counts() -> None:
    """Two groups that change their names have the same share; every such shuffle counts as large."""
    scores, codes = np.array([0.1, 0.2, 0.7, 0.9]), np.array([0, 0, 1, 1])
    units = np.array([0, 0, 1, 1])
    p, by_chance = permutation_test(scores, codes, draws=40, seed=0, units=units, parts=np.array([0, 1, 0, 1]))
    assert (p, by_chance) == (1.0, pytest.approx(share(scores, codes)))


def test_nothing_drawn_but_equal_scores() -> None:
    """Draws that hold equal scores alone have no share, though their mean is rounded."""
    scores = np.array([0.1, 0.1, 0.7])
    found = weighted_share(scores, np.array([0, 1, 1]), np.array([[2.0, 1, 0], [0, 0, 3], [1, 0, 1]]))
    assert found.tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_an_interval_leaves_chance_out() -> None:
    """Its ends are the quantiles of shares of trainings drawn again, less what chance gives, twice; never below 0."""
    rng = np.random.default_rng(4)
    units, codes = np.repeat(np.arange(24), 3), np.repeat(np.arange(24) % 4, 3)
    scores = rng.normal(size=72) + 0.8 * codes
    low, high = share_interval(scores, codes, units, by_chance=0.1, draws=200, seed=7)
    drawn = []
    for often in np.random.default_rng(7).multinomial(24, np.full(24, 1 / 24), size=200):
        places = np.concatenate([np.flatnonzero(units == unit) for unit in np.repeat(np.arange(24), often)])
        drawn.append(float(variance_share(scores[places], np.unique(codes[places], return_inverse=True)[1])))
    left = [((share - 0.1) / 0.9 - 0.1) / 0.9 for share in drawn]
    assert (low, high) == pytest.approx(tuple(np.quantile(left, (0.025, 0.975))), abs=1e-12)
    assert 0 < low < high < 1
    assert share_interval(rng.normal(size=72), codes, units, by_chance=0.3, draws=200, seed=7)[0] == 0


def test_beyond_chance() -> None:
    """Of a share of a half, what chance does not give is a third where chance gives a quarter."""
    assert beyond_chance(0.5, 0.25) == pytest.approx(1 / 3)
    assert beyond_chance(0.25, 0.25) == 0
    assert beyond_chance(1.0, 0.25) == 1
    assert beyond_chance(1.0, 1.0) == 0


def test_shares_do_not_depend_on_where_scores_lie() -> None:
    """A million more for every score leaves the share as it is."""
    rng = np.random.default_rng(5)
    scores, codes = rng.normal(size=9), np.arange(9) % 3
    weights = rng.integers(0, 3, size=(4, 9)).astype(float)
    np.testing.assert_allclose(weighted_share(scores + 1e6, codes, weights), weighted_share(scores, codes, weights),
                               rtol=1e-6)  # fmt: skip


def test_drawn_scores_that_differ_by_rounding_alone_are_equal() -> None:
    """A draw has a share where its squares are more than 1e-12 of all scores', and exactly 0 below."""
    for part, share_of_draw in ((1.05, 1.0), (0.95, 0.0)):
        apart = np.sqrt(2 * part * 2e-12)  # of two scores drawn alone: apart^2 / 2 beside squares of 2
        scores = np.array([apart / 2, -apart / 2, 1.0, -1.0])
        found = weighted_share(scores, np.arange(4), np.array([[1.0, 1, 0, 0], [1, 1, 1, 1]]))
        assert found.tolist() == [pytest.approx(share_of_draw, rel=1e-3, abs=0), pytest.approx(1.0)]


def test_a_group_that_is_not_drawn_adds_nothing() -> None:
    """Whatever memory held before: a group without a score in a draw has no square."""
    scores, codes = np.array([0.1, 0.5, 0.9]), np.arange(3)
    weights = np.array([[1.0, 2, 0], [3, 0, 0], [0, 1, 1]])
    dirt = [np.full((3, 3), 7.0) for _ in range(9)]
    del dirt  # small arrays of that size are made of this memory next
    assert weighted_share(scores, codes, weights).tolist() == pytest.approx([1.0, 0.0, 1.0])


@pytest.mark.parametrize(("below", "counted"), [(0.75e-12, True), (0.95e-12, True), (1.05e-12, False)])
def test_a_shuffle_counts_that_lies_a_rounding_error_below(below: float, counted: bool) -> None:
    """Shares that lie up to 1e-12 below the one that was found count as large, and no others."""
    codes = np.array([0, 0, 1])

    def of(middle: float) -> tuple[np.ndarray, np.ndarray]:
        scores = np.array([0.0, middle, 1.0])
        return scores, np.array([share(scores[[1, 2, 0]], codes), share(scores, codes)])  # alone: 0, then 1

    slope = float(np.diff(of(0.5 - 1e-3)[1])[0] - np.diff(of(0.5 + 1e-3)[1])[0]) / 2e-3
    scores, (lower, found) = of(0.5 - below / slope)
    assert found - lower == pytest.approx(below, rel=0.04)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(3), (60, 1)), axis=1)
    large = sum(each[2] == 2 or (counted and each[2] == 0) for each in order)
    assert permutation_test(scores, codes, draws=60, seed=0)[0] == (1 + large) / 61
