"""How many seeds show a difference, from what made it vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t as student

from harness.statistics.power import (
    MOST_SEEDS,
    SeedsNeeded,
    Variation,
    capped,
    seeds_needed,
    seeds_to_reject,
    variation,
    variation_apart,
)
from harness.statistics.significance import Spread, crossed_spread, paired_test, spread_apart

pytestmark = pytest.mark.filterwarnings("error")  # nothing is divided by nothing on the way

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


def shows(distance: float, error: float, freedom: float, *, level: float, power: float) -> bool:
    """A difference as large as both quantiles' errors together."""
    return distance >= (student.ppf((1 + level) / 2, freedom) + student.ppf(power, freedom)) * error


def fewest(distance: float, parts: tuple[float, float, float], machines: int, **asked) -> tuple[int | None, bool]:
    """Seeds needed, one after the other; freedom by Satterthwaite over mean squares, three for each further seed."""
    of_machines, of_seeds, rest = parts
    per_seed = asked.pop("per_seed", None)
    least = asked.pop("least", 2)
    for n in [*range(max(2, least), 101), 1_000_000]:
        if machines == 1:
            both = of_seeds + rest
            variance, squares, floor = of_machines + both / n, [(both / n, n - 1)], n - 1
        elif rest + machines * of_seeds <= rest:
            variance = (rest + n * of_machines) / (machines * n)
            squares, floor = [(variance, machines - 1)], machines - 1
        else:
            cells = machines * n
            squares = [((rest + n * of_machines) / cells, machines - 1), ((rest + machines * of_seeds) / cells, n - 1),
                       (rest / cells, (machines - 1) * (n - 1))]  # fmt: skip
            variance = squares[0][0] + squares[1][0] - squares[2][0]
            floor = min(machines - 1, n - 1)
        below = sum(part**2 / free for part, free in squares)
        freedom = max(variance**2 / below, floor) if below else 1e9
        freedom = min(freedom, 1e9)
        if per_seed is not None and n <= 100:
            freedom = min(freedom, per_seed * (n - 1))
        elif machines > 1:
            freedom = min(freedom, 3 * (n - 1))
        if shows(distance, variance**0.5, freedom, **asked):
            return (n, True) if n <= 100 else (None, True)
    return None, False


@pytest.mark.parametrize("machines", [1, 2, 7])
@pytest.mark.parametrize("parts", [(0.2, 1.0, 0.5), (0.0, 1.0, 0.0), (0.05, 0.0, 2.0), (0.5, 0.4, 0.0)])
def test_seeds_needed_by_hand(machines: int, parts: tuple[float, float, float]) -> None:
    """The first number of seeds whose error, times both quantiles, the distance reaches; none, or more than 100."""
    vary = Variation(machines, *parts, known=True)
    for distance in (0.1, 0.35, 0.8, 1.7, 5.0):
        for asked in ({"level": 0.95, "power": 0.8}, {"level": 0.9, "power": 0.6, "least": 6},
                      {"level": 0.99, "power": 0.9, "per_seed": 2.0}):  # fmt: skip
            found = seeds_needed(distance, vary, **asked)
            assert (found.count, found.possible) == fewest(distance, parts, machines, **asked)
            assert found.known
        assert seeds_needed(distance, vary) == seeds_needed(distance, vary, level=0.95, power=0.8, least=2)


@pytest.mark.parametrize("machines", [1, 2, 7])
@pytest.mark.parametrize("seeds", [2, 3, 17, 99, 100])
def test_so_many_seeds_show_what_they_reach_and_no_less(machines: int, seeds: int) -> None:
    """A distance of exactly both quantiles' errors is shown; the next smaller number takes a seed more, up to 100."""
    vary = Variation(machines, of_machines=0.0, of_seeds=0.3, of_rest=0.9, known=True)
    spread = vary.spread(seeds)
    reach = spread.half_width(0.95) + float(stdtrit(spread.freedom, 0.8)) * spread.error
    assert seeds_needed(reach, vary) == SeedsNeeded(seeds, possible=True, known=True)
    more = SeedsNeeded(seeds + 1 if seeds < 100 else None, possible=True, known=True)
    assert seeds_needed(np.nextafter(reach, 0), vary) == more


@pytest.mark.parametrize("machines", [1, 3])
def test_no_difference_is_never_shown(machines: int) -> None:
    """Nor one of rounding, though nothing varied; and of one seed nothing is known, however large it is."""
    still = Variation(machines, 0.0, 0.0, 0.0, known=True)
    for distance in (0.0, 1e-12):
        assert seeds_needed(distance, still) == SeedsNeeded(None, possible=False, known=True, machines=None)
    assert seeds_needed(1.1e-12, still) == SeedsNeeded(2, possible=True, known=True)
    for distance in (0.0, 0.5):
        unknown = SeedsNeeded(None, possible=False, known=False, machines=None)
        assert seeds_needed(distance, Variation(machines, 0.0, 0.0, 0.0, known=False)) == unknown


