"""The stages of a trial after labeling: fine-tune, embed, score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from backbones.contract import Backbone, Encoder, OnEpoch, ReadClips, evaluating
from backbones.embed import embed, embed_layers
from backbones.layers import Heard, embed_and_hear
from backbones.memory import enough_memory
from backbones.training.checkpoint import TrainingCheckpoint
from backbones.training.finetune import finetune
from backbones.training.recipe import PROJECTION
from backbones.weights import sha256_of
from benchmarks.recordings.audio import SAMPLE_RATE
from benchmarks.recordings.packed import Fit, PackedAudio
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import ScorerChoice, parse_scorer
from harness.scoring.contract import Part, ScoreRequest
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, objects
from labeling.contract import PseudoLabels

Vectors: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Clip id -> (d,) embedding."""
Layers: TypeAlias = Mapping[Heard, Vectors]
"""Layer (and how its frequency bands are treated) -> clip id -> (bands, width) output of that layer."""
OnSection: TypeAlias = Callable[[str, ScorerChoice, ScoreRequest, tuple[str, str, str]], None]
"""Called with each section that was scored: (scorer's name in results, scorer, request, (year, machine, section))."""


def pretrained_encoder(choice: BackboneChoice, *, seed: int) -> Encoder:
    """Build the encoder that a backbone choice names, before any fine-tuning."""
    backbone: Backbone = plugins.load("backbone", choice.encoder)
    weights = Path(choice.weights) if choice.weights else None
    with enough_memory(f"to build the backbone {choice.name}", way_out="take a smaller one"):
        encoder = backbone.build(weights=weights, seed=seed, **dict(choice.options))
    if weights is not None and choice.weights_sha256:
        must_be_the_weights(weights, encoder.weights_sha256 or sha256_of(weights), wanted=choice.weights_sha256)
    if encoder.sample_rate != SAMPLE_RATE:
        raise HarnessError(
            f"The backbone {choice.name} takes waveforms at {encoder.sample_rate} Hz, but recordings come at "
            f"{SAMPLE_RATE} Hz; let its fbank resample them (backbones.features.log_mel.resample)."
        )
    return encoder


def must_be_the_weights(weights: Path, found: str, *, wanted: str) -> None:
    """Refuse weights that have changed since the trial was planned, since its key contains their SHA-256.

    Args:
        weights: the checkpoint or the model's folder.
        found: SHA-256 of what was loaded.
        wanted: SHA-256 of what was there when the trial was planned.

    Raises:
        HarnessError: they differ.
    """
    if found != wanted:
        raise HarnessError(
            f"The weights in {weights} must be those that the trial was planned with (sha256 {wanted[:12]}...), but "
            f"they have changed since (now {found[:12]}...); put the file back, or run the command again to plan with "
            "the new one."
        )


def reader(spec: TrialSpec, encoder: Encoder, recordings: Recordings, ids: NDArray[np.str_]) -> ReadClips:
    """Return what gives an encoder's input of these clips by position: waveforms, every clip of the recipe's length."""
    return clip_reader(encoder, recordings.packed, ids, clip_samples(spec, recordings), fit=spec.recipe.fit)


