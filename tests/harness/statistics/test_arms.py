"""Draws of clips, both arms side by side, their comparison and one system's estimate, each written a second time."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.metrics.measures import section_numbers
from benchmarks.metrics.rules import metric_rule
from benchmarks.metrics.sections import split_sections
from harness.errors import HarnessError
from harness.statistics.arms import Arms, measured_arms, pseudo_values, recorded_arms
from harness.statistics.bootstrap import draw_clips, draw_counts, generator, machine_places, pair_sections
from harness.statistics.comparison import compare_arms, compare_numbers
from harness.statistics.estimate import estimate_score
from harness.statistics.power import capped, variation, variation_apart
from harness.statistics.significance import (
    Spread,
    crossed_spread,
    paired_test,
    score_interval,
    spread_apart,
    stretched_interval,
)

RULE = "dcase2022"
KINDS = (("source", "normal", 7), ("source", "anomaly", 5), ("target", "normal", 4), ("target", "anomaly", 6))


def clips(seed: int, *, run: int, machines: str = "abc", gain: float = 1.0) -> pd.DataFrame:
    """Scored clips of one run: machine b has two sections, machine z only normal clips."""
    random = np.random.default_rng(seed)
    rows = [
        (run, "dcase2023", machine, section, domain, condition, f"{machine}{section}{domain}{condition}{at}")
        for machine in machines
        for section in (("00", "01") if machine == "b" else ("00",))
        for domain, condition, count in KINDS
        if machine != "z" or condition == "normal"
        for at in range(count)
    ]
    table = pd.DataFrame(rows, columns=["seed", "dataset", "machine", "section", "domain", "condition", "clip_id"])
    worth = gain * (table["machine"].map({"a": 0.3, "b": 1.0, "c": 1.4, "z": 0.0}))
    return table.assign(score=random.normal(size=len(table)) + worth * (table["condition"] == "anomaly"))


def arm(first: int, runs: tuple[int, ...] = (0, 1, 2), **options) -> pd.DataFrame:
    """An arm of several runs, its rows in no order."""
    table = pd.concat([clips(first + at, run=run, **options) for at, run in enumerate(runs)])
    return table.sample(frac=1, random_state=0)


def draws(n: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """How often each of n items is among n drawn ones, a column a resample."""
    cells = random.integers(0, n, size=(n, resamples), dtype=np.int64)
    return np.array([[(cells[:, b] == i).sum() for b in range(resamples)] for i in range(n)])


def named(seed: int, *names: str) -> np.random.Generator:
    """A generator of a seed and of names."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=[zlib.crc32(name.encode()) for name in names]))


def with_recorded(counts: np.ndarray) -> np.ndarray:
    """Counts with a first column in which everything counts once."""
    return np.hstack([np.ones((len(counts), 1)), counts])


def test_draws_by_hand() -> None:
    """Draw n of n with replacement, by a generator of seed and names; clips kind by kind, ordered by name."""
    np.testing.assert_array_equal(draw_counts(5, 9, named(3, "x")), draws(5, 9, named(3, "x")))
    assert generator(3, "a", "b").integers(1 << 60) == named(3, "a", "b").integers(1 << 60)
    assert draw_counts(1, 1, generator(0)).tolist() == [[1]]
    for section in split_sections(arm(0, (0,))):
        random = named(4, *section.key)
        found = draw_clips(section, resamples=6, seed=4)
        for kind in ("source/False", "source/True", "target/False", "target/True"):
            domain, anomalous = kind.split("/")
            places = np.flatnonzero((section.domains == domain) & (section.anomalous == (anomalous == "True")))
            places = places[np.argsort(section.ids[places].astype(str))]
            np.testing.assert_array_equal(found[places], draws(len(places), 6, random))


def test_the_second_systems_clips_stand_as_the_firsts() -> None:
    """Scores, domains and conditions follow the ids; sections that one alone has are named."""
    one, other = (split_sections(arm(first, (0,))) for first in (0, 9))
    other = [replace(each, ids=each.ids.copy()) for each in other]
    for mine, theirs in pair_sections(one, other):
        score = dict(zip(*[getattr(next(o for o in other if o.key == mine.key), x) for x in ("ids", "scores")],
                         strict=True))  # fmt: skip
        assert theirs.scores.tolist() == [score[name] for name in mine.ids]
        assert (theirs.ids == mine.ids).all() and (theirs.domains == mine.domains).all()
    with pytest.raises(HarnessError, match="one alone scored dcase2023 c 00"):
        pair_sections(one, other[:-1])
    wrong = [*other[:-1], replace(other[-1], domains=other[-1].domains[::-1])]
    with pytest.raises(HarnessError, match="same domain and condition of a clip, but differ for c00"):
        pair_sections(one, wrong)
    assert machine_places([each.key for each in one])["dcase2023", "b"].tolist() == [1, 2]


