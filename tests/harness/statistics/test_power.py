"""How many seeds show a difference, from what made it vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from harness.statistics.power import (
    MOST_SEEDS,
    Variation,
    capped,
    seeds_needed,
    seeds_to_reject,
    variation,
    variation_apart,
)
from harness.statistics.significance import crossed_spread, paired_test, spread_apart

FINE = {"allow_nan": False, "allow_infinity": False}


def layout(*, machines: float, seeds: float, rest: float, shape: tuple[int, int], draw: int = 0) -> np.ndarray:
    """Draw differences over machines and seeds with known variance components."""
    random = np.random.default_rng(draw)
    rows, columns = shape
    return (
        random.normal(size=(rows, 1)) * machines**0.5
        + random.normal(size=(1, columns)) * seeds**0.5
        + random.normal(size=shape) * rest**0.5
    )


@pytest.mark.parametrize(("machines", "level"), [(1, 0.95), (2, 0.95), (7, 0.95), (1, 0.975), (5, 0.9875)])
def test_no_fewer_seeds_are_named_than_the_sign_test_needs(machines: int, level: float) -> None:
    """With as many seeds as named, flipping signs can reject; with one fewer it cannot, however large the gain."""
    seeds = seeds_to_reject(machines, level=level)
    assert paired_test(np.ones(machines * seeds)) < 1 - level
    assert seeds == 1 or paired_test(np.ones(machines * (seeds - 1))) >= 1 - level
    vary = Variation(machines, 0.0, 1e-9, 1e-9, known=True)
    assert seeds_needed(0.5, vary, level=level, least=seeds).count == max(2, seeds)


def test_components_are_found_again() -> None:
    """Of many machines and seeds the three variances come back as they were put in."""
    found = variation(layout(machines=4.0, seeds=1.0, rest=2.0, shape=(600, 600)))
    assert (found.of_machines, found.of_seeds, found.of_rest) == pytest.approx((4.0, 1.0, 2.0), rel=0.15)


@pytest.mark.parametrize("shape", [(7, 3), (2, 2), (5, 10), (4, 1)])
@pytest.mark.parametrize("draw", range(5))
def test_as_many_seeds_as_there_are_give_the_spread_that_was_measured(shape: tuple[int, int], draw: int) -> None:
    """Where no component was cut off at 0, the components predict the measured spread, as intervals count it."""
    table = layout(machines=9.0, seeds=4.0, rest=0.01, shape=shape, draw=draw)
    measured = capped(crossed_spread(table), shape[1], machines=shape[0])
    predicted = variation(table).spread(shape[1])
    assert (predicted.error, predicted.freedom) == pytest.approx((measured.error, measured.freedom))


def test_more_seeds_are_needed_for_less() -> None:
    """Seeds needed fall with the distance, and a gain as large as the seeds' spread takes a few."""
    vary = Variation(machines=7, of_machines=0.0, of_seeds=1.0, of_rest=0.0, known=True)
    counts = [seeds_needed(distance, vary).count for distance in (0.5, 1.0, 2.0)]
    assert counts == sorted(counts, reverse=True)  # type: ignore[type-var]
    # R: power.t.test(delta = 1, sd = 1, type = "one.sample", power = 0.8) says 9.94
    assert counts[1] in (10, 11)


def test_what_takes_too_many_or_never_is_said() -> None:
    """Beyond the cap it is "more than 100"; where machines alone hide it, no number of seeds helps."""
    runs = Variation(machines=7, of_machines=0.0, of_seeds=1.0, of_rest=0.0, known=True)
    assert seeds_needed(0.1, runs).sentence("it") == f"more than {MOST_SEEDS} seeds would be needed to show it"
    types = Variation(machines=3, of_machines=1.0, of_seeds=1.0, of_rest=0.0, known=True)
    assert "no number of seeds would show it" in seeds_needed(0.1, types).sentence("it")
    assert not seeds_needed(0.0, runs).possible
    single = variation([[0.1], [0.2]])
    assert "one seed cannot say" in seeds_needed(1.0, single).sentence("it")


