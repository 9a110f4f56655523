"""Tiers: what they never do, whatever the numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from harness.statistics import tiers
from harness.statistics.significance import crossed_spread, holm
from harness.statistics.tiers import Arm, differ, find_tiers, parts_of_score

pytestmark = pytest.mark.filterwarnings("error")  # nothing is divided by nothing on the way

shapes = st.tuples(st.integers(1, 5), st.integers(1, 7))


def table(seed: int, shape: tuple[int, int], *, around: float = 0.6, noise: float = 0.03) -> np.ndarray:
    """Build (seeds, machines) of drawn numbers."""
    return np.random.default_rng(seed).normal(around, noise, size=shape)


def arm(values: np.ndarray, first_seed: int = 0) -> Arm:
    """Build a row whose seeds are counted from one."""
    return Arm(tuple(range(first_seed, first_seed + len(values))), values)


def ranked(arms: list[Arm]) -> list[Arm]:
    """Put rows in order, best first."""
    return sorted(arms, key=lambda each: -each.parts.mean())


@given(seed=st.integers(0, 99), shape=shapes, copies=st.integers(2, 5))
def test_identical_rows_share_a_tier(seed: int, shape: tuple[int, int], copies: int) -> None:
    """Nothing tells a row from its copies."""
    assert find_tiers([arm(table(seed, shape))] * copies) == [1] * copies


@given(seed=st.integers(0, 99), shape=shapes, rows=st.integers(1, 8), spread=st.floats(0, 0.1))
def test_tiers_go_with_the_rank(seed: int, shape: tuple[int, int], rows: int, spread: float) -> None:
    """The first row is in tier 1 and no row is in a better tier than the row before, nor a tier left out."""
    arms = ranked([arm(table(seed * 10 + row, shape, around=0.6 + spread * row)) for row in range(rows)])
    found = find_tiers(arms)
    assert found[0] == 1
    assert all(after - before in (0, 1) for before, after in pairwise(found))


@given(seed=st.integers(0, 99), seeds=st.sampled_from([1, 3, 4, 5]), machines=st.integers(4, 7))
def test_a_clear_gap_separates(seed: int, seeds: int, machines: int) -> None:
    """Two groups of rows 30 points apart, with a noise of one point, are two tiers; two seeds need not show it."""
    high = [arm(table(seed + row, (seeds, machines), around=0.9, noise=0.01)) for row in range(2)]
    low = [arm(table(seed + 50 + row, (seeds, machines), around=0.6, noise=0.01)) for row in range(2)]
    found = find_tiers([*ranked(high), *ranked(low)])
    assert found[2] == found[1] + 1


@given(seed=st.integers(0, 99), shape=shapes.filter(lambda shape: shape != (1, 1)), shift=st.floats(-0.05, 0.05))
def test_p_values_are_the_crossed_spreads(seed: int, shape: tuple[int, int], shift: float) -> None:
    """All rows at once give what `crossed_spread` gives for each alone."""
    differences = np.stack([table(seed + row, shape, around=shift, noise=0.02) for row in range(3)])
    for row, p_value in zip(differences, differ(differences), strict=True):
        assert p_value == pytest.approx(crossed_spread(row.T).p_value(float(row.mean())), abs=1e-9)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("machines", [1, 2, 3, 6])
def test_p_values_are_those_of_one_table_after_the_other(seeds: int, machines: int) -> None:
    """Every shape, with and without luck of seeds and machines: Satterthwaite's freedom and its lower bound occur."""
    random = np.random.default_rng(seeds * 10 + machines)
    rows = random.normal(size=(60, seeds, machines)) + random.normal(size=(60, 1, 1)) * 0.7
    rows[20:40] += random.normal(size=(20, seeds, 1)) * np.linspace(0, 3, 20)[:, None, None]
    rows[30:] += random.normal(size=(30, 1, machines)) * np.linspace(0, 3, 30)[:, None, None]
    if (seeds, machines) == (1, 1):
        assert differ(rows).tolist() == [1.0] * 60
        return
    wanted = [crossed_spread(row.T).p_value(float(row.mean())) for row in rows]
    np.testing.assert_allclose(differ(rows), wanted, rtol=1e-9)


def test_seeds_that_differ_exactly_as_the_rest_does_do_not_count() -> None:
    """Mean squares of 2 each: only the machines' three degrees of freedom are left, here as in `crossed_spread`."""
    table = np.array([[4.0, 0, 0, 0], [0, 0, 0, 0]]) + 1
    (p_value,) = differ(table[None])
    assert p_value == pytest.approx(2 * student.sf(1.5 / 0.5, 3))
    assert p_value == pytest.approx(crossed_spread(table.T).p_value(1.5))