def test_arms_by_hand() -> None:
    """Every number of every seed and section on all clips, then on resamples that all seeds and both arms share."""
    of_arm, of_reference = arm(0, (4, 1), machines="abcz"), arm(50, (4, 1), machines="abcz")
    arms = measured_arms(of_arm, of_reference, RULE, resamples=5, seed=3)
    assert (arms.seeds, arms.resamples) == (((1, 4), (1, 4)), 5)
    for table, values in zip((of_arm, of_reference), arms.values, strict=True):
        assert values.shape == (2, 5, 3, 6)
        for s, run in enumerate((1, 4)):
            for at, section in enumerate(split_sections(table[table["seed"] == run])):
                assert section.key == arms.sections[at]
                counts = with_recorded(draw_clips(section, resamples=5, seed=3))
                np.testing.assert_allclose(values[s, at], section_numbers(section, RULE, counts), rtol=1e-12)
    assert {key[1]: at.tolist() for key, at in arms.places().items()} == {"a": [0], "b": [1, 2], "c": [3]}
    drawn = with_recorded(draws(3, 5, named(8, "machines")))
    np.testing.assert_array_equal(arms.weights(8), [drawn[0], drawn[1], drawn[1], drawn[2], np.zeros(6)])
    half = Arms(arms.seeds, arms.sections, (arms.values[0], np.full_like(arms.values[1], np.nan)))
    assert half.places().keys() == arms.places().keys()
    some = [values.copy() for values in arms.values]
    for values in some:
        values[1, 0, 2] = np.nan
    assert Arms(arms.seeds, arms.sections, tuple(some)).places().keys() == arms.places().keys()


def test_recorded_arms_by_hand() -> None:
    """Numbers stand by seed and sorted section; nothing is resampled, and every machine with a number counts once."""
    keys = [("dcase2023", machine, "00") for machine in "cab"]
    numbers = [{run: {key: np.random.default_rng([of, run, at]).uniform(0.5, 1, 3) for at, key in enumerate(keys)}
                for run in (2, 0)} for of in range(2)]  # fmt: skip
    arms = recorded_arms(*numbers, RULE)
    assert (arms.seeds, arms.resamples, arms.sections) == (((0, 2), (0, 2)), 0, tuple(sorted(keys)))
    assert arms.weights(0).tolist() == [[1.0]] * 3
    for of, values in enumerate(arms.values):
        assert values[..., 0].tolist() == [[numbers[of][run][key].tolist() for key in sorted(keys)] for run in (0, 2)]
    less = {run: {key: of[key] for key in keys[:2]} for run, of in numbers[1].items()}
    with pytest.raises(HarnessError, match="one alone scored dcase2023 b 00"):
        recorded_arms(numbers[0], less, RULE)
    with pytest.raises(HarnessError, match="one alone has 2"):
        recorded_arms(numbers[0], {0: numbers[1][0]}, RULE)
    assert recorded_arms(numbers[0], {7: numbers[1][0]}, RULE, paired=False).seeds == ((0, 2), (7,))
    lone = [{0: {keys[0]: of[0][keys[0]]}} for of in numbers]
    with pytest.raises(HarnessError, match="two machines with metrics, but has 1"):
        compare_numbers(*lone, RULE)


@pytest.mark.parametrize("rule", ["dcase2020", "dcase2021", "dcase2022"])
def test_pseudo_values_by_hand(rule) -> None:
    """Of n machines: n times the official score less n - 1 times that without one; of one machine the score itself."""
    numbers = metric_rule(rule).numbers
    values = np.random.default_rng(0).uniform(0.4, 1, size=(2, 4, len(numbers)))
    places = {("d", "a"): np.array([0]), ("d", "b"): np.array([1, 2]), ("d", "c"): np.array([3])}

    def official(of_seed: np.ndarray) -> float:
        return float(metric_rule(rule).official(of_seed[..., None], np.ones((len(of_seed), 1)))[0])

    wanted = [[3 * official(one) - 2 * official(np.delete(one, at, axis=0)) for one in values]
              for at in places.values()]  # fmt: skip
    np.testing.assert_allclose(pseudo_values(values, places, rule), wanted, rtol=1e-12)
    alone = pseudo_values(values, {("d", "a"): np.arange(4)}, rule)
    np.testing.assert_allclose(alone, [[official(one) for one in values]], rtol=1e-12)


