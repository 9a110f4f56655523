"""Tiers: neighbours on a leaderboard that the data cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from benchmarks.metrics.rules import EPSILON
from harness.statistics.bootstrap import Floats
from harness.statistics.significance import ROUNDING, holm

SURE = 0.05  # significance level: a row with a smaller corrected p-value counts as worse than the leader


@dataclass(frozen=True)
class Arm:
    """One row of a leaderboard.

    Attributes:
        seeds: (s,) in ascending order, each once.
        parts: (s, w) contribution of each of w machine types to the score of each seed (`parts_of_score`); NaN where
            undefined.
    """

    seeds: tuple[int, ...]
    parts: Floats


def find_tiers(arms: Sequence[Arm | None]) -> list[int | None]:
    """Put rows in tiers: the best row leads tier 1; the first row that is significantly worse leads tier 2; and so on.

    Every row after a leader is compared with it, paired by seed and machine type, by the t-test on the spread of
    differences over machine types and seeds (`harness.statistics.significance.crossed_spread`: two-way analysis of
    variance with Satterthwaite's degrees of freedom). The data themselves picked the leader out of k rows, so its
    p-values are corrected for all k (k - 1) / 2 pairs that could have been compared: times k / 2, then by Holm's
    procedure. Seeds are paired where two rows share two or more of them, otherwise each row's seeds are averaged and
    the spread over machine types alone counts. So a tier reads "not shown to be worse than its best row".

    Limits. Clips are not resampled, since the spread over machine types holds that over their clips. Flipping signs
    (`paired_test`) takes no part, since with few machine types and seeds its smallest p-value survives no correction
    for hundreds of rows. Two rows of one tier may well differ, `asdbench compare` answers for a pair; and the more
    rows, the larger a difference must be to show. One seed knows nothing of how seeds differ, so its tiers are finer
    than they should be; two seeds tell little apart, since their spread has one degree of freedom; one machine type
    and one seed tell nothing.

    Args:
        arms: rows, best first, of one board: w is the same for all; None for a row without a score.

    Returns:
        Each row's tier, from 1; None for None.
    """
    places = [place for place, arm in enumerate(arms) if arm is not None]
    ranked = [arm for arm in arms if arm is not None]
    groups = _alike(ranked)
    tiers: list[int | None] = [None] * len(arms)
    tier, leader = 0, 0
    for rank, place in enumerate(places):
        if rank == leader:
            tier += 1
            leader = _first_worse(ranked, groups, leader=rank)
        tiers[place] = tier
    return tiers


def parts_of_score(h_means: Floats) -> Floats:
    """Return each machine type's contribution to the harmonic mean: the jackknife's pseudo-values (Tukey 1958).

    Their mean over machine types is, but for the jackknife's correction, the harmonic mean, so differences of them
    rank as scores do. A machine type that is undefined is left out, and one alone is its own part.

    Args:
        h_means: (n, w) of n trials; NaN where undefined.
    """
    there = np.isfinite(h_means)
    inverse = np.where(there, 1 / np.maximum(h_means, EPSILON), 0.0)
    count, total = there.sum(axis=1, keepdims=True), inverse.sum(axis=1, keepdims=True)
    alone = count <= 1
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, left = count / total, (count - 1) / (total - inverse)
        parts = np.where(alone, h_means, count * whole - (count - 1) * left)
    return np.where(there, parts, np.nan)


def differ(differences: Floats) -> Floats:
    """Return two-sided p-values of r rows of paired differences, if the true difference is 0: (r, s, w) -> (r,).

    The same number as `crossed_spread(row.T).p_value(row.mean())`, for all rows at once; 1 for a single difference, of
    which nobody knows how it varies, and for none.
    """
    rows, seeds, machines = differences.shape
    size = seeds * machines
    if size <= 1:
        return np.ones(rows)
    mean = differences.mean(axis=(1, 2))
    if 1 in (seeds, machines):
        return _p_values(mean, differences.var(axis=(1, 2), ddof=1) / size, np.full(rows, size - 1.0))
    around = differences - mean[:, None, None]
    by_machine, by_seed = around.mean(axis=1), around.mean(axis=2)
    of_machines = seeds * (by_machine**2).sum(axis=1) / (machines - 1)
    of_seeds = machines * (by_seed**2).sum(axis=1) / (seeds - 1)
    rest, rest_freedom = around - by_machine[:, None, :] - by_seed[:, :, None], (machines - 1) * (seeds - 1)
    of_rest = (rest**2).sum(axis=(1, 2)) / rest_freedom
    seeds_count = of_seeds > of_rest
    total = np.where(seeds_count, of_machines + of_seeds - of_rest, of_machines)
    squares = of_machines**2 / (machines - 1) + of_seeds**2 / (seeds - 1) + of_rest**2 / rest_freedom
    freedom = np.divide(total**2, squares, out=np.full(rows, machines - 1.0), where=seeds_count)
    return _p_values(mean, total / size, np.maximum(freedom, min(machines - 1, seeds - 1)))


def _p_values(mean: Floats, variance: Floats, freedom: Floats) -> Floats:
    error, size = np.sqrt(variance), np.abs(mean)
    p_values = 2 * stdtr(freedom, -size / np.maximum(error, ROUNDING))
    return np.where(size <= ROUNDING, 1.0, np.where(error <= ROUNDING, 0.0, p_values))


def _first_worse(ranked: Sequence[Arm], groups: Sequence[_Group], *, leader: int) -> int:
    """Return the rank of the first row that is significantly worse than the leader; the number of rows if none is."""
    p_values = np.empty(len(ranked))
    for group in groups:
        rest = group.places > leader
        p_values[group.places[rest]] = _against(ranked[leader], group, rest)
    worse = holm(np.minimum(p_values[leader + 1 :] * (len(ranked) - leader) / 2, 1.0)) < SURE
    return leader + 1 + int(worse.argmax()) if worse.any() else len(ranked)


@dataclass(frozen=True)
class _Group:
    """Rows with the same seeds and machine types. places: (r,) ranks; parts: (r, s, w)."""

    seeds: tuple[int, ...]
    defined: NDArray[np.bool_]
    places: NDArray[np.intp]
    parts: Floats


def _alike(arms: Sequence[Arm]) -> list[_Group]:
    groups: dict[tuple[tuple[int, ...], bytes], list[int]] = {}
    for place, arm in enumerate(arms):
        groups.setdefault((arm.seeds, _defined(arm).tobytes()), []).append(place)
    return [
        _Group(
            seeds,
            np.frombuffer(defined, dtype=np.bool_),
            np.array(places),
            np.stack([arms[place].parts for place in places]),
        )
        for (seeds, defined), places in groups.items()
    ]


def _defined(arm: Arm) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(arm.parts).all(axis=0))


def _against(leader: Arm, group: _Group, rest: NDArray[np.bool_]) -> Floats:
    """Return p-values of a group's rows against a leader: (r,)."""
    scored = group.defined & _defined(leader)
    ours, theirs = leader.parts[:, scored], group.parts[rest][:, :, scored]
    shared = [seed for seed in leader.seeds if seed in group.seeds]
    if len(shared) > 1:
        return differ(theirs[:, _at(group.seeds, shared)] - ours[_at(leader.seeds, shared)])
    return differ(theirs.mean(axis=1, keepdims=True) - ours.mean(axis=0))


def _at(seeds: Sequence[int], shared: Iterable[int]) -> list[int]:
    return [seeds.index(seed) for seed in shared]
