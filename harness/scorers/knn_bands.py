"""Nearest neighbour band by band: for embeddings that keep frequency, where a fault may be in one band alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.scoring.contract import Scorer, ScoreRequest
from harness.scoring.neighbours import METRICS, nearest
from harness.scoring.reference_sets import check_embeddings, reference_sets

BANDS = 4


def score(
    request: ScoreRequest, *, bands: int = BANDS, join: str = "mean", metric: str = "cosine", domains: str = "apart"
) -> NDArray[np.float64]:
    """Return the mean (or the largest) over bands of the distance to the nearest reference: (q,).

    An embedding that keeps frequency is a concatenation of bands, d / bands numbers each. With a layer
    (`knn_bands:layer=14`) the layer's own bands are used, neighbouring ones joined until there are `bands`. The nearest
    reference is found for each band separately, and may be another clip in each. Of several domains, the smaller score
    counts. Source: per-band memory banks as in arXiv 2603.13749.

    Args:
        request: what is scored.
        bands: equal parts of an embedding.
        join: "mean", or "max": the most anomalous band decides.
        metric: "cosine" or "euclidean".
        domains: "apart" or "together".

    Raises:
        HarnessError: bands does not divide the embedding, or the bands of the layer; all references are equal, or a
            vector is not finite.
    """
    check_embeddings(request)
    dim = request.queries.shape[1]
    if request.parts and request.parts[0].bands % bands:
        raise HarnessError(
            f"knn_bands:bands must divide the {request.parts[0].bands} frequency bands of what it hears, but got "
            f"{bands}; name layers that keep frequency by their number."
        )
    if dim % bands:
        raise HarnessError(
            f"knn_bands:bands must divide the {dim} numbers of an embedding into equal bands, but got {bands}; take a "
            "layer that keeps frequency, and its number of bands."
        )
    best = np.full(len(request.queries), np.inf)
    for references in reference_sets(request, domains=domains):
        away = [
            nearest(
                np.ascontiguousarray(request.queries[:, band : band + dim // bands]),
                np.ascontiguousarray(references[:, band : band + dim // bands]),
                k=1,
                metric=metric,
            )[0].ravel()
            for band in range(0, dim, dim // bands)
        ]  # bands of (q,)
        joined = np.mean(away, axis=0) if join == "mean" else np.max(away, axis=0)
        best = np.minimum(best, joined)
    return best


SCORER = Scorer(
    name="knn_bands",
    reads="embedding",
    score=score,
    summary="nearest neighbour in each frequency band of an embedding, mean or maximum over bands",
    options={"bands": BANDS, "join": "mean", "metric": "cosine", "domains": "apart"},
    words={"join": ("mean", "max"), "metric": METRICS, "domains": ("apart", "together")},
    keeps_frequency=True,
)
