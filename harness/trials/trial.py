"""One trial: the whole method on one page."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backbones.contract import EpochReport, OnEpoch
from harness.cache import Cache
from harness.errors import HarnessError
from harness.pictures.candidates import candidate_planes, confidence_by_rank, png
from harness.pictures.scores import score_pictures
from harness.scoring.choice import plain_name
from harness.scoring.thresholds import SectionThresholds
from harness.trials.candidates import RankedMachine, rank_machines
from harness.trials.checkpoints import training_checkpoint
from harness.trials.contract import TrialResult, TrialSpec
from harness.trials.embedded import VECTORS, Embedded, Training, embedded_key, find_embedded, keep_embedded
from harness.trials.labels import fuse_labels
from harness.trials.limits import Costs, waiting
from harness.trials.measures import joined_official_score, machine_scores, measure_years, scorer_intervals
from harness.trials.recordings import Recordings
from harness.trials.stages import embed_clips, embedded_ids, finetune_encoder, pretrained_encoder, score_machines
from labeling.contract import PseudoLabels

DRAWN = 1  # raise it when pictures of a ranking change: those in a cache were drawn by earlier code
LEARNING = ("finetune", "embed")  # stages whose result is kept


def run_trial(spec: TrialSpec, recordings: Recordings, cache: Cache, *, on_epoch: OnEpoch | None = None) -> TrialResult:
    """Pseudo-label the training clips, fine-tune the backbone, score the test clips, measure.

    Args:
        spec: what to do.
        recordings: prepared for the spec's protocol.
        cache: of latents, features and ranked candidates, of the state of a fine-tuning that was cut, and of the
            embeddings of trials that were run: one that is scored by other scorers is not trained again.
        on_epoch: told what each epoch did, as it ends.

    Raises:
        ValueError: one of the rooms' errors; the trial cannot be carried out.
    """
    costs, epochs = Costs(), list[EpochReport]()

    def listen(report: EpochReport) -> None:
        epochs.append(report)
        if on_epoch is not None:
            on_epoch(report)

    statistics: tuple[dict[str, Any], ...] = ()
    pseudo_labels = pd.DataFrame()
    vectors: Mapping[str, NDArray[np.float32]] | None = None
    ranked: dict[str, RankedMachine] = {}
    reused: tuple[str, ...] = ()
    if spec.kind != "level" and spec.backbone is not None:
        labels = None
        if spec.kind == "trial":
            with costs.stage("rank"):
                ranked = rank_machines(spec, recordings, cache)  # no M in here
            with costs.stage("fuse"):
                labels, statistics, pseudo_labels = fuse_labels(spec, ranked, truth=recordings.truth)
        key = embedded_key(spec, recordings, labels)
        with ExitStack() as training:
            with waiting():  # of two trials that would train the same, one waits for the other
                training.enter_context(cache.alone(VECTORS, key))
            kept = find_embedded(key, cache, embedded_ids(recordings))
            if kept is None:
                vectors = _train_and_embed(spec, recordings, cache, labels, costs=costs, listen=listen)
                made = {stage: costs.seconds[stage] for stage in LEARNING if stage in costs.seconds}
                peaks = {stage: costs.peak_mb[stage] for stage in made}
                keep_embedded(key, cache, Embedded(vectors, Training(tuple(epochs), made, peaks)))
        if kept is not None:  # made when the trial was scored by other scorers, or by another M
            vectors, reused = kept.vectors, tuple(kept.training.seconds)
            for report in kept.training.epochs:
                listen(report)
            costs.seconds |= kept.training.seconds
            costs.peak_mb |= kept.training.peak_mb
    thresholds = SectionThresholds()
    with costs.stage("score"):
        scored = score_machines(spec, vectors, recordings, on_section=thresholds.add)
    with costs.stage("measure"):
        metrics = {scorer: measure_years(scored, scorer) for scorer in spec.scorers}
        official = {scorer: joined_official_score(rows) for scorer, rows in metrics.items()}
        machines = {scorer: machine_scores(spec, rows) for scorer, rows in metrics.items()}
    with costs.stage("intervals"):
        intervals = scorer_intervals(scored, spec.scorers)
    with costs.stage("draw"):
        pictures = {
            f"{name}_{plain_name(scorer)}.png": png(figure)
            for scorer in spec.scorers
            for name, figure in score_pictures(scored, metrics[scorer], scorer).items()
        }
        if ranked:
            pictures |= cache.get(
                "ranking-picture",
                f"{spec.ranking_key()}-{DRAWN}",
                lambda: _candidate_pictures(ranked),
                fits=lambda kept: all(isinstance(each, bytes) for each in kept.values()),
            )
    return TrialResult(
        spec=spec,
        metrics=metrics,
        official=official,
        machines=machines,
        labels=statistics,
        epochs=tuple(epochs),
        seconds=costs.seconds,
        peak_mb=costs.peak_mb,
        scored=scored.drop(columns=["path"]),
        pseudo_labels=pseudo_labels,
        pictures=pictures,
        reused=reused,
        intervals=intervals,
        thresholds=thresholds.by_scorer,
    )


def _train_and_embed(
    spec: TrialSpec, recordings: Recordings, cache: Cache, labels: PseudoLabels | None, *, costs: Costs, listen: OnEpoch
) -> Mapping[str, NDArray[np.float32]]:
    if spec.backbone is None:
        raise HarnessError("A trial without a backbone makes no embeddings; name one with --backbone.")
    encoder = pretrained_encoder(spec.backbone, seed=spec.seed)
    if labels is not None:
        with costs.stage("finetune"):
            cut = training_checkpoint(cache.folder, spec.key())
            encoder = finetune_encoder(spec, encoder, recordings, labels, on_epoch=listen, checkpoint=cut)
    with costs.stage("embed"):
        return embed_clips(spec, encoder, recordings)


def _candidate_pictures(ranked: Mapping[str, RankedMachine]) -> dict[str, bytes]:
    candidates = {machine: each.candidates for machine, each in ranked.items()}
    planes = {machine: each.plane for machine, each in ranked.items()}
    return {
        "candidates.png": png(candidate_planes(candidates, planes)),
        "confidence.png": png(confidence_by_rank(candidates)),
    }
