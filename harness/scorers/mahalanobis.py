"""Mahalanobis distance to the mean of the nearer domain, with one shrunk covariance for both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from harness.contract import Scorer, ScoreRequest
from harness.scorers.knn import check_request, reference_sets

ROWS = 4096  # vectors that are worked on in float64 at once


def score(request: ScoreRequest) -> NDArray[np.float64]:
    """Return the smaller of the distances to the domains' means: (q,).

    sqrt((x - mean)' C^-1 (x - mean)); the covariance C is that of the references around their own domain's mean, both
    domains together, since ten target clips have none of their own, and shrunk by `shrunk_covariance`. Where all
    references of a domain are equal C is zero and the Euclidean distance is taken.

    Raises:
        HarnessError: there is no reference, or a vector is not finite.
    """
    check_request(request)
    sets = list(reference_sets(request))
    means = np.stack([references.mean(axis=0, dtype=np.float64) for references in sets])  # (domains, d)
    covariance = shrunk_covariance(sets, means)
    factor = cho_factor(covariance, lower=True) if covariance.any() else cho_factor(np.eye(len(covariance)))
    scores = np.empty(len(request.queries))
    for start in range(0, len(scores), ROWS):
        rows = slice(start, start + ROWS)
        away = request.queries[rows].astype(np.float64)[None] - means[:, None]  # (domains, rows, d)
        flat = away.reshape(-1, away.shape[-1])
        squares = np.einsum("ij,ji->i", flat, cho_solve(factor, flat.T)).reshape(away.shape[:2])
        scores[rows] = np.sqrt(np.maximum(squares.min(axis=0), 0.0))
    return scores


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
    summary="Mahalanobis distance to the nearer domain's mean, one shrunk covariance",
)
