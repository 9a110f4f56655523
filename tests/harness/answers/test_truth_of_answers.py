"""What would change an answer without anybody noticing: corrections, levels, ties, and who is paired with whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student

from harness.answers import compare as compare_module
from harness.answers import selection
from harness.answers.compare import compare
from harness.answers.grids import first_best, recorded_numbers
from harness.answers.question import Question
from harness.answers.selection import select
from harness.statistics.arms import pseudo_values, recorded_arms
from harness.statistics.comparison import Comparison, MachineDifference, compare_arms, compare_numbers
from harness.statistics.power import Variation, seeds_needed, seeds_to_reject
from harness.statistics.significance import Spread, crossed_spread, holm, paired_test
from harness.stores.results import Results
from tests.harness.made_up import MACHINES, clips_of, record

FEW = Question(resamples=100)


def found_as(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let every comparison find these values, whatever the clips say."""

    def compared(*arms: Any, **options: Any) -> Comparison:
        return replace(compare_arms(*arms, **options), **changes)

    monkeypatch.setattr(compare_module, "compare_arms", compared)


class TestCompare:
    def test_p_values_of_a_family_are_corrected_for_its_size(self, results: Results) -> None:
        """Three M against M = 1 are three tests: corrected by Holm, the smallest value is three times itself."""
        for m, apart in ((1, 1.0), (3, 1.1), (5, 1.2), (7, 1.05)):
            record(results, m=m, apart=apart, luck=10 * m)
        rows = compare(results, FEW)
        p_values = [row["p_value"] for row in rows]
        assert [row["p_corrected"] for row in rows] == pytest.approx(holm(p_values))
        assert min(row["p_corrected"] for row in rows) == pytest.approx(min(1.0, 3 * min(p_values)))

    @pytest.mark.parametrize(
        ("ends", "p_value", "differs"),
        [
            ((0.01, 0.03), 0.001, True),
            ((-0.01, 0.03), 0.001, False),
            ((-0.03, -0.01), 0.001, True),
            ((0.01, 0.03), 0.2, False),
        ],
    )
    def test_a_difference_needs_both_interval_and_test(
        self,
        results: Results,
        monkeypatch: pytest.MonkeyPatch,
        ends: tuple[float, float],
        p_value: float,
        differs: bool,
    ) -> None:
        """An interval that holds zero, or a test that does not reject, is no difference, whatever the other says."""
        for m in (1, 3):
            record(results, m=m, luck=m)
        found_as(monkeypatch, ci_low=ends[0], ci_high=ends[1], p_value=p_value, delta=sum(ends) / 2)
        (row,) = compare(results, FEW)
        assert row["differs"] is differs

    @pytest.mark.parametrize(
        ("ends", "p_value", "differs"),
        [
            ((0.01, 0.03), 0.024, True),
            ((0.01, 0.03), 0.026, False),
            ((0.01, 0.03), 0.025, False),
            ((0.0, 0.03), 0.001, False),
            ((-0.03, 0.0), 0.001, False),
        ],
    )
    def test_a_difference_is_said_by_the_corrected_value_below_the_level(
        self,
        results: Results,
        monkeypatch: pytest.MonkeyPatch,
        ends: tuple[float, float],
        p_value: float,
        differs: bool,
    ) -> None:
        """With two M tried it is twice the value, below 5 % and not at it; an interval that ends at zero holds it."""
        for m in (1, 3, 5):
            record(results, m=m, luck=m)
        found_as(monkeypatch, ci_low=ends[0], ci_high=ends[1], p_value=p_value, delta=0.01)
        rows = compare(results, FEW)
        assert [row["p_corrected"] for row in rows] == [2 * p_value] * 2
        assert [row["differs"] for row in rows] == [differs] * 2

    def test_seeds_are_counted_at_the_corrected_level(self, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
        """With two M tried, the seeds that would show a difference are those of a test at 97.5 %, not at 95 %."""
        for m in (1, 3, 7):
            record(results, m=m, luck=m)
        vary = Variation(machines=5, of_machines=1e-6, of_seeds=1e-3, of_rest=1e-4, known=True)
        found_as(monkeypatch, vary=vary, delta=0.02, ci_low=-0.1, ci_high=0.1, p_value=0.5)
        needed = {
            level: seeds_needed(0.02, vary, level=level, least=seeds_to_reject(5, level=level)).count
            for level in (0.95, 0.975)
        }
        assert needed[0.95] != needed[0.975]
        assert {row["seeds_needed"] for row in compare(results, FEW)} == {needed[0.975]}

    def test_no_fewer_seeds_are_named_than_the_corrected_test_takes(
        self, results: Results, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing varies, but flipping the signs of one machine's seeds rejects at 97.5 % from seven seeds on."""
        for m in (1, 3, 7):
            record(results, m=m, luck=m)
        still = Variation(machines=1, of_machines=0.0, of_seeds=0.0, of_rest=0.0, known=True)
        alone = (MachineDifference("dcase2023", "fan", 0.6, 0.5, 0.1, -0.1, 0.3),)
        found_as(monkeypatch, vary=still, machines=alone, delta=0.1, ci_low=-0.1, ci_high=0.3, p_value=0.5)
        assert {row["seeds_needed"] for row in compare(results, FEW)} == {7}
        assert (seeds_to_reject(1, level=0.975), seeds_to_reject(1)) == (7, 6)

    def test_the_interval_is_at_95(self, results: Results) -> None:
        """Without clips it is Student's t at 97.5 % to each side, in Fisher's z, exactly."""
        seeds, arms = range(6), []
        for m in (3, 1):
            keys = record(results, m=m, apart=1 + m / 10, luck=m, seeds=seeds, with_clip_scores=False)
            numbers = recorded_numbers(results, keys, scorer="knn", dataset="dcase2023")
            arms.append({seed: numbers[key] for seed, key in zip(seeds, keys, strict=True)})
        both = recorded_arms(*arms, "dcase2022")
        one, other = (pseudo_values(values[..., 0], both.places(), "dcase2022") for values in both.values)
        spread = crossed_spread(one - other)
        (row,) = compare(results, FEW)
        reach = student.ppf(0.975, min(spread.freedom, 15)) * spread.error / (1 - row["delta"] ** 2)
        low, middle, high = np.arctanh([row["ci_low"], row["delta"], row["ci_high"]])
        assert (middle - low, high - middle) == pytest.approx((reach, reach))

    def test_one_shared_seed_is_a_pair(self, results: Results) -> None:
        """Arms that share exactly one seed are compared on it, and the others are named."""
        record(results, m=1, seeds=[0, 1])
        record(results, m=3, seeds=[1, 5], apart=1.5)
        (row,) = compare(results, FEW)
        assert (row["seeds"], row["seeds_left_out"], row["pairs"]) == ([1], [0, 5], 5)

    def test_a_machine_with_one_undefined_metric_counts(self, results: Results) -> None:
        """A machine without normal clips of the target domain has two numbers of three, and stays in the comparison."""
        clips = clips_of()
        clips = clips[(clips["machine"] != "fan") | (clips["domain"] == "source") | (clips["condition"] == "anomaly")]
        for m in (1, 3):
            record(results, m=m, apart=m / 2, luck=m, clips=clips)
        (row,) = compare(results, FEW)
        assert {each["machine"] for each in row["machines"]} == set(MACHINES)
        assert row["pairs"] == 3 * len(MACHINES)
        (chosen,) = select(results, FEW)
        assert {each["machine"] for each in chosen["machines"]} == set(MACHINES)


class TestSelect:
    @pytest.fixture
    def noisy(self, results: Results) -> Results:
        """Six cells that differ by chance alone."""
        for m in range(1, 7):
            record(results, m=m, seeds=[0, 1], luck=100 * m)
        return results

    def test_resamples_that_choose_otherwise_widen_the_interval(
        self, noisy: Results, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If machines and seeds agreed perfectly, what is left is how the score varies as cells are chosen anew."""
        monkeypatch.setattr(selection, "crossed_spread", lambda _: Spread(1e-9, 1e9))
        (row,) = select(noisy, FEW)
        assert row["ci_high"] - row["ci_low"] > 0.01
        assert row["optimism_ci_high"] - row["optimism_ci_low"] > 0.001

    def test_the_interval_is_at_95(self, noisy: Results, monkeypatch: pytest.MonkeyPatch) -> None:
        """A larger spread over machines and seeds sets the width: Student's t at 97.5 % to each side, on the logit."""
        monkeypatch.setattr(selection, "crossed_spread", lambda _: Spread(0.2, 4))
        (row,) = select(noisy, FEW)
        score = row["official_score"]
        reach = student.ppf(0.975, 4) * 0.2 / (score * (1 - score))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expit([logit(score) - reach, logit(score) + reach]))


class TestTies:
    def test_rounding_errors_choose_no_cell(self) -> None:
        """0.1 + 0.2 is no better than 0.3: of equal scores the first cell, with the smaller M, is chosen."""
        assert first_best(np.array([0.3, 0.1 + 0.2])) == 0
        assert first_best(np.array([0.3, 0.3 + 1e-9])) == 1

    def test_rounding_errors_win_no_machine(self) -> None:
        """Machines whose numbers differ in the seventeenth digit are tied, and nothing is significant about them."""
        arm, reference = (
            {seed: {("d", name, "00"): np.full(3, value) for name in "ab"} for seed in (0, 1)}
            for value in (0.1 + 0.2, 0.3)
        )
        found = compare_numbers(arm, reference, "dcase2022")
        assert (found.machines_won, found.machines_tied, found.machines_lost) == (0, 2, 0)
        assert found.p_value == 1.0

    def test_sign_patterns_that_are_equal_but_for_rounding_count(self) -> None:
        """Of 0.1, 0.2 and -0.3 every pattern is as extreme as the observed sum of zero."""
        assert paired_test([0.1, 0.2, -0.3]) == 1.0
        assert paired_test([0.7, 0.1, 0.3, 0.2]) == pytest.approx(2 / 16)
