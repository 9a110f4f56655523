"""Which layers of an encoder a scorer reads, and how several of them become one score: `knn:layer=4+6,merge=mean`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from harness.errors import HarnessError
from harness.plugins import unknown
from harness.scoring.contract import Floats, Part, ScoreRequest
from harness.scoring.folds import Scoring, standardised

Layer: TypeAlias = int | Literal["last", "mean"]

LAST: Literal["last"] = "last"
MEAN: Literal["mean"] = "mean"
MERGES = ("join", "mean", "zmin")
FREQUENCY = ("mean", "keep")
OPTIONS = {"layer": LAST, "merge": MERGES[0], "frequency": FREQUENCY[0]}  # of every scorer of embeddings
WORDS = {"merge": MERGES, "frequency": FREQUENCY}


@dataclass(frozen=True)
class LayerChoice:
    """The layers that a scorer reads.

    Attributes:
        layers: each is "last", the encoder's own embedding; a layer's number, from 1 at the input or from -1 at the
            output; or "mean", the mean over all layers. Texts join several by +, as in `layer=4+6`.
        merge: how several layers become one score. "join" concatenates their vectors, each layer scaled to a mean
            square norm of 1 over the training clips. "mean" is the mean of the layers' scores, which suits cosine
            distances, since these have the same scale in every layer. "zmin" is the smallest of the layers' scores,
            each standardised by held-out training clips (`harness.scoring.folds.standardised`).
        frequency: "mean" averages the frequency bands of a numbered layer, "keep" concatenates them.
    """

    layers: tuple[Layer, ...] = (LAST,)
    merge: str = MERGES[0]
    frequency: str = FREQUENCY[0]

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return the options that differ from the defaults, sorted."""
        said = {"layer": "+".join(map(str, self.layers)), "merge": self.merge, "frequency": self.frequency}
        return tuple(sorted((name, value) for name, value in said.items() if value != OPTIONS[name]))


EMBEDDING = LayerChoice()  # the encoder's own embedding, the default


def read_layers(scorer: str, given: Mapping[str, str]) -> LayerChoice:
    """Read the layers from the options `layer`, `merge` and `frequency` of a scorer's text.

    Raises:
        HarnessError: a value is not valid, or `frequency=keep` is given without a layer.
    """
    for option, words in WORDS.items():
        if option in given and given[option] not in words:
            raise HarnessError(unknown(f"{scorer}:{option}", given[option], words))
    named = {_read_layer(scorer, word.strip()) for word in given.get("layer", LAST).split("+")}
    layers = tuple(sorted(named, key=_order))
    frequency = given.get("frequency", FREQUENCY[0])
    if frequency != FREQUENCY[0] and layers == (LAST,):
        raise HarnessError(
            f"{scorer}:frequency={frequency} needs a layer that keeps frequency, but the encoder's own embedding is "
            f"scored; name one, as in {scorer}:frequency={frequency},layer=6."
        )
    return LayerChoice(layers, given.get("merge", MERGES[0]) if len(layers) > 1 else MERGES[0], frequency)


def _read_layer(scorer: str, word: str) -> Layer:
    if word == LAST:
        return LAST
    if word == MEAN:
        return MEAN
    try:
        number = int(word)
    except ValueError:
        number = 0
    if not number:
        raise HarnessError(
            f"{scorer}:layer must be a layer's number (from 1, or from -1 counted from the last), last or mean, or "
            f"several joined by +, but got {word!r}."
        )
    return number


def _order(layer: Layer) -> tuple[int, ...]:
    """Sort layers from low to high: 4, 12, -2, -1, mean, last."""
    return (layer == LAST, layer == MEAN, *(() if isinstance(layer, str) else (layer < 0, layer)))


def score_layers(scorer: Scoring, request: ScoreRequest, merge: str) -> Floats:
    """Score a request whose vectors are those of several layers, concatenated: (q,).

    Args:
        scorer: of one vector a clip.
        request: with the parts of several layers.
        merge: one of `MERGES`.

    Raises:
        HarnessError: the scorer cannot score the vectors.
    """
    if merge == "join":
        return scorer.score(_joined(request))
    alone = [_part(request, place) for place in range(len(request.parts))]
    if merge == "zmin":
        return np.asarray(np.min([standardised(scorer, one) for one in alone], axis=0))
    return np.asarray(np.mean([scorer.score(one) for one in alone], axis=0))


def _part(request: ScoreRequest, place: int) -> ScoreRequest:
    """Return the request with the vectors of one layer only."""
    sizes = [part.bands * part.width for part in request.parts]
    columns = slice(sum(sizes[:place]), sum(sizes[: place + 1]))
    return replace(
        request,
        references=np.ascontiguousarray(request.references[:, columns]),
        queries=np.ascontiguousarray(request.queries[:, columns]),
        parts=(request.parts[place],),
    )


def _joined(request: ScoreRequest) -> ScoreRequest:
    """Return the request with one vector a clip: the layers scaled alike and interleaved band by band.

    The number of bands is the largest that divides those of all layers. Layers of 16 and of 4 bands give 4 bands, each
    with four bands of the first layer and one of the second, so that neighbouring frequencies stay together.
    """
    bands = math.gcd(*(part.bands for part in request.parts))
    references, queries = [], []
    for place in range(len(request.parts)):
        one = _part(request, place)
        wide = one.references.astype(np.float64)
        norm = float(np.sqrt(np.mean(np.einsum("ij,ij->i", wide, wide)))) if len(wide) else 0.0
        scale = 1.0 / norm if np.isfinite(norm) and norm > 0 else 1.0
        width = wide.shape[1] // bands  # said, since no clip at all leaves NumPy nothing to find it by
        references.append((one.references * scale).reshape(len(one.references), bands, width))
        queries.append((one.queries * scale).reshape(len(one.queries), bands, width))
    joined, asked = np.concatenate(references, axis=2), np.concatenate(queries, axis=2)
    size = request.references.shape[1]
    return replace(
        request,
        references=joined.reshape(len(joined), size),
        queries=asked.reshape(len(asked), size),
        parts=(Part(bands, joined.shape[2]),),
    )