def test_few_seeds_count_no_more_freedom_than_their_interval() -> None:
    """Fifteen machines and two seeds have three degrees of freedom, as the interval has: more seeds are needed then."""
    vary = Variation(machines=15, of_machines=1.0, of_seeds=0.0, of_rest=0.0, known=True)
    assert [vary.spread(seeds).freedom for seeds in (2, 3, 9)] == [3, 6, 14]
    assert [vary.spread(seeds, per_seed=2).freedom for seeds in (2, 3, 9)] == [2, 4, 14]
    distance = (student.ppf(0.975, 14) + student.ppf(0.8, 14)) / 15**0.5 + 1e-6  # two seeds, were all 14 counted
    assert seeds_needed(distance, vary).count == 6
    assert seeds_needed(distance, vary, per_seed=2).count == 8
    alone = Variation(machines=1, of_machines=1.0, of_seeds=0.01, of_rest=0.0, known=True)
    assert alone.spread(2).freedom > 3
    assert alone.spread(2, per_seed=2).freedom == 2


def test_where_no_seeds_suffice_machines_are_counted() -> None:
    """Machines that differ by 1 need ten of them for a mean of 1; a lone machine, or a lucky run, cannot say."""
    types = Variation(machines=3, of_machines=1.0, of_seeds=0.0, of_rest=0.0, known=True)
    needed = seeds_needed(1.0, types)
    # R: power.t.test(delta = 1, sd = 1, type = "one.sample", power = 0.8) says 9.94
    assert (needed.possible, needed.machines) in ((False, 10), (False, 11))
    assert f"about {needed.machines} of them" in needed.sentence("it")
    assert (seeds_needed(0.5, types).machines or 0) > 3 * (needed.machines or 0)
    alone = Variation(machines=1, of_machines=100.0, of_seeds=0.0, of_rest=0.0, known=True)
    assert seeds_needed(1.0, alone).machines is None
    luck = Variation(machines=3, of_machines=9.0, of_seeds=100.0, of_rest=0.0, known=True)
    assert seeds_needed(1.0, luck).machines is None


@given(st.lists(st.lists(st.floats(-1, 1, **FINE), min_size=3, max_size=3), min_size=2, max_size=6))
def test_no_component_is_below_nothing(rows: list[list[float]]) -> None:
    """Variances are 0 or more, whatever the numbers are."""
    found = variation(rows)
    assert min(found.of_machines, found.of_seeds, found.of_rest) >= 0


class TestApart:
    def test_the_order_of_seeds_that_do_not_pair_does_not_matter(self) -> None:
        """Exchanging one arm's seeds among themselves changes neither spread nor components."""
        arm, reference = (
            layout(machines=1, seeds=1, rest=1, shape=(5, 4)),
            layout(machines=1, seeds=1, rest=1, shape=(5, 3), draw=1),
        )
        one, other = spread_apart(arm, reference), spread_apart(arm[:, ::-1], reference)
        assert (one.error, one.freedom) == pytest.approx((other.error, other.freedom))

    def test_many_machines_leave_welchs_test_over_seeds(self) -> None:
        """Where seeds alone differ, the error is that of two independent means, and so are the degrees of freedom."""
        a, b = np.array([0.1, -0.2, 0.4, 0.0]), np.array([0.3, -0.3, 0.2])
        spread = spread_apart(np.tile(a, (50, 1)), np.tile(b, (50, 1)))
        parts = [values.var(ddof=1) / values.size for values in (a, b)]
        assert spread.error == pytest.approx(sum(parts) ** 0.5)
        welch = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
        assert spread.freedom == pytest.approx(welch)

    def test_one_machine_counts_its_clips_and_both_arms_seeds(self) -> None:
        """One machine: the variance over clips, and each arm's variance over its seeds."""
        spread = spread_apart([[0.0, 0.2]], [[0.0, 0.4]], clips=0.01)
        assert spread.error == pytest.approx((0.01 + 0.02 / 2 + 0.08 / 2) ** 0.5)

    def test_components_of_both_arms_add_up(self) -> None:
        """Each arm's seeds bring a variance of their own."""
        arm = layout(machines=0.0, seeds=1.0, rest=0.5, shape=(300, 300))
        reference = layout(machines=0.0, seeds=2.0, rest=0.5, shape=(300, 200), draw=1)
        found = variation_apart(arm, reference)
        assert (found.of_seeds, found.of_rest) == pytest.approx((3.0, 1.0), rel=0.2)
        assert found.of_machines < 0.05
