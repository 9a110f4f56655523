"""A detector as a folder: `detector.json`, `references.npz` and `encoder.safetensors`; reading it runs no code."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from backbones.contract import Backbone, Encoder
from backbones.safe_tensors import read_safe_tensors, written_safe_tensors
from backbones.training.projection import Projection
from benchmarks.contract import Mix
from benchmarks.folders import clear_folders, held_folder
from benchmarks.protocols import heard
from harness import plugins
from harness.detection.detector import CLOSE, UNIT, Detector, Hearing, References, layer_names
from harness.errors import HarnessError
from harness.files import make_private_folder, read_bytes
from harness.scoring.thresholds import Threshold
from harness.trials.contract import BackboneChoice
from harness.trials.embedded import Weights
from harness.trials.stages import clip_ids, clip_samples, heard_layers, pretrained_encoder, reference_clips, rows
from harness.trials.trial import Learned

FORMAT = 1
WORDS, ARRAYS, WEIGHTS = "detector.json", "references.npz", "encoder.safetensors"
PART = "part-"  # begins the names of folders that are not whole yet
MOST_BYTES = 2**34  # of the weights
COLUMNS = ("clip_id", *UNIT, "domain", "file", "digest")


def kept_folder(cache: Path, key: str) -> Path:
    """Return the folder of a cache in which a trial's process leaves its detector for whoever records the trial."""
    return cache / "kept" / key


def detector_of(learned: Learned, *, encoder: Encoder | None = None, projection: Projection | None = None) -> Detector:
    """Return what scores new clips as a trial scored its own.

    Args:
        learned: what the trial found.
        encoder: of the trial; None builds it from the weights in `learned`, or where these are none as a frozen
            trial's is built.
        projection: likewise.
    """
    spec, recordings, embedded = learned.spec, learned.recordings, learned.embedded
    clips = reference_clips(recordings)
    ids, packed = clip_ids(clips), recordings.packed
    if not packed.heard:
        raise HarnessError(
            "New clips are heard by a trial on recordings, but this one knows its clips by their embeddings alone; run "
            "one on the folder of the recordings."
        )
    digests = dict(zip(packed.ids.tolist(), packed.hashes.tolist(), strict=True))
    paths = clips["path"].tolist()
    above = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - as texts, they may be elsewhere's
    table = pd.DataFrame({name: clips[name].astype(object).where(clips[name].notna(), None) for name in COLUMNS[:5]})
    table["file"] = [os.path.relpath(path, above) for path in paths]
    table["digest"] = [digests[clip_id] for clip_id in ids.tolist()]
    references = References(
        table.reset_index(drop=True),
        {} if embedded is None else {clip_id: embedded.vectors[clip_id] for clip_id in ids.tolist()},
        {} if embedded is None else {
            each: {clip_id: values[clip_id] for clip_id in ids.tolist()} for each, values in embedded.layers.items()
        },
        packed.levels_db(ids),
    )  # fmt: skip
    datasets = sorted(set(clips["dataset"]))
    recipe = spec.recipe
    learns = spec.kind == "trial" and recipe.train == "projection"
    hearing = Hearing(
        key=spec.key(), label=spec.label(), kind=spec.kind, backbone=spec.backbone, seed=spec.seed,
        samples=clip_samples(spec, recordings), fit=recipe.fit, whole=recipe.embed == "whole",
        mixes={name: heard(plugins.load("dataset", name), spec.protocol) for name in datasets},
        scorers=spec.scorers, projection=(recipe.projection_dim, recipe.projection_hidden) if learns else None,
    )  # fmt: skip
    thresholds = {
        scorer: {(each.dataset, each.machine, each.section): each for each in found}
        for scorer, found in learned.thresholds.items()
    }
    if spec.backbone is not None and encoder is None:
        weights = embedded.weights if embedded is not None else None
        encoder, projection = _built(hearing, weights, from_weights=True)
    return Detector(hearing, references, thresholds, encoder, projection)