def clip_reader(encoder: Encoder, packed: PackedAudio, ids: NDArray[np.str_], samples: int, *, fit: Fit) -> ReadClips:
    """Return what gives an encoder's input of these clips by position.

    Args:
        encoder: that is to hear them; one that knows clips by their ids needs no sound.
        packed: their sound.
        ids: (n,) of the clips.
        samples: length of every clip.
        fit: what becomes of a shorter clip.
    """

    def read(positions: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(packed.read(ids[positions], samples, fit))  # (b, samples)

    return encoder.read_named(ids) or read


def clip_samples(spec: TrialSpec, recordings: Recordings) -> int:
    """Return the length of every input in samples: the recipe's, or the longest training clip's."""
    if spec.recipe.clip_seconds is not None:
        return round(spec.recipe.clip_seconds * SAMPLE_RATE)
    train = set(clip_ids(recordings.train).tolist())
    lengths = zip(recordings.packed.ids.tolist(), recordings.packed.lengths.tolist(), strict=True)
    return max(int(length) for clip_id, length in lengths if clip_id in train)


def finetune_encoder(
    spec: TrialSpec,
    encoder: Encoder,
    recordings: Recordings,
    labels: PseudoLabels,
    *,
    on_epoch: OnEpoch | None,
    checkpoint: TrainingCheckpoint | None = None,
) -> Encoder:
    """Fine-tune an encoder on pseudo-labels by the trial's recipe, going on where an earlier try was cut."""
    return finetune(
        encoder,
        reader(spec, encoder, recordings, labels.ids),
        labels.targets,
        n_classes=len(labels.classes),
        recipe=spec.recipe,
        seed=spec.seed,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )


def embed_clips(spec: TrialSpec, encoder: Encoder, recordings: Recordings) -> tuple[Vectors, Layers]:
    """Embed every clip that scoring needs, and collect the layers that the trial's scorers ask for, in one pass.

    By default each clip is cut or repeated to the recipe's length. With `embed = "whole"` it is cut into windows of
    that length instead (`cut_windows`), and its embedding is the mean over its windows.

    Returns:
        Clip id -> (d,) embedding, and the same for each layer.
    """
    ids, heard = embedded_ids(recordings), heard_layers(spec.scorers)
    vectors, layers = embed_packed(
        encoder, recordings.packed, ids, samples=clip_samples(spec, recordings), fit=spec.recipe.fit,
        whole=spec.recipe.embed == "whole", heard=heard,
    )  # fmt: skip
    names = ids.tolist()
    by_layer = zip(heard, layers, strict=True)
    return dict(zip(names, vectors, strict=True)), {
        each: dict(zip(names, values, strict=True)) for each, values in by_layer
    }


def embed_packed(
    encoder: Encoder,
    packed: PackedAudio,
    ids: NDArray[np.str_],
    *,
    samples: int,
    fit: Fit,
    whole: bool,
    heard: Sequence[Heard],
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Embed clips, and collect layers, in one pass; see `embed_clips`.

    Args:
        encoder: that hears them.
        packed: their sound.
        ids: (n,) of the clips.
        samples: length of an input.
        fit: what becomes of a shorter clip.
        whole: whether a longer clip is heard window by window.
        heard: the layers.

    Returns:
        (n, d) embeddings, and (n, bands, width) of each layer.
    """
    if not whole or encoder.read_named(ids) is not None:  # a file of embeddings has no more of a clip
        return embed_layers(encoder, clip_reader(encoder, packed, ids, samples, fit=fit), len(ids), heard)
    windows = cut_windows(_lengths(packed, ids), samples)
    made, layers = embed_layers(encoder, _window_reader(packed, ids, windows, samples, fit), len(windows.clips), heard)
    return windows.mean(made), [windows.mean(layer) for layer in layers]


def heard_layers(scorers: Iterable[str]) -> tuple[Heard, ...]:
    """Return the layers that scorers ask for beside the encoder's own embedding, each once."""
    choices = map(parse_scorer, scorers)
    return tuple(dict.fromkeys(each for choice in choices for each in _heard_by(choice) if each is not None))


def _heard_by(choice: ScorerChoice) -> list[Heard | None]:
    """Return the layers that a scorer reads, in its order; None is the encoder's own embedding."""
    keeps = choice.scorer.keeps_frequency or choice.heard.frequency == "keep"
    return [None if layer == "last" else Heard(layer, keeps) for layer in choice.heard.layers]


def check_layers(specs: Iterable[TrialSpec], recordings: Recordings) -> None:
    """Refuse layers that a backbone does not have, before any trial starts, by encoding one silent clip with it.

    Raises:
        BackboneError: a layer does not exist; the sentence lists those that do.
        HarnessError: a projection, which learns from one embedding a clip, is to hear others.
    """
    seen = set()
    for spec in specs:
        heard = heard_layers(spec.scorers)
        if spec.kind == "trial" and spec.recipe.train == PROJECTION and (heard or spec.recipe.embed != "crop"):
            what = f"layer = {heard[0].layer}" if heard else f"embed = {spec.recipe.embed}"
            raise HarnessError(
                f"A projection learns from the encoder's own embeddings of clips as they are cut for training, but "
                f"{what} asks for others; leave it out, or choose another train than {PROJECTION}."
            )
        if spec.backbone is None or not heard or (spec.backbone.name, heard) in seen:
            continue
        seen.add((spec.backbone.name, heard))
        encoder = pretrained_encoder(spec.backbone, seed=spec.seed)
        with evaluating(encoder), torch.inference_mode():
            embed_and_hear(encoder, torch.zeros(1, clip_samples(spec, recordings)), heard)


@dataclass(frozen=True)
class Windows:
    """Clips cut into windows of one length.

    Attributes:
        clips: (w,) position of the clip of each window, ascending.
        starts: (w,) sample at which it begins.
    """

    clips: NDArray[np.int64]
    starts: NDArray[np.int64]

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean over each clip's windows: (w, ...) -> (n, ...); of one window, that window."""
        first = np.flatnonzero(np.diff(self.clips, prepend=-1))
        counts = np.diff(first, append=len(self.clips)).astype(np.float32)
        if not len(first):
            return values
        sums: NDArray[np.float32] = np.add.reduceat(values, first, axis=0)
        return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def cut_windows(lengths: NDArray[np.int64], samples: int) -> Windows:
    """Cut clips into the fewest windows that cover them and overlap their neighbours by at least half.

    The first window begins with the clip, the last ends with it, and the others lie evenly between: of 12 s in windows
    of 10 s there are two, from 0 and from 2 s; of 18 s three, from 0, 4 and 8 s. A clip that is no longer than a
    window has one.

    Args:
        lengths: (n,) samples of the clips.
        samples: of a window.
    """
    starts = [
        np.linspace(0, beyond, 1 + math.ceil(beyond / (samples / 2))).round().astype(np.int64)
        for beyond in np.maximum(lengths - samples, 0).tolist()
    ]
    clips = np.repeat(np.arange(len(lengths), dtype=np.int64), [len(each) for each in starts])
    return Windows(clips, np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64))


def _window_reader(packed: PackedAudio, ids: NDArray[np.str_], windows: Windows, samples: int, fit: Fit) -> ReadClips:
    """Return what gives windows by position."""

    def one(window: int) -> NDArray[np.float32]:
        clip = ids[[windows.clips[window]]]
        heard: NDArray[np.float32] = packed.read(clip, samples, fit, start=int(windows.starts[window]))[0]
        return heard

    def read(positions: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.stack([one(window) for window in positions.tolist()]))  # (b, samples)

    return read


def _lengths(packed: PackedAudio, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return clips' lengths in samples: (n,)."""
    by_id = dict(zip(packed.ids.tolist(), packed.lengths.tolist(), strict=True))
    return np.array([by_id[clip_id] for clip_id in ids.tolist()], dtype=np.int64)


def embed_ids(spec: TrialSpec, encoder: Encoder, recordings: Recordings, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Embed clips: (n,) ids -> (n, d)."""
    return embed(encoder, reader(spec, encoder, recordings, ids), len(ids))


def embedded_ids(recordings: Recordings) -> NDArray[np.str_]:
    """Return the clips that scoring needs, references first: (n,)."""
    return np.concatenate([clip_ids(reference_clips(recordings)), clip_ids(recordings.test)])


def score_machines(
    spec: TrialSpec,
    vectors: Vectors | None,
    recordings: Recordings,
    *,
    layers: Layers | None = None,
    on_section: OnSection | None = None,
) -> pd.DataFrame:
    """Score every test clip by every scorer, per year, machine type and section.

    Args:
        spec: names the scorers.
        vectors: clip id -> embedding; None where only levels are scored.
        recordings: the references are the training clips of the same year, machine type and section.
        layers: layers that scorers read beside the embedding.
        on_section: told of each section once it is scored.

    Returns:
        The test clips with a column `score_<scorer>` each; higher = more anomalous.
    """
    scored = recordings.test.copy()
    groups = recordings.train.groupby(["dataset", "machine", "section"])
    for name in spec.scorers:
        choice = parse_scorer(name)
        values = pd.Series(np.nan, index=scored.index, dtype=np.float64)
        for (dataset, machine, section), queries in recordings.test.groupby(["dataset", "machine", "section"]):
            if (dataset, machine, section) not in groups.groups:
                raise HarnessError(
                    f"Every scored section must have normal training clips to compare with, but {dataset} {machine} "
                    f"section {section} has none; let the protocol train on {dataset}."
                )
            references = groups.get_group((dataset, machine, section))
            compared, parts = read_by_scorer(choice, clip_ids(references), vectors, layers or {}, recordings.packed)
            request = ScoreRequest(
                references=compared,
                reference_domains=objects(references["domain"]),
                queries=read_by_scorer(choice, clip_ids(queries), vectors, layers or {}, recordings.packed)[0],
                seed=spec.seed,
                parts=parts,
            )
            try:
                values.loc[queries.index] = choice.score(request)
            except ValueError as error:
                raise HarnessError(f"{dataset} {machine} section {section}, scorer {name}: {error}") from error
            if on_section is not None:
                on_section(name, choice, request, (str(dataset), str(machine), str(section)))
        scored[f"score_{name}"] = values
    return scored


class Loud(Protocol):
    """What tells the level of clips, as packed audio does."""

    def levels_db(self, ids: NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the RMS level of clips: (n,) dB re full scale."""
        ...


def read_by_scorer(
    choice: ScorerChoice, ids: NDArray[np.str_], vectors: Vectors | None, layers: Layers, levels: Loud
) -> tuple[NDArray[np.float32], tuple[Part, ...]]:
    """Return the vectors that a scorer reads of clips, (n, d), and the layers they consist of; () for the embedding."""
    if choice.scorer.reads == "level":
        return levels.levels_db(ids)[:, None].astype(np.float32), ()
    if vectors is None:
        raise HarnessError(f"The scorer {choice.name!r} needs embeddings, but a level-only trial makes none.")
    heard = _heard_by(choice)
    found = [rows(vectors if each is None else layers[each], ids) for each in heard]
    if heard == [None]:
        return found[0], ()
    parts = tuple(Part(*values.shape[1:]) if values.ndim == 3 else Part(1, values.shape[1]) for values in found)
    joined: NDArray[np.float32] = np.concatenate([values.reshape(len(ids), -1) for values in found], axis=1)
    return joined, parts


def rows(vectors: Mapping[str, NDArray[np.float32]], ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Return the embeddings of clips in their order: (n,) ids -> (n, d)."""
    return np.stack([vectors[clip_id] for clip_id in ids.tolist()])


def reference_clips(recordings: Recordings) -> pd.DataFrame:
    """Return the training clips that test clips are compared with: those of their years, machine types and sections."""
    units = ["dataset", "machine", "section"]
    wanted = set(recordings.test[units].itertuples(index=False, name=None))
    chosen = [unit in wanted for unit in recordings.train[units].itertuples(index=False, name=None)]
    return recordings.train[chosen]


def clip_ids(clips: pd.DataFrame) -> NDArray[np.str_]:
    """Return the ids of a clip table: (n,)."""
    return clips["clip_id"].to_numpy(dtype=str)
