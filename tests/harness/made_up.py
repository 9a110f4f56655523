"""Made-up trials and studies, as a driver records them: the one place that builds results for the harness's tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from backbones.contract import EpochReport
from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import DatasetPart, Protocol
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.scoring.contract import LEVEL_SCORER
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from harness.trials.recordings import Recordings

RULE = "dcase2022"
TWO_MACHINES = ("fan", "ToyCar")  # of a lone made-up trial
MACHINES = ("fan", "gearbox", "slider", "ToyCar", "valve")  # of arms whose gains are known
STUDY_MACHINES = ("ToyCar", "bearing", "fan", "gearbox", "slider")  # of a made-up study
KEY = "k" * 16
FROZEN, LEVEL = 0.5, 0.2
# how much higher anomalies score, by M
GAIN = {1: 0.6, 2: 0.8, 3: 1.1, 7: 0.7, 15: 0.65}


def make_spec(**changes: object) -> TrialSpec:
    """A trial of a small made-up study."""
    spec = TrialSpec(
        kind="trial",
        backbone=BackboneChoice("small", "tiny"),
        m=1,
        k1=15,
        k2=15,
        fusion="composite",
        protocol=Protocol("toy", train=(DatasetPart("dcase2023", "dev"),), score=(DatasetPart("dcase2023", "dev"),)),
        seed=0,
        recipe=FinetuneRecipe(epochs=2),
        min_confidence=0.9,
        below="drop",
        train_data="aaaa",
        test_data="bbbb",
    )
    return replace(spec, **changes)


def quick_spec(protocol: Protocol, recordings: Recordings, **changes: object) -> TrialSpec:
    """A trial of the smallest backbone over generated recordings, which trains in a second."""
    torch.set_num_threads(1)
    quick = {
        "backbone": BackboneChoice("tiny", "tiny"), "m": 2, "k1": 3, "k2": 3, "protocol": protocol,
        "recipe": FinetuneRecipe(epochs=2, batch_size=8, clip_seconds=1.0, learning_rate=1e-3), "min_confidence": 0.5,
        "train_data": recordings.train_data, "test_data": recordings.test_data,
    }  # fmt: skip
    return make_spec(**{**quick, **changes})


def result_of(spec: TrialSpec, table: pd.DataFrame, *, scorer: str = "knn", **known: Any) -> TrialResult:
    """Build a finished trial from its scored clips: every metric is computed from them, each year by its own clips.

    Args:
        spec: of the trial.
        table: clips with a column `score_<scorer>`.
        scorer: what scored them.
        known: other fields of the result; those that are not named are empty.
    """
    metrics = [
        each
        for _, of_year in table.groupby("dataset")
        for each in measure(of_year.assign(score=of_year[f"score_{scorer}"]), RULE)
    ]
    nothing: dict[str, Any] = {
        "labels": (), "epochs": (), "seconds": {}, "peak_mb": {}, "pseudo_labels": pd.DataFrame()
    }  # fmt: skip
    return TrialResult(
        spec=spec,
        metrics={scorer: tuple(metrics)},
        official={scorer: official_score(metrics, RULE)},
        machines={scorer: {machine: value for (_, machine), value in machine_h_means(metrics, RULE).items()}},
        scored=table,
        **{**nothing, **known},
    )


def make_scored(*, shift: float = 1.0, seed: int = 0, per_cell: int = 10) -> pd.DataFrame:
    """Test clips of two machine types whose anomalies score higher by a shift."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"dcase2023/dev/{machine}/test/{domain}_{condition}_{i:03d}", "dcase2023", machine, "00", domain, condition)
        for machine in TWO_MACHINES
        for domain in ("source", "target")
        for condition in ("normal", "anomaly")
        for i in range(per_cell)
    ]
    clips = pd.DataFrame(rows, columns=["clip_id", "dataset", "machine", "section", "domain", "condition"])
    return clips.assign(score_knn=rng.normal(size=len(clips)) + shift * (clips["condition"] == "anomaly"))


