"""Hide known attributes on purpose and keep them as the truth, to measure how well labeling finds them again."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from labeling.contract import Ids, LabelingError


def withhold(
    ids: Ids,
    attributes: NDArray[np.object_],
    *,
    share: float = 1.0,
    domains: NDArray[np.object_] | None = None,
    domain: str | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.object_], dict[str, str]]:
    """Hide the attributes of a share of the clips, of a domain, or of a share of a domain.

    Whether a clip is hidden depends on its id, the share and the seed alone, not on which other clips there are: each
    id has a number in 0..1, and the clip is hidden where that is under the share. So a larger share hides the same
    clips and more, and the hidden count is close to the share of the clips, not exactly it.

    Args:
        ids: (n,) clip ids.
        attributes: (n,) names, None where there is nothing to hide.
        share: of the clips, 0..1.
        domains: (n,) "source", "target" or None; needed when `domain` is given.
        domain: only its clips are hidden; None hides in all.
        seed: another seed hides other clips.

    Returns:
        The attributes (n,) with None where hidden, and the hidden ones by clip id.

    Raises:
        LabelingError: a share outside 0..1, lengths that differ, or a domain that no clip has.
    """
    if not 0.0 <= share <= 1.0:
        raise LabelingError(f"share must be between 0 and 1, but got {share}.")
    if len(attributes) != len(ids):
        raise LabelingError(f"attributes must have one row a clip, {len(ids)}, but got {len(attributes)}.")
    chosen = _in_domain(len(ids), domains, domain)
    seen = attributes.copy()
    truth: dict[str, str] = {}
    for row, clip in enumerate(map(str, ids)):
        if chosen[row] and attributes[row] is not None and _number(clip, seed) < share:
            truth[clip] = str(attributes[row])
            seen[row] = None
    return seen, truth


def _in_domain(clips: int, domains: NDArray[np.object_] | None, domain: str | None) -> NDArray[np.bool_]:
    if domain is None:
        return np.full(clips, True)
    if domains is None or len(domains) != clips:
        got = "none" if domains is None else len(domains)
        raise LabelingError(
            f"to withhold the domain {domain}, domains must have one row a clip, {clips}, but got {got}."
        )
    chosen = np.array([found == domain for found in domains])
    if not chosen.any():
        known = ", ".join(sorted({str(found) for found in domains}))
        raise LabelingError(f"the domain to withhold must be one of {known}, but got {domain}.")
    return chosen


def _number(clip: str, seed: int) -> float:
    """Draw a clip's number in 0..1 from its id: 53 bits of a keyed hash."""
    digest = hashlib.blake2b(clip.encode(), digest_size=8, salt=str(seed).encode()[:16]).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
