"""Ward clustering of latents: the pseudo-labels of strong systems since 2025, beside the paper's K-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from labeling.clusters import centroids_of, check_k2, cluster_names, renumbered
from labeling.contract import CASES, LabelingError, RankedCandidates, RankRequest, Strategy
from labeling.distances import single_thread, squared_distances
from labeling.pool import answer, keeping_own, memo_name, open_pool
from labeling.table import inverse_shares, ranked_rows, with_own

PREFIX = "ward_"  # of the clusters' names
MOST_CLIPS = 20_000  # the distances of all pairs are held at once: 1.6 GB here


def rank(request: RankRequest) -> RankedCandidates:
    """Rank the clusters of Ward's agglomeration by how near a clip is to their centroids, its own cluster first.

    Clips that get pseudo-labels are merged two by two, each time where the sum of squared distances to the centroids
    grows least (Ward 1963, Hierarchical Grouping to Optimize an Objective Function), until K2 clusters are left. The
    merges are made once for all K2. Unlike K-means, nothing is random, so the seed plays no part, and a few clips that
    lie far from the others get a small cluster of their own. Clusters are named "ward_03". Labeled clips keep their own
    attribute, except in *fragmented*, where attributes conflict.

    The confidence is the inverse-distance share among the centroids (`labeling.table.inverse_shares`). A clip may lie
    nearer to another cluster's centroid than to its own; its own then counts as the nearest.

    Returns:
        Rows k2 wide.

    Raises:
        LabelingError: k2 below 1 or above the clips, more than 20,000 clips, or a request that does not hold together
            (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES)
    check_k2(request.k2, len(pool.ids))
    if len(pool.ids) > MOST_CLIPS:
        raise LabelingError(
            f"ward must have at most {MOST_CLIPS:,} clips of a machine type, since it compares all pairs, but has "
            f"{len(pool.ids):,}; choose labels = gmm or paper."
        )
    own = keeping_own(pool, request.case)
    ranked = np.flatnonzero(~own)
    if not len(ranked):
        empty = np.full((0, request.k2), ""), np.zeros((0, request.k2))
        names, confidence = with_own(empty, pool.names, pool.codes, unlabeled=ranked)
        return answer(request, pool, names=names, confidence=confidence, labeled=own, strategy=STRATEGY.name)
    points = pool.features[ranked].astype(np.float64)
    points -= points.mean(axis=0)
    merges: NDArray[np.float64] = request.memo(
        memo_name(request, pool, "merges", case=request.case), lambda: merge_clips(points)
    )
    members = cut(merges, clusters=min(request.k2, len(ranked)))
    centroids = centroids_of(points, members)
    with single_thread():
        distances = np.sqrt(squared_distances(points, centroids))
    rows = np.arange(len(ranked))
    distances[rows, members] = np.nextafter(distances.min(axis=1), 0.0)  # own cluster first, ties included
    table = ranked_rows(
        cluster_names(len(centroids), prefix=PREFIX), inverse_shares(distances), distances, width=request.k2
    )
    names, confidence = with_own(table, pool.names, pool.codes, unlabeled=ranked)
    return answer(request, pool, names=names, confidence=confidence, labeled=own, strategy=STRATEGY.name)


def merge_clips(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Merge clips two by two by Ward's criterion: (n, d) -> (n - 1, 4), as `scipy.cluster.hierarchy.linkage` has it."""
    if len(points) == 1:
        return np.zeros((0, 4))
    with single_thread():
        return np.asarray(linkage(points, method="ward"), dtype=np.float64)


def cut(merges: NDArray[np.float64], *, clusters: int) -> NDArray[np.int64]:
    """Undo the last merges until there are so many clusters: (n - 1, 4) -> (n,), numbered by their first clip."""
    if not len(merges):
        return np.zeros(1, dtype=np.int64)
    return renumbered(fcluster(merges, clusters, criterion="maxclust"))


STRATEGY = Strategy(
    name="ward",
    features="latent",
    cases=CASES,
    rank=rank,
    summary="clusters of Ward's agglomeration of the encoder's latents, which draws nothing",
    stands_alone=True,
    choices=("m", "k2"),
)