def test_machines_needed_by_hand() -> None:
    """The first number of machines above those tested that shows it with ten seeds each; up to a thousand."""
    vary = Variation(2, of_machines=1.0, of_seeds=0.01, of_rest=0.2, known=True)
    for distance, asked in ((2.0, {}), (0.6, {}), (0.35, {"per_seed": 2.0}), (0.2, {"level": 0.8, "power": 0.7})):
        found = seeds_needed(distance, vary, **asked)
        assert found.count is None and not found.possible
        levels = {"level": 0.95, "power": 0.8, **asked}
        per_seed = levels.pop("per_seed", None)
        for machines in range(3, 1001):
            spread = Variation(machines, 1.0, 0.01, 0.2, known=True).spread(10, per_seed=per_seed)
            if shows(distance, spread.error, spread.freedom, **levels):
                break
        assert found.machines == machines
        said = found.sentence("it")
        assert said.endswith(f"it takes more machines: about {machines} of them, with 10 seeds each")
    assert seeds_needed(0.05, vary).machines is None
    plain = Variation(2, of_machines=1.0, of_seeds=0.0, of_rest=0.0, known=True)
    reach = (student.ppf(0.975, 27) + student.ppf(0.8, 27)) / 1000**0.5  # ten seeds have 27 degrees of freedom
    assert seeds_needed(reach * (1 + 1e-9), plain).machines == 1000
    assert seeds_needed(reach * (1 - 1e-9), plain).machines is None
    assert seeds_needed(1e-12, plain).machines is None


def test_components_by_hand() -> None:
    """Mean squares over the cells, none below 0, of one table and of two whose seeds do not pair."""
    random = np.random.default_rng(0)
    for shape in ((3, 4), (5, 2), (2, 3), (2, 2), (2, 1), (1, 4), (1, 2), (4, 1), (1, 1)):
        for shared in (0.0, 2.0):
            table, other = (random.normal(size=size) + shared * random.normal(size=(1, size[1]))
                            for size in (shape, (shape[0], shape[1] + 1)))  # fmt: skip

            def components(values: np.ndarray) -> tuple[float, float]:
                rows, columns = values.shape
                if columns == 1:
                    return 0.0, 0.0
                seeds = values.mean(axis=0).var(ddof=1)
                if rows == 1:
                    return seeds, 0.0
                left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
                rest = (left**2).sum() / ((rows - 1) * (columns - 1))
                return max(seeds - rest / rows, 0), rest

            seeds, rest = components(table)
            rows, columns = shape
            machines = 0.7 if rows == 1 else max(table.mean(axis=1).var(ddof=1) - rest / columns, 0)
            found = variation(table, clips=0.7)
            assert (found.machines, found.known) == (rows, columns > 1)
            assert (found.of_machines, found.of_seeds, found.of_rest) == pytest.approx((machines, seeds, rest))
            more, left = components(other)
            apart = variation_apart(table, other, clips=0.7)
            gains = table.mean(axis=1) - other.mean(axis=1)
            machines = 0.7 if rows == 1 else max(gains.var(ddof=1) - rest / columns - left / (columns + 1), 0)
            assert (apart.machines, apart.known) == (rows, columns > 1)
            assert (apart.of_machines, apart.of_seeds, apart.of_rest) == pytest.approx(
                (machines, seeds + more, rest + left)
            )


def test_freedom_is_capped_by_few_seeds_of_several_machines() -> None:
    """Three for each seed beyond the first; one seed, or one machine, is left as it is."""
    spread = Spread(0.1, 14.0)
    assert [capped(spread, seeds, machines=2).freedom for seeds in (1, 2, 3, 5, 6)] == [14, 3, 6, 12, 14]
    assert capped(spread, 2, machines=1) == spread
    assert capped(spread, 2, machines=2).error == 0.1
    vary = Variation(4, of_machines=1.0, of_seeds=0.0, of_rest=0.0, known=True)
    assert vary.spread(1, per_seed=2.0).freedom == 2.0


def test_seeds_to_reject_by_hand() -> None:
    """The first number of seeds at which 2 / 2^pairs lies below the level; at it is not enough."""
    for machines in (1, 2, 3, 7):
        for level in (0.9, 0.95, 0.9375, 0.99, 0.75):
            seeds = next(n for n in range(1, 99) if 2 / 2 ** (machines * n) < 1 - level - 1e-15)
            assert seeds_to_reject(machines, level=level) == seeds
    assert seeds_to_reject(1) == seeds_to_reject(1, level=0.95) == 6


def test_what_is_said_of_seeds() -> None:
    """Each answer has its sentence."""
    assert SeedsNeeded(7, possible=True, known=True).sentence("it") == "about 7 seeds would show it"
    assert SeedsNeeded(None, possible=False, known=True).sentence("it").endswith("it takes more machines and clips")


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
