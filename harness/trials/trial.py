"""One trial: the whole method on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backbones.contract import EpochReport, OnEpoch
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.cache import Cache
from harness.pictures.candidates import candidate_planes, confidence_by_rank, png
from harness.pictures.scores import score_pictures
from harness.rules import rule_of
from harness.scoring.choice import plain_name
from harness.scoring.thresholds import SectionThresholds
from harness.statistics.intervals import ClipDraws, ScoreIntervals, score_intervals
from harness.trials.candidates import RankedMachine, rank_machines
from harness.trials.checkpoints import training_checkpoint
from harness.trials.contract import HarnessError, TrialResult, TrialSpec, machine_name
from harness.trials.cost import Costs
from harness.trials.embedded import VECTORS, Embedded, Training, embedded_key, find_embedded, keep_embedded
from harness.trials.limits import waiting
from harness.trials.recordings import Recordings
from harness.trials.stages import embed_clips, finetune_encoder, pretrained_encoder, score_machines
from labeling.contract import PseudoLabels
from labeling.fusion import fuse_top_m, label_statistics
from labeling.quality import label_quality

# What the counts of a row of label statistics call otherwise, or not at all.
JUDGED = {"clips": "judged", "left_out": "judged_left_out", "classes": "judged_classes"}
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
            kept = find_embedded(key, cache)
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
        machines = {scorer: _h_means(spec, rows) for scorer, rows in metrics.items()}
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
                "ranking-picture", f"{spec.ranking_key()}-{DRAWN}", lambda: _candidate_pictures(ranked)
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
    return {"candidates.png": png(candidate_planes(ranked)), "confidence.png": png(confidence_by_rank(ranked))}


def scorer_intervals(scored: pd.DataFrame, scorers: Sequence[str]) -> dict[str, ScoreIntervals]:
    """Return the intervals of each scorer's column, all of them on the same resamples of the clips."""
    rules, draws = {str(name): rule_of(str(name)) for name in scored["dataset"].unique()}, ClipDraws()
    return {
        scorer: score_intervals(scored.assign(score=scored[f"score_{scorer}"]), rules, draws=draws)
        for scorer in scorers
    }


def measure_years(scored: pd.DataFrame, scorer: str) -> tuple[Any, ...]:
    """Measure one scorer's column, each year by its own rule."""
    rows: list[Any] = []
    for dataset, clips in scored.groupby("dataset", sort=True):
        rows += measure(clips.assign(score=clips[f"score_{scorer}"]), rule_of(str(dataset)))
    return tuple(rows)


def joined_official_score(rows: tuple[Any, ...]) -> float | None:
    """Return the year's official score; of several years, the harmonic mean of theirs; None where one is undefined."""
    scores = []
    for dataset in dict.fromkeys(each.dataset for each in rows):
        score = official_score([each for each in rows if each.dataset == dataset], rule_of(dataset))
        if score is None:
            return None
        scores.append(max(score, float(np.finfo(float).eps)))
    return float(len(scores) / sum(1 / score for score in scores))


def fuse_labels(
    spec: TrialSpec, ranked: Mapping[str, RankedMachine], *, truth: Mapping[str, str] | None = None
) -> tuple[PseudoLabels, tuple[dict[str, Any], ...], pd.DataFrame]:
    """Fuse Top-M, count what came of it, and judge it where the truth is known.

    Args:
        spec: M and fusion.
        ranked: by machine type.
        truth: training clip id -> attribute that was withheld; it judges the labels and changes none.

    Returns:
        The pseudo-labels, one row of statistics a machine type, one row a training clip.
    """
    candidates = {machine: each.candidates for machine, each in ranked.items()}
    m, widest = spec.m or 1, max(spec.k1 or 1, spec.k2 or 1)
    labels = fuse_top_m(candidates, m=m, fusion=spec.fusion, below=spec.below, widest=widest)
    judged = label_quality(candidates, truth, m=m, fusion=spec.fusion, widest=widest) if truth else {}
    statistics = tuple(
        {
            "machine": machine,
            "strategy": candidates[machine].strategy,
            "case": candidates[machine].case,
            **asdict(counted),
            "labels": spec.labels,
            "why": ranked[machine].why,
            **({JUDGED.get(name, name): value for name, value in asdict(judged[machine]).items()} if judged else {}),
        }
        for machine, counted in label_statistics(candidates, labels).items()
    )
    return labels, statistics, label_table(ranked, labels)


def label_table(ranked: Mapping[str, RankedMachine], labels: PseudoLabels) -> pd.DataFrame:
    """Return one row a training clip: machine, case, class (NA when left out), candidates with confidence as JSON."""
    if labels.targets.ndim == 1:
        classes = dict(zip(labels.ids.tolist(), labels.classes[labels.targets].tolist(), strict=True))
    else:
        best = labels.classes[labels.targets.argmax(axis=1)]
        classes = dict(zip(labels.ids.tolist(), best.tolist(), strict=True))
    rows = [
        {
            "clip_id": clip_id,
            "machine": machine,
            "case": each.candidates.case,
            "labeled": bool(labeled),
            "retained": bool(retained),
            "class": classes.get(clip_id),
            "candidates": json.dumps([name for name in names if name]),
            "confidence": json.dumps([round(float(c), 6) for name, c in zip(names, confidence, strict=True) if name]),
        }
        for machine, each in ranked.items()
        for clip_id, names, confidence, labeled, retained in zip(
            each.candidates.ids.tolist(),
            each.candidates.names.tolist(),
            each.candidates.confidence.tolist(),
            each.candidates.labeled,
            each.candidates.retained,
            strict=True,
        )
    ]
    return pd.DataFrame(rows)


def _h_means(spec: TrialSpec, rows: tuple[Any, ...]) -> dict[str, float]:
    found = {}
    for dataset in dict.fromkeys(each.dataset for each in rows):
        h_means = machine_h_means([each for each in rows if each.dataset == dataset], rule_of(dataset))
        for (_, machine), value in h_means.items():
            if value is not None:
                found[machine_name(spec, dataset, machine)] = value
    return found
