"""One trial: the whole method on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from backbones.contract import Encoder, EpochReport, OnEpoch
from backbones.training.projection import Projection, learn_projection, project
from backbones.training.recipe import PROJECTION
from harness.cache import Cache
from harness.errors import HarnessError
from harness.pictures.candidates import candidate_planes, confidence_by_rank, png
from harness.pictures.scores import score_pictures
from harness.places import installed_libraries
from harness.scoring.choice import plain_name
from harness.scoring.thresholds import SectionThresholds, Threshold
from harness.statistics.intervals import ScoreIntervals
from harness.trials.candidates import RankedMachine, pretrained_latents, rank_machines
from harness.trials.checkpoints import training_checkpoint
from harness.trials.contract import TrialResult, TrialSpec
from harness.trials.embedded import Embedded, Training, embedded_key, embedded_once
from harness.trials.labels import fuse_labels
from harness.trials.limits import Costs
from harness.trials.measures import Numbers, measure_scorers, scorer_intervals
from harness.trials.recordings import Recordings
from harness.trials.stages import (
    Layers,
    Vectors,
    clip_ids,
    embed_clips,
    embedded_ids,
    finetune_encoder,
    heard_layers,
    pretrained_encoder,
    rows,
    score_machines,
)
from labeling.contract import PseudoLabels

DRAWN = 1  # version of the pictures of a ranking; raise it when they change, so that cached ones are drawn again
MOST_DRAWN = (
    3  # scorers whose scores are drawn; those of three layers and four scorers took as long as a short training
)
LEARNING = ("finetune", "embed")  # stages whose result is kept


@dataclass(frozen=True)
class Learned:
    """What a trial found, beside its numbers: enough to score new clips as it scored its own.

    Attributes:
        spec: of the trial.
        recordings: that it trained on.
        embedded: the embeddings of its clips and the encoder's weights; None for a level trial.
        thresholds: by scorer, above which score a section's clip is called anomalous.
    """

    spec: TrialSpec
    recordings: Recordings
    embedded: Embedded | None
    thresholds: Mapping[str, tuple[Threshold, ...]]


Keep: TypeAlias = Callable[[Learned], None]


def run_trial(
    spec: TrialSpec,
    recordings: Recordings,
    cache: Cache,
    *,
    on_epoch: OnEpoch | None = None,
    keep: Keep | None = None,
) -> TrialResult:
    """Pseudo-label the training clips, fine-tune the backbone, score the test clips, measure.

    Args:
        spec: what to do.
        recordings: prepared for the spec's protocol.
        cache: keeps latents, MFCC statistics and ranked candidates for other trials; checkpoints, to continue an
            interrupted fine-tuning; and embeddings, so that adding a scorer does not train the trial again.
        on_epoch: called with a report at the end of each epoch.
        keep: called with what the trial learned, weights and all. If an equal training is in the cache without its
            weights, it is done again.

    Raises:
        ValueError: the trial cannot be carried out: a LabelingError, BackboneError, BenchmarkError or HarnessError.
    """
    costs = Costs()
    ranked = _rank(spec, recordings, cache, costs)  # does not depend on M
    labels, statistics, pseudo_labels = _fuse(spec, ranked, recordings, costs)
    embedded, reused = _finetune(
        spec, recordings, labels, cache, costs=costs, on_epoch=on_epoch, weights=keep is not None
    )
    scored, thresholds = _score(spec, embedded, recordings, costs)
    if keep is not None:
        keep(Learned(spec, recordings, embedded, thresholds.by_scorer))
    numbers, intervals = _measure(spec, scored, costs)
    return TrialResult(
        spec=spec,
        metrics=numbers.metrics,
        official=numbers.official,
        machines=numbers.machines,
        labels=statistics,
        epochs=embedded.training.epochs if embedded else (),
        pictures=_draw(spec, ranked, scored, numbers, cache, costs=costs),
        seconds=costs.seconds,
        peak_mb=costs.peak_mb,
        scored=scored.drop(columns=["path"]),
        pseudo_labels=pseudo_labels,
        reused=reused,
        intervals=intervals,
        thresholds=thresholds.by_scorer,
        libraries=embedded.training.libraries if embedded and reused else installed_libraries(),
    )


def frozen_again(
    spec: TrialSpec, recordings: Recordings, cache: Cache, thresholds: Mapping[str, tuple[Threshold, ...]]
) -> Learned:
    """Return what a recorded frozen or level trial found: embeddings from the cache, or made again.

    Args:
        spec: of the trial.
        recordings: that it was recorded with.
        cache: may hold its embeddings.
        thresholds: as recorded.

    Raises:
        HarnessError: the trial learns, so that its encoder cannot be made without training it.
    """
    if spec.kind not in ("frozen", "level"):
        raise HarnessError(f"Trial {spec.key()} learns, so its encoder must have been kept.")
    embedded, _ = _finetune(spec, recordings, None, cache, costs=Costs(), on_epoch=None)
    return Learned(spec, recordings, embedded, thresholds)


# The steps of `run_trial`, one function each. They measure their cost, and read and fill the cache; "frozen" and
# "level" trials skip some of them.


def _rank(spec: TrialSpec, recordings: Recordings, cache: Cache, costs: Costs) -> dict[str, RankedMachine]:
    """Rank the candidates of every training clip; a reference (frozen, level) learns no labels and has none."""
    if spec.kind != "trial":
        return {}
    with costs.stage("rank"):
        return rank_machines(spec, recordings, cache)


def _fuse(
    spec: TrialSpec, ranked: Mapping[str, RankedMachine], recordings: Recordings, costs: Costs
) -> tuple[PseudoLabels | None, tuple[dict[str, Any], ...], pd.DataFrame]:
    """Fuse the M best candidates into classes; count and judge them."""
    if spec.kind != "trial":
        return None, (), pd.DataFrame()
    with costs.stage("fuse"):
        return fuse_labels(spec, ranked, truth=recordings.truth)


def _finetune(
    spec: TrialSpec,
    recordings: Recordings,
    labels: PseudoLabels | None,
    cache: Cache,
    *,
    costs: Costs,
    on_epoch: OnEpoch | None,
    weights: bool = False,
) -> tuple[Embedded | None, tuple[str, ...]]:
    """Fine-tune the encoder and embed the clips, unless an earlier trial's training was the very same.

    Returns:
        The embeddings, None for a level trial, which has no network; and the names of the stages that were taken from
        an earlier trial in the cache. Their epochs are reported again, and their costs are those of that trial.
    """
    if spec.kind == "level" or spec.backbone is None:
        return None, ()

    def make() -> Embedded:
        return _train_and_embed(spec, recordings, labels, cache, costs=costs, on_epoch=on_epoch, weights=weights)

    key, ids = embedded_key(spec, recordings, labels), embedded_ids(recordings)
    embedded, kept = embedded_once(key, cache, ids, make, heard_layers(spec.scorers), weights=weights)
    if not kept:
        return embedded, ()
    for report in embedded.training.epochs:
        if on_epoch is not None:
            on_epoch(report)
    costs.seconds |= embedded.training.seconds
    costs.peak_mb |= embedded.training.peak_mb
    return embedded, tuple(embedded.training.seconds)


def _train_and_embed(
    spec: TrialSpec,
    recordings: Recordings,
    labels: PseudoLabels | None,
    cache: Cache,
    *,
    costs: Costs,
    on_epoch: OnEpoch | None,
    weights: bool,
) -> Embedded:
    if spec.backbone is None:
        raise HarnessError("A trial without a backbone makes no embeddings; name one with --backbone.")
    epochs: list[EpochReport] = []

    def listen(report: EpochReport) -> None:
        epochs.append(report)
        if on_epoch is not None:
            on_epoch(report)

    vectors: Vectors
    layers: Layers = {}
    learned: dict[str, NDArray[Any]] = {}
    if labels is not None and spec.recipe.train == PROJECTION:
        projection, vectors = _project(spec, recordings, labels, cache, costs=costs, on_epoch=listen)
        if weights:
            learned = _weights_of("projection", projection)
            learned |= _weights_of("encoder", pretrained_encoder(spec.backbone, seed=spec.seed))
    else:
        encoder = pretrained_encoder(spec.backbone, seed=spec.seed)
        if labels is not None:
            with costs.stage("finetune"):
                cut = training_checkpoint(cache.folder, spec.key())
                encoder = finetune_encoder(spec, encoder, recordings, labels, on_epoch=listen, checkpoint=cut)
        with costs.stage("embed"):
            vectors, layers = embed_clips(spec, encoder, recordings)
        if weights:
            learned = _weights_of("encoder", encoder)
    seconds = {stage: costs.seconds[stage] for stage in LEARNING if stage in costs.seconds}
    peak_mb = {stage: costs.peak_mb[stage] for stage in seconds}
    training = Training(tuple(epochs), seconds, peak_mb, installed_libraries())
    return Embedded(vectors, training, layers, learned or None)


def _weights_of(front: str, network: Encoder) -> dict[str, NDArray[Any]]:
    """Return a network's parameters and buffers by name, behind a front; bfloat16, which NumPy has not, as float32."""
    state = network.state_dict()
    return {
        f"{front}.{name}": (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
        for name, value in state.items()
    }


def _project(
    spec: TrialSpec,
    recordings: Recordings,
    labels: PseudoLabels,
    cache: Cache,
    *,
    costs: Costs,
    on_epoch: OnEpoch,
) -> tuple[Projection, dict[str, NDArray[np.float32]]]:
    """Embed the clips by the encoder as it is, once for all trials, and let a small network on that learn."""
    with costs.stage("latents"):  # as ranking: whoever comes first makes them for the others
        latents = pretrained_latents(spec, recordings, cache)
        latents |= pretrained_latents(spec, recordings, cache, ids=clip_ids(recordings.test))
    with costs.stage("finetune"):
        projection = learn_projection(
            rows(latents, labels.ids), labels.targets, n_classes=len(labels.classes), recipe=spec.recipe,
            seed=spec.seed, on_epoch=on_epoch,
        )  # fmt: skip
    with costs.stage("embed"):
        ids = embedded_ids(recordings)
        return projection, dict(zip(ids.tolist(), project(projection, rows(latents, ids)), strict=True))


def _score(
    spec: TrialSpec, embedded: Embedded | None, recordings: Recordings, costs: Costs
) -> tuple[pd.DataFrame, SectionThresholds]:
    """Score the test clips by every scorer, and find above which score a clip is called anomalous."""
    thresholds = SectionThresholds()
    with costs.stage("score"):
        vectors, layers = (None, None) if embedded is None else (embedded.vectors, embedded.layers)
        return score_machines(spec, vectors, recordings, layers=layers, on_section=thresholds.add), thresholds


def _measure(spec: TrialSpec, scored: pd.DataFrame, costs: Costs) -> tuple[Numbers, dict[str, ScoreIntervals]]:
    """Measure the scores by each year's official rule, with bootstrap intervals over clips."""
    with costs.stage("measure"):
        numbers = measure_scorers(spec, scored)
    with costs.stage("intervals"):
        return numbers, scorer_intervals(scored, spec.scorers)


def _draw(
    spec: TrialSpec,
    ranked: Mapping[str, RankedMachine],
    scored: pd.DataFrame,
    numbers: Numbers,
    cache: Cache,
    *,
    costs: Costs,
) -> dict[str, bytes]:
    """Draw the scores of the first few scorers, and the candidates: those once for all trials with the same ranking."""
    with costs.stage("draw"):
        pictures = {
            f"{name}_{plain_name(scorer)}.png": png(figure)
            for scorer in spec.scorers[:MOST_DRAWN]
            for name, figure in score_pictures(scored, numbers.metrics[scorer], scorer).items()
        }
        if ranked:
            pictures |= cache.get(
                "ranking-picture",
                f"{spec.ranking_key()}-{DRAWN}",
                lambda: _candidate_pictures(ranked),
                fits=lambda kept: all(isinstance(each, bytes) for each in kept.values()),
            )
    return pictures


def _candidate_pictures(ranked: Mapping[str, RankedMachine]) -> dict[str, bytes]:
    candidates = {machine: each.candidates for machine, each in ranked.items()}
    planes = {machine: each.plane for machine, each in ranked.items()}
    return {
        "candidates.png": png(candidate_planes(candidates, planes)),
        "confidence.png": png(confidence_by_rank(candidates)),
    }
