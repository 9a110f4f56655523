"""Made-up trials in results tables of their own, without MLflow: arms whose gains are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.stores.results import Results
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from tests.harness.conftest import RULE, make_spec

MACHINES = ("fan", "gearbox", "slider", "ToyCar", "valve")


def open_tables(folder: Path) -> Results:
    """Results tables in a folder."""
    return Results(f"sqlite:///{folder / 'mlflow.db'}")


def clips_of(machines: Iterable[str] = MACHINES, *, year: str = "dcase2023", per_cell: int = 12) -> pd.DataFrame:
    """Test clips of some machine types, as many of each domain and condition."""
    rows = [
        (f"{year}/dev/{machine}/test/{domain}_{condition}_{i:03d}", year, machine, "00", domain, condition)
        for machine in machines
        for domain in ("source", "target")
        for condition in ("normal", "anomaly")
        for i in range(per_cell)
    ]
    return pd.DataFrame(rows, columns=["clip_id", "dataset", "machine", "section", "domain", "condition"])


def scored(clips: pd.DataFrame, *, apart: float | dict[str, float], seed: int, noise: float = 0.3) -> pd.DataFrame:
    """Score clips: what is particular about each, the same for every seed; a seed's own noise; anomalies further up."""
    own = np.random.default_rng(7).normal(size=len(clips))
    luck = np.random.default_rng(1000 + seed).normal(size=len(clips)) * noise
    gap = clips["machine"].map(apart) if isinstance(apart, dict) else apart
    return clips.assign(score_knn=own + luck + gap * (clips["condition"] == "anomaly"))


def result_of(spec: TrialSpec, table: pd.DataFrame) -> TrialResult:
    """A finished trial with the official metrics of its clips."""
    metrics = [
        each
        for _, of_year in table.groupby("dataset")
        for each in measure(of_year.assign(score=of_year["score_knn"]), RULE)
    ]
    h_means = {machine: value for (_, machine), value in machine_h_means(metrics, RULE).items()}
    return TrialResult(
        spec=spec,
        metrics={"knn": tuple(metrics)},
        official={"knn": official_score(metrics, RULE)},
        machines={"knn": h_means},
        labels=(),
        epochs=(),
        seconds={},
        peak_mb={},
        scored=table,
        pseudo_labels=pd.DataFrame(),
    )


def record(
    results: Results,
    *,
    backbone: str = "small",
    m: int | None = 1,
    seeds: Iterable[int] = (0, 1, 2),
    apart: float | dict[str, float] = 1.0,
    luck: int = 0,
    clips: pd.DataFrame | None = None,
    study: str | None = None,
    with_clip_scores: bool = True,
    **changes: object,
) -> list[str]:
    """Record a backbone's trials of one M, and return their keys.

    Args:
        results: the tables.
        backbone: its name, and what tells its trials apart.
        m: None is frozen.
        seeds: of the trials.
        apart: how far anomalies lie above normal clips, in standard deviations; by machine type if they differ.
        luck: which noise the seeds meet; another backbone's trials of the same luck have the same scores.
        clips: the test clips.
        study: links the trials to this study, which is recorded if it is not there.
        with_clip_scores: whether they are kept; without them a trial is known by its metrics alone.
        changes: of the spec.
    """
    clips = clips_of() if clips is None else clips
    keys = []
    for seed in seeds:
        spec = make_spec(backbone=BackboneChoice(backbone, backbone), m=m, seed=seed, **changes)
        if m is None:
            spec = replace(spec, kind="frozen", k1=None, k2=None)
        made = result_of(spec, scored(clips, apart=apart, seed=seed + luck))
        if not with_clip_scores:
            made = replace(made, scored=made.scored.iloc[:0])
        results.put_result(made, run_id=f"run-{spec.key()}", code="test")
        keys.append(spec.key())
    if study is not None:
        key = f"key-{study}"
        results.put_study(key, name=study, protocol="toy", run_id=f"run-{study}", planned=len(keys), content="{}")
        results.link(key, keys)
    return keys
