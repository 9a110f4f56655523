"""The lower end of a difference at a margin: how low it must reach so that a gate is not fooled.

Student's lower end is right where differences vary symmetrically. Near 1 they do not: a machine at 99 % has no room to
gain and much to lose, so a lucky sample has small losses and, at the same time, a small spread, and the lower end lies
too high. Simulated with seven machines near 98.5 %, a candidate that is worse by exactly the margin would be accepted
in 9 to 12 % of cases instead of 5. So the critical value is drawn from a model of such data (a parametric bootstrap of
the t statistic: Efron and Tibshirani 1993, section 12.5, and 6.5), and the larger of both counts.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy.special import expit, logit, stdtrit

from harness.statistics.bootstrap import Floats
from harness.statistics.significance import INNERMOST, ROUNDING, Spread, within

DRAWS = 1000  # of the model
LEAST_SPREAD = (
    0.6  # standard deviation of machines' logits that is supposed at least: two machines may be alike by luck
)
# Degrees of freedom counted at most for each seed beyond the first. Two seeds that happen to agree tell little of how
# seeds differ, and without this bound a gate would rest on the machines alone.
FREEDOM_PER_SEED = 2
# Share of the promised error that the lower end spends. Where machines' and seeds' parts of the variance are alike,
# Satterthwaite's degrees of freedom are too many, and 5 % become up to 7.5 % (two machines and ten seeds, simulated).
SPENT = 0.7


def spent_level(level: float) -> float:
    """Return the level of the two-sided interval whose lower end Student's quantile of this module is.

    Args:
        level: of the interval that is promised.
    """
    return 1 - SPENT * (1 - level)


Tables: TypeAlias = tuple[Floats, Floats]  # of the arm and of the reference: (machines, seeds) harmonic means


def margin_low(
    tables: Tables, spread: Spread, *, delta: float, margin: float, level: float, paired: bool, seed: int = 0
) -> float:
    """Return the lower end of arm - reference, calibrated for a true difference of -margin.

    The model: a machine's harmonic mean has a logit that is normal over machines; so is the arm's gain over machines,
    a seed's luck on all machines, and a seed's luck on one machine. Their variances are estimated from the tables, and
    the mean gain is the one that makes the arm worse by the margin.

    Args:
        tables: both arms' harmonic means by machine and seed; for paired arms the same seeds in the same order.
        spread: of the difference of the official scores.
        delta: that difference.
        margin: fraction by which the arm may be worse.
        level: of the two-sided interval whose lower end this is.
        paired: whether the i-th seed of one arm belongs to the i-th of the other.
        seed: of the draws.
    """
    arm, reference = (np.clip(table, INNERMOST, 1 - INNERMOST) for table in tables)
    seeds = min(arm.shape[1], reference.shape[1])
    freedom = min(spread.freedom, FREEDOM_PER_SEED * max(seeds - 1, 1))
    share = 1 - SPENT * (0.5 - level / 2)
    critical = float(stdtrit(freedom, share))
    if spread.error > ROUNDING and arm.shape[0] > 1:
        critical = max(critical, _critical(arm, reference, margin, share, paired=paired, seed=seed))
    low, _ = within(delta, critical * spread.error, 0.0, scale="difference")
    return float(low)


def _critical(arm: Floats, reference: Floats, margin: float, share: float, *, paired: bool, seed: int) -> float:
    """Return the quantile of (difference - its mean) / error over draws of the model."""
    random = np.random.default_rng(seed)
    logits = [logit(table) for table in (arm, reference)]
    middle = (logits[0].mean(axis=1) + logits[1].mean(axis=1)) / 2
    gains = logits[0].mean(axis=1) - logits[1].mean(axis=1)
    parts = [_luck(logits[0] - logits[1]), (0.0, 0.0)] if paired else [_luck(table) for table in logits]
    shared = sum(rest / table.shape[1] for (_, rest), table in zip(parts, logits, strict=True))
    of_gains = np.sqrt(max(float(gains.var(ddof=1)) - shared, 0.0))
    of_machines = max(float(middle.std(ddof=1)), LEAST_SPREAD)
    machines = middle.size
    score, low, high = (float(logit(end)) for end in _ends(middle, margin))
    # halfway between both arms, which near 0 and 1 is not where they are taken together
    places = middle.mean() + (low + high) / 2 - score + of_machines * random.normal(size=(DRAWS, machines, 1))
    gain = low - high + of_gains * random.normal(size=(DRAWS, machines, 1))
    drawn = []
    for sign, (of_seeds, of_rest), table in zip((1, -1), parts, logits, strict=True):
        seeds = table.shape[1]
        luck = np.sqrt(of_seeds) * random.normal(size=(DRAWS, 1, seeds))
        luck = luck + np.sqrt(of_rest) * random.normal(size=(DRAWS, machines, seeds))
        drawn.append(expit(places + sign * gain / 2 + luck))
    differences = _harmonic(drawn[0]).mean(axis=1) - _harmonic(drawn[1]).mean(axis=1)
    shares = [_shares(one) for one in drawn]
    errors = standard_errors(*shares)  # where seeds pair, all of their luck stands in the arm
    return float(np.quantile((differences - differences.mean()) / np.maximum(errors, ROUNDING), share))


def _ends(middle: Floats, margin: float) -> tuple[float, float, float]:
    """Return the harmonic mean over machines, and where the model puts that of the arm and that of the reference.

    They lie the margin apart about it. Where that would leave 0 to 1, the outer one lies halfway to the end of the
    scale and the other one the margin further in, or halfway to the other end.
    """
    score = float(_harmonic(expit(middle)[None, :, None])[0, 0])
    high = min(score + margin / 2, (1 + score) / 2)
    low = high - margin
    if low < score / 2:
        low = score / 2
        high = min(low + margin, (1 + score) / 2)
    return score, low, high


def _luck(table: Floats) -> tuple[float, float]:
    """Return the variance of a seed's luck on all machines alike, and on one machine: (machines, seeds) logits."""
    machines, seeds = table.shape
    if seeds == 1:
        return 0.0, 0.0
    columns = table.mean(axis=0)
    residual = table - table.mean(axis=1, keepdims=True) - columns + table.mean()
    rest = float((residual**2).sum() / ((machines - 1) * (seeds - 1)))
    return max(float(columns.var(ddof=1)) - rest / machines, 0.0), rest