def by_hand(arms: Arms, *, seed: int, level: float, paired: bool) -> dict[str, Any]:
    """A comparison, resample by resample."""
    rule, b = metric_rule(RULE), arms.resamples
    places, weights = arms.places(), arms.weights(seed)
    names = ("seeds", "seeds" if paired else "reference seeds")
    if b:
        drawn = [with_recorded(draws(len(own), b, named(seed, name)))
                 for own, name in zip(arms.seeds, names, strict=True)]  # fmt: skip
    else:
        drawn = [np.ones((len(own), 1)) for own in arms.seeds]

    def difference(of: list[np.ndarray], often: list[np.ndarray]) -> np.ndarray:
        if paired:
            return np.array([np.mean([often[0][s, c] * (of[0][s, c] - of[1][s, c]) for s in range(len(of[0]))])
                             for c in range(b + 1)])  # fmt: skip
        means = [np.array([np.mean(each[:, c] * one[:, c]) for c in range(b + 1)])
                 for each, one in zip(of, often, strict=True)]  # fmt: skip
        return means[0] - means[1]

    def spread_of(pair: list[np.ndarray], clips_: float) -> Spread:
        return crossed_spread(pair[0] - pair[1], clips=clips_) if paired else spread_apart(*pair, clips=clips_)

    once = [np.ones_like(each) for each in drawn]
    official = [np.array([rule.official(one, weights) for one in values]) for values in arms.values]
    samples, plain = difference(official, drawn), difference(official, once)
    over_clips = float(plain[1:].var()) if b else 0.0
    pseudo = [pseudo_values(values[..., 0], places, RULE) for values in arms.values]
    spread = spread_of(pseudo, over_clips)
    fewest = min(len(own) for own in arms.seeds)
    kept = capped(spread, fewest, machines=len(places))
    ends = stretched_interval(samples[1:], around=float(samples[0]), spread=kept, level=level)
    vary = (variation(pseudo[0] - pseudo[1], clips=over_clips) if paired
            else variation_apart(*pseudo, clips=over_clips))  # fmt: skip
    machines, gains, tables = [], [], ([], [])
    for key, at in places.items():
        means = [np.array([rule.machine(one[at]) for one in values]) for values in arms.values]
        of_machine = difference(means, drawn)
        lone = difference(means, once)
        own = spread_of([each[None, :, 0] for each in means], float(lone[1:].var()) if b else 0.0)
        low, high = stretched_interval(of_machine[1:], around=float(of_machine[0]), spread=own, level=level)
        machines.append((*key, means[0][:, 0].mean(), means[1][:, 0].mean(), of_machine[0], low, high))
        each = means[0][:, 0] - means[1][:, 0] if paired else [means[0][:, 0].mean() - means[1][:, 0].mean()]
        gains.append(each)
        for arm_, mean in zip(tables, means, strict=True):
            arm_.append(mean[:, 0])
    p_pairs, p_spread = paired_test(gains, seed=seed), spread.p_value(float(samples[0]))
    mean_gains = np.array([np.mean(each) for each in gains])
    return {
        "arm": official[0][:, 0].mean(), "reference": official[1][:, 0].mean(), "delta": samples[0],
        "ci_low": ends[0], "ci_high": ends[1], "p_value": max(p_pairs, p_spread), "p_pairs": p_pairs,
        "p_spread": p_spread, "pairs": np.size(gains), "seeds": arms.seeds[0], "reference_seeds": arms.seeds[1],
        "seeds_vary": fewest > 1, "clips_vary": b > 0, "spread": (spread.error, spread.freedom), "tables": tables,
        "vary": vary.__dict__, "machines_won": (mean_gains > 0).sum(), "machines_lost": (mean_gains < 0).sum(),
        "machines_tied": 0, "machines": machines,
    }  # fmt: skip