def test_rounding_ends_where_it_is_said_to() -> None:
    """A difference, or an error, of exactly 1e-12 is one of rounding; a little more is not."""
    assert differ(np.full((1, 1, 2), 1e-12)).tolist() == [1.0]
    assert differ(np.full((1, 1, 2), 1.01e-12)).tolist() == [0.0]
    mean, error = np.full(4, 0.1), np.array([1e-12, 1.01e-12, 0.0, 0.1])
    assert tiers._p_values(mean, error**2, np.full(4, 1.0)).tolist() == pytest.approx(
        [0.0, 2 * student.sf(0.1 / 1.01e-12, 1), 0.0, 0.5], rel=1e-9
    )


def test_one_machine_and_one_seed_tell_nothing_apart() -> None:
    """Two numbers alone share a tier, however far apart they are."""
    assert find_tiers([arm(np.array([[0.9]])), arm(np.array([[0.1]]))]) == [1, 1]


def test_rows_whose_seeds_do_not_pair_are_compared_by_their_means() -> None:
    """Seeds 0 to 2 against 7 to 9, or against one seed: averaged, over machine types alone; a gap still shows."""
    high, low = table(0, (3, 7), around=0.9, noise=0.01), table(1, (3, 7), around=0.6, noise=0.01)
    assert find_tiers([arm(high), arm(low, first_seed=7)]) == [1, 2]
    assert find_tiers([arm(high), arm(low[:1])]) == [1, 2]
    assert find_tiers([arm(high), arm(high, first_seed=7)]) == [1, 1]


def test_one_shared_seed_is_no_pairing() -> None:
    """Rows that share one seed of three are compared by their means: what that one seed says does not decide."""
    high, low = table(0, (3, 7), around=0.9, noise=0.01), table(1, (3, 7), around=0.6, noise=0.01)
    low[0] = high[2]  # seed 2 of both: no difference at all
    assert find_tiers([arm(high), arm(low, first_seed=2)]) == [1, 2]


def test_a_row_without_a_score_has_no_tier() -> None:
    """What has no official score is in no tier, and the others are as without it."""
    high, low = arm(table(0, (3, 7), around=0.9, noise=0.01)), arm(table(1, (3, 7), around=0.6, noise=0.01))
    assert find_tiers([high, low, None]) == [1, 2, None]
    assert find_tiers([]) == []


def test_machines_that_one_row_lacks_are_left_out() -> None:
    """A machine type that is undefined in one of two rows is compared in neither."""
    low = table(1, (3, 7), around=0.6, noise=0.01)
    low[:, 0] = np.nan
    assert find_tiers([arm(table(0, (3, 7), around=0.9, noise=0.01)), arm(low)]) == [1, 2]


def test_rows_without_a_machine_in_common_are_not_told_apart() -> None:
    """Where no machine type is defined in both rows nothing is compared, and other rows are as without them."""
    high, low, lone = (table(at, (3, 6), around=around, noise=0.01) for at, around in enumerate((0.9, 0.6, 0.1)))
    high[:, 4:], low[:, 4:], lone[:, :4] = np.nan, np.nan, np.nan
    assert find_tiers([arm(high), arm(low), arm(lone)]) == [1, 2, 2]
    assert find_tiers([arm(high), arm(lone)]) == [1, 1]
    others = [arm(lone), arm(lone[:2]), arm(lone, first_seed=8)]
    assert find_tiers([arm(high), *others, arm(low)]) == [1, 1, 1, 1, 2]


@given(seed=st.integers(0, 99), machines=st.integers(2, 7))
def test_parts_average_to_the_score(seed: int, machines: int) -> None:
    """The parts of a harmonic mean average to it, but for a correction far below the spread over machine types."""
    h_means = table(seed, (1, machines), noise=0.02)
    assert parts_of_score(h_means).mean() == pytest.approx(machines / (1 / h_means).sum(), abs=0.005)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9))
def test_noise_alone_makes_no_order(seed: int) -> None:
    """Of 40 boards of ten equal systems, seven machine types and three seeds, at most a tenth show a second tier."""
    split = 0
    for board in range(40):
        random = np.random.default_rng([seed, board])
        machine = random.normal(0.6, 0.05, size=7)
        rows = [arm(machine + random.normal(0, 0.02, size=7) + random.normal(0, 0.02, size=(3, 7))) for _ in range(10)]
        split += find_tiers(ranked(rows))[-1] != 1
    assert split <= 4


