"""Which layers of an encoder a scorer hears, and how several of them become one score: `knn:layer=4+6,merge=mean`."""

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
    """What a scorer hears.

    - `layer`: "last" is the encoder's own embedding; a number is a layer, from 1 or, counted from the last, from -1;
      "mean" the mean over all layers. Several are joined by +.
    - `merge`: how several become one score. "join" scores their vectors one after the other, each layer scaled to a
      mean square norm of 1 over the training clips; "mean" takes the mean of the layers' scores, which are on one scale
      where distances are cosine; "zmin" the smallest of them, each first brought to mean 0 and deviation 1 by scores of
      held-out training clips.
    - `frequency`: "keep" leaves the frequency bands of a numbered layer one after the other; "mean" averages them.

    Attributes:
        layers: what is heard.
        merge: of several.
        frequency: of numbered layers.
    """

    layers: tuple[Layer, ...] = (LAST,)
    merge: str = MERGES[0]
    frequency: str = FREQUENCY[0]

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return the options that differ from the defaults, sorted."""
        said = {"layer": "+".join(map(str, self.layers)), "merge": self.merge, "frequency": self.frequency}
        return tuple(sorted((name, value) for name, value in said.items() if value != OPTIONS[name]))


EMBEDDING = LayerChoice()  # the encoder's own


def read_layers(scorer: str, given: Mapping[str, str]) -> LayerChoice:
    """Read what a scorer hears from the options of `OPTIONS` that a text gives.

    Raises:
        HarnessError: a value is none, or frequency is to be kept where no layer is named.
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


def _order(layer: Layer) -> tuple[int, int]:
    """Sort layers from low to high: 4, 12, -2, -1, mean, last."""
    return (2 + (layer == LAST), 0) if isinstance(layer, str) else (int(layer < 0), layer)


def score_layers(scorer: Scoring, request: ScoreRequest, merge: str) -> Floats:
    """Score a request whose vectors are several layers' one after the other: (q,).

    Args:
        scorer: of one vector a clip.
        request: with the parts of several layers.
        merge: one of `MERGES`.

    Raises:
        HarnessError: the scorer refuses the vectors.
    """
    if merge == "join":
        return scorer.score(_joined(request))
    alone = [_part(request, place) for place in range(len(request.parts))]
    if merge == "zmin":
        return np.asarray(np.min([standardised(scorer, one) for one in alone], axis=0))
    return np.asarray(np.mean([scorer.score(one) for one in alone], axis=0))


def _part(request: ScoreRequest, place: int) -> ScoreRequest:
    """Return what one part alone asks."""
    sizes = [part.bands * part.width for part in request.parts]
    columns = slice(sum(sizes[:place]), sum(sizes[: place + 1]))
    return replace(
        request,
        references=np.ascontiguousarray(request.references[:, columns]),
        queries=np.ascontiguousarray(request.queries[:, columns]),
        parts=(request.parts[place],),
    )


def _joined(request: ScoreRequest) -> ScoreRequest:
    """Return the layers as one vector a clip: on one scale, and band by band as far as all of them have the same bands.

    Layers of 16 and of 4 bands give 4 bands, of four of the first and one of the second: what is near in frequency
    stands together.
    """
    bands = math.gcd(*(part.bands for part in request.parts))
    references, queries = [], []
    for place in range(len(request.parts)):
        one = _part(request, place)
        wide = one.references.astype(np.float64)
        norm = float(np.sqrt(np.mean(np.einsum("ij,ij->i", wide, wide)))) if len(wide) else 0.0
        scale = np.float32(1.0 / norm if np.isfinite(norm) and norm > 0 else 1.0)
        references.append((one.references * scale).reshape(len(one.references), bands, -1))
        queries.append((one.queries * scale).reshape(len(one.queries), bands, -1))
    joined, asked = np.concatenate(references, axis=2), np.concatenate(queries, axis=2)
    return replace(
        request,
        references=joined.reshape(len(joined), -1),
        queries=asked.reshape(len(asked), -1),
        parts=(Part(bands, joined.shape[2]),),
    )