SEEDS = {"three and three": ((0, 1, 2), (0, 1, 2), True), "one and one": ((5,), (5,), True),
         "three and two": ((0, 1, 2), (0, 1), False), "one and three": ((0,), (1, 2, 3), False)}  # fmt: skip


@pytest.mark.parametrize("case", SEEDS)
@pytest.mark.parametrize(("machines", "resamples"), [("abc", 8), ("c", 8), ("ab", 0)])
def test_a_comparison_by_hand(case: str, machines: str, resamples: int) -> None:
    """Every field: scores, interval, both tests, spreads, tables, what varies, machines one by one; 90 % as 95 %."""
    of_arm, of_reference, paired = SEEDS[case]
    tables = arm(0, of_arm, machines=machines + "z", gain=1.6), arm(60, of_reference, machines=machines + "z")
    asked = {"seed": 3, "level": 0.9, "paired": paired}
    if resamples:
        arms = measured_arms(*tables, RULE, resamples=resamples, seed=3, paired=paired)
        found = compare_arms(*tables, RULE, resamples=resamples, **asked)
    else:
        numbers = [
            {run: {one.key: section_numbers(one, RULE, np.ones((one.ids.size, 1)))[:, 0]
                   for one in split_sections(table[table["seed"] == run])} for run in runs}
            for table, runs in zip(tables, (of_arm, of_reference), strict=True)
        ]  # fmt: skip
        arms = recorded_arms(*numbers, RULE, paired=paired)
        found = compare_numbers(*numbers, RULE, **asked)
    wanted = by_hand(arms, **asked)
    got = dict(found.__dict__)
    got["spread"], got["vary"] = (found.spread.error, found.spread.freedom), found.vary.__dict__
    for place, one in enumerate(found.machines):
        values = list(one.__dict__.values())
        assert tuple(values[:2]) == wanted["machines"][place][:2]
        np.testing.assert_allclose(values[2:], wanted["machines"][place][2:], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.pop("tables")[0], wanted["tables"][0], rtol=1e-12)
    np.testing.assert_allclose(found.tables[1], wanted["tables"][1], rtol=1e-12)
    assert len(got.pop("machines")) == len(wanted["machines"])
    for name, value in got.items():
        assert value == pytest.approx(wanted[name], rel=1e-9, abs=1e-12), name


UNEVEN = {"two and four": ((0, 1), (0, 1, 2, 3), False), "four and two": ((0, 1, 2, 3), (0, 1), False),
          "two and two": ((4, 9), (4, 9), True), "three and three": ((0, 1, 2), (0, 1, 2), True)}  # fmt: skip


@pytest.mark.parametrize("case", UNEVEN)
def test_a_comparison_of_many_machines_by_hand(case: str) -> None:
    """Nine machines, of which some win and some lose: the arm with fewer seeds bounds the freedom; signs are drawn."""
    runs, paired = UNEVEN[case][:2], UNEVEN[case][2]
    random = np.random.default_rng(11)
    keys = [("dcase2023", f"m{at}", "00") for at in range(9)]
    worth = 0.05 * random.normal(size=(9, 1))
    numbers = [
        {run: dict(zip(keys, np.clip(0.7 + of * worth + 0.02 * random.normal(size=(9, 3)), 0, 1), strict=True))
         for run in own} for of, own in enumerate(runs)
    ]  # fmt: skip
    found = compare_numbers(*numbers, RULE, seed=3, level=0.9, paired=paired)
    wanted = by_hand(recorded_arms(*numbers, RULE, paired=paired), seed=3, level=0.9, paired=paired)
    assert 0 < found.machines_won < 9
    for name in ("delta", "ci_low", "ci_high", "p_value", "p_pairs", "p_spread", "machines_won", "machines_lost"):
        assert getattr(found, name) == pytest.approx(wanted[name], rel=1e-9, abs=1e-12), name
    assert found.spread.freedom > 3 * (min(map(len, runs)) - 1)  # else the bound would not be seen
    if len(runs[0]) == 3:  # 27 pairs: other signs are drawn with another seed
        assert found.p_pairs != compare_numbers(*numbers, RULE, seed=0, level=0.9).p_pairs


def test_one_resample_is_one() -> None:
    """The clips vary as soon as they are drawn again at all."""
    assert compare_arms(arm(0, (0,)), arm(9, (0,)), RULE, resamples=1).clips_vary


