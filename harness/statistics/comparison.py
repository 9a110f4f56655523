"""Compare two arms of a study: difference, confidence interval and p-value.

The bootstrap over clips is in `harness.statistics.bootstrap`, intervals and tests of plain arrays in
`harness.statistics.significance`, both arms side by side in `harness.statistics.arms`; this file puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from benchmarks.contract import RuleName
from benchmarks.metrics.rules import metric_rule
from harness.errors import HarnessError
from harness.statistics.arms import Arms, Numbers, measured_arms, pseudo_values, recorded_arms, recorded_first
from harness.statistics.bootstrap import Floats, draw_counts, generator
from harness.statistics.power import Variation, capped, variation, variation_apart
from harness.statistics.significance import (
    ROUNDING,
    Spread,
    crossed_spread,
    paired_test,
    spread_apart,
    stretched_interval,
)

Both: TypeAlias = tuple[Floats, ...]  # of the arm and of the reference


@dataclass(frozen=True)
class MachineDifference:
    """What an arm gains on one machine type, over the seeds.

    Attributes:
        dataset: year.
        machine: machine type.
        arm: harmonic mean of the arm, averaged over seeds; a fraction.
        reference: the same of the reference.
        delta: arm - reference, averaged over seeds.
        ci_low: lower end of the interval over clips and seeds.
        ci_high: upper end.
    """

    dataset: str
    machine: str
    arm: float
    reference: float
    delta: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """An arm against another one on the same clips and machines; fractions.

    Attributes:
        arm: official score of the arm, averaged over seeds.
        reference: the same of the reference.
        delta: arm - reference, averaged over seeds.
        ci_low: lower end of the interval over clips, machines and seeds.
        ci_high: upper end.
        p_value: the larger of `p_pairs` and `p_spread`.
        p_pairs: sign-flip test over pairs of machine and seed, assuming that these are independent; over machines if
            the arms are unpaired.
        p_spread: t-test on the spread over machines and seeds, which does not assume so.
        pairs: number of pairs of machine and seed; number of machines if the arms are unpaired.
        seeds: of the arm, and of the reference where they pair.
        reference_seeds: of the reference.
        seeds_vary: whether the interval covers seeds too; False where an arm has one seed.
        clips_vary: whether the interval's shape comes from resampled clips; False where no clip's score is recorded.
        spread: of the difference over machines and seeds, from which its interval is made.
        tables: of the arm and of the reference, harmonic means by machine and seed: (machines, seeds) each.
        vary: variance components of the difference, from which the power analysis computes how many seeds are needed.
        machines_won: machine types whose harmonic mean rose.
        machines_lost: machine types whose harmonic mean fell.
        machines_tied: machine types whose harmonic mean stayed.
        machines: each machine type's difference.
    """

    arm: float
    reference: float
    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    p_pairs: float
    p_spread: float
    pairs: int
    seeds: tuple[int, ...]
    reference_seeds: tuple[int, ...]
    seeds_vary: bool
    clips_vary: bool
    spread: Spread
    tables: tuple[Floats, Floats]
    vary: Variation
    machines_won: int
    machines_lost: int
    machines_tied: int
    machines: tuple[MachineDifference, ...]


def compare_arms(
    arm: pd.DataFrame,
    reference: pd.DataFrame,
    rule: RuleName,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    paired: bool = True,
) -> Comparison:
    """Compare one arm (Top-M) with another (Top-1) on the clips that both scored.

    `delta` is the mean over seeds of official(arm) - official(reference). Its interval comes from a hierarchical
    bootstrap: every resample draws seeds, machines and, within section, domain and condition, clips, the same for
    both arms, and clips the same for all seeds, since every seed scores the same recordings (crossed factors: Owen
    2007, The pigeonhole bootstrap). Its width is set by the spread over machines and seeds, as the plain bootstrap
    over a handful of these is too narrow: see `stretched_interval` and `crossed_spread`. That spread needs one number
    for each machine and seed; since the official score is no mean over machines, these are the jackknife's
    pseudo-values (Tukey 1958; `harness.statistics.arms.pseudo_values`).

    The p-value is the larger of two. The sign-flip test is exact if the pairs of machine and seed are independent. They
    are not quite: one training run scores all machines, and every seed scores the same clips of a machine. So the
    t-test on the spread over machines and seeds, which allows for that, has to reject as well.

    Args:
        arm: scored clips, a row a seed and clip: `seed dataset machine section domain condition clip_id score`.
        reference: the other arm's scored clips, with the same columns.
        rule: the year's rule.
        resamples: of the bootstrap.
        seed: of the bootstrap's draws, and of sign patterns where these are too many.
        level: of the intervals.
        paired: whether the i-th seed of one arm belongs to the i-th of the other; otherwise each arm's seeds are
            drawn by themselves, the spread is `spread_apart`'s, and signs are flipped machine by machine.

    Raises:
        BenchmarkError: scores cannot be measured.
        HarnessError: seeds of paired arms, sections, clips or what is known of them differ between the arms or
            between seeds; or no machine has a metric.
    """
    arms = measured_arms(arm, reference, rule, resamples=resamples, seed=seed, paired=paired)
    return _compared(arms, rule, seed=seed, level=level, paired=paired)


def compare_numbers(
    arm: Numbers,
    reference: Numbers,
    rule: RuleName,
    *,
    seed: int = 0,
    level: float = 0.95,
    paired: bool = True,
) -> Comparison:
    """Compare two arms of which the metrics alone are recorded, no clip's score: published results, for example.

    As `compare_arms` without its bootstrap over clips: the interval is Student's on the spread over machines and
    seeds, symmetric about the difference. The spread over machines holds that over their clips.

    Args:
        arm: each seed's numbers by section, in the rule's order.
        reference: the other arm's metrics, in the same form.
        rule: the year's rule.
        seed: of sign patterns where these are too many.
        level: of the intervals.
        paired: as in `compare_arms`.

    Raises:
        HarnessError: seeds of paired arms or sections differ, or there are fewer than two machines with a metric: one
            machine's numbers say nothing of how clips vary.
    """
    arms = recorded_arms(arm, reference, rule, paired=paired)
    if len(arms.places()) < 2:
        raise HarnessError(
            "A comparison without clip scores needs two machines with metrics, but has "
            f"{len(arms.places())}; record trials with their clip scores."
        )
    return _compared(arms, rule, seed=seed, level=level, paired=paired)


def _compared(arms: Arms, rule: RuleName, *, seed: int, level: float, paired: bool) -> Comparison:
    places = arms.places()
    if not places:
        raise HarnessError("A comparison needs a machine with normal and anomalous clips, but there is none.")
    drawn = _drawn_seeds(arms, seed, paired=paired)
    weights = arms.weights(seed)
    official = tuple(_official(values, rule, weights) for values in arms.values)  # each (seeds, 1 + b)
    samples = _difference(official, drawn, paired=paired)
    plain = _difference(official, _undrawn(arms), paired=paired)
    pseudo = tuple(pseudo_values(values[..., 0], places, rule) for values in arms.values)
    spread, vary = _spread(pseudo, clips=_variance(plain), paired=paired)
    delta = float(samples[0])
    low, high = _interval(samples, spread=capped(spread, min(map(len, arms.seeds)), machines=len(places)), level=level)
    means = [tuple(_machine(values[:, at], rule) for values in arms.values) for at in places.values()]
    gains = [_gains(of_machine, paired=paired) for of_machine in means]  # each (seeds,), or (1,) where unpaired
    p_pairs, p_spread = paired_test(np.stack(gains), seed=seed), spread.p_value(delta)
    won = np.array([gain.mean() for gain in gains])
    return Comparison(
        arm=float(official[0][:, 0].mean()),
        reference=float(official[1][:, 0].mean()),
        delta=delta,
        ci_low=low,
        ci_high=high,
        p_value=max(p_pairs, p_spread),
        p_pairs=p_pairs,
        p_spread=p_spread,
        pairs=sum(gain.size for gain in gains),
        seeds=arms.seeds[0],
        reference_seeds=arms.seeds[1],
        seeds_vary=min(map(len, arms.seeds)) > 1,
        clips_vary=arms.resamples > 0,
        spread=spread,
        tables=(
            np.stack([of_machine[0][:, 0] for of_machine in means]),
            np.stack([of_machine[1][:, 0] for of_machine in means]),
        ),
        vary=vary,
        machines_won=int((won > ROUNDING).sum()),
        machines_lost=int((won < -ROUNDING).sum()),
        machines_tied=int((np.abs(won) <= ROUNDING).sum()),
        machines=tuple(
            _machine_difference(key, of_machine, drawn, level=level, paired=paired)
            for key, of_machine in zip(places, means, strict=True)
        ),
    )


def _machine_difference(
    key: tuple[str, str], means: Both, drawn: Both, *, level: float, paired: bool
) -> MachineDifference:
    """Return one machine's difference from both arms' (seeds, 1 + b) harmonic means and how often seeds were drawn."""
    samples = _difference(means, drawn, paired=paired)
    clips = _variance(_difference(means, tuple(np.ones_like(one) for one in means), paired=paired))
    spread, _ = _spread(tuple(one[None, :, 0] for one in means), clips=clips, paired=paired)
    low, high = _interval(samples, spread=spread, level=level)
    arm, reference = (float(one[:, 0].mean()) for one in means)
    return MachineDifference(*key, arm=arm, reference=reference, delta=float(samples[0]), ci_low=low, ci_high=high)


def _drawn_seeds(arms: Arms, seed: int, *, paired: bool) -> Both:
    """Draw each arm's seeds with replacement after taking each once, the same for both where they pair."""
    if not arms.resamples:
        return _undrawn(arms)
    names = ("seeds", "seeds" if paired else "reference seeds")
    return tuple(
        recorded_first(draw_counts(len(own), arms.resamples, generator(seed, name)))
        for own, name in zip(arms.seeds, names, strict=True)
    )


