"""The gate's row of one setting, written a second time: its lower end, verdict, and the seeds that would show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.gate import regression
from harness.gate.baselines import Setting
from harness.statistics.comparison import Comparison, compare_numbers
from harness.statistics.margin import margin_low
from harness.statistics.power import Variation, seeds_needed
from harness.trials.axes import axis_names

Seeds = tuple[int, ...]

SETTING = Setting("frozen", (None,) * len(axis_names(but=["backbone"])), "knn")
CASES: dict[str, tuple[Seeds, Seeds, float]] = {  # seeds of baseline and candidate, the candidate's gain
    "paired": ((0, 1, 2), (0, 1, 2), -0.004),
    "paired and far": ((0, 1, 2, 3), (0, 1, 2, 3), -0.3),
    "paired and better": ((0, 1, 2, 3), (0, 1, 2, 3), 0.2),
    "apart": ((0, 1, 2), (3, 4), -0.01),
    "one seed": ((0,), (0,), 0.2),
}


def compared(baseline: Seeds, candidate: Seeds, gain: float, *, paired: bool) -> Comparison:
    """Compare made-up numbers of four machines."""
    random = np.random.default_rng(5)
    keys = [("dcase2023", f"m{at}", "00") for at in range(4)]
    machines = random.uniform(0.55, 0.7, size=(4, 1))
    numbers = [
        {run: dict(zip(keys, machines + more + random.normal(0, 0.01, size=(4, 3)), strict=True)) for run in runs}
        for runs, more in ((candidate, gain), (baseline, 0.0))
    ]
    return compare_numbers(*numbers, "dcase2022", level=0.9, paired=paired)


@pytest.mark.parametrize("case", CASES)
def test_a_row_by_hand(case: str) -> None:
    """The lower of both lower ends at 90 % decides; seeds are counted at the level and freedom that it spends."""
    baseline, candidate, gain = CASES[case]
    pairing = regression._pair_seeds(baseline, candidate)
    found = compared(baseline, candidate, gain, paired=pairing.paired)
    for margin in (0.0, 0.005, 0.03):
        row = regression._official_row(SETTING, "dcase2023", pairing, found, margin, seed=3)
        asked = {"delta": found.delta, "margin": margin, "level": 0.9, "paired": pairing.paired, "seed": 3}
        low = min(found.ci_low, margin_low(found.tables, found.spread, **asked))
        verdict = "accepted" if low >= -margin else "worse" if found.ci_high < -margin else "unclear"
        if len(baseline) == 1 and verdict == "accepted":
            verdict = "unclear"
        # 3.5 % are spent below, and each seed beyond the first counts two degrees of freedom
        needed = seeds_needed(found.delta + margin, found.vary, level=0.93, per_seed=2).count
        assert (row["low"], row["high"], row["delta"]) == (low, found.ci_high, found.delta)
        assert row["verdict"] == verdict
        assert row["seeds_needed"] == (needed if verdict == "unclear" else None)
        assert (row["seeds"], row["baseline_seeds"], row["paired"]) == (len(candidate), len(baseline), pairing.paired)


def test_seeds_are_counted_as_the_lower_end_counts_them() -> None:
    """At 93 %, with two degrees of freedom a seed: at 90 or 95 %, or with three, some distances take other numbers."""
    found = compared((0, 1, 2), (0, 1, 2), -0.004, paired=True)
    found = replace(found, vary=Variation(15, of_machines=4e-4, of_seeds=0.0, of_rest=1e-3, known=True))
    distances = np.linspace(0.012, 0.04, 30)
    counts = {
        asked: [seeds_needed(each, found.vary, level=asked[0], per_seed=asked[1]) for each in distances]
        for asked in ((0.93, 2), (0.90, 2), (0.95, 2), (0.93, None))
    }
    assert [regression._needed(each, found) for each in distances] == counts.pop((0.93, 2))
    assert all([regression._needed(each, found) for each in distances] != other for other in counts.values())


def test_machines_that_lack_a_number_are_left_out_of_the_model() -> None:
    """In one arm or the other, of a single seed; where none is whole, the plain lower end is left."""
    found = compared((0, 1, 2), (0, 1, 2), -0.004, paired=True)
    arm, reference = (table.copy() for table in found.tables)
    arm[0, 1], reference[2, 0] = np.nan, np.nan
    asked = {"delta": found.delta, "margin": 0.005, "level": 0.9, "paired": True, "seed": 3}
    wanted = margin_low((arm[[1, 3]], reference[[1, 3]]), found.spread, **asked)
    holed = replace(found, tables=(arm, reference))
    assert regression._calibrated_low(holed, 0.005, paired=True, seed=3) == wanted
    nothing = replace(found, tables=(np.full_like(arm, np.nan), reference))
    assert regression._calibrated_low(nothing, 0.005, paired=True, seed=3) == found.ci_low


@pytest.mark.parametrize(
    ("baseline", "candidate", "paired"),
    [
        ((0, 1, 2), (0, 1, 2), (0, 1, 2)),
        ((0, 1, 2), (1,), (1,)),
        ((1,), (0, 1, 2), (1,)),
        ((0, 1, 2), (1, 2, 3), None),
        ((0, 1), (1, 2), None),
        ((0,), (1,), None),
    ],
)
def test_seeds_pair_where_one_side_has_all_of_the_others(baseline: Seeds, candidate: Seeds, paired: Seeds) -> None:
    """One shared seed is a pair where it is all that one side has; where each side has more, neither loses any."""
    found = regression._pair_seeds(baseline, candidate)
    assert found.paired == (paired is not None)
    assert (found.baseline, found.candidate) == ((paired, paired) if paired else (baseline, candidate))


def test_an_end_at_the_margin_is_inside() -> None:
    """A lower end at the margin, or a rounding error below it, is accepted; an upper end there is not worse."""
    for off, low, high in (
        (0.0, "accepted", "unclear"), (1e-12, "accepted", "unclear"), (1.1e-12, "unclear", "worse"),
    ):  # fmt: skip
        assert regression._verdict(-0.005 - off, 0.1, 0.005) == low
        assert regression._verdict(-0.1, -0.005 - off, 0.005) == high
    assert regression.LEVEL == 0.90
