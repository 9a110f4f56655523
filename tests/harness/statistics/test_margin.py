"""The lower end at a margin, written a second time: the model drawn table by table, its errors by the spreads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from harness.statistics import margin
from harness.statistics.bootstrap import Floats
from harness.statistics.margin import margin_low, spent_level
from harness.statistics.significance import Spread, crossed_spread, spread_apart

Pair = tuple[Floats, Floats]


def tables(shapes: tuple[tuple[int, int], tuple[int, int]], *, score: float, seed: int, luck: float = 0.2) -> Pair:
    """Harmonic means of two arms over the same machines: (machines, seeds) each."""
    random = np.random.default_rng(seed)
    machine = logit(score) + 1.2 * random.normal(size=(shapes[0][0], 1))
    arm, reference = (
        expit(machine + luck * random.normal(size=(1, shape[1])) + luck * random.normal(size=shape)) for shape in shapes
    )
    return arm, reference


def harmonic(values: Floats) -> float:
    """The harmonic mean of one column of machines."""
    return float(len(values) / (1 / values).sum())


def parts(table: Floats) -> Floats:
    """Every machine's jackknife pseudo-value of every seed's harmonic mean: (machines, seeds)."""
    count = len(table)
    return np.array(
        [
            [count * harmonic(seed) - (count - 1) * harmonic(np.delete(seed, at)) for seed in table.T]
            for at in range(count)
        ]
    )


def luck_of(table: Floats) -> tuple[float, float]:
    """Variance of a seed's luck on all machines, and on one: the two-way layout's components."""
    machines, seeds = table.shape
    if seeds == 1:
        return 0.0, 0.0
    of_seeds, rest = 0.0, 0.0
    for seed in range(seeds):
        of_seeds += (table[:, seed].mean() - table.mean()) ** 2 / (seeds - 1)
        for machine in range(machines):
            left = table[machine, seed] - table[machine].mean() - table[:, seed].mean() + table.mean()
            rest += left**2 / ((machines - 1) * (seeds - 1))
    return max(of_seeds - rest / machines, 0.0), rest


def by_hand(
    draws: int, arms: Pair, spread: Spread, *, delta: float, worse: float, level: float, paired: bool, seed: int,
    student: bool = True,
) -> float:  # fmt: skip
    """The lower end, with the same draws of so many tables, by the larger of Student's quantile and theirs."""
    arms = tuple(np.clip(arm, 1e-9, 1 - 1e-9) for arm in arms)
    share = 1 - 0.7 * (1 - level) / 2
    seeds = [arm.shape[1] for arm in arms]
    critical = stats.t.ppf(share, min(spread.freedom, 2 * max(1, min(seeds) - 1))) if student else 0.0
    machines = len(arms[0])
    if spread.error > 1e-12 and machines > 1:
        logits = [logit(arm) for arm in arms]
        means = np.array([each.mean(axis=1) for each in logits])
        lucks = [luck_of(logits[0] - logits[1]), (0.0, 0.0)] if paired else [luck_of(each) for each in logits]
        gains = means[0] - means[1]
        of_gains = np.sqrt(max(gains.var(ddof=1) - sum(rest / n for (_, rest), n in zip(lucks, seeds, strict=True)), 0))
        middle = means.mean(axis=0)
        of_machines = max(middle.std(ddof=1), 0.6)
        score = harmonic(expit(middle))
        high = min(score + worse / 2, (1 + score) / 2)
        low = high - worse
        if low < score / 2:
            low, high = score / 2, min(score / 2 + worse, (1 + score) / 2)
        random = np.random.default_rng(seed)
        place = middle.mean() + (logit(low) + logit(high)) / 2 - logit(score)
        place = place + of_machines * random.normal(size=(draws, machines, 1))
        gain = logit(low) - logit(high) + of_gains * random.normal(size=(draws, machines, 1))
        drawn = []
        for sign, (of_seeds, rest), count in zip((0.5, -0.5), lucks, seeds, strict=True):
            shared = np.sqrt(of_seeds) * random.normal(size=(draws, 1, count))
            drawn.append(
                expit(place + sign * gain + shared + np.sqrt(rest) * random.normal(size=(draws, machines, count)))
            )
        differences, errors = [], []
        for arm, reference in zip(*drawn, strict=True):
            means_of = [np.mean([harmonic(column) for column in each.T]) for each in (arm, reference)]
            differences.append(means_of[0] - means_of[1])
            pseudo = parts(arm), parts(reference)
            found = crossed_spread(pseudo[0] - pseudo[1]) if paired else spread_apart(*pseudo)
            errors.append(max(found.error, 1e-12))
        ratios = (np.array(differences) - np.mean(differences)) / np.array(errors)
        critical = max(critical, np.quantile(ratios, share))
    return float(np.tanh(np.arctanh(delta) - critical * spread.error / (1 - delta**2)))


