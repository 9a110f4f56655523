"""Intervals, spreads and tests of plain arrays, each against its definition, at its borders and with its defaults."""

from __future__ import annotations

import inspect
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from harness.errors import HarnessError
from harness.statistics import arms, comparison, effects, estimate, intervals, margin, power, significance, tiers
from harness.statistics.significance import (
    ENDLESS,
    Spread,
    crossed_spread,
    finite_array,
    holm,
    paired_test,
    score_interval,
    spread_apart,
    spread_of_parts,
    stretched_interval,
    within,
)

pytestmark = pytest.mark.filterwarnings("error")  # nothing is divided by nothing on the way

DEFAULTS = {
    comparison.compare_arms: {"resamples": 1000, "seed": 0, "level": 0.95, "paired": True},
    comparison.compare_numbers: {"seed": 0, "level": 0.95, "paired": True},
    estimate.estimate_score: {"seed": 0, "level": 0.95},
    intervals.score_intervals: {"draws": None, "level": 0.95},
    intervals.ClipDraws: {"resamples": 1000, "seed": 0},
    margin.margin_low: {"seed": 0},
    power.seeds_needed: {"level": 0.95, "power": 0.8, "least": 2, "per_seed": None},
    power.seeds_to_reject: {"level": 0.95},
    power.SeedsNeeded: {"machines": None},
    power.variation: {"clips": 0.0},
    power.variation_apart: {"clips": 0.0},
    significance.score_interval: {"level": 0.95},
    significance.stretched_interval: {"level": 0.95},
    significance.crossed_spread: {"clips": 0.0},
    significance.mean_spread: {"clips": 0.0},
    significance.spread_apart: {"clips": 0.0},
    significance.paired_test: {"draws": 9999, "seed": 0},
    arms.measured_arms: {"paired": True},
    arms.recorded_arms: {"paired": True},
    effects.permutation_test: {"units": None, "parts": None},
}
CONSTANTS = {
    (significance, "EXACT_SIGNS"): 16, (significance, "DRAWS"): 9999, (significance, "ROUNDING"): 1e-12,
    (significance, "INNERMOST"): 1e-9, (significance, "ENDLESS"): 1e9, (intervals, "LEVEL"): 0.95,
    (intervals, "RESAMPLES"): 1000, (intervals, "STEP"): 1e-6, (margin, "DRAWS"): 1000, (margin, "LEAST_SPREAD"): 0.6,
    (margin, "FREEDOM_PER_SEED"): 2, (margin, "SPENT"): 0.7, (power, "MOST_SEEDS"): 100, (power, "POWER"): 0.8,
    (power, "ENDLESS_SEEDS"): 1_000_000, (power, "MOST_MACHINES"): 1000, (power, "FREEDOM_PER_SEED"): 3,
    (power, "SEEDS_ON_MORE_MACHINES"): 10, (tiers, "SURE"): 0.05,
}  # fmt: skip


@pytest.mark.parametrize("function", DEFAULTS)
def test_defaults_are_those_of_printed_numbers(function) -> None:
    """Nobody says them where numbers are printed: a board's 95 % would become another share unseen."""
    found = {
        name: one.default
        for name, one in inspect.signature(function).parameters.items()
        if one.default is not inspect.Parameter.empty and not name.startswith("_")
    }
    assert found == DEFAULTS[function]


def test_constants_are_those_that_the_docs_name() -> None:
    """Levels, draws, borders and caps, as docstrings and the page of statistics say them."""
    assert {key: getattr(*key) for key in CONSTANTS} == CONSTANTS


def test_quantiles_and_p_values_are_students() -> None:
    """Both tails: half a level on each side; a mean of 0 is no evidence, one without any error is all there can be."""
    spread = Spread(0.5, 7)
    for level in (0.5, 0.9, 0.95):
        assert spread.half_width(level) == pytest.approx(stats.t.ppf((1 + level) / 2, 7) * 0.5)
    assert spread.p_value(-0.8) == spread.p_value(0.8) == pytest.approx(2 * stats.t.sf(1.6, 7))
    assert (spread.p_value(1e-12), spread.p_value(-1e-12)) == (1.0, 1.0)
    assert spread.p_value(1.1e-12) < 1.0
    assert (Spread(1e-12, 7).p_value(0.1), Spread(0.0, 7).p_value(0.0)) == (0.0, 1.0)
    assert Spread(1.1e-12, 7).p_value(2e-12) == pytest.approx(2 * stats.t.sf(2 / 1.1, 7))


