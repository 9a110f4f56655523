"""How improbable a clip is under a Gaussian mixture of each domain's normal training clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.reference_sets import check_embeddings, reference_sets

COMPONENTS = 4  # of a domain with clips enough
CLIPS_A_COMPONENT = 20  # a domain with fewer gets fewer components, ten target clips one
PRIOR_CLIPS = 10.0  # weight of the common variance in each component's own
STEPS = 100  # of expectation maximisation, at most
ENOUGH = 1e-4  # mean log-likelihood gained by a step, in nats a dimension, under which it stops
ROWS = 4096  # vectors that are worked on in float64 at once
EPSILON = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """Gaussians with diagonal covariances.

    Attributes:
        weights: (c,) sum to 1.
        means: (c, d).
        variances: (c, d).
    """

    weights: Floats
    means: Floats
    variances: Floats

    def log_joint(self, vectors: Floats) -> Floats:
        """Return log of weight times density of each component: (n, d) -> (n, c), in nats."""
        precisions = 1.0 / self.variances
        squares = (
            vectors**2 @ precisions.T
            - 2.0 * vectors @ (self.means * precisions).T
            + (self.means**2 * precisions).sum(axis=1)
        )
        constants = np.log(2 * np.pi * self.variances).sum(axis=1)
        return np.asarray(np.log(self.weights) - 0.5 * (constants + squares))


def score(request: ScoreRequest, *, components: int = COMPONENTS) -> Floats:
    """Return the smaller of the negative log-likelihoods under the domains' mixtures, in nats a dimension: (q,).

    Every dimension is brought to mean 0 and, within domains, variance 1 first; one without any spread is kept as it is.
    Each component's variance is drawn towards that common variance as if by ten more clips, so that the few target
    clips give a usable one.

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
    random = np.random.default_rng(request.seed)
    mixtures = [_fit(references, centre, scale, random, components) for references in sets]
    scores = np.empty(len(request.queries))
    for start in range(0, len(scores), ROWS):
        rows = slice(start, start + ROWS)
        queries = (request.queries[rows] - centre) / scale
        likeliest = np.max([logsumexp(mixture.log_joint(queries), axis=1) for mixture in mixtures], axis=0)
        scores[rows] = -likeliest / centre.size
    return scores


def _spread_within(sets: list[NDArray[np.float32]]) -> Floats:
    """Return each dimension's standard deviation around the domains' means, 1 where there is none: (d,)."""
    squares = np.zeros(sets[0].shape[1])
    for references in sets:
        squares += len(references) * references.var(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / sum(len(references) for references in sets))
    largest = deviation.max(initial=0.0)
    return np.where(deviation > EPSILON * largest, deviation, 1.0) if largest > 0 else np.ones_like(deviation)


def _fit(
    references: NDArray[np.float32], centre: Floats, scale: Floats, random: np.random.Generator, most: int
) -> Mixture:
    """Fit a mixture by expectation maximisation (Dempster, Laird and Rubin 1977) from spread-out first means."""
    components = int(np.clip(len(references) // CLIPS_A_COMPONENT, 1, most))
    mixture = Mixture(
        weights=np.full(components, 1.0 / components),
        means=_spread_out(references, centre, scale, components, random),
        variances=np.ones((components, centre.size)),
    )
    before = -np.inf
    for _ in range(STEPS):
        mixture, likelihood = _step(mixture, references, centre, scale)
        if likelihood - before < ENOUGH * centre.size:
            break
        before = likelihood
    return mixture


def _step(mixture: Mixture, references: NDArray[np.float32], centre: Floats, scale: Floats) -> tuple[Mixture, float]:
    """Return the next mixture, and the mean log-likelihood of the references under the last one in nats."""
    shape = mixture.means.shape
    shares, sums, squares, likelihood = np.zeros(shape[0]), np.zeros(shape), np.zeros(shape), 0.0
    for start in range(0, len(references), ROWS):
        vectors = (references[start : start + ROWS] - centre) / scale
        joint = mixture.log_joint(vectors)
        total = logsumexp(joint, axis=1)
        membership = np.exp(joint - total[:, None])  # (n, c)
        likelihood += float(total.sum())
        shares += membership.sum(axis=0)
        sums += membership.T @ vectors
        squares += membership.T @ vectors**2
    filled = np.maximum(shares, EPSILON)[:, None]
    means = np.where(shares[:, None] > EPSILON, sums / filled, mixture.means)
    around = np.maximum(squares - 2 * means * sums + means**2 * shares[:, None], 0.0)
    variances = (around + PRIOR_CLIPS) / (shares[:, None] + PRIOR_CLIPS)
    weights = np.maximum(shares, EPSILON)
    return Mixture(weights / weights.sum(), means, variances), likelihood / len(references)


def _spread_out(
    references: NDArray[np.float32], centre: Floats, scale: Floats, components: int, random: np.random.Generator
) -> Floats:
    """Pick references far from one another as first means (k-means++, Arthur and Vassilvitskii 2007): (c, d)."""
    chosen = [int(random.integers(len(references)))]
    away = np.full(len(references), np.inf)
    while len(chosen) < components:
        last = references[chosen[-1]].astype(np.float64)
        for start in range(0, len(references), ROWS):
            rows = slice(start, start + ROWS)
            away[rows] = np.minimum(away[rows], (((references[rows] - last) / scale) ** 2).sum(axis=1))
        total = away.sum()
        chosen.append(int(random.choice(len(references), p=away / total)) if total > 0 else chosen[-1])
    return (references[chosen] - centre) / scale


SCORER = Scorer(
    name="gmm",
    reads="embedding",
    score=score,
    summary="negative log-likelihood under a Gaussian mixture of each domain, the smaller one",
    options={"components": COMPONENTS},
)
