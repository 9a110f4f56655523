"""What scoring needs of a trial, kept so that one more scorer costs no training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backbones.contract import EpochReport
from harness.cache import Cache
from harness.contract import TrialSpec

logger = logging.getLogger(__name__)

# A year's development and evaluation sets, 17,000 clips of 768 numbers, take 52 MB.
MOST_BYTES = 256 * 2**20  # of one trial's embeddings; larger ones are made again for another scorer
MOST_KEPT_BYTES = 8 * 2**30  # of all trials' together; the oldest make room
VECTORS, TRAINING = "embedding", "training"


@dataclass(frozen=True)
class Training:
    """What came before scoring, and what it cost.

    Attributes:
        epochs: what each epoch of fine-tuning did.
        seconds: by stage.
        peak_mb: resident memory by stage, MiB.
    """

    epochs: tuple[EpochReport, ...]
    seconds: Mapping[str, float]
    peak_mb: Mapping[str, float]


@dataclass(frozen=True)
class Embedded:
    """A trial up to scoring.

    Attributes:
        vectors: clip id -> (d,) of every reference and test clip.
        training: what made them.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    training: Training


def keep_embedded(spec: TrialSpec, cache: Cache, embedded: Embedded) -> None:
    """Keep a trial's embeddings under its key, which names everything that they depend on.

    What is too large is not kept: naming another scorer later then trains again.
    """
    ids = np.array(list(embedded.vectors), dtype=np.str_)
    vectors = np.stack(list(embedded.vectors.values())) if len(ids) else np.empty((0, 0), dtype=np.float32)
    if vectors.nbytes > MOST_BYTES:
        logger.info("embeddings of %s take %d MiB and are not kept", spec.label(), vectors.nbytes // 2**20)
        return
    cache.put(TRAINING, spec.key(), embedded.training)
    cache.put(VECTORS, spec.key(), (ids, vectors), most_bytes=MOST_KEPT_BYTES)  # last: it says that all is there


def find_embedded(spec: TrialSpec, cache: Cache) -> Embedded | None:
    """Return what was kept of a trial; None where nothing was."""
    found, training = cache.find(VECTORS, spec.key()), cache.find(TRAINING, spec.key())
    if found is None or not isinstance(training, Training):
        return None
    ids, vectors = found
    return Embedded(dict(zip(ids.tolist(), vectors, strict=True)), training)