def test_an_interval_on_its_scale() -> None:
    """The ends lie as far off on the logit, or on Fisher's z, as the plain ones times the slope there."""
    centre, below, above = np.array([0.2, 0.9, 0.5]), np.array([0.1, 0.0, 1e-12]), np.array([0.3, 0.2, 1.1e-12])
    low, high = within(centre, below, above, scale="score")
    slope = 1 / (centre * (1 - centre))
    np.testing.assert_allclose(high, expit(logit(centre) + above * slope), rtol=1e-14)
    np.testing.assert_allclose(low, np.where([True, False, False], expit(logit(centre) - below * slope), centre))
    assert (low[1], low[2]) == (0.9, 0.5)
    assert high[2] > 0.5
    low, high = within(-0.4, 0.1, 0.2, scale="difference")
    assert float(low) == pytest.approx(np.tanh(np.arctanh(-0.4) - 0.1 / (1 - 0.16)))
    assert float(high) == pytest.approx(np.tanh(np.arctanh(-0.4) + 0.2 / (1 - 0.16)))
    assert tuple(map(float, within(-0.4, 0.0, 1e-12, scale="difference"))) == (-0.4, -0.4)
    for scale, end, inside in (("score", 1.0, 1 - 1e-9), ("score", 0.0, 1e-9),
                               ("difference", 1.0, 1 - 1e-9), ("difference", -1.0, 1e-9 - 1)):  # fmt: skip
        found, wanted = (within(place, 1e-10, 1e-10, scale=scale) for place in (end, inside))
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


ARRAYS = {
    "within a score": lambda of: within(of, 0.01, 0.02, scale="score"),
    "within a difference": lambda of: within(0.1, of, of, scale="difference"),
    "shape": lambda of: stretched_interval(of, around=0.1, spread=Spread(0.01, 5)),
    "crossed": lambda of: crossed_spread([of, of, np.roll(of, 1)]),
    "apart": lambda of: spread_apart([of, np.roll(of, 1)], [of, of]),
    "components": lambda of: astuple(power.variation([of, np.roll(of, 1)])),
    "components apart": lambda of: astuple(power.variation_apart([of, np.roll(of, 1)], [of, of])),
    "signs": paired_test,
    "holm": holm,
    "finite": lambda of: finite_array(of, "x"),
}


@pytest.mark.parametrize("function", ARRAYS)
def test_numbers_may_come_in_any_form(function: str) -> None:
    """A list, 32 bits or an array that must stay as it is: computed with 64 bits, and what was given is not changed."""
    values = np.array([0.1, 0.7, 0.2, 0.4, 0.3], dtype=np.float32).astype(np.float64)
    values.setflags(write=False)
    wanted = ARRAYS[function](values)
    for form in (values.tolist(), values.astype(np.float32), tuple(values)):
        np.testing.assert_array_equal(
            np.asarray(ARRAYS[function](form), dtype=object), np.asarray(wanted, dtype=object)
        )
    assert holm([1, 0]).dtype == np.float64


@pytest.mark.parametrize("level", [0.6, 0.95])
def test_a_stretched_interval_by_hand(level: float) -> None:
    """Quantiles about the samples' mean, over those of a normal sample of equal spread, times Student's half width."""
    samples, spread = np.random.default_rng(1).gamma(2.0, 0.05, size=300) - 0.03, Spread(0.04, 5)
    units = (np.quantile(samples, [(1 - level) / 2, (1 + level) / 2]) - samples.mean()) / samples.std()
    shape = units / stats.norm.ppf((1 + level) / 2)
    half = stats.t.ppf((1 + level) / 2, 5) * 0.04
    found = stretched_interval(samples, around=0.1, spread=spread, level=level)
    assert np.arctanh(found) == pytest.approx(np.arctanh(0.1) + half * shape / (1 - 0.01))
    plain = np.tanh(np.arctanh(0.1) + half * np.array([-1, 1]) / (1 - 0.01))
    for shapeless in ((), np.full(9, 0.7), [0.3 + 5e-13, 0.3 - 5e-13], np.r_[np.zeros(99), 9.0],
                      np.r_[np.zeros(99), -9.0], [1e-12, -1e-12], np.r_[-9.0, np.zeros(98), 9.0],
                      np.r_[-8.0, np.zeros(67), np.full(32, 0.25)],
                      np.r_[8.0, np.zeros(67), np.full(32, -0.25)]):  # fmt: skip
        assert stretched_interval(shapeless, around=0.1, spread=spread, level=level) == pytest.approx(tuple(plain))
    low, high = score_interval(0.7, spread, level=level)
    assert (logit(low), logit(high)) == pytest.approx((logit(0.7) - half / 0.21, logit(0.7) + half / 0.21))


