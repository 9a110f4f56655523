"""How much of the variance of scores one choice explains: eta squared, and how much of it chance would give.

For example: of the variance of all trials' scores, 40 % lies between the values of M and 2 % between seeds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def variance_share(scores: Floats, codes: Codes) -> Floats:
    """Return eta squared: the sum of squares between groups over the total sum of squares.

    Fisher 1925, Statistical Methods for Research Workers. It is 1 if all scores of a group are equal, and 0 if all
    groups have the same mean. In a balanced design (every value of one choice occurs equally often with every value of
    the others) the shares of several choices add up to at most 1; otherwise they overlap and may add up to more.

    Args:
        scores: (n,) or (draws, n), finite.
        codes: (n,) the group of each score, 0..g-1, none of them empty.

    Returns:
        () or (draws,); 0 where all scores are equal.
    """
    members = np.zeros((codes.max() + 1, len(codes)))
    members[codes, np.arange(len(codes))] = 1
    sizes = members.sum(axis=1)
    centred = scores - scores.mean(axis=-1, keepdims=True)
    between = ((centred @ members.T) ** 2 / sizes).sum(axis=-1)
    total = (centred**2).sum(axis=-1)
    return np.asarray(np.divide(between, total, out=np.zeros_like(total), where=total > 0))


def weighted_share(scores: Floats, codes: Codes, weights: Floats) -> Floats:
    """Return eta squared if each score counts as often as its weight says, as in a bootstrap's draws.

    Args:
        scores: (n,) finite.
        codes: (n,) the group of each score, 0..g-1.
        weights: (draws, n) how often each score was drawn; a group may be left without any.

    Returns:
        (draws,); 0 where all drawn scores are equal.
    """
    members = np.zeros((codes.max() + 1, len(codes)))
    members[codes, np.arange(len(codes))] = 1
    centred = scores - scores.mean()
    sums, sizes = (weights * centred) @ members.T, weights @ members.T  # (draws, g)
    whole = weights.sum(axis=1)
    middle = sums.sum(axis=1) ** 2 / whole
    between = np.divide(sums**2, sizes, out=np.zeros_like(sums), where=sizes > 0).sum(axis=1) - middle
    total = weights @ centred**2 - middle
    return np.asarray(np.divide(between, total, out=np.zeros_like(total), where=total > 1e-12 * (centred**2).sum()))


def share_interval(
    scores: Floats, codes: Codes, units: Codes, *, by_chance: float, draws: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of the share that a choice would explain of ever more trainings.

    The share of few trainings is too large: in ten groups of two, chance alone explains half of the variance. If chance
    gives f, a true share s becomes about s + (1 - s) f, which `beyond_chance` takes back. A bootstrap's draw is a
    sample of a sample, so it has that part twice. The 2.5 % and 97.5 % quantiles of the draws, twice corrected, cover
    the true share in 93 to 100 % of studies; in nearly all where it is near 0, where the interval ends.

    Args:
        scores: (n,) finite.
        codes: (n,) groups.
        units: (n,) the training of each score, 0..u-1; trainings are drawn with all their scores.
        by_chance: mean share of shuffled scores.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    count = int(units.max()) + 1
    often = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)[:, units]
    drawn = np.quantile(weighted_share(scores, codes, often.astype(np.float64)), (0.025, 0.975))
    low, high = (max(beyond_chance(beyond_chance(end, by_chance), by_chance), 0.0) for end in drawn.tolist())
    return low, high


def beyond_chance(share: float, by_chance: float) -> float:
    """Return what a share has beyond chance: (share - by_chance) / (1 - by_chance), 0 if it is what chance gives.

    With the mean of all shuffles, (g - 1) / (n - 1), this is epsilon squared (Kelley 1935, An unbiased correlation
    ratio measure). It is negative for a share below that of chance.
    """
    return (share - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def permutation_test(
    scores: Floats, codes: Codes, *, draws: int, seed: int, units: Codes | None = None, parts: Codes | None = None
) -> tuple[float, float]:
    """Test eta squared by permutation, moving scores that belong together as a whole.

    The scores that four scorers give to one training rise and fall together. To shuffle them one by one would take
    them for four trainings, and a choice such as M, which no scorer changes, would seem surer than it is. So whole
    trainings change places, each with all its scores (Anderson and ter Braak 2003, Permutation tests for
    multi-factorial analysis of variance: the exchangeable units of a test). A choice that varies within trainings, such
    as the scorer, is tested by shuffling the scores of each training among themselves.

    Args:
        scores: (n,) finite.
        codes: (n,) groups.
        draws: shuffles.
        seed: of the shuffles.
        units: (n,) the training of each score, 0..u-1; None is one score a training.
        parts: (n,) which of its training's scores each is: its scorer. Trainings change places with those that have the
            same scorers.

    Returns:
        The p-value, (1 + shuffles with a share as large) / (1 + shuffles), and the shuffles' mean share: what chance
        gives, about (g - 1) / (n - 1) for n scores in g groups where each training has one.
    """
    units = np.arange(len(scores)) if units is None else units
    parts = np.zeros(len(scores), dtype=np.intp) if parts is None else parts
    within = len(np.unique(np.stack([units, codes]), axis=1).T) > len(np.unique(units))
    rng = np.random.default_rng(seed)
    shuffled = np.tile(scores, (draws, 1))
    for places in _exchangeable(units, parts):  # (u, s)
        if within:
            shuffled[:, places] = rng.permuted(np.tile(scores[places], (draws, 1, 1)), axis=2)
        else:
            order = rng.permuted(np.tile(np.arange(len(places)), (draws, 1)), axis=1)  # (draws, u)
            shuffled[:, places] = scores[places][order]
    found = float(variance_share(scores, codes))
    shares = variance_share(shuffled, codes)
    return (1 + int((shares >= found - 1e-12).sum())) / (1 + draws), float(shares.mean())


def _exchangeable(units: Codes, parts: Codes) -> list[NDArray[np.intp]]:
    """Return the places of the scores of units that have the same parts, a table for each set of parts: (u, s)."""
    order = np.lexsort((parts, units))
    ends = np.flatnonzero(np.diff(units[order])) + 1
    alike: dict[tuple[int, ...], list[NDArray[np.intp]]] = {}
    for places in np.split(order, ends):
        alike.setdefault(tuple(parts[places].tolist()), []).append(places)
    return [np.stack(places) for places in alike.values()]