def _harmonic(values: Floats) -> Floats:
    """Return the harmonic mean over machines: (n, machines, seeds) -> (n, seeds)."""
    return np.asarray(values.shape[1] / (1 / values).sum(axis=1))


def _shares(values: Floats) -> Floats:
    """Return the jackknife's pseudo-values of the harmonic mean: (n, machines, seeds), the same shape."""
    machines, inverse = values.shape[1], 1 / values
    left = (machines - 1) / (inverse.sum(axis=1, keepdims=True) - inverse)
    return np.asarray(machines * _harmonic(values)[:, None] - (machines - 1) * left)


def standard_errors(arms: Floats, references: Floats) -> Floats:
    """Return the standard errors of `harness.statistics.significance.spread_apart` of many pairs of tables at once.

    Args:
        arms: (n, machines, seeds), two machines or more.
        references: (n, machines, other seeds).
    """
    gains = arms.mean(axis=2) - references.mean(axis=2)
    of_machines = gains.var(axis=1, ddof=1) / gains.shape[1]
    return np.asarray(np.sqrt(of_machines + _of_seeds(arms) + _of_seeds(references)))


def _of_seeds(tables: Floats) -> Floats:
    """Return what seeds' luck on all machines alike adds to the variance of a mean: (n, machines, seeds) -> (n,)."""
    count, machines, seeds = tables.shape
    if seeds == 1:
        return np.zeros(count)
    rows, columns, mean = tables.mean(axis=2), tables.mean(axis=1), tables.mean(axis=(1, 2))
    of_seeds = columns.var(axis=1, ddof=1) / seeds
    residual = tables - rows[:, :, None] - columns[:, None, :] + mean[:, None, None]
    rest = (residual**2).sum(axis=(1, 2)) / ((machines - 1) * (seeds - 1))
    return np.asarray(np.maximum(of_seeds - rest / (machines * seeds), 0.0))