def squares(table: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of machines, seeds and what is left, cell by cell; 0 where there is nothing to divide."""
    machines, seeds = table.shape
    of = [0.0, 0.0, 0.0]
    for i in range(machines):
        for j in range(seeds):
            row, column = table[i].mean() - table.mean(), table[:, j].mean() - table.mean()
            for at, each in enumerate((row, column, table[i, j] - table.mean() - row - column)):
                of[at] += each**2
    freedom = (machines - 1, seeds - 1, (machines - 1) * (seeds - 1))
    return tuple(each / n if n else 0.0 for each, n in zip(of, freedom, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (2, 2), (4, 3), (3, 5)])
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_a_crossed_spread_by_hand(shape: tuple[int, int], shared: float) -> None:
    """Satterthwaite over mean squares; seeds count where they differ by more than the rest, clips for one machine."""
    random = np.random.default_rng(shape[0] * 10 + shape[1])
    table = random.normal(size=shape) + shared * random.normal(size=(1, shape[1]))
    (machines, seeds), (of_machines, of_seeds, rest), n = shape, squares(table), table.size
    if machines == 1:
        variance, parts = 0.3 + of_seeds / seeds, [(of_seeds / seeds, seeds - 1)] if seeds > 1 else []
    elif seeds == 1 or of_seeds <= rest:
        variance, parts = of_machines / n, [(of_machines / n, machines - 1)]
    else:
        variance = (of_machines + of_seeds - rest) / n
        parts = [(of_machines / n, machines - 1), (of_seeds / n, seeds - 1),
                 (rest / n, (machines - 1) * (seeds - 1))]  # fmt: skip
    least = min([freedom for _, freedom in parts], default=1)
    below = sum(part**2 / freedom for part, freedom in parts)
    freedom = max(variance**2 / below, least) if below else ENDLESS
    found = crossed_spread(table, clips=0.3)
    assert (found.error, found.freedom) == pytest.approx((variance**0.5, freedom))
    if machines > 1:
        assert crossed_spread(table) == found


@pytest.mark.parametrize("shapes", [((1, 1), (1, 3)), ((1, 2), (1, 2)), ((4, 1), (4, 1)), ((4, 3), (4, 1)),
                                    ((3, 4), (3, 2))])  # fmt: skip
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_a_spread_apart_by_hand(shapes: tuple[tuple[int, int], tuple[int, int]], shared: float) -> None:
    """Machines' differences, and each arm's seeds where they differ by more than the rest does."""
    random = np.random.default_rng(sum(shapes[0]) + 7 * shapes[1][1])
    pair = [random.normal(size=shape) + shared * random.normal(size=(1, shape[1])) for shape in shapes]
    machines = shapes[0][0]
    gains = pair[0].mean(axis=1) - pair[1].mean(axis=1)
    variance, parts = 0.3, []
    if machines > 1:
        variance = gains.var(ddof=1) / machines
        parts = [(variance, machines - 1)]
    for table in pair:
        seeds = table.shape[1]
        if seeds == 1:
            continue
        own, rest = table.mean(axis=0).var(ddof=1) / seeds, squares(table)[2] / table.size
        if machines == 1:
            variance, parts = variance + own, [*parts, (own, seeds - 1)]
        elif own > rest:
            variance += own - rest
            parts += [(own, seeds - 1), (rest, (machines - 1) * (seeds - 1))]
    below = sum(part**2 / freedom for part, freedom in parts)
    freedom = max(variance**2 / below, min(each for _, each in parts)) if below else ENDLESS
    found = spread_apart(*pair, clips=0.3)
    assert (found.error, found.freedom) == pytest.approx((variance**0.5, freedom))


def test_seeds_that_differ_exactly_as_the_rest_does_do_not_count() -> None:
    """All three mean squares are 2: the three degrees of freedom of four machines are left."""
    table = np.array([[4.0, 0], [0, 0], [0, 0], [0, 0]])
    assert squares(table) == (2.0, 2.0, 2.0)
    assert crossed_spread(table) == spread_apart(table, np.zeros((4, 1))) == Spread(0.5, pytest.approx(3))


def test_degrees_of_freedom_of_parts() -> None:
    """Satterthwaite's, at least the smallest part's, at most a thousand million; a part without any does not count."""
    assert spread_of_parts(3.0, [(1.0, 2), (2.0, 4)]).freedom == pytest.approx(9 / (1 / 2 + 4 / 4))
    assert spread_of_parts(4.0, [(1.0, 2), (2.0, 0)]) == Spread(2.0, 32.0)
    assert spread_of_parts(0.1, [(1.0, 3), (1.0, 5)]).freedom == 3.0
    assert spread_of_parts(1.0, [(1e-9, 3)]).freedom == ENDLESS
    assert spread_of_parts(4.0, []) == Spread(2.0, ENDLESS)
    assert spread_of_parts(4.0, [(0.0, 3)]) == Spread(2.0, ENDLESS)


def test_signs_that_are_drawn() -> None:
    """Seventeen differences: the share of drawn patterns as extreme, the observed one counted in; by the seed."""
    gains = np.random.default_rng(3).normal(0.3, 1, size=17)
    for seed, draws in ((0, 9999), (4, 500)):
        signs = 1 - 2 * np.random.default_rng(seed).integers(0, 2, size=(draws, 17), dtype=np.int8)
        extreme = (np.abs(signs @ gains) >= abs(gains.sum()) - 17e-12).sum()
        assert paired_test(gains, draws=draws, seed=seed) == (1 + extreme) / (draws + 1)
    assert paired_test(gains, seed=0) == paired_test(gains)
    sixteen = gains[:16]
    every = 1 - 2 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    assert paired_test(sixteen) == np.mean(np.abs(every @ sixteen) >= abs(sixteen.sum()) - 16e-12)


def test_drawn_signs_come_in_blocks() -> None:
    """More than ten thousand patterns are drawn in blocks, which together are all that were asked for."""
    gains = np.random.default_rng(3).normal(0.3, 1, size=17)
    random = np.random.default_rng(0)
    blocks = [random.integers(0, 2, size=(size, 17), dtype=np.int8) for size in (10_000, 10_000, 3)]
    extreme = sum(int((np.abs((1 - 2 * each) @ gains) >= abs(gains.sum()) - 17e-12).sum()) for each in blocks)
    assert paired_test(gains, draws=20_003) == (1 + extreme) / 20_004


def test_equal_sums_are_ties_however_they_are_rounded() -> None:
    """Flipping 0.1 and 0.2 against 0.3 gives sums that differ in their last digit alone: as extreme, both ways."""
    assert 0.1 + 0.2 != 0.3
    assert paired_test([0.1, 0.2, -0.3]) == 1.0
    assert paired_test([0.3, 0.1, 0.2]) == 2 / 8
    assert paired_test([0.1, 0.2, 0.3, 0.0]) == 4 / 16


def test_how_far_sums_may_differ_and_be_ties() -> None:
    """By 1e-12 a difference and no more: of two by 2e-12, of three by 3e-12, of seventeen by 17e-12; the end counts."""
    for zeros in (0, 1, 2):
        for share, ties in ((0.9, True), (1.1, False)):
            gains = [1.0, share * (2 + zeros) * 0.5e-12, *[0.0] * zeros]
            assert paired_test(gains) == (1.0 if ties else 0.5)
    for k in (8, 13, 20):
        gains = np.array([k * 1e-12, 1e-12])
        assert gains.sum() - 2e-12 == gains[0] - gains[1]
        assert paired_test(gains) == 1.0
    for share, ties in ((0.9, True), (1.1, False)):
        p_value = paired_test([1.0, share * 8.5e-12, *[0.0] * 15], draws=400)
        assert (p_value == 1.0) == ties
    gains = np.array([13e-12, 8.5e-12, *[0.0] * 15])
    assert gains.sum() - 17e-12 == gains[0] - gains[1]
    assert paired_test(gains, draws=400) == 1.0


def test_holm_by_hand() -> None:
    """Times how many are left, never below the one before, at most 1; equal values stay equal; 0 and 1 are values."""
    assert holm([0.02, 0.02, 0.9, 0.6]).tolist() == pytest.approx([0.08, 0.08, 1.0, 1.0])
    assert holm([0.0, 1.0, 0.3]).tolist() == pytest.approx([0.0, 1.0, 0.6])
    random = np.random.default_rng(0)
    for _ in range(5):
        values = random.uniform(size=6) ** 3
        wanted = [
            min(1.0, max((6 - (values < other).sum()) * other for other in values if other <= own)) for own in values
        ]
        assert holm(values).tolist() == pytest.approx(wanted)
    for bad in (-1e-9, 1 + 1e-9):
        with pytest.raises(HarnessError, match="between 0 and 1"):
            holm([bad])
    with pytest.raises(HarnessError, match=r"must be \(n,\)"):
        holm([[0.5]])


def test_what_is_not_finite_is_counted() -> None:
    """The sentence says how many of how many; none at all is refused too."""
    assert finite_array([1, 2], "x").dtype == np.float64
    with pytest.raises(HarnessError, match="There must be x and all must be finite, but 2 of 3 are not"):
        finite_array([1.0, np.nan, np.inf], "x")
    with pytest.raises(HarnessError, match="0 of 0"):
        finite_array([], "x")
    for level in (1e-9, 1 - 1e-9):
        stretched_interval([0.1, 0.2], around=0.0, spread=Spread(0.1, 3), level=level)
