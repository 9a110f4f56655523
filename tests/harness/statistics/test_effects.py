"""Shares of the variance: against sums of squares worked out group by group, and against what chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.effects import permutation_p, share_by_chance, variance_share


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
    assert shares.mean() == pytest.approx(share_by_chance(5, 30), rel=0.03)
    rejected = [permutation_p(rng.normal(size=30), codes, draws=99, seed=seed) <= 0.05 for seed in range(400)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)
    assert permutation_p(codes + 0.01 * rng.normal(size=30), codes, draws=99, seed=0) == 0.01
