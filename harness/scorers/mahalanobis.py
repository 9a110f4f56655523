"""Mahalanobis distance to the mean of the nearer domain, with a shrunk covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from harness.scoring.contract import Floats, Scorer, ScoreRequest
from harness.scoring.reference_sets import check_embeddings, reference_sets

ROWS = 4096  # queries that are worked on in float64 at once
LEAST_SHARE = 1e-6  # least shrinkage towards the identity: without it a direction of zero variance cannot be inverted


def score(request: ScoreRequest, *, covariance: str = "shared") -> Floats:
    """Return the smaller of the distances to the domains' means: (q,).

    sqrt((x - mean)' C^-1 (x - mean)), with C from `covariance_around`, so that it can be inverted however few
    the references are.

    Args:
        request: what is scored.
        covariance: "shared", that of the references around their own domain's mean, both domains together, since ten
            target clips have hardly one of their own; or "domain", each domain's own. A domain whose references are
            all equal, or one, has none and takes the shared one; where that is zero too, the Euclidean distance.

    Raises:
        HarnessError: there is no reference, all are equal, or a vector is not finite.
    """
    check_embeddings(request)
    sets = list(reference_sets(request))
    means = [references.mean(axis=0, dtype=np.float64) for references in sets]
    shared = covariance_around(sets, means)
    best = np.full(len(request.queries), np.inf)
    for references, mean in zip(sets, means, strict=True):
        own = covariance_around([references], [mean]) if covariance == "domain" else shared
        chosen = next((each for each in (own, shared) if each.any()), np.eye(len(mean)))
        best = np.minimum(best, _distances(request.queries, mean, chosen))
    return best


def _distances(queries: NDArray[np.float32], mean: Floats, covariance: Floats) -> Floats:
    """Return Mahalanobis distances: (q, d), (d,), (d, d) -> (q,)."""
    factor = cho_factor(covariance, lower=True)
    distances = np.empty(len(queries))
    for start in range(0, len(queries), ROWS):
        rows = slice(start, start + ROWS)
        away = queries[rows].astype(np.float64) - mean
        distances[rows] = np.sqrt(np.einsum("ij,ji->i", away, cho_solve(factor, away.T)))
    return distances


def covariance_around(sets: list[NDArray[np.float32]], means: list[Floats]) -> Floats:
    """Return the covariance around the sets' means, shrunk towards a multiple of the identity: (d, d).

    The shrinkage is that of Ledoit and Wolf (2004, Journal of Multivariate Analysis 88:365), which minimises the
    expected squared error: near 1 for few vectors of many dimensions, near 0 for many vectors.

    Args:
        sets: (r_i, d) vectors of each domain.
        means: (d,) mean of each.
    """
    from sklearn.covariance import empirical_covariance, ledoit_wolf_shrinkage, shrunk_covariance  # noqa: PLC0415 - slow

    away = np.concatenate([vectors - mean for vectors, mean in zip(sets, means, strict=True)])
    if not away.any():
        return np.asarray(away.T @ away)  # all 0, as nothing differs
    share = max(float(ledoit_wolf_shrinkage(away, assume_centered=True)), LEAST_SHARE)
    return np.asarray(shrunk_covariance(empirical_covariance(away, assume_centered=True), shrinkage=share))


SCORER = Scorer(
    name="mahalanobis",
    reads="embedding",
    score=score,
    summary="Mahalanobis distance to the nearer domain's mean, with a shrunk covariance",
    options={"covariance": "shared"},
    words={"covariance": ("shared", "domain")},
)
