"""Every interval that is printed holds the truth about as often as it says: simulations, near 1 too.

Scores are made up as the intervals suppose: logits of harmonic means are normal over machines (0.4 standard deviations:
at 60 % from 50 to 69 %), a seed's luck is normal over machines and over single machines; clips' scores are normal. The
truth is the mean over all repetitions. With few machines and several seeds intervals are wider than they need be, since
the degrees of freedom of two machines are those of the whole: up to 99 % is accepted there, under 93 % nowhere.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, ndtri

from harness.answers.standings import Standings
from harness.statistics.arms import pseudo_values
from harness.statistics.bootstrap import Floats
from harness.statistics.comparison import compare_numbers
from harness.statistics.effects import permutation_test, share_interval
from harness.statistics.intervals import ClipDraws, score_intervals
from harness.statistics.significance import crossed_spread, score_interval
from tests.harness.made_up import RULE

REPETITIONS = 1000
but_not_in_ci = partial(pytest.param, marks=pytest.mark.long)


def h_means(score: float, shape: tuple[int, int], seed: int, *, gain: float | None = None) -> list[Floats]:
    """Draw harmonic means of a system, and of one that gains on it if asked for: (repetitions, machines, seeds)."""
    random = np.random.default_rng(seed)
    machines, seeds = shape
    size = (REPETITIONS, machines, seeds)
    level = logit(score) + 0.4 * random.normal(size=(REPETITIONS, machines, 1))
    runs = 0.0 if seeds == 1 else 0.07  # one seed says nothing of how seeds differ, which its interval leaves out
    shared = runs * random.normal(size=(REPETITIONS, 1, seeds))
    gains = [0.0] if gain is None else [0.0, gain + 0.1 * random.normal(size=(REPETITIONS, machines, 1))]
    return [
        expit(
            level + more + shared + runs * random.normal(size=(REPETITIONS, 1, seeds)) + 0.1 * random.normal(size=size)
        )
        for more in gains
    ]


def sections(machines: int) -> list[tuple[str, str, str]]:
    """Keys of one section a machine."""
    return [("dcase2023", f"m{at:02d}", "00") for at in range(machines)]


def of_table(table: Floats) -> dict[int, dict[tuple[str, str, str], Floats]]:
    """Seed -> section -> three equal numbers: each machine's harmonic mean is the table's (machines, seeds)."""
    keys = sections(len(table))
    numbers = [np.repeat(column[:, None], 3, axis=1) for column in table.T]
    return {seed: dict(zip(keys, each, strict=True)) for seed, each in enumerate(numbers)}


def held(ends: list[tuple[float, float]], truth: float) -> float:
    """Share of intervals that hold the truth."""
    low, high = np.array(ends).T
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, but_not_in_ci(5)])
@pytest.mark.parametrize("machines", [2, but_not_in_ci(3), 7, but_not_in_ci(15)])
@pytest.mark.parametrize("score", [0.6, but_not_in_ci(0.95), 0.985])
def test_a_score_over_machines_and_seeds(score: float, machines: int, seeds: int) -> None:
    """Intervals of `trial`, `score`, `select` and its check: pseudo-values' spread on the logit."""
    (tables,) = h_means(score, (machines, seeds), seed=1)
    places = {key[:2]: np.array([at]) for at, key in enumerate(sections(machines))}
    ends, scores = [], []
    for table in tables:
        values = np.repeat(table.T[:, :, None], 3, axis=2)  # (seeds, s, k)
        official = float(np.mean(machines / (1 / table).sum(axis=0)))
        ends.append(score_interval(official, crossed_spread(pseudo_values(values, places, "dcase2022"))))
        scores.append(official)
    covered = held(ends, float(np.mean(scores)))
    assert 0.93 <= covered <= 0.975, covered
    assert np.min(ends) >= 0 and np.max(ends) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [but_not_in_ci(1), 2, but_not_in_ci(5)])
