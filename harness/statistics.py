"""Does one arm of a study beat another, and by more than chance.

The bootstrap over clips is in `harness.bootstrap`, intervals and tests of plain arrays in `harness.significance`; this
file puts them together, and hands all of them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import RuleName
from benchmarks.metrics import metric_rule
from benchmarks.sections import SectionScores
from harness.bootstrap import (
    Bootstrap,
    Floats,
    Machine,
    bootstrap_metrics,
    bootstrap_official,
    draw_clips,
    draw_counts,
    generator,
    identified,
    machine_places,
    machine_weights,
    pair_sections,
    paired_bootstrap_difference,
    resampled_numbers,
)
from harness.contract import HarnessError
from harness.significance import (
    ROUNDING,
    Spread,
    crossed_spread,
    holm,
    interval,
    paired_test,
    stretched_interval,
)

__all__ = [
    "Bootstrap",
    "Comparison",
    "MachineDifference",
    "Spread",
    "bootstrap_metrics",
    "bootstrap_official",
    "compare_arms",
    "crossed_spread",
    "holm",
    "interval",
    "paired_bootstrap_difference",
    "paired_test",
    "stretched_interval",
]


@dataclass(frozen=True)
class MachineDifference:
    """What an arm gains on one machine type, over the seeds.

    Attributes:
        dataset: year.
        machine: machine type.
        delta: difference of harmonic means, averaged over seeds; a fraction.
        ci_low: lower end of the interval over clips and seeds.
        ci_high: upper end.
    """

    dataset: str
    machine: str
    delta: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """An arm against another one on the same clips, machines and seeds; fractions.

    Attributes:
        delta: difference of official scores, averaged over seeds.
        ci_low: lower end of the interval over clips, machines and seeds.
        ci_high: upper end.
        p_value: the larger of `p_pairs` and `p_spread`.
        p_pairs: sign-flip test over pairs of machine and seed, which takes these for independent.
        p_spread: t-test on the spread over machines and seeds, which does not.
        pairs: of machine and seed.
        seeds: in both arms.
        seeds_vary: whether the interval covers seeds too; False for one seed.
        machines_won: machine types whose harmonic mean rose.
        machines_lost: machine types whose harmonic mean fell.
        machines_tied: machine types whose harmonic mean stayed.
        machines: each machine type's difference.
    """

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    p_pairs: float
    p_spread: float
    pairs: int
    seeds: tuple[int, ...]
    seeds_vary: bool
    machines_won: int
    machines_lost: int
    machines_tied: int
    machines: tuple[MachineDifference, ...]


@dataclass(frozen=True)
class _Paired:
    """Numbers of both arms. values: (2, seeds, s, k, 1 + b), the clips as recorded before their b resamples."""

    seeds: tuple[int, ...]
    sections: list[SectionScores]
    values: Floats


def compare_arms(
    arm: pd.DataFrame,
    reference: pd.DataFrame,
    rule: RuleName,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compare one arm (Top-M) with another (Top-1) on the clips that both scored with the same seeds.

    `delta` is the mean over seeds of official(arm) - official(reference). Its interval comes from a hierarchical
    bootstrap: every resample draws seeds, machines and, within section, domain and condition, clips, the same for
    both arms, and clips the same for all seeds, since every seed scores the same recordings (crossed factors: Owen
    2007, The pigeonhole bootstrap). Its width is set by the spread over machines and seeds, as the plain bootstrap
    over a handful of these is too narrow: see `stretched_interval` and `crossed_spread`. What each machine and seed
    adds to the official score, which is no mean over machines, are the jackknife's pseudo-values (Tukey 1958).

    The p-value is the larger of two. Flipping signs of pairs is exact where pairs are independent; but one training
    run scores all machines, and one machine's clips come back with every seed, so the t-test on the spread over
    machines and seeds has to agree.

    Args:
        arm: scored clips, a row a seed and clip: `seed dataset machine section domain condition clip_id score`.
        reference: the same of the other arm.
        rule: the year's rule.
        resamples: of the bootstrap.
        seed: of the bootstrap's draws, and of sign patterns where these are too many.
        level: of the intervals.

    Raises:
        BenchmarkError: scores cannot be measured.
        HarnessError: seeds, sections, clips or what is known of them differ between the arms or between seeds; or no
            machine has a metric.
    """
    paired = _pair_arms(arm, reference, rule, resamples=resamples, seed=seed)
    places = {
        key: at for key, at in machine_places(paired.sections).items() if not np.isnan(paired.values[:, :, at]).all()
    }
    if not places:
        raise HarnessError("A comparison needs a machine with normal and anomalous clips, but there is none.")
    gains = np.stack([_gain(paired.values[:, :, at], rule) for at in places.values()])  # (machines, seeds, 1 + b)
    weights = _recorded_first(machine_weights(paired.sections, resamples=resamples, seed=seed))
    official = _official_gain(paired.values, rule, weights)  # (seeds, 1 + b)
    drawn_seeds = _recorded_first(draw_counts(len(paired.seeds), resamples, generator(seed, "seeds")))
    samples = (official * drawn_seeds).mean(axis=0)  # (1 + b,)
    delta = float(samples[0])
    spread = crossed_spread(_pseudo_values(paired, places, rule), clips=float(official.mean(axis=0)[1:].var()))
    low, high = stretched_interval(samples[1:], around=delta, spread=spread, level=level)
    p_pairs, p_spread = paired_test(gains[:, :, 0], seed=seed), spread.p_value(delta)
    won = gains[:, :, 0].mean(axis=1)
    return Comparison(
        delta=delta,
        ci_low=low,
        ci_high=high,
        p_value=max(p_pairs, p_spread),
        p_pairs=p_pairs,
        p_spread=p_spread,
        pairs=gains.shape[0] * gains.shape[1],
        seeds=paired.seeds,
        seeds_vary=len(paired.seeds) > 1,
        machines_won=int((won > ROUNDING).sum()),
        machines_lost=int((won < -ROUNDING).sum()),
        machines_tied=int((np.abs(won) <= ROUNDING).sum()),
        machines=tuple(
            _machine_difference(key, gain, drawn_seeds, level=level) for key, gain in zip(places, gains, strict=True)
        ),
    )


