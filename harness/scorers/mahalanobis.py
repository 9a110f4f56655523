"""Mahalanobis distance to the mean of the nearer domain, with a shrunk covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.reference_sets import check_embeddings, reference_sets

ROWS = 4096  # vectors that are worked on in float64 at once


def score(request: ScoreRequest, *, covariance: str = "shared") -> NDArray[np.float64]:
    """Return the smaller of the distances to the domains' means: (q,).

    sqrt((x - mean)' C^-1 (x - mean)), with C shrunk by `shrunk_covariance`, so that it can be inverted however few
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
    shared = shrunk_covariance(sets, np.stack(means))
    best = np.full(len(request.queries), np.inf)
    for references, mean in zip(sets, means, strict=True):
        own = shrunk_covariance([references], mean[None]) if covariance == "domain" else shared
        chosen = next((each for each in (own, shared) if each.any()), np.eye(len(mean)))
        best = np.minimum(best, _distances(request.queries, mean, chosen))
    return best


def _distances(
    queries: NDArray[np.float32], mean: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Mahalanobis distances: (q, d), (d,), (d, d) -> (q,)."""
    factor = cho_factor(covariance, lower=True)
    distances = np.empty(len(queries))
    for start in range(0, len(queries), ROWS):
        rows = slice(start, start + ROWS)
        away = queries[rows].astype(np.float64) - mean
        distances[rows] = np.sqrt(np.maximum(np.einsum("ij,ji->i", away, cho_solve(factor, away.T)), 0.0))
    return distances


def shrunk_covariance(sets: list[NDArray[np.float32]], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance around the sets' means, drawn towards a multiple of the identity: (d, d).

    The share of the identity is the one that Ledoit and Wolf (2004, Journal of Multivariate Analysis 88:365) found to
    lose least: near 1 where vectors are few for their dimension, near 0 where they are many.

    Args:
        sets: (r_i, d) vectors of each domain.
        means: (domains, d) their means.
    """
    dimension, total = means.shape[1], sum(len(vectors) for vectors in sets)
    covariance, fourth = np.zeros((dimension, dimension)), 0.0
    for vectors, mean in zip(sets, means, strict=True):
        for start in range(0, len(vectors), ROWS):
            away = vectors[start : start + ROWS].astype(np.float64) - mean
            covariance += away.T @ away
            fourth += float((np.einsum("ij,ij->i", away, away) ** 2).sum())
    covariance /= total
    scale = float(np.trace(covariance)) / dimension
    identity = scale * np.eye(dimension)
    apart = float(((covariance - identity) ** 2).sum())
    noise = (fourth / total - float((covariance**2).sum())) / total
    share = min(max(noise / apart, 0.0), 1.0) if apart > 0 else 1.0
    # never quite singular: a direction without any spread would otherwise make every distance infinite
    share = max(share, 1e-6)
    return np.asarray((1 - share) * covariance + share * identity)


SCORER = Scorer(
    name="mahalanobis",
    reads="embedding",
    score=score,
    summary="Mahalanobis distance to the nearer domain's mean, with a shrunk covariance",
    options={"covariance": "shared"},
    words={"covariance": ("shared", "domain")},
)
