"""What scoring needs of a trial, kept so that one more scorer, or another M with the same classes, trains nothing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.contract import EpochReport
from harness.cache import Cache
from harness.keys import digest
from harness.trials.contract import METHOD, TrialSpec
from harness.trials.limits import waiting
from harness.trials.recordings import Recordings
from harness.trials.stages import clip_samples, embedded_ids
from labeling.contract import PseudoLabels

logger = logging.getLogger(__name__)

# A year's development and evaluation sets, 17,000 clips of 768 numbers, take 52 MB.
MOST_BYTES = 256 * 2**20  # of one trial's embeddings; larger ones are made again for another scorer
MOST_KEPT_BYTES = 8 * 2**30  # of all trials' together; the oldest make room
VECTORS, TRAINING = "embedding", "training"


@dataclass(frozen=True)
class Training:
    """What made the embeddings, and what it cost.

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
    """A trial from its labels up to scoring.

    Attributes:
        vectors: clip id -> (d,) of every reference and test clip.
        training: what made them.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    training: Training


def embedded_key(spec: TrialSpec, recordings: Recordings, labels: PseudoLabels | None) -> str:
    """Digest all that a trial's embeddings depend on; of the labels which clips share a class, not what it is called.

    Of M clusters out of K2 the last few often change no class, and the last one never does.

    Args:
        spec: of the trial.
        recordings: what it trains on and embeds.
        labels: what it learns; None for a frozen trial.
    """
    ids = embedded_ids(recordings)
    learned: dict[str, Any] = {}
    if labels is not None:
        learned = {
            "clips": labels.ids.tolist(),
            "targets": hashlib.blake2b(np.ascontiguousarray(labels.targets).tobytes()).hexdigest(),
            "shape": [str(labels.targets.dtype), *labels.targets.shape],
            "classes": len(labels.classes),
            "audio": recordings.packed.fingerprint(labels.ids),
        }
    return digest(
        {
            "method": METHOD,
            "backbone": spec.backbone.content() if spec.backbone else None,
            "seed": spec.seed,
            "recipe": spec.recipe.content(),
            "samples": clip_samples(spec, recordings),
            "learned": learned,
            "embedded": ids.tolist(),
            "audio": recordings.packed.fingerprint(ids),
        }
    )


def keep_embedded(key: str, cache: Cache, embedded: Embedded) -> None:
    """Keep embeddings under their key.

    What is too large is not kept: naming another scorer later then trains again.
    """
    ids = np.array(list(embedded.vectors), dtype=np.str_)
    vectors = np.stack(list(embedded.vectors.values())) if len(ids) else np.empty((0, 0), dtype=np.float32)
    if vectors.nbytes > MOST_BYTES:
        logger.info("embeddings take %d MiB and are not kept", vectors.nbytes // 2**20)
        return
    cache.put(TRAINING, key, embedded.training, of=(Training, EpochReport))
    cache.put(VECTORS, key, (ids, vectors), most_bytes=MOST_KEPT_BYTES)  # last: it says that all is there


def find_embedded(key: str, cache: Cache, ids: NDArray[np.str_]) -> Embedded | None:
    """Return what was kept under a key; None where nothing was.

    Args:
        key: of the embeddings.
        cache: where they may be.
        ids: the clips that must have one.
    """

    def fits(kept: Any) -> bool:
        clips, vectors = kept
        return bool(clips.ndim == 1 and vectors.ndim == 2 and len(clips) == len(vectors) and {*clips} == {*ids})

    found = cache.find(VECTORS, key, fits=fits)
    training = cache.find(TRAINING, key, of=(Training, EpochReport), fits=lambda kept: isinstance(kept, Training))
    if found is None or training is None:
        return None
    clips, vectors = found
    return Embedded(dict(zip(clips.tolist(), vectors, strict=True)), training)


def embedded_once(key: str, cache: Cache, ids: NDArray[np.str_], make: Callable[[], Embedded]) -> tuple[Embedded, bool]:
    """Return the embeddings of a key, and whether an earlier trial had made them.

    Of two trials that would train the same, one waits for the other; its waiting counts for none of its minutes.

    Args:
        key: of `embedded_key`.
        cache: that keeps them.
        ids: the clips that must have one.
        make: trains and embeds, where nothing was kept.
    """
    with ExitStack() as held:
        with waiting():
            held.enter_context(cache.alone(VECTORS, key))
        kept = find_embedded(key, cache, ids)
        if kept is not None:
            return kept, True
        made = make()
        keep_embedded(key, cache, made)
        return made, False
