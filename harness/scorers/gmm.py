"""How improbable a clip is under a Gaussian mixture of each domain's normal training clips."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.scoring.contract import Floats, Scorer, ScoreRequest
from harness.scoring.reference_sets import check_embeddings, reference_sets
from labeling.distances import single_thread

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

COMPONENTS = 4  # of a domain's mixture, if it has enough clips
CLIPS_A_COMPONENT = 20  # at least: ten target clips get one component
PRIOR_CLIPS = 10.0  # weight of the prior variance of 1 in each component's variance, as a number of clips
STEPS = 100  # of expectation maximisation, at most
ENOUGH = 1e-4  # mean log-likelihood gained by a step, in nats a dimension, under which it stops
ROWS = 4096  # queries that are worked on in float64 at once
EPSILON = 1e-12


def score(request: ScoreRequest, *, components: int = COMPONENTS) -> Floats:
    """Return the smaller of the negative log-likelihoods under the domains' mixtures, in nats a dimension: (q,).

    First each dimension is scaled to mean 0 and variance 1 within domains; a constant one is only centred. Covariances
    are diagonal. Each component's variances are shrunk towards 1 with the weight of ten clips, since a few target clips
    do not suffice to estimate them: ten clips with variance 0.2 give (10 * 0.2 + 10 * 1) / 20 = 0.6.

    Args:
        request: what is scored.
        components: of a domain's mixture, at most; a domain has one for every twenty of its clips.

    Raises:
        HarnessError: there is no reference, all are equal, or a vector is not finite.
    """
    check_embeddings(request)
    sets = list(reference_sets(request))
    centre = request.references.mean(axis=0, dtype=np.float64)
    scale = _spread_within(sets)
    mixtures = [_fit((references - centre) / scale, components, request.seed) for references in sets]
    scores = np.empty(len(request.queries))
    for start in range(0, len(scores), ROWS):
        rows = slice(start, start + ROWS)
        queries = (request.queries[rows] - centre) / scale
        scores[rows] = -np.max([mixture.score_samples(queries) for mixture in mixtures], axis=0) / centre.size
    return scores


def _spread_within(sets: list[NDArray[np.float32]]) -> Floats:
    """Return each dimension's standard deviation around the domains' means; 1 where it is 0: (d,)."""
    squares = np.zeros(sets[0].shape[1])
    for references in sets:
        squares += len(references) * references.var(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / sum(len(references) for references in sets))
    return np.where(deviation > EPSILON * deviation.max(), deviation, 1.0)


def _fit(vectors: Floats, most: int, seed: int) -> GaussianMixture:
    """Fit a mixture of at most so many components to (n, d) vectors, and draw its variances towards 1."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - a second, for this scorer alone
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415

    components = max(1, min(len(vectors) // CLIPS_A_COMPONENT, most))
    added = PRIOR_CLIPS * components / len(vectors)  # what the prior adds to the variance of a component of mean size
    mixture = GaussianMixture(
        components, covariance_type="diag", reg_covar=added, tol=ENOUGH * vectors.shape[1], max_iter=STEPS,
        random_state=seed,
    )  # fmt: skip
    with single_thread(), warnings.catch_warnings():
        # the step reached is good enough to score by; K-means, which gives the first means, warns of copies
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(vectors if len(vectors) > 1 else np.repeat(vectors, 2, axis=0))  # a clip twice has its mean too
    clips = mixture.weights_[:, None] * len(vectors)
    variances = (clips * np.maximum(mixture.covariances_ - added, 0.0) + PRIOR_CLIPS) / (clips + PRIOR_CLIPS)
    mixture.covariances_, mixture.precisions_cholesky_ = variances, 1.0 / np.sqrt(variances)
    return mixture


SCORER = Scorer(
    name="gmm",
    reads="embedding",
    score=score,
    summary="negative log-likelihood under a Gaussian mixture of each domain, the smaller one",
    options={"components": COMPONENTS},
    version=2,  # 1 had an expectation maximisation of its own, which began elsewhere
)
