"""A trial's embeddings, kept in the cache, so that another scorer, or another M with equal classes, trains nothing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backbones.contract import EpochReport
from backbones.layers import Heard
from harness.cache import Cache
from harness.keys import digest
from harness.trials.contract import METHOD, TrialSpec
from harness.trials.limits import waiting
from harness.trials.recordings import Recordings
from harness.trials.stages import Layers, Vectors, clip_samples, embedded_ids
from labeling.contract import PseudoLabels

logger = logging.getLogger(__name__)

# A year's development and evaluation sets, 17,000 clips of 768 numbers, take 52 MB.
MOST_BYTES = 256 * 2**20  # of one trial's embeddings; larger ones are made again for another scorer
MOST_KEPT_BYTES = 8 * 2**30  # of all trials' together; the oldest make room
VECTORS, TRAINING, LAYER, ENCODER = "embedding", "training", "layer", "encoder"

Weights: TypeAlias = Mapping[str, NDArray[Any]]
"""Parameters and buffers by name: those of an encoder behind "encoder.", of a projection behind "projection."."""


@dataclass(frozen=True)
class Training:
    """What made the embeddings, and what it cost.

    Attributes:
        epochs: what each epoch of fine-tuning did.
        seconds: by stage.
        peak_mb: resident memory by stage, MiB.
        libraries: versions that it ran with; "" is not known.
    """

    epochs: tuple[EpochReport, ...]
    seconds: Mapping[str, float]
    peak_mb: Mapping[str, float]
    libraries: str = ""


@dataclass(frozen=True)
class Embedded:
    """What fine-tuning and embedding give: everything that scoring needs.

    Attributes:
        vectors: clip id -> (d,) of every reference and test clip.
        training: what made them.
        layers: outputs of the encoder's layers that scorers ask for, as `knn:layer=6` does.
        weights: of the encoder, where somebody asked for them.
    """

    vectors: Vectors
    training: Training
    layers: Layers = field(default_factory=dict)
    weights: Weights | None = field(default=None, repr=False)


def embedded_key(spec: TrialSpec, recordings: Recordings, labels: PseudoLabels | None) -> str:
    """Return a digest of all that a trial's embeddings depend on.

    Of the labels it holds which clips share a class, but not the classes' names. So trials whose M differ share one
    training if their classes are the same partition of the clips. For example, the 14 nearest of K2 = 15 clusters
    determine the 15th, so M = 14 and M = 15 give the same composite classes; and with M = 1 all fusions are the same.

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
            # a frozen encoder with weights of its own draws nothing: one embedding serves every seed
            "seed": None if labels is None and spec.backbone and spec.backbone.weights else spec.seed,
            "recipe": spec.recipe.content(),
            "samples": clip_samples(spec, recordings),
            "learned": learned,
            "embedded": ids.tolist(),
            "audio": recordings.packed.fingerprint(ids),
        }
    )


def keep_embedded(key: str, cache: Cache, embedded: Embedded) -> None:
    """Keep embeddings under their key in the cache, and each layer's output beside them.

    Embeddings of more than 256 MiB are not kept: adding a scorer to such a trial trains it again.
    """
    for heard, values in embedded.layers.items():
        rows = _rows(values)
        if rows[1].nbytes <= MOST_BYTES:
            cache.put(LAYER, _layer_key(key, heard), rows, most_bytes=MOST_KEPT_BYTES)
        else:
            logger.info("layer %s takes %d MiB and is not kept", heard.layer, rows[1].nbytes // 2**20)
    if embedded.weights is not None:
        cache.put(ENCODER, key, dict(embedded.weights), most_bytes=MOST_KEPT_BYTES)
    ids, vectors = _rows(embedded.vectors)
    if vectors.nbytes > MOST_BYTES:
        logger.info("embeddings take %d MiB and are not kept", vectors.nbytes // 2**20)
        return
    cache.put(TRAINING, key, embedded.training, of=(Training, EpochReport))
    cache.put(VECTORS, key, (ids, vectors), most_bytes=MOST_KEPT_BYTES)  # last: it says that all is there


def _rows(values: Vectors) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Return clip ids (n,) and what is kept of them, (n, ...)."""
    rows = np.stack(list(values.values())) if values else np.empty((0, 0), dtype=np.float32)
    return np.array(list(values), dtype=np.str_), rows


def _layer_key(key: str, heard: Heard) -> str:
    return digest({"embedding": key, **asdict(heard)})


def find_embedded(
    key: str, cache: Cache, ids: NDArray[np.str_], heard: Sequence[Heard] = (), *, weights: bool = False
) -> Embedded | None:
    """Return the embeddings kept under a key; None if there are none, or if a layer or the weights are missing.

    Args:
        key: of the embeddings.
        cache: where they may be.
        ids: the clips that must have an embedding.
        heard: the layers that must be there.
        weights: whether the encoder's weights must be there.
    """

    def find(kind: str, key: str, sides: int) -> dict[str, NDArray[np.float32]] | None:
        def fits(kept: Any) -> bool:
            clips, rows = kept
            return bool(clips.ndim == 1 and rows.ndim == sides and len(clips) == len(rows) and {*clips} == {*ids})

        found = cache.find(kind, key, fits=fits)
        return None if found is None else dict(zip(found[0].tolist(), found[1], strict=True))

    vectors = find(VECTORS, key, 2)
    training = cache.find(TRAINING, key, of=(Training, EpochReport), fits=lambda kept: isinstance(kept, Training))
    layers = {each: found for each in heard if (found := find(LAYER, _layer_key(key, each), 3)) is not None}
    if vectors is None or training is None or len(layers) < len(heard):
        return None
    encoder = cache.find(ENCODER, key, fits=lambda kept: isinstance(kept, dict)) if weights else None
    return None if weights and encoder is None else Embedded(vectors, training, layers, encoder)


def embedded_once(
    key: str,
    cache: Cache,
    ids: NDArray[np.str_],
    make: Callable[[], Embedded],
    heard: Sequence[Heard] = (),
    *,
    weights: bool = False,
) -> tuple[Embedded, bool]:
    """Return the embeddings of a key, and whether an earlier trial had made them.

    If two trials would train the same at the same time, one waits for the other. Waiting does not count towards its
    limit of minutes.

    Args:
        key: of `embedded_key`.
        cache: that keeps them.
        ids: the clips that must have one.
        make: trains and embeds, where nothing was kept, or a layer was not: one pass over the clips gives all layers,
            so a frozen encoder makes that pass again, and one that learns is trained again.
        heard: the layers that must be there.
        weights: whether the encoder's weights must be there; where they are not, it is trained again, too.
    """
    with ExitStack() as held:
        with waiting():
            held.enter_context(cache.alone(VECTORS, key))
        kept = find_embedded(key, cache, ids, heard, weights=weights)
        if kept is not None:
            return kept, True
        made = make()
        keep_embedded(key, cache, made)
        return made, False