def _machine_difference(key: tuple[str, str], gain: Floats, drawn_seeds: Floats, *, level: float) -> MachineDifference:
    """Return one machine's difference from (seeds, 1 + b) gains and how often each seed was drawn."""
    samples = (gain * drawn_seeds).mean(axis=0)
    spread = crossed_spread(gain[None, :, 0], clips=float(gain.mean(axis=0)[1:].var()))
    low, high = stretched_interval(samples[1:], around=float(samples[0]), spread=spread, level=level)
    return MachineDifference(*key, delta=float(samples[0]), ci_low=low, ci_high=high)


def _pair_arms(arm: pd.DataFrame, reference: pd.DataFrame, rule: RuleName, *, resamples: int, seed: int) -> _Paired:
    """Measure both arms on the clips as recorded and on the same resamples of them, for every seed."""
    arms = [_by_seed(table, name) for table, name in ((arm, "arm"), (reference, "reference"))]
    if alone := sorted(arms[0].keys() ^ arms[1].keys()):
        raise HarnessError(f"Both arms must have the same seeds, but one alone has {', '.join(map(str, alone))}.")
    seeds = tuple(sorted(arms[0]))
    first = identified(arms[0][seeds[0]])
    tables = [[pair_sections(first, identified(of_arm[one])) for one in seeds] for of_arm in arms]
    sections = [section for section, _ in tables[0][0]]
    values = []
    for at, section in enumerate(sections):
        counts = _recorded_first(draw_clips(section, resamples=resamples, seed=seed))
        values.append(
            [[resampled_numbers(pairs[at][1], rule, counts) for pairs in of_arm] for of_arm in tables]
        )  # (s, 2, seeds, k, 1 + b)
    return _Paired(seeds, sections, np.moveaxis(np.array(values), 0, 2))


def _by_seed(table: pd.DataFrame, name: str) -> dict[int, pd.DataFrame]:
    if "seed" not in table.columns or table.empty or table["seed"].isna().any():
        raise HarnessError(f"The {name} must hold scored clips with a seed each, but has none or misses some.")
    return {int(seed): table[table["seed"] == seed] for seed in table["seed"].unique()}


def _recorded_first(drawn: NDArray[Any]) -> Floats:
    """Put what was recorded, everything once, before the draws: (n, b) -> (n, 1 + b)."""
    return np.concatenate([np.ones((drawn.shape[0], 1)), drawn], axis=1)


def _official_gain(values: Floats, rule: RuleName, weights: Floats) -> Floats:
    """Return official(arm) - official(reference): (2, seeds, s, k, c), weights (s, c) -> (seeds, c)."""
    official = np.stack([[metric_rule(rule).official(one, weights) for one in of_arm] for of_arm in values])
    return np.asarray(official[0] - official[1])


def _gain(values: Floats, rule: RuleName) -> Floats:
    """Return the difference of one machine's harmonic means: (2, seeds, s, k, c) -> (seeds, c)."""
    means = np.stack([[metric_rule(rule).machine(one) for one in of_arm] for of_arm in values])
    return np.asarray(means[0] - means[1])


def _pseudo_values(paired: _Paired, places: Mapping[Machine, NDArray[np.intp]], rule: RuleName) -> Floats:
    """Return what each machine adds to the official difference of each seed: (machines, seeds)."""
    recorded = paired.values[..., :1]
    whole = _official_gain(recorded, rule, np.ones((len(paired.sections), 1)))  # (seeds, 1)
    if len(places) == 1:
        return whole.T
    without = np.ones((len(paired.sections), len(places)))
    for column, at in enumerate(places.values()):
        without[at, column] = 0.0
    left = _official_gain(np.repeat(recorded, len(places), axis=-1), rule, without)  # (seeds, machines)
    return np.asarray(len(places) * whole - (len(places) - 1) * left).T
