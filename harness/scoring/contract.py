"""The interface of scorers: the request they get, and how a file declares one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
ScorerInput: TypeAlias = Literal["embedding", "level"]
LEVEL_SCORER = "level"


@dataclass(frozen=True)
class Part:
    """The part of a vector that comes from one layer: bands * width numbers, band by band.

    Attributes:
        bands: number of frequency bands; 1 if the layer was averaged over frequency.
        width: numbers in each band.
    """

    bands: int
    width: int


@dataclass(frozen=True)
class ScoreRequest:
    """One machine type's section, as a scorer sees it: arrays, and never which clip is anomalous.

    Attributes:
        references: (r, d) vectors of normal training clips.
        reference_domains: (r,) "source", "target" or None where the year has no domains.
        queries: (q, d) vectors of the clips to be scored.
        seed: random seed, for scorers that need one.
        parts: if the vectors are outputs of layers instead of the encoder's embedding: one entry a layer, in order. A
            scorer's `score` function gets at most one; several layers are merged outside (`harness.scoring.layers`).
    """

    references: NDArray[np.float32]
    reference_domains: NDArray[np.object_]
    queries: NDArray[np.float32]
    seed: int = 0
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Scorer:
    """One way to turn vectors into anomaly scores, declared by a file as `SCORER`.

    Attributes:
        name: the file's name.
        reads: encoder embeddings, or the clip's level in dB alone.
        score: function of a request, with the options as keywords, that returns (q,) scores; higher = more anomalous.
            It raises a HarnessError for a request that it cannot score, and never returns NaN.
        summary: one line for listings.
        options: name -> default of what `score` takes; a value is of its default's type: a whole number at least 1, a
            number above 0, or a word.
        words: option -> the allowed words; an option that is not listed accepts any.
        settle: function that checks options beyond their type and returns them in canonical form, such as sorted names.
        keeps_frequency: whether it treats a layer's frequency bands separately, so that they are never averaged.
        version: raise it when a change of code changes the scores. From 2 on it is part of the scorer's text in
            results, "gmm@2", so that older scores ("gmm") are not mixed with new ones.
    """

    name: str
    reads: ScorerInput
    score: Callable[..., Floats]
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    keeps_frequency: bool = False
    version: int = 1
