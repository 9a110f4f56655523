"""Two principal components of the clips' features, for a scatter plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeling.distances import single_thread, standardise

NOISE = 1e-10  # an axis whose squared length is a smaller share of the longest one's is rounding noise


def plane(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Project clips onto the two first principal components of their standardised features: (n, d) -> (n, 2).

    A principal component is defined but for its sign. Here the loading of the largest magnitude is positive, so that a
    picture is never mirrored on another machine. With one or two clips, or one dimension, the second column
    is 0.

    Args:
        features: (n, d), finite.
    """
    drawn = np.zeros((len(features), 2), dtype=np.float32)
    if not features.size:
        return drawn
    with single_thread():
        points = standardise(features)
        clips, dimensions = points.shape
        if clips > dimensions:
            axes = np.linalg.eigh(points.T @ points).eigenvectors[:, :-3:-1]  # (d, <= 2), the largest first
        else:
            lengths, shares = np.linalg.eigh(points @ points.T)  # (n,), (n, n)
            lengths, shares = lengths[:-3:-1], shares[:, :-3:-1]
            real = lengths > NOISE * lengths[0]  # two clips differ along one axis alone
            axes = np.where(real, points.T @ shares / np.sqrt(np.where(real, lengths, 1.0)), 0.0)
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None, :], axis=0)
        drawn[:, : axes.shape[1]] = points @ (axes * np.where(largest < 0, -1.0, 1.0))
    return drawn