CASES = {
    "two machines, paired": (((2, 2), (2, 2)), 0.6, 0.02, True),
    "near one, paired": (((4, 3), (4, 3)), 0.985, 0.01, True),
    "near one, apart": (((4, 3), (4, 2)), 0.98, 0.03, False),
    "near nothing, apart": (((3, 2), (3, 4)), 0.03, 0.05, False),
    "one seed, apart": (((5, 1), (5, 2)), 0.9, 0.02, False),
    "one seed, paired": (((5, 1), (5, 1)), 0.9, 0.02, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_lower_end_is_that_of_a_thousand_drawn_tables(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each draw's difference over its own error; their 96.5 % point, or Student's where that is larger."""
    shapes, score, worse, paired = CASES[case]
    arms = tables(shapes, score=score, seed=len(case))
    assert margin.DRAWS == 1000
    draws = 40  # enough to see that each is right
    monkeypatch.setattr(margin, "DRAWS", draws)
    pseudo = parts(arms[0]), parts(arms[1])
    spread = crossed_spread(pseudo[0] - pseudo[1]) if paired else spread_apart(*pseudo)
    delta = float(np.mean([harmonic(each) for each in arms[0].T]) - np.mean([harmonic(each) for each in arms[1].T]))
    for level, seed in ((0.9, 0), (0.6, 5)):
        found = margin_low(arms, spread, delta=delta, margin=worse, level=level, paired=paired, seed=seed)
        wanted = by_hand(draws, arms, spread, delta=delta, worse=worse, level=level, paired=paired, seed=seed)
        assert found == pytest.approx(wanted, rel=1e-9)
        assert found < delta
    assert margin_low(arms, spread, delta=delta, margin=worse, level=0.9, paired=paired) == margin_low(
        arms, spread, delta=delta, margin=worse, level=0.9, paired=paired, seed=0
    )


def test_machines_that_are_alike_by_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal machines are taken to differ by 0.6 on the logit; a machine at 0 or 1 lies a billionth inside."""
    assert margin.LEAST_SPREAD == 0.6
    monkeypatch.setattr(margin, "DRAWS", 40)
    arms = np.full((2, 2), 0.97), np.full((2, 2), 0.97)
    for each in (arms, (np.ones((2, 2)), np.full((2, 2), 0.5)), (np.zeros((2, 1)), np.full((2, 1), 0.5))):
        asked = {"delta": 0.0, "level": 0.9, "paired": True, "seed": 0}
        found = margin_low(each, Spread(0.01, 6), margin=0.02, **asked)
        assert np.isfinite(found)
        assert found == pytest.approx(by_hand(40, each, Spread(0.01, 6), worse=0.02, **asked), rel=1e-9)


def test_one_machine_or_no_spread_leaves_student() -> None:
    """One machine has no spread over machines to model, and no error needs no quantile: Student's of 96.5 %."""
    one = np.array([[0.6, 0.7, 0.65]])
    for freedom, counted in ((1.0, 1.0), (4.0, 4.0), (9.0, 4.0)):
        found = margin_low((one, one), Spread(0.02, freedom), delta=-0.01, margin=0.02, level=0.9, paired=False, seed=0)
        reach = stats.t.ppf(0.965, counted) * 0.02
        assert found == pytest.approx(np.tanh(np.arctanh(-0.01) - reach / (1 - 0.01**2)), rel=1e-9)
    two = np.full((2, 3), 0.6)
    assert margin_low((two, two), Spread(0.0, 1.0), delta=-0.01, margin=0.02, level=0.9, paired=True) == -0.01
    lone = one[:, :1]
    found = margin_low((lone, one), Spread(0.02, 9.0), delta=0.0, margin=0.02, level=0.9, paired=False)
    assert np.arctanh(found) == pytest.approx(-stats.t.ppf(0.965, 2) * 0.02, rel=1e-9)


def test_the_level_that_is_spent() -> None:
    """Seven tenths of the promised error: of 90 % two-sided, 93 %; of 95 %, 96.5 %."""
    assert (spent_level(0.9), spent_level(0.95)) == pytest.approx((0.93, 0.965))
    assert margin.FREEDOM_PER_SEED == 2


ALONE = {
    **CASES,
    "the lower one a third in": (((3, 2), (3, 2)), 0.05, 0.075, True),
    "more than there is room for": (((4, 3), (4, 3)), 0.6, 0.7, True),
    "more than there is room for, apart": (((4, 2), (4, 3)), 0.6, 0.7, False),
}


@pytest.mark.parametrize("case", ALONE)
def test_the_models_quantile_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Student's quantile is out of the way every part of the model is seen, wherever both arms lie."""
    shapes, score, worse, paired = ALONE[case]
    arms = tables(shapes, score=score, seed=len(case))
    monkeypatch.setattr(margin, "DRAWS", 40)
    monkeypatch.setattr(margin, "stdtrit", lambda freedom, share: 0.0)
    asked = {"delta": -0.01, "level": 0.9, "paired": paired, "seed": 2}
    found = margin_low(arms, Spread(0.01, 9.0), margin=worse, **asked)
    assert found < -0.011
    assert found == pytest.approx(by_hand(40, arms, Spread(0.01, 9.0), worse=worse, student=False, **asked), rel=1e-9)


def test_places_of_the_arms_in_the_model() -> None:
    """They lie the margin apart about the machines' harmonic mean, or as far as the scale leaves room."""
    wanted = {  # score, margin: reference and arm
        (0.5, 0.1): (0.45, 0.55), (0.99, 0.05): (0.945, 0.995), (0.06, 0.07): (0.03, 0.1), (0.05, 0.2): (0.025, 0.225),
        (0.5, 0.6): (0.25, 0.75), (0.3, 0.9): (0.15, 0.65),
    }  # fmt: skip
    for (score, worse), ends in wanted.items():
        found = margin._ends(np.full(3, logit(score)), worse)
        assert found == pytest.approx((score, *ends))


def test_an_error_of_rounding_needs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 1e-12 the error is a rounding error, and Student's quantile does."""
    monkeypatch.setattr(margin, "DRAWS", 40)
    arms = tables(((4, 3), (4, 3)), score=0.985, seed=0)
    found = margin_low(arms, Spread(1e-12, 1.0), delta=0.0, margin=0.01, level=0.5, paired=True)
    assert found == pytest.approx(-stats.t.ppf(1 - 0.7 * 0.25, 1) * 1e-12, rel=1e-9, abs=0)
    monkeypatch.setattr(margin, "stdtrit", lambda freedom, share: 1.5)
    for error, model in ((1e-12, False), (1.01e-12, True)):
        found = margin_low(arms, Spread(error, 1.0), delta=0.0, margin=0.01, level=0.999, paired=True)
        assert (found < -1.6 * error) == model


@pytest.mark.filterwarnings("error")
def test_nothing_is_divided_by_nothing() -> None:
    """One machine, and equal arms that may not be worse at all: no warning, and Student's quantile."""
    one = np.array([[0.6, 0.7, 0.65]])
    for arms, freedom in (((one, one[:, :1]), 2.0), ((np.full((3, 2), 0.9), np.full((3, 2), 0.9)), 2.0)):
        found = margin_low(arms, Spread(0.02, 9.0), delta=0.0, margin=0.0, level=0.9, paired=False)
        assert np.arctanh(found) == pytest.approx(-stats.t.ppf(0.965, freedom) * 0.02, rel=1e-9)
    found = margin_low((one, one), Spread(0.0, 9.0), delta=0.0, margin=0.01, level=0.9, paired=True)
    assert found == 0.0
