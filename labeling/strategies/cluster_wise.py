"""Cluster-wise propagation: attributes of a clip's K-means cluster in latent space (paper, section 2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labeling.clusters import Clusters, cluster, cluster_names
from labeling.contract import Case, RankedCandidates, RankRequest, Strategy
from labeling.distances import ROWS, single_thread, squared_distances
from labeling.pool import Pool, answer, memo_name, open_pool, require_labels
from labeling.table import inverse_shares, ranked_rows, with_own

CASES: tuple[Case, ...] = ("fragmented", "partial", "unlabeled")


def rank(request: RankRequest) -> RankedCandidates:
    """Rank the attributes of a clip's cluster, or the clusters themselves where nothing is labeled.

    K-means with K2 clusters runs on all clips of the request, in the features as they come.

    - *fragmented*: every clip, labeled or not, takes its cluster's attributes by their share of the cluster's labeled
      clips, then by distance. The confidence is that share.
    - *partial*: an unlabeled clip takes its cluster's attributes by distance; labeled clips keep their own. The
      confidence is the inverse-distance share (`labeling.table.inverse_shares`) among the cluster's attributes.
    - *unlabeled*: every clip takes cluster numbers by distance to the centroids, with the same confidence.

    The distance to an attribute is the distance to its nearest labeled clip within the cluster. A cluster without any
    labeled clip uses the labeled clips of the cluster whose centroid is nearest among those that have some. Identical
    features give fewer clusters than K2, which is no error. All clips are retained: `min_confidence` applies to
    sample-wise labeling alone.

    Returns:
        Rows k2 wide.

    Raises:
        LabelingError: k2 below 1 or above the clips, no labeled clip in a case that needs one, or a request that does
            not hold together (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES)
    if request.case != "unlabeled":
        require_labels(pool, request.case, "choose unlabeled instead")
    clusters: Clusters = request.memo(
        memo_name(request, pool, "clusters", labels=False, k2=request.k2),
        lambda: cluster(pool.features, k2=request.k2, seed=request.seed),
    )
    own = pool.labeled if request.case == "partial" else np.zeros(len(pool.ids), dtype=np.bool_)
    ranked = np.flatnonzero(~own)
    if request.case == "unlabeled":
        distances = clusters.distances
        rows = ranked_rows(cluster_names(distances.shape[1]), inverse_shares(distances), distances, width=request.k2)
    else:
        rows = _by_cluster(request, pool, clusters, ranked)
    names, confidence = with_own(rows, pool.names, pool.codes, unlabeled=ranked)
    return answer(request, pool, names=names, confidence=confidence, labeled=own, strategy=STRATEGY.name)


def _by_cluster(
    request: RankRequest, pool: Pool, clusters: Clusters, ranked: NDArray[np.int64]
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Rank the attributes of the clusters for the clips at `ranked` (r,): names and confidence (r, k2)."""
    size = len(clusters.between), len(pool.names)
    cells = np.ravel_multi_index((clusters.members[pool.labeled], pool.codes[pool.labeled]), size)
    counts = np.bincount(cells, minlength=math.prod(size)).reshape(size)  # labeled clips of a cluster and attribute
    lender = _lenders(clusters, counts.max(axis=1) > 0)
    sources = lender[clusters.members[ranked]]  # (r,) the cluster that a clip's candidates come from
    centred = pool.features.astype(np.float64) - pool.features.mean(axis=0, dtype=np.float64)
    reach = np.full((len(ranked), len(pool.names)), np.inf)
    with single_thread():
        spread = float(np.einsum("nd,nd->n", centred, centred).max())
        for source in np.unique(sources):
            lent = pool.labeled & (clusters.members == source)
            takers = np.flatnonzero(sources == source)
            for start in range(0, len(takers), ROWS):
                rows = takers[start : start + ROWS]
                squared = squared_distances(centred[ranked[rows]], centred[lent], spread=spread)
                codes, nearest = _nearest_by_code(squared, pool.codes[lent])
                reach[np.ix_(rows, codes)] = np.sqrt(nearest)
    if request.case == "fragmented":
        near = counts[sources]  # (r, c), of clusters that have labeled clips
        return ranked_rows(pool.names, near / near.sum(axis=1, keepdims=True), reach, width=request.k2)
    return ranked_rows(pool.names, inverse_shares(reach), reach, width=request.k2)


def _lenders(clusters: Clusters, has_labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for each cluster, the one whose labeled clips it uses, itself if it has any: (k,) -> (k,)."""
    lenders = np.flatnonzero(has_labels)
    own = np.arange(len(has_labels))
    return np.where(has_labels, own, lenders[clusters.between[:, lenders].argmin(axis=1)])


def _nearest_by_code(
    squared: NDArray[np.float64], codes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Take the minimum over the columns of each code: (q, r), (r,) -> the codes that occur (c',), minima (q, c')."""
    order = np.argsort(codes)
    present, starts = np.unique(codes[order], return_index=True)
    return present, np.minimum.reduceat(squared[:, order], starts, axis=1)


STRATEGY = Strategy(
    name="cluster_wise",
    features="latent",
    cases=CASES,
    rank=rank,
    summary="attributes of a clip's K-means cluster in the encoder's latent space, or the clusters themselves",
)
