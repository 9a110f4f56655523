"""What a scorer is, and what it is asked."""

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
    """What one layer contributes to a vector: its frequency bands one after the other.

    Attributes:
        bands: 1 where frequency is not kept.
        width: numbers of a band.
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
        seed: of scorers that draw.
        parts: of which layers the vectors are made, where they are layers' outputs and not the encoder's embedding. A
            scorer's function gets one part at most.
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
        score: from a request, and the options by keyword, to (q,) scores; higher = more anomalous. It refuses what it
            cannot work with by a HarnessError, and never returns NaN.
        summary: one line for listings.
        options: name -> default of what `score` takes; a value is of its default's type: a whole number at least 1, a
            number above 0, or a word.
        words: option -> the words that it may be; an option that is not here may be any.
        settle: checks options that depend on more than their type, and returns them in their one canonical form.
        keeps_frequency: whether it reads the frequency bands of a layer apart, and so is always given them.
        version: raised when a change of code changes its scores. Above 1 it is part of the scorer's text in results,
            "gmm@2", so that scores recorded before ("gmm") are neither mixed with new ones nor taken for them.
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
