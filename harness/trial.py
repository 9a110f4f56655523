"""One trial: the whole method on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from backbones.contract import EpochReport, OnEpoch
from benchmarks.contract import RuleName
from benchmarks.metrics import machine_h_means, measure, official_score
from harness import plugins
from harness.cache import Cache
from harness.candidates import RankedMachine, rank_machines
from harness.contract import TrialResult, TrialSpec
from harness.cost import Costs
from harness.pictures import candidate_planes, confidence_by_rank, png, score_histograms
from harness.recordings import Recordings
from harness.results import machine_name
from harness.stages import embed_clips, finetune_encoder, pretrained_encoder, score_machines
from labeling.contract import PseudoLabels
from labeling.fusion import fuse_top_m, label_statistics
from labeling.quality import label_quality

# What the counts of a row of label statistics call otherwise, or not at all.
JUDGED = {"clips": "judged", "left_out": "judged_left_out", "classes": "judged_classes"}


def run_trial(spec: TrialSpec, recordings: Recordings, cache: Cache, *, on_epoch: OnEpoch | None = None) -> TrialResult:
    """Pseudo-label the training clips, fine-tune the backbone, score the test clips, measure.

    Args:
        spec: what to do.
        recordings: prepared for the spec's protocol.
        cache: of latents, features and ranked candidates.
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
    vectors = None
    ranked: dict[str, RankedMachine] = {}
    if spec.kind != "level" and spec.backbone is not None:
        encoder = pretrained_encoder(spec.backbone, seed=spec.seed)
        if spec.kind == "trial":
            with costs.stage("rank"):
                ranked = rank_machines(spec, recordings, cache)  # no M in here
            with costs.stage("fuse"):
                labels, statistics, pseudo_labels = fuse_labels(spec, ranked, truth=recordings.truth)
            with costs.stage("finetune"):
                encoder = finetune_encoder(spec, encoder, recordings, labels, on_epoch=listen)
        with costs.stage("embed"):
            vectors = embed_clips(spec, encoder, recordings)
    with costs.stage("score"):
        scored = score_machines(spec, vectors, recordings)
    with costs.stage("measure"):
        metrics = {scorer: measure_years(scored, scorer) for scorer in spec.scorers}
        official = {scorer: joined_official_score(rows) for scorer, rows in metrics.items()}
        machines = {scorer: _h_means(spec, rows) for scorer, rows in metrics.items()}
    with costs.stage("draw"):
        pictures = {f"scores_{scorer}.png": png(score_histograms(scored, scorer)) for scorer in spec.scorers}
        if ranked:
            pictures["candidates.png"] = png(candidate_planes(ranked))
            pictures["confidence.png"] = png(confidence_by_rank(ranked))
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
    )


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


def rule_of(dataset: str) -> RuleName:
    """Return whose metric definition holds for a year."""
    rule: RuleName = plugins.load("dataset", dataset).rule
    return rule


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
