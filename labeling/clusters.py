"""K-means over one machine type's clips, the same whatever the number of threads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeling.contract import LabelingError
from labeling.distances import single_thread, squared_distances

STARTS = 10  # k-means++ initialisations; the one with the smallest inertia is kept
START_CLIPS = 2000  # the starts are tried on a sample of this many clips ...
START_CLIPS_PER_CLUSTER = 40  # ... or of this many per cluster where that is more
MAX_ITERATIONS = 300
CLUSTER = "cluster_"


@dataclass(frozen=True)
class Clusters:
    """A partition of n clips into k clusters, none of them empty.

    Attributes:
        members: (n,) the cluster of each clip, 0..k-1.
        distances: (n, k) Euclidean distance to each centroid, in the features' unit.
        between: (k, k) distances between centroids.
    """

    members: NDArray[np.int64]
    distances: NDArray[np.float64]
    between: NDArray[np.float64]


def check_k2(k2: int, clips: int) -> None:
    """Refuse a number of clusters that the clips cannot fill.

    Raises:
        LabelingError: k2 is below 1 or above the number of clips.
    """
    if not 1 <= k2 <= clips:
        raise LabelingError(f"k2 must be between 1 and {clips}, the clips of this machine type, but got {k2}.")


def cluster(features: NDArray[np.floating[Any]], *, k2: int, seed: int) -> Clusters:
    """Partition clips by K-means in the space of their features.

    With many clips (`START_CLIPS`), K-means first runs on a random sample from ten k-means++ initialisations, and the
    best centroids found there are the start of one run on all clips. With fewer clips the ten run on all of them.
    Identical clips cannot be split: with only 3 different feature rows there are at most 3 clusters, whatever k2 is.

    Args:
        features: (n, d), finite, in an order that does not change from call to call.
        k2: clusters, 1..n.
        seed: of the k-means++ initialisations and of the sample.

    Returns:
        The partition. Cluster 0 holds the first clip, cluster 1 the first clip that is not in cluster 0, and so on.

    Raises:
        LabelingError: k2 is below 1 or above n.
    """
    check_k2(k2, len(features))
    centred = features - features.mean(axis=0, dtype=np.float64).astype(features.dtype)
    kinds = len({row.tobytes() for row in centred + 0.0})  # + 0.0 turns -0.0 into 0.0: equal rows, equal bytes
    with single_thread():
        found = _partition(centred, k=min(k2, kinds), seed=seed)
        members = renumbered(found)
        centroids = centroids_of(centred, members)
        distances = np.sqrt(squared_distances(centred, centroids))
        between = np.sqrt(squared_distances(centroids, centroids))
    return Clusters(members, distances, between)


def cluster_names(count: int, *, prefix: str = CLUSTER) -> NDArray[np.str_]:
    """Name clusters by their numbers, padded so that names sort as numbers do: "cluster_07"."""
    digits = max(2, len(str(count - 1)))
    return np.array([f"{prefix}{number:0{digits}d}" for number in range(count)], dtype=np.str_)


def centroids_of(points: NDArray[np.floating[Any]], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each cluster's clips: (n, d), (n,) 0..k-1, none empty -> (k, d)."""
    counts = np.bincount(members)
    return np.stack([np.bincount(members, weights=column) / counts for column in points.T], axis=1)


def _partition(features: NDArray[np.floating[Any]], *, k: int, seed: int) -> NDArray[np.int64]:
    """Run K-means: (n, d) -> (n,) clusters."""
    # importing scikit-learn takes a second, and most processes find the clusters in the cache
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    size = max(START_CLIPS, START_CLIPS_PER_CLUSTER * k)
    whole = KMeans(k, n_init=STARTS, max_iter=MAX_ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        # scikit-learn warns when it finds fewer distinct clusters than k; `cluster` drops the empty ones anyway
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(features) > size:
            sample = np.sort(np.random.default_rng(seed).choice(len(features), size, replace=False))
            starts = whole.fit(features[sample]).cluster_centers_
            whole = KMeans(k, init=starts, max_iter=MAX_ITERATIONS)  # from given starts, one run that draws nothing
        labels: NDArray[np.int64] = whole.fit(features).labels_.astype(np.int64)
    return labels


def renumbered(members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters 0, 1, ... by their first clip, leaving out empty ones."""
    _, first, inverse = np.unique(members, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