def _undrawn(arms: Arms) -> Both:
    return tuple(np.ones((len(own), 1 + arms.resamples)) for own in arms.seeds)


def _difference(values: Both, drawn: Both, *, paired: bool) -> Floats:
    """Return the difference of means over seeds: each (seeds, c), weighted by how often a seed was drawn -> (c,)."""
    arm, reference = values
    if paired:
        return np.asarray(((arm - reference) * drawn[0]).mean(axis=0))
    return np.asarray((arm * drawn[0]).mean(axis=0) - (reference * drawn[1]).mean(axis=0))


def _gains(means: Both, *, paired: bool) -> Floats:
    """Return a machine's recorded difference: (seeds,) if seeds are paired, else (1,), the difference of the means."""
    arm, reference = (values[:, 0] for values in means)
    return np.asarray(arm - reference) if paired else np.array([arm.mean() - reference.mean()])


def _spread(values: Both, *, clips: float, paired: bool) -> tuple[Spread, Variation]:
    """Return spread and variance components of the difference of both arms' (machines, seeds)."""
    arm, reference = values
    if paired:
        gains = arm - reference
        return crossed_spread(gains, clips=clips), variation(gains, clips=clips)
    return spread_apart(arm, reference, clips=clips), variation_apart(arm, reference, clips=clips)


def _interval(samples: Floats, *, spread: Spread, level: float) -> tuple[float, float]:
    """Return the interval about the first sample, which is the recorded value; the others are its resamples."""
    return stretched_interval(samples[1:], around=float(samples[0]), spread=spread, level=level)


def _variance(samples: Floats) -> float:
    return float(samples[1:].var()) if samples.size > 1 else 0.0


def _official(values: Floats, rule: RuleName, weights: Floats) -> Floats:
    """Return official scores: (seeds, s, k, c), weights (s, c) -> (seeds, c)."""
    return np.stack([metric_rule(rule).official(one, weights) for one in values])


def _machine(values: Floats, rule: RuleName) -> Floats:
    """Return one machine's harmonic means: (seeds, s, k, c) -> (seeds, c)."""
    return np.stack([metric_rule(rule).machine(one) for one in values])
