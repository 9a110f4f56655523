"""A trial's pseudo-labels, counted and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.trials.candidates import RankedMachine
from harness.trials.choices import largest_m
from harness.trials.contract import TrialSpec
from labeling.contract import PseudoLabels
from labeling.fusion import fuse_top_m, label_statistics
from labeling.quality import label_quality

# `LabelStatistics` counts all clips, clips left out and classes; `LabelQuality` counts the same of the judged clips
# only, those whose withheld attribute is known. In a row that has both, the latter are renamed.
JUDGED = {"clips": "judged", "left_out": "judged_left_out", "classes": "judged_classes"}


def fuse_labels(
    spec: TrialSpec, ranked: Mapping[str, RankedMachine], *, truth: Mapping[str, str] | None = None
) -> tuple[PseudoLabels, tuple[dict[str, Any], ...], pd.DataFrame]:
    """Fuse Top-M, count what came of it, and judge it where the truth is known.

    Args:
        spec: M and fusion.
        ranked: by machine type.
        truth: training clip id -> attribute that was withheld. The labels are compared with it, not made from it.

    Returns:
        The pseudo-labels; statistics, one row a machine type; and a table with one row a training clip.
    """
    candidates = {machine: each.candidates for machine, each in ranked.items()}
    m = spec.m or 1
    # if the labels read M but neither K1 nor K2, only the candidates show how large M may be
    widest = largest_m(spec.labels, k1=spec.k1, k2=spec.k2) or (None if spec.m else 1)
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
    return one_class_a_clip(labels), statistics, label_table(ranked, labels)


def one_class_a_clip(labels: PseudoLabels) -> PseudoLabels:
    """Return labels whose every clip has all its weight on one class as whole classes; others as they are.

    Soft fusion of M = 1 is such a case: it says the same as composite and set fusion of M = 1, and trains the same, so
    that the three share one training (`harness.trials.embedded.embedded_key`).
    """
    if labels.targets.ndim == 1 or not (np.count_nonzero(labels.targets, axis=1) == 1).all():
        return labels
    return replace(labels, targets=labels.targets.argmax(axis=1).astype(np.int64))


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
