"""The stages of a trial after labeling: fine-tune, embed, score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from backbones.contract import Backbone, Encoder, OnEpoch, ReadClips
from backbones.embed import embed
from backbones.memory import enough_memory
from backbones.training.checkpoint import TrainingCheckpoint
from backbones.training.finetune import finetune
from backbones.weights import sha256_of
from benchmarks.recordings.audio import SAMPLE_RATE
from benchmarks.recordings.packed import Fit, PackedAudio
from harness import plugins
from harness.errors import HarnessError
from harness.scoring.choice import ScorerChoice, parse_scorer
from harness.scoring.contract import Scorer, ScoreRequest
from harness.trials.contract import BackboneChoice, TrialSpec
from harness.trials.recordings import Recordings, objects
from labeling.contract import PseudoLabels

OnSection: TypeAlias = Callable[[str, ScorerChoice, ScoreRequest, tuple[str, str, str]], None]
"""Told of a scored section: (the scorer's name in results, the scorer, what it was asked, (year, machine, section))."""


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
    """Refuse weights that are not those that a trial was planned with, since its key holds their sum.

    Args:
        weights: the checkpoint or the model's folder.
        found: sum of what was loaded.
        wanted: sum of what was there when the trial was planned.

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


def embed_clips(spec: TrialSpec, encoder: Encoder, recordings: Recordings) -> dict[str, NDArray[np.float32]]:
    """Embed every clip that scoring needs: clip id -> (d,)."""
    ids = embedded_ids(recordings)
    return dict(zip(ids.tolist(), embed_ids(spec, encoder, recordings, ids), strict=True))


def embed_ids(spec: TrialSpec, encoder: Encoder, recordings: Recordings, ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Embed clips: (n,) ids -> (n, d)."""
    return embed(encoder, reader(spec, encoder, recordings, ids), len(ids))


def embedded_ids(recordings: Recordings) -> NDArray[np.str_]:
    """Return the clips that scoring needs, references first: (n,)."""
    return np.concatenate([clip_ids(_references(recordings)), clip_ids(recordings.test)])


def score_machines(
    spec: TrialSpec,
    vectors: Mapping[str, NDArray[np.float32]] | None,
    recordings: Recordings,
    *,
    on_section: OnSection | None = None,
) -> pd.DataFrame:
    """Score every test clip by every scorer, per year, machine type and section.

    Args:
        spec: names the scorers.
        vectors: clip id -> embedding; None where only levels are scored.
        recordings: the references are the training clips of the same year, machine type and section.
        on_section: told of each section once it is scored.

    Returns:
        The test clips with a column `score_<scorer>` each; higher = more anomalous.
    """
    scored = recordings.test.copy()
    groups = recordings.train.groupby(["dataset", "machine", "section"])
    for name in spec.scorers:
        choice = parse_scorer(name)
        scorer = choice.scorer
        values = pd.Series(np.nan, index=scored.index, dtype=np.float64)
        for (dataset, machine, section), queries in recordings.test.groupby(["dataset", "machine", "section"]):
            if (dataset, machine, section) not in groups.groups:
                raise HarnessError(
                    f"Every scored section must have normal training clips to compare with, but {dataset} {machine} "
                    f"section {section} has none; let the protocol train on {dataset}."
                )
            references = groups.get_group((dataset, machine, section))
            request = ScoreRequest(
                references=_matrix(scorer, references, vectors, recordings),
                reference_domains=objects(references["domain"]),
                queries=_matrix(scorer, queries, vectors, recordings),
                seed=spec.seed,
            )
            try:
                values.loc[queries.index] = choice.score(request)
            except ValueError as error:
                raise HarnessError(f"{dataset} {machine} section {section}, scorer {name}: {error}") from error
            if on_section is not None:
                on_section(name, choice, request, (str(dataset), str(machine), str(section)))
        scored[f"score_{name}"] = values
    return scored


def _matrix(
    scorer: Scorer,
    clips: pd.DataFrame,
    vectors: Mapping[str, NDArray[np.float32]] | None,
    recordings: Recordings,
) -> NDArray[np.float32]:
    ids = clip_ids(clips)
    if scorer.reads == "level":
        return recordings.packed.levels_db(ids)[:, None].astype(np.float32)
    if vectors is None:
        raise HarnessError(f"The scorer {scorer.name!r} needs embeddings, but a level-only trial makes none.")
    return rows(vectors, ids)


def rows(vectors: Mapping[str, NDArray[np.float32]], ids: NDArray[np.str_]) -> NDArray[np.float32]:
    """Return the embeddings of clips in their order: (n,) ids -> (n, d)."""
    return np.stack([vectors[clip_id] for clip_id in ids.tolist()])


def _references(recordings: Recordings) -> pd.DataFrame:
    units = ["dataset", "machine", "section"]
    wanted = set(recordings.test[units].itertuples(index=False, name=None))
    chosen = [unit in wanted for unit in recordings.train[units].itertuples(index=False, name=None)]
    return recordings.train[chosen]


def clip_ids(clips: pd.DataFrame) -> NDArray[np.str_]:
    """Return the ids of a clip table: (n,)."""
    return clips["clip_id"].to_numpy(dtype=str)