def make_result(spec: TrialSpec, *, shift: float = 1.0, seed: int | None = None) -> TrialResult:
    """A finished trial with official metrics computed from made-up scores."""
    scored = make_scored(shift=shift, seed=spec.seed if seed is None else seed)
    return result_of(
        spec,
        scored,
        labels=({"machine": "fan", "classes": 3, "singletons": 1, "left_out": 0, "clips": 20, "pseudo_labeled": 5},),
        epochs=(EpochReport(1, 2.0, 0.1, 1e-3, 0.1), EpochReport(2, 1.0, 0.5, 1e-4, 0.1)),
        seconds={"finetune": 1.0, "score": 0.5},
        peak_mb={"finetune": 100.0},
        pseudo_labels=pd.DataFrame({"clip_id": ["a"], "machine": ["fan"], "class": ["fan|x"]}),
        pictures={"scores_knn.png": b"\x89PNG"},
    )


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
    libraries: str = "",
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
        libraries: versions that the trials ran with.
        changes: of the spec.
    """
    clips = clips_of() if clips is None else clips
    keys = []
    for seed in seeds:
        spec = make_spec(backbone=BackboneChoice(backbone, backbone), m=m, seed=seed, **changes)
        if m is None:
            spec = replace(spec, kind="frozen", k1=None, k2=None)
        made = result_of(spec, scored(clips, apart=apart, seed=seed + luck), libraries=libraries)
        if not with_clip_scores:
            made = replace(made, scored=made.scored.iloc[:0])
        results.put_result(made, run_id=f"run-{spec.key()}", code="test")
        keys.append(spec.key())
    if study is not None:
        key = f"key-{study}"
        results.put_study(key, name=study, protocol="toy", run_id=f"run-{study}", planned=len(keys), content="{}")
        results.link(key, keys)
    return keys


def record_study(
    recorder: Recorder,
    *,
    name: str = "made-up",
    backbones: Sequence[str] = ("beats-small", "audiomae-small"),
    m: Sequence[int] = (1, 3, 7),
    seeds: Sequence[int] = (0, 1),
    machines: Sequence[str] = STUDY_MACHINES,
    judged: bool = True,
) -> str:
    """Record a study in every store and return its run id.

    Args:
        recorder: where to.
        name: of the study.
        backbones: by the names that the study gives them.
        m: values of M; the first backbone gains most from M = 3, the others nothing.
        seeds: of each cell.
        machines: machine types.
        judged: whether the truth was there to judge the labels.
    """
    parent = recorder.tracker.start_study(
        KEY, name, tags={"asd.study": name}, params={"protocol": "toy", "sampler": "grid", "seeds": list(seeds)}
    )
    content = {
        "name": name, "seeds": list(seeds), "scorers": ["knn"],
        "space": {"backbone": list(backbones), "m": list(m), "train": None},
        "recipe": {"epochs": 2, "learning_rate": 2e-4},
    }  # fmt: skip
    results = list(_results(backbones, m, seeds, machines, judged=judged))
    recorder.results.put_study(
        KEY, name=name, protocol="toy", run_id=parent, planned=len(results), content=json.dumps(content)
    )
    recorder.results.link(KEY, [result.spec.key() for result in results])
    for result in results:
        run_id = recorder.begin(result.spec, parent=parent, study=name)
        recorder.epochs(run_id, result.epochs)
        recorder.finish(run_id, result)
    recorder.tracker.finish(parent)
    return parent


def _results(
    backbones: Sequence[str], m: Sequence[int], seeds: Sequence[int], machines: Sequence[str], *, judged: bool
) -> list[TrialResult]:
    made = []
    for place, backbone in enumerate(backbones):
        spec = make_spec(
            backbone=BackboneChoice(backbone, "tiny", options=(("depth", place + 1),)), recipe=FinetuneRecipe(epochs=2)
        )
        for seed in seeds:
            frozen = replace(spec, kind="frozen", m=None, k1=None, k2=None, seed=seed)
            made.append(_result(frozen, FROZEN, machines, judged=False))
            for each in m:
                gain = GAIN.get(each, 0.6) if place == 0 else GAIN[1]
                made.append(_result(replace(spec, m=each, seed=seed), gain, machines, judged=judged))
    level = make_spec(kind="level", backbone=None, m=None, k1=None, k2=None, scorers=(LEVEL_SCORER,))
    return [*made, _result(level, LEVEL, machines, judged=False)]


def _result(spec: TrialSpec, gain: float, machines: Sequence[str], *, judged: bool) -> TrialResult:
    scorer = spec.scorers[0]
    scored = _scored(spec, gain, machines).rename(columns={"score": f"score_{scorer}"})
    tuned = spec.kind == "trial"
    quality = {"judged": 12, "judged_left_out": 0.1, "purity": 0.9 - 0.02 * (spec.m or 0), "nmi": 0.7, "ari": 0.5,
               "recall_at_m": min(1.0, 0.5 + 0.05 * (spec.m or 0)), "entropy": 1.0}  # fmt: skip
    return result_of(
        spec,
        scored,
        scorer=scorer,
        labels=tuple(
            {"machine": machine, "clips": 40, "classes": 3 + (spec.m or 0), "singletons": 1, "left_out": 2,
             "pseudo_labeled": 12, "mean_confidence": 0.8, **(quality if judged else {})}
            for machine in machines
        ) if tuned else (),
        epochs=(EpochReport(1, 2.0, 0.1, 1e-3, 0.1), EpochReport(2, 1.0, 0.5, 1e-4, 0.1)) if tuned else (),
        seconds={"rank": 2.0, "finetune": 20.0 + (spec.m or 0), "score": 0.5} if tuned else {"score": 0.5},
        peak_mb={"score": 300.0} | ({"finetune": 900.0} if tuned else {}),
    )  # fmt: skip


def _scored(spec: TrialSpec, gain: float, machines: Sequence[str]) -> pd.DataFrame:
    """Make up test clips whose anomalies score higher, and every seed's and machine's a little differently."""
    drawn = np.random.default_rng([spec.seed, spec.m or 0, len(spec.backbone.name) if spec.backbone else 0])
    cells = [
        (machine, domain, condition, place)
        for machine in machines
        for domain in ("source", "target")
        for condition in ("normal", "anomaly")
        for place in range(15)
    ]
    clips = pd.DataFrame(cells, columns=["machine", "domain", "condition", "place"])
    names = clips["machine"] + "/" + clips["domain"] + "_" + clips["condition"] + "_" + clips["place"].astype(str)
    noise = np.random.default_rng(0).normal(size=len(clips)) + drawn.normal(size=len(clips)) * 0.3
    level = {machine: 0.25 * at for at, machine in enumerate(machines)}
    away = np.where(clips["domain"] == "source", gain, 0.6 * gain) + clips["machine"].map(level).to_numpy()
    return pd.DataFrame(
        {
            "clip_id": "dcase2023/dev/" + names, "dataset": "dcase2023", "machine": clips["machine"], "section": "00",
            "domain": clips["domain"], "condition": clips["condition"],
            "score": noise + away * (clips["condition"] == "anomaly"),
        }
    )  # fmt: skip
