"""How much of what scores differ by goes with one choice: the share of their variance between its values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def variance_share(scores: Floats, codes: Codes) -> Floats:
    """Return eta squared (Fisher 1925, Statistical Methods for Research Workers): squares between groups over all.

    1 says that scores of one group are all equal, 0 that groups do not differ in their means. Shares of several choices
    add up to 1 at most where every value of one occurs with every value of the others equally often, and overlap
    elsewhere.

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
    """Return the share that groups would have on average if they said nothing: (g - 1) / (n - 1)."""
    return (groups - 1) / (scores - 1)


def permutation_p(scores: Floats, codes: Codes, *, draws: int, seed: int) -> float:
    """Return how often shuffled scores have a share as large: (1 + as large) / (1 + draws).

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
