"""Distance to the nearest of some centres: K-means of the source clips, and every target clip as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, inverse_norms, nearest
from harness.scoring.reference_sets import check_embeddings, of_domain
from labeling.clusters import cluster

CLUSTERS = 16  # of the source clips; Wilkinghoff 2023 ("Design Choices for Learning Embeddings from Auxiliary Tasks")


def score(request: ScoreRequest, *, clusters: int = CLUSTERS, metric: str = "cosine") -> NDArray[np.float64]:
    """Return the distance to the nearest centre: (q,).

    The many source references are summed up by K-means, the few target references stay centres of their own (K.
    Wilkinghoff, "Design Choices for Learning Embeddings from Auxiliary Tasks for Domain Generalization in Anomalous
    Sound Detection", ICASSP 2023). For the cosine distance, vectors are normalised before they are clustered.
    References without a domain count as source. If there are fewer different references than clusters, each of them is
    a centre.

    Args:
        request: what is scored.
        clusters: of the source references.
        metric: "cosine", distances in 0..2, or "euclidean".

    Raises:
        HarnessError: there are fewer source references than clusters, all references are equal, or a vector is not
            finite.
    """
    check_embeddings(request)
    target = of_domain(request, "target")
    vectors = request.references
    if metric == "cosine":
        vectors = vectors * inverse_norms(vectors)[:, None]
    centres = [vectors[target]]
    if not target.all():
        centres.append(_centres(vectors[~target], clusters, request.seed))
    queries = request.queries
    return nearest(queries, np.concatenate(centres), k=1, metric=metric)[0].ravel()


def _centres(vectors: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.float32]:
    """Return the means of the clusters: (n, d) -> (<= clusters, d)."""
    if len(vectors) < clusters:
        raise HarnessError(
            f"kmeans:clusters must be at most the {len(vectors)} source references of the section, but got {clusters}; "
            f"name the scorer kmeans:clusters={len(vectors)} or fewer."
        )
    members = cluster(vectors, k2=clusters, seed=seed).members
    counts = np.bincount(members)
    sums = np.zeros((counts.size, vectors.shape[1]))
    np.add.at(sums, members, vectors)
    return (sums / counts[:, None]).astype(np.float32)


SCORER = Scorer(
    name="kmeans",
    reads="embedding",
    score=score,
    summary="distance to the nearest K-means centre of the source clips or to the nearest target clip",
    options={"clusters": CLUSTERS, "metric": "cosine"},
    words={"metric": METRICS},
)