def keep_detector(learned: Learned, folder: Path) -> None:
    """Write what scores new clips to a folder, which is whole or not there; one that is there is replaced.

    Raises:
        HarnessError: the encoder cannot be built again from what is kept.
        OSError: the folder cannot be written.
    """
    detector = detector_of(learned)
    weights = learned.embedded.weights if learned.embedded is not None else None
    alone = False
    if weights is not None:
        if detector.encoder is not None and detector.encoder.read_named(np.array(["probe"])) is not None:
            raise HarnessError(
                "An encoder is kept to hear new clips, but a file of embeddings hears none; leave keep out, or take a "
                "backbone that hears."
            )
        alone = _needs_no_checkpoint(detector, weights)
    probe = np.empty(0, np.float32) if detector.encoder is None else detector.probe()
    make_private_folder(folder.parent)
    clear_folders(folder.parent, lambda name: name.startswith(PART))  # of processes that were killed
    with held_folder(folder.parent, PART) as part:
        inner = make_private_folder(part / folder.name)
        if weights is not None:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}
            (inner / WEIGHTS).write_bytes(written_safe_tensors(tensors))
        (inner / ARRAYS).write_bytes(_packed(detector, probe))
        (inner / WORDS).write_text(json.dumps(_words(detector, alone=alone), indent=1, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        inner.rename(folder)


def read_detector(folder: Path) -> Detector:
    """Read a detector from its folder, and check that its encoder embeds as the one that was kept did.

    Raises:
        HarnessError: a file is missing or damaged, or the encoder is another.
        BackboneError: the weights cannot be read, or do not fit.
    """
    said = _read_words(folder)
    hearing, thresholds = _hearing(said), _thresholds(said)
    layers = heard_layers(hearing.scorers)
    arrays = _read_arrays(folder / ARRAYS, layer_names(layers))
    clips = pd.DataFrame({name: arrays[f"clips {name}"].astype(object) for name in COLUMNS})
    clips["domain"] = clips["domain"].where(clips["domain"] != "", None)
    ids = clips["clip_id"].to_numpy(dtype=str).tolist()
    references = References(
        clips,
        dict(zip(ids, arrays["vectors"], strict=True)) if len(arrays["vectors"]) else {},
        {
            each: dict(zip(ids, arrays[name], strict=True))
            for each, name in zip(layers, layer_names(layers), strict=True)
        },
        arrays["levels"],
    )
    if hearing.backbone is None:
        return Detector(hearing, references, thresholds)
    weights = None
    if (folder / WEIGHTS).exists():
        data = read_bytes(folder / WEIGHTS, what="The encoder of a trial", most=MOST_BYTES)
        weights = {name: value.numpy() for name, value in read_safe_tensors(data, folder / WEIGHTS).items()}
    encoder, projection = _built(hearing, weights, from_weights=not said["alone"])
    detector = Detector(hearing, references, thresholds, encoder, projection)
    if not _same(detector.probe(), arrays["probe"]):
        raise HarnessError(
            f"The encoder of trial {hearing.key} must embed as the one that was kept, but does not: the code of the "
            f"backbone {hearing.backbone.name} has changed since; take the revision that recorded it, or run the trial "
            "again with --keep."
        )
    return detector


def mixes_of(folder: Path) -> set[Mix]:
    """Return which sounds of several channels a kept detector hears."""
    return set(_hearing(_read_words(folder)).mixes.values())


def _built(hearing: Hearing, weights: Weights | None, *, from_weights: bool) -> tuple[Encoder, Projection | None]:
    """Build a trial's encoder and projection, and give them their weights.

    Args:
        hearing: of the trial.
        weights: what was learned; None leaves the encoder as its backbone builds it.
        from_weights: whether the architecture comes from the backbone's checkpoint; else its options say all of it.
    """
    choice = hearing.backbone
    if choice is None:
        raise HarnessError(f"Trial {hearing.key} has no encoder.")
    if choice.weights and from_weights and not Path(choice.weights).exists():
        raise HarnessError(
            f"The backbone {choice.name} is built from its checkpoint {choice.weights}, which must be there, but is "
            f"not; put it back{f' ({choice.source} of the hub)' if choice.source else ''}."
        )
    if from_weights:
        encoder = pretrained_encoder(choice, seed=hearing.seed)
    else:
        backbone: Backbone = plugins.load("backbone", choice.encoder)
        encoder = backbone.build(weights=None, seed=hearing.seed, **dict(choice.options))
    projection = None
    if hearing.projection is not None:
        dim, hidden = hearing.projection
        projection = Projection(encoder.dim, dim=dim, hidden=hidden)
    if weights is not None:
        _load(encoder, weights, "encoder")
        if projection is not None:
            _load(projection, weights, "projection")
    return encoder.eval(), None if projection is None else projection.eval()


def _load(network: Encoder, weights: Weights, front: str) -> None:
    own = {
        name.removeprefix(f"{front}."): torch.from_numpy(np.ascontiguousarray(value))
        for name, value in weights.items()
        if name.startswith(f"{front}.")
    }
    try:
        network.load_state_dict(own)
    except (RuntimeError, KeyError) as error:
        raise HarnessError(
            f"The weights of the {front} must be those of {type(network).__name__} as it is built here, but differ: "
            f"{str(error).strip().splitlines()[-1].strip()[:300]}"
        ) from error


def _needs_no_checkpoint(detector: Detector, weights: Weights) -> bool:
    """Tell whether options alone give the architecture, so that the kept weights suffice without the checkpoint."""
    try:
        encoder, projection = _built(detector.hearing, weights, from_weights=False)
        return _same(replace(detector, encoder=encoder, projection=projection).probe(), detector.probe())
    except ValueError:  # a BackboneError or HarnessError: it needs its checkpoint, as a folder of transformers
        return False


def _same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    if found.shape != wanted.shape:
        return False
    return bool(np.linalg.norm(found - wanted) <= CLOSE * max(float(np.linalg.norm(wanted)), 1e-12))


def _words(detector: Detector, *, alone: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "alone": alone,
        "hearing": asdict(detector.hearing),
        "thresholds": {
            scorer: [asdict(each) for each in found.values()] for scorer, found in detector.thresholds.items()
        },
    }


def _packed(detector: Detector, probe: NDArray[np.float32]) -> bytes:
    known = detector.references
    clips, ids = known.clips, known.clips["clip_id"].to_numpy(dtype=str)
    arrays: dict[str, NDArray[Any]] = {
        **{f"clips {name}": clips[name].fillna("").to_numpy(dtype=str) for name in COLUMNS},
        "vectors": rows(known.vectors, ids) if known.vectors else np.empty((0, 0), np.float32),
        "levels": known.levels,
        "probe": probe,
    }
    layers = heard_layers(detector.hearing.scorers)
    for each, name in zip(layers, layer_names(layers), strict=True):
        arrays[name] = rows(known.layers[each], ids)
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def _read_words(folder: Path) -> Mapping[str, Any]:
    content = read_bytes(folder / WORDS, what="A kept trial")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("format") != FORMAT or not isinstance(said.get("alone"), bool):
        raise HarnessError(f"{folder / WORDS} must be a kept trial of format {FORMAT}, but is not; keep it again.")
    return said


def _hearing(said: Mapping[str, Any]) -> Hearing:
    try:
        values = dict(said["hearing"])
        backbone = values["backbone"]
        if backbone is not None:
            backbone = BackboneChoice(**{**backbone, "options": tuple(map(tuple, backbone["options"]))})
        projection = values["projection"]
        return Hearing(
            **{
                **values, "backbone": backbone, "scorers": tuple(values["scorers"]),
                "projection": None if projection is None else (int(projection[0]), int(projection[1])),
            }
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise HarnessError(f"{WORDS} must say how the trial hears, but: {error}; keep the trial again.") from error


def _thresholds(said: Mapping[str, Any]) -> dict[str, dict[tuple[str, str, str], Threshold]]:
    try:
        return {
            scorer: {(each.dataset, each.machine, each.section): each for each in (Threshold(**row) for row in found)}
            for scorer, found in said["thresholds"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise HarnessError(f"{WORDS} must hold thresholds, but: {error}; keep the trial again.") from error


def _read_arrays(path: Path, layers: Sequence[str]) -> dict[str, NDArray[Any]]:
    content = read_bytes(path, what="The references of a kept trial", most=MOST_BYTES)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise HarnessError(f"{path} must be what a trial kept, but cannot be read; keep the trial again.") from error
    of_clips = [*(f"clips {name}" for name in COLUMNS), *layers, "levels"]
    if missing := {*of_clips, "vectors", "probe"} - set(arrays):
        raise HarnessError(f"{path} must hold {sorted(missing)[0]}, but does not; keep the trial again.")
    lengths = {arrays[name].shape[:1] for name in of_clips} | {arrays["vectors"].shape[:1]} - {(0,)}
    if len(lengths) != 1:
        raise HarnessError(f"{path} must hold a row a clip in each array, but does not; keep the trial again.")
    return arrays