@pytest.mark.parametrize("machines", [2, but_not_in_ci(3), but_not_in_ci(7), but_not_in_ci(15)])
@pytest.mark.parametrize(("score", "gain"), [(0.6, 0.15), but_not_in_ci(0.95, 0.2), (0.985, 0.2)])
def test_a_difference(score: float, gain: float, machines: int, seeds: int) -> None:
    """Intervals of `compare` and, at another level, of `regress`, from the metrics alone."""
    base, arm = h_means(score, (machines, seeds), seed=2, gain=gain)
    found = [compare_numbers(of_table(a), of_table(b), "dcase2022") for a, b in zip(arm, base, strict=True)]
    truth = float(np.mean([one.delta for one in found]))
    covered = held([(one.ci_low, one.ci_high) for one in found], truth)
    assert 0.93 <= covered <= (0.99 if machines < 7 and seeds > 1 else 0.975), covered


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, but_not_in_ci(10)])
@pytest.mark.parametrize("score", [0.6, but_not_in_ci(0.95), 0.99])
def test_a_row_of_the_leaderboard(score: float, seeds: int) -> None:
    """Intervals over seeds: a thousand rows of one board, each with seeds of its own."""
    random = np.random.default_rng(3)
    scores = expit(logit(score) + 0.1 * random.normal(size=REPETITIONS * seeds))
    row = np.repeat(np.arange(REPETITIONS), seeds)
    columns = {"key": row.tolist(), "row": row.tolist(), "seed": list(range(seeds)) * REPETITIONS}
    board = Standings(columns, (), (), np.empty((row.size, 0)), {})
    mean, _, low, high = board.cells(["row"]).spread(scores)
    covered = held(list(zip(low, high, strict=True)), float(mean.mean()))
    assert 0.93 <= covered <= 0.97, covered


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, but_not_in_ci(2)])
@pytest.mark.parametrize("auc", [0.6, but_not_in_ci(0.95), 0.99])
def test_numbers_over_clips(auc: float, machines: int) -> None:
    """Intervals over clips of each AUC, pAUC, machine and official score, of 50 clips a domain and condition."""
    random = np.random.default_rng(4)
    apart = float(ndtri(auc)) * np.sqrt(2)
    clips = pd.DataFrame(
        [
            (machine, domain, condition, f"{machine}/{domain}/{condition}/{at:02d}")
            for machine in "ab"[:machines]
            for domain in ("source", "target")
            for condition in ("normal", "anomaly")
            for at in range(50)
        ],
        columns=["machine", "domain", "condition", "clip_id"],
    ).assign(dataset="dcase2023", section="00")
    anomalous = (clips["condition"] == "anomaly").to_numpy()
    ends: dict[str, list[tuple[float, float]]] = {}
    for repetition in range(REPETITIONS):
        table = clips.assign(score=random.normal(size=len(clips)) + apart * anomalous)
        found = score_intervals(table, {"dcase2023": RULE}, draws=ClipDraws(resamples=100, seed=repetition))
        own = {**found.numbers["dcase2023", "a", "00"], "machine": found.h_means["dcase2023", "a"],
               "official": found.official}  # fmt: skip
        for name, pair in own.items():
            assert pair is not None
            ends.setdefault(name, []).append(pair)
    for name, pairs in ends.items():
        middle = expit(logit(np.clip(pairs, 1e-9, 1 - 1e-9)).mean(axis=1))  # the number itself
        covered = held(pairs, float(middle.mean()))
        assert 0.93 <= covered <= 0.98, (name, covered)


@pytest.mark.slow
@pytest.mark.parametrize("scorers", [1, but_not_in_ci(4)])
@pytest.mark.parametrize("values", [2, but_not_in_ci(7)])
@pytest.mark.parametrize("share", [but_not_in_ci(0.0), 0.05, 0.4, but_not_in_ci(0.8)])
def test_what_a_choice_explains(share: float, values: int, scorers: int) -> None:
    """A choice beside another one of three values, ten trainings in each; its share is known.

    Scorers of one training share half of what the two choices do not explain. Intervals of a share near 0 end at 0 and
    nearly always hold it; none holds the truth in fewer than 93 %.
    """
    random = np.random.default_rng(5)
    choice, other, _ = (each.ravel() for each in np.indices((values, 3, 10)))
    codes, units = np.repeat(choice, scorers), np.repeat(np.arange(choice.size), scorers)
    gains = [np.linspace(-1, 1, count) / np.linspace(-1, 1, count).std() for count in (values, 3)]
    rest = 0.9 - share  # the other choice explains a tenth
    expected = np.sqrt(share) * gains[0][choice] + np.sqrt(0.1) * gains[1][other]
    ends = []
    for seed in range(REPETITIONS // 2):
        training = expected + np.sqrt(rest / 2) * random.normal(size=choice.size)
        scores = np.repeat(training, scorers) + np.sqrt(rest / 2) * random.normal(size=units.size)
        _, chance = permutation_test(
            scores, codes, draws=100, seed=seed, units=units, parts=np.tile(np.arange(scorers), choice.size)
        )
        ends.append(share_interval(scores, codes, units, by_chance=chance, draws=200, seed=seed))
    covered = held(ends, share)
    assert covered >= 0.93, covered
