"""Ranked rows of candidate names, made of a confidence and a distance for every clip and attribute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def inverse_shares(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn distances into shares that sum to 1 a row: u_j = d_j^-2 / sum_l d_l^-2.

    This is fuzzy c-means' membership with fuzzifier 2 (Bezdek 1981, Pattern Recognition with Fuzzy Objective Function
    Algorithms). If some distances of a row are 0, these candidates share all of it equally.

    Args:
        distances: (n, c); inf where a name is no candidate of the clip.

    Returns:
        (n, c) shares; 0 where the distance is inf, so a row of inf alone sums to 0.
    """
    nearest = distances.min(axis=1, keepdims=True, initial=np.inf)
    on_top = distances == 0.0
    with np.errstate(invalid="ignore"):
        weights = np.where(np.isfinite(distances), (nearest / distances) ** 2, 0.0)
    weights = np.where(nearest == 0.0, on_top.astype(np.float64), weights)
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = weights / np.maximum(total, 1.0)  # the nearest candidate alone weighs 1
    return shares


def ranked_rows(
    names: NDArray[np.str_],
    confidence: NDArray[np.float64],
    distances: NDArray[np.float64],
    *,
    width: int,
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Rank each clip's candidates by confidence, then by distance, then by name.

    Args:
        names: (c,) sorted.
        confidence: (n, c) in 0..1.
        distances: (n, c); inf where a name is no candidate of the clip.
        width: k, the most candidates that a row holds.

    Returns:
        Names (n, k), best first, "" pads; confidence (n, k), 0 pads.
    """
    candidate = np.isfinite(distances)
    order = np.lexsort((distances, np.where(candidate, -confidence, np.inf)))[:, :width]  # stable: then by name
    chosen = np.take_along_axis(candidate, order, axis=1)
    ranked = np.full((len(order), width), "", dtype=names.dtype)
    shares = np.zeros((len(order), width))
    filled = order.shape[1]  # fewer than width where there are fewer names
    ranked[:, :filled] = np.where(chosen, names[order], "")
    shares[:, :filled] = np.where(chosen, np.take_along_axis(confidence, order, axis=1), 0.0)
    return ranked, shares


def with_own(
    rows: tuple[NDArray[np.str_], NDArray[np.float64]],
    names: NDArray[np.str_],
    codes: NDArray[np.int64],
    *,
    unlabeled: NDArray[np.int64],
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Build the table of all clips: ranked rows for the unlabeled ones, the own attribute alone for the labeled ones.

    Args:
        rows: names and confidence (u, k) of the unlabeled clips.
        names: (c,) attributes.
        codes: (n,) index of a clip's attribute; read of those that keep their own alone.
        unlabeled: (u,) positions of the clips that do not.

    Returns:
        Names and confidence (n, k) of all clips; an own attribute has confidence 1.
    """
    ranked, shares = rows
    width = ranked.shape[1]
    table = np.full((len(codes), width), "", dtype=np.promote_types(ranked.dtype, names.dtype))
    confidence = np.zeros((len(codes), width))
    table[unlabeled], confidence[unlabeled] = ranked, shares
    labeled = np.delete(np.arange(len(codes)), unlabeled)
    table[labeled, 0], confidence[labeled, 0] = names[codes[labeled]], 1.0
    return table, confidence
