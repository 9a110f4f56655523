"""Iterated pseudo-labels: K-means of the latents of an encoder that a first round of labels has fine-tuned."""

from __future__ import annotations

import numpy as np

from labeling.clusters import Clusters, check_k2, cluster, cluster_names
from labeling.contract import CASES, FINETUNED, RankedCandidates, RankRequest, Strategy
from labeling.pool import answer, keeping_own, memo_name, open_pool
from labeling.table import inverse_shares, ranked_rows, with_own

PREFIX = "iterated_"  # of the clusters' names


def rank(request: RankRequest) -> RankedCandidates:
    """Rank the K-means clusters of fine-tuned latents by how near a clip is to their centroids.

    The features are latents of the training clips, made by an encoder that has been fine-tuned once: on the paper's
    labels with M = 1, by the same recipe and from the same seed. Fine-tuning pulls clips of a class together, so that
    clusters found after it can be better labels than those before it. To cluster, train and cluster again is the method
    of DeepCluster (Caron et al., 2018, Deep Clustering for Unsupervised Learning of Visual Features). Among systems for
    this task, Kuroyanagi et al. (2025, arXiv 2505.18980) learn from pseudo-labels again and again, and the best system
    of DCASE 2026 reports K-means of fine-tuned latents.

    K-means is that of `cluster_wise`, with K2 clusters, so that a difference from the paper's labels comes from the
    latents alone. It runs on the clips that get pseudo-labels; labeled clips keep their own attribute, except in
    *fragmented*, where attributes conflict. Clusters are named "iterated_03". The confidence is the inverse-distance
    share among the centroids (`labeling.table.inverse_shares`).

    Returns:
        Rows k2 wide.

    Raises:
        LabelingError: k2 below 1 or above the clips, or a request that does not hold together
            (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES)
    check_k2(request.k2, len(pool.ids))
    own = keeping_own(pool, request.case)
    ranked = np.flatnonzero(~own)
    rows = np.full((0, request.k2), ""), np.zeros((0, request.k2))
    if len(ranked):
        count = min(request.k2, len(ranked))
        clusters: Clusters = request.memo(
            memo_name(request, pool, "second round", k2=count, case=request.case),
            lambda: cluster(pool.features[ranked], k2=count, seed=request.seed),
        )
        distances = clusters.distances
        names = cluster_names(distances.shape[1], prefix=PREFIX)
        rows = ranked_rows(names, inverse_shares(distances), distances, width=request.k2)
    table, confidence = with_own(rows, pool.names, pool.codes, unlabeled=ranked)
    return answer(request, pool, names=table, confidence=confidence, labeled=own, strategy=STRATEGY.name)


STRATEGY = Strategy(
    name="iterated",
    features=FINETUNED,
    cases=CASES,
    rank=rank,
    summary="K-means of the latents of an encoder that a first round, the paper's with M = 1, has fine-tuned",
    stands_alone=True,
    choices=("m", "k2"),
)
