"""Gaussian mixtures, one per domain, their size chosen by BIC: the other published pseudo-labeling for this task."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from labeling.clusters import check_k2, cluster_names
from labeling.contract import CASES, RankedCandidates, RankRequest, Strategy
from labeling.distances import single_thread, standardise
from labeling.pool import answer, keeping_own, memo_name, open_pool
from labeling.table import with_own

DIMENSIONS = 16  # principal components kept: in 768 dimensions, each of ten target clips would be its own component
CLIPS_PER_COMPONENT = 5  # at least; a component of one clip has no variance
VARIANCE_FLOOR = 1e-2  # of the domain's mean variance per dimension
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class Mixture:
    """The posterior of each clip under its domain's mixture.

    Attributes:
        posterior: (n, c) probabilities that sum to 1 a row.
    """

    posterior: NDArray[np.float64]


def rank(request: RankRequest) -> RankedCandidates:
    """Rank the components of a Gaussian mixture by a clip's posterior, one mixture per domain.

    A mixture learns from the domain's clips that get pseudo-labels: the unlabeled ones, or all in *fragmented*. Their
    features are standardised and reduced to at most 16 principal components; covariances are diagonal; the number of
    components is the one of 1..K2 with the smallest BIC (Schwarz 1978), but at most a fifth of the number of clips.
    Components are named "source_03", or "gmm_03" for clips without a domain. Labeled clips keep their own
    attribute, except in *fragmented*.

    Returns:
        Rows k2 wide, ties by name; the confidence is the posterior.

    Raises:
        LabelingError: k2 below 1 or above the clips, or a request that does not hold together
            (`labeling.pool.open_pool`).
    """
    pool = open_pool(request, strategy=STRATEGY.name, cases=CASES)
    check_k2(request.k2, len(pool.ids))
    own = keeping_own(pool, request.case)
    ranked = np.flatnonzero(~own)
    names = np.full((len(ranked), request.k2), "")
    confidence = np.zeros((len(ranked), request.k2))
    for domain in np.unique(pool.domains[ranked]):
        rows = np.flatnonzero(pool.domains[ranked] == domain)
        features = pool.features[ranked[rows]]
        mixture: Mixture = request.memo(
            memo_name(request, pool, "mixture", k2=request.k2, domain=domain, case=request.case),
            partial(fit_mixture, features, largest=request.k2, seed=request.seed),
        )
        order = np.argsort(-mixture.posterior, kind="stable")
        said = cluster_names(order.shape[1], prefix=f"{domain or STRATEGY.name}_")
        names = names.astype(np.promote_types(names.dtype, said.dtype))
        names[rows, : order.shape[1]] = said[order]
        confidence[rows, : order.shape[1]] = np.take_along_axis(mixture.posterior, order, axis=1)
    table = with_own((names, confidence), pool.names, pool.codes, unlabeled=ranked)
    return answer(request, pool, names=table[0], confidence=table[1], labeled=own, strategy=STRATEGY.name)


def fit_mixture(features: NDArray[np.floating[Any]], *, largest: int, seed: int) -> Mixture:
    """Fit mixtures of 1 to `largest` components to (n, d) features and keep the one with the smallest BIC."""
    if len(features) == 1:  # no variance to speak of
        return Mixture(np.ones((1, 1)))
    with single_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # BIC judges what was reached
        points = _principal(features)
        floor = max(VARIANCE_FLOOR * float(points.var(axis=0).mean()), np.finfo(np.float32).eps)
        mixtures = [
            GaussianMixture(
                count, covariance_type="diag", reg_covar=floor, max_iter=MAX_ITERATIONS, random_state=seed
            ).fit(points)
            for count in range(1, max(1, min(largest, len(points) // CLIPS_PER_COMPONENT)) + 1)
        ]
        best = min(mixtures, key=lambda mixture: float(mixture.bic(points)))  # the first, so the smallest, of equals
        return Mixture(np.asarray(best.predict_proba(points), dtype=np.float64))


def _principal(features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Reduce standardised features to their first principal components: (n, d) -> (n, <= 16)."""
    points = standardise(features)
    clips, dimensions = points.shape
    kept = max(1, min(DIMENSIONS, dimensions, clips // 2))
    if clips > dimensions:
        axes = np.linalg.eigh(points.T @ points).eigenvectors[:, ::-1]
    else:
        axes = np.linalg.svd(points, full_matrices=False).Vh.T
    return np.asarray(points @ axes[:, :kept], dtype=np.float64)


STRATEGY = Strategy(
    name="gmm",
    features="latent",
    cases=CASES,
    rank=rank,
    summary="components of a Gaussian mixture per domain, their number chosen by BIC",
    stands_alone=True,
    choices=("m", "k2"),
)