def tiers_by_hand(arms: list[Arm]) -> list[int]:
    """Tiers row by row: paired where two seeds or more are shared, else by means; machines that both rows have."""
    found, leader, tier = [1] * len(arms), 0, 1
    while leader < len(arms) - 1:
        p_values = []
        for row in arms[leader + 1 :]:
            top = arms[leader]
            both = np.isfinite(top.parts).all(axis=0) & np.isfinite(row.parts).all(axis=0)
            shared = sorted(set(top.seeds) & set(row.seeds))
            if len(shared) > 1:
                gaps = np.array([row.parts[row.seeds.index(one)] - top.parts[top.seeds.index(one)] for one in shared])
            else:
                gaps = (row.parts.mean(axis=0) - top.parts.mean(axis=0))[None]
            gaps = gaps[:, both]
            p = crossed_spread(gaps.T).p_value(float(gaps.mean())) if gaps.size > 1 else 1.0
            p_values.append(min(1.0, p * (len(arms) - leader) / 2))
        worse = [at for at, p in enumerate(holm(p_values)) if p < 0.05]
        if not worse:
            break
        leader, tier = leader + 1 + worse[0], tier + 1
        found[leader:] = [tier] * (len(arms) - leader)
    return found


def test_tiers_by_hand() -> None:
    """Boards of rows with other seeds, one shared seed, and machine types that some lack; two tiers or more occur."""
    seen = set()
    for board in range(25):
        random = np.random.default_rng(board)
        machines = random.normal(0, 0.05, size=6)
        rows = []
        for row in range(7):
            seeds = [(0, 1, 2), (0, 1), (2, 3, 4), (5,), (1, 2, 7)][random.integers(5)]
            parts = 0.7 - 0.025 * row + machines + random.normal(0, 0.02, size=(len(seeds), 6))
            parts[random.integers(len(seeds)), random.integers(6)] = np.nan if random.uniform() < 0.4 else 0.6
            rows.append(Arm(seeds, parts))
        found = find_tiers([rows[0], None, *rows[1:]])
        assert [found[0], *found[2:]] == tiers_by_hand(rows)
        assert found[1] is None
        seen.add(found[-1])
    assert len(seen) > 1


def test_a_row_exactly_as_worse_as_the_level_is_not_worse() -> None:
    """Of two rows the only corrected p-value is the plain one; a tier begins below 5 %, not at it."""
    random = np.random.default_rng(0)
    gaps = random.normal(0.02, 0.02, size=5)
    for scale, tier in ((0.9, 1), (1.1, 2)):
        low, high = 0.0, 1.0
        for _ in range(60):  # the shift at which the p-value is 5 %
            shift = (low + high) / 2
            p = crossed_spread((gaps - gaps.mean() + shift)[:, None]).p_value(shift)
            low, high = (shift, high) if p > 0.05 else (low, shift)
        row = Arm((0,), -(gaps - gaps.mean() + scale * low)[None])
        assert find_tiers([Arm((0,), np.zeros((1, 5))), row]) == [1, tier]


def test_a_tier_begins_below_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corrected p-value that is exactly the level is not below it."""
    gaps = np.random.default_rng(0).normal(-0.02, 0.02, size=5)
    (p_value,) = differ(gaps[None, None])
    for level, tier in ((p_value, 1), (np.nextafter(p_value, 1), 2)):
        monkeypatch.setattr(tiers, "SURE", level)
        assert find_tiers([Arm((0,), np.zeros((1, 5))), Arm((0,), gaps[None])]) == [1, tier]


def test_parts_by_hand() -> None:
    """Jackknife of the harmonic mean of the defined machines, one alone its own part, none below the rule's epsilon."""
    h_means = np.random.default_rng(0).uniform(0.3, 1, size=(6, 4))
    h_means[1, 2] = np.nan
    h_means[2, :3] = np.nan
    h_means[3] = np.nan
    h_means[4, 1:3] = np.nan
    for row, found in zip(h_means, parts_of_score(h_means), strict=True):
        there = row[np.isfinite(row)]
        assert np.isnan(found[np.isnan(row)]).all()
        for at, value in enumerate(row):
            if not np.isfinite(value):
                continue
            left = there[there != value]
            if not left.size:
                assert found[at] == value
                continue
            whole, less = there.size / (1 / there).sum(), left.size / (1 / left).sum()
            assert found[at] == pytest.approx(there.size * whole - left.size * less)
    assert np.isfinite(parts_of_score(np.array([[0.0, 0.5, 0.6]]))).all()


def test_differences_without_spread() -> None:
    """Equal differences are sure, none at all is no evidence; a rounding error is neither a spread nor a difference."""
    for shape in ((3, 4), (1, 4), (3, 1)):
        rows = np.stack([np.full(shape, 0.01), np.zeros(shape), np.full(shape, 5e-13)])
        assert differ(rows).tolist() == [0.0, 1.0, 1.0]
    assert differ(np.full((2, 1, 1), 0.3)).tolist() == [1.0, 1.0]
