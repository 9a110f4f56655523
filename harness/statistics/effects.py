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


def share_by_chance(groups: int, scores: int) -> float:
    """Return the expected eta squared of groups assigned at random: (g - 1) / (n - 1) for n scores in g groups."""
    return (groups - 1) / (scores - 1)


def permutation_p(scores: Floats, codes: Codes, *, draws: int, seed: int) -> float:
    """Return the p-value of eta squared by permutation: (1 + shuffles with a share as large) / (1 + shuffles).

    Args:
        scores: (n,) finite.
        codes: (n,) groups.
        draws: shuffles.
        seed: of the shuffles.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(scores, (draws, 1)), axis=1)
    found = float(variance_share(scores, codes))
    as_large = int((variance_share(shuffled, codes) >= found - 1e-12).sum())
    return (1 + as_large) / (1 + draws)
