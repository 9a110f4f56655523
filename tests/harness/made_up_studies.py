"""A made-up study, recorded as a driver records one, for what reads the stores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from backbones.contract import EpochReport, FinetuneRecipe
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.scoring.contract import LEVEL_SCORER
from harness.stores.recorder import Recorder
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from tests.harness.conftest import RULE, make_spec

MACHINES = ("ToyCar", "bearing", "fan", "gearbox", "slider")
KEY = "k" * 16
FROZEN, LEVEL = 0.5, 0.2
# how much higher anomalies score, by M
GAIN = {1: 0.6, 2: 0.8, 3: 1.1, 7: 0.7, 15: 0.65}


def record_study(
    recorder: Recorder,
    *,
    name: str = "made-up",
    backbones: Sequence[str] = ("beats-small", "audiomae-small"),
    m: Sequence[int] = (1, 3, 7),
    seeds: Sequence[int] = (0, 1),
    machines: Sequence[str] = MACHINES,
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
        "name": name, "seeds": list(seeds), "scorers": ["knn"], "space": {"backbone": list(backbones), "m": list(m)},
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
    metrics = tuple(measure(scored.assign(score=scored[f"score_{scorer}"]), RULE))
    tuned = spec.kind == "trial"
    quality = {"judged": 12, "judged_left_out": 0.1, "purity": 0.9 - 0.02 * (spec.m or 0), "nmi": 0.7, "ari": 0.5,
               "recall_at_m": min(1.0, 0.5 + 0.05 * (spec.m or 0)), "entropy": 1.0}  # fmt: skip
    return TrialResult(
        spec=spec,
        metrics={scorer: metrics},
        official={scorer: official_score(metrics, RULE)},
        machines={scorer: {machine: value for (_, machine), value in machine_h_means(metrics, RULE).items()}},
        labels=tuple(
            {"machine": machine, "clips": 40, "classes": 3 + (spec.m or 0), "singletons": 1, "left_out": 2,
             "pseudo_labeled": 12, "mean_confidence": 0.8, **(quality if judged else {})}
            for machine in machines
        ) if tuned else (),
        epochs=(EpochReport(1, 2.0, 0.1, 1e-3, 0.1), EpochReport(2, 1.0, 0.5, 1e-4, 0.1)) if tuned else (),
        seconds={"rank": 2.0, "finetune": 20.0 + (spec.m or 0), "score": 0.5} if tuned else {"score": 0.5},
        peak_mb={"score": 300.0} | ({"finetune": 900.0} if tuned else {}),
        scored=scored,
        pseudo_labels=pd.DataFrame(),
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