def test_a_gain_of_exactly_the_rounding_error_is_a_tie() -> None:
    """2e-12 against 1e-12 is no gain, and the other way round no loss; twice as far apart it is."""
    keys = [("dcase2023", f"m{at}", "00") for at in range(4)]
    numbers = [{0: {key: np.full(3, each) for key, each in zip(keys, of_arm, strict=True)}}
               for of_arm in ((2e-12, 1e-12, 4e-12, 1e-12), (1e-12, 2e-12, 1e-12, 4e-12))]  # fmt: skip
    found = compare_numbers(*numbers, RULE)
    assert [one.delta for one in found.machines[:2]] == [1e-12, -1e-12]
    assert (found.machines_won, found.machines_lost, found.machines_tied) == (1, 1, 2)


def test_what_one_arm_lacks_is_named_in_order() -> None:
    """Of many sections or seeds that one arm alone has the first is named; one clip without a seed is refused."""
    keys = [("dcase2023", f"m{at:02d}", "00") for at in range(60)]
    of_all = {key: np.full(3, 0.5) for key in reversed(keys)}
    with pytest.raises(HarnessError, match="one alone scored dcase2023 m01 00"):
        recorded_arms({0: of_all}, {0: {keys[0]: of_all[keys[0]]}}, RULE)
    with pytest.raises(HarnessError, match="one alone has 1, 8"):
        recorded_arms({8: of_all, 0: of_all, 1: of_all}, {0: of_all}, RULE)
    some = arm(0, (0, 1)).astype({"seed": float})
    some.iloc[3, some.columns.get_loc("seed")] = np.nan
    with pytest.raises(HarnessError, match="arm must hold scored clips with a seed each"):
        measured_arms(some, arm(9, (0, 1)), RULE, resamples=1, seed=0)


def test_arms_without_any_section_keep_their_shape() -> None:
    """Nothing scored is nothing: no section, every number of the rule, one column."""
    arms = recorded_arms({0: {}, 1: {}}, {0: {}, 1: {}}, RULE)
    assert (arms.sections, arms.values[0].shape, arms.values[1].shape) == ((), (2, 0, 3, 1), (2, 0, 3, 1))
    assert arms.places() == {}


def test_a_gain_that_is_rounding_is_a_tie() -> None:
    """A machine whose harmonic mean differs in the last digits alone neither won nor lost."""
    keys = [("dcase2023", f"m{at}", "00") for at in range(5)]
    base = np.array([0.5, 0.6, 0.7])
    moved = [0.01, 2e-13, -2e-13, -0.02, 0.0]
    numbers = [{0: {key: base + each for key, each in zip(keys, by, strict=True)}} for by in (moved, [0.0] * 5)]
    found = compare_numbers(*numbers, RULE)
    assert (found.machines_won, found.machines_lost, found.machines_tied) == (1, 1, 3)


def test_an_estimate_by_hand() -> None:
    """Mean over seeds; the interval by the pseudo-values' spread, of one machine over clips; means by machine."""
    for machines in ("abz", "b"):
        table = arm(0, (3, 8, 5), machines=machines)
        arms = measured_arms(table, table, RULE, resamples=7, seed=2)
        rule, places = metric_rule(RULE), arms.places()
        official = np.mean([rule.official(one, np.ones((one.shape[0], 8))) for one in arms.values[0]], axis=0)
        spread = crossed_spread(pseudo_values(arms.values[0][..., 0], places, RULE), clips=official[1:].var())
        for level in (0.95, 0.8):
            found = estimate_score(table, RULE, resamples=7, seed=2, level=level)
            assert found.score == pytest.approx(official[0])
            ends = score_interval(float(official[0]), spread, level=level)
            assert (found.ci_low, found.ci_high) == pytest.approx(ends)
        assert set(found.h_means) == set(machines) - {"z"}
        for (_, machine), at in places.items():
            of_seeds = [rule.machine(one[at, :, :1])[0] for one in arms.values[0]]
            assert found.h_means[machine] == pytest.approx(np.mean(of_seeds))
    first = estimate_score(table, RULE, resamples=7)
    assert first == estimate_score(table, RULE, resamples=7, seed=0, level=0.95)
    with pytest.raises(HarnessError, match="normal and anomalous clips, but there is none"):
        estimate_score(table[table["condition"] == "normal"], RULE, resamples=2)
