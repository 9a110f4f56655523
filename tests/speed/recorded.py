"""A database of many recorded trials, made in bulk: what the tables hold is what a recorder would have written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

from backbones.contract import EpochReport
from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import MachineMetrics
from benchmarks.protocols import find_protocol
from harness.stores import results as tables
from harness.stores.readings import TEST_COLUMNS
from harness.stores.results import Results
from harness.stores.run_names import result_metrics, spec_params
from harness.stores.tracker import Tracker
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec
from tests.speed.bulk import insert_rows, tidy

STUDY = "recorded"
STUDY_KEY = "5" * 16
MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
M = (1, 2, 3, 5, 7, 10, 13, 15)
K = (5, 10, 15, 20, 25)
SEEDS = 5
EPOCHS = 40
CLIPS = 200  # of a machine type's test set, as in the official development sets
BLOBS = 50  # different packed scores, which trials share: packing takes longer than all the rest
NOW = 1_760_000_000_000  # ms
AT_ONCE = 5000  # trials that are written together


@dataclass(frozen=True)
class Recorded:
    """What was recorded: the database's URI, the study's key and run, the trials' keys in order."""

    uri: str
    study_key: str
    study_run: str
    keys: tuple[str, ...]


def record_trials(database: Path | str, trials: int = 10_000) -> Recorded:
    """Make a database of finished trials of one study, with MLflow's runs and the results tables.

    Two thousand cells (10 backbones, 8 M, 5 K1, 5 K2) of five seeds each fill 10,000 trials; fewer trials fill fewer
    cells, more have more backbones. Numbers are drawn: a backbone, an M, a machine type and a seed each add their part.

    Args:
        database: path of a SQLite file, which must not exist, or the address of an empty database.
        trials: how many.
    """
    uri = f"sqlite:///{database}" if isinstance(database, Path) else database
    tracker, results = Tracker(uri, code="recorded"), Results(uri)
    study_run = tracker.start_study(STUDY_KEY, STUDY, params={}, tags={})
    results.put_study(
        STUDY_KEY, name=STUDY, protocol="dcase2025-paper", run_id=study_run, planned=trials, content='name = "recorded"'
    )
    every, keys = _made(trials), list[str]()
    while made := list(islice(every, AT_ONCE)):
        _put_tables(results, made, first=len(keys) + 1)
        _put_runs(results.engine, made, experiment=tracker.experiment, parent=study_run)
        keys += [result.spec.key() for result in made]
    results.link(STUDY_KEY, keys)
    tidy(results.engine)
    results.close()
    return Recorded(uri, STUDY_KEY, study_run, tuple(keys))


def run_id_of(key: str) -> str:
    """Return the run id of a recorded trial."""
    return key * 2


def _made(trials: int) -> Iterator[TrialResult]:
    random = np.random.default_rng(0)
    cells = product(range(-(-trials // (len(M) * len(K) ** 2 * SEEDS))), M, K, K)
    clips = _test_clips()
    machine_level = random.normal(0.62, 0.06, size=len(MACHINES))
    for place in range(trials):
        seed = place % SEEDS
        if seed == 0:
            backbone, m, k1, k2 = next(cells)
            level = 0.01 * backbone + 0.004 * np.log(m) + 0.0005 * k1 + random.normal(0, 0.004)
        spec = TrialSpec(
            kind="trial",
            backbone=BackboneChoice(f"backbone{backbone}", "tiny", options=(("depth", backbone + 1),)),
            m=m,
            k1=k1,
            k2=k2,
            fusion="composite",
            protocol=find_protocol("paper"),
            seed=seed,
            recipe=FinetuneRecipe(epochs=EPOCHS),
            min_confidence=0.9,
            below="drop",
            train_data="aaaa",
            test_data="bbbb",
        )
        numbers = (machine_level + level)[:, None] + random.normal(0, 0.02, size=(len(MACHINES), 3))
        yield _result(spec, np.clip(numbers, 0.05, 0.99), clips)


def _result(
    spec: TrialSpec, numbers: np.ndarray[tuple[int, int], np.dtype[np.float64]], clips: pd.DataFrame
) -> TrialResult:
    metrics = tuple(
        MachineMetrics("dcase2025", machine, "00", None, s_auc, t_auc, p_auc)
        for machine, (s_auc, t_auc, p_auc) in zip(MACHINES, numbers.tolist(), strict=True)
    )
    h_means = 3 / (1 / numbers).sum(axis=1)
    return TrialResult(
        spec=spec,
        metrics={"knn": metrics},
        official={"knn": float(numbers.size / (1 / numbers).sum())},
        machines={"knn": dict(zip(MACHINES, h_means.tolist(), strict=True))},
        labels=tuple(
            {"machine": machine, "strategy": "direct", "case": "direct", "clips": 1000, "labeled": 1000,
             "pseudo_labeled": 0, "left_out": 0, "classes": 40 + (spec.m or 0), "singletons": 3,
             "mean_confidence": 0.95, "labels": "paper", "why": "every training clip has an attribute"}
            for machine in MACHINES
        ),
        epochs=tuple(EpochReport(epoch, 1 / epoch, 0.9, 2e-4, 1.5) for epoch in range(1, EPOCHS + 1)),
        seconds={"rank": 1.0, "finetune": 60.0, "embed": 2.0, "score": 0.5},
        peak_mb={"finetune": 2000.0, "embed": 1500.0},
        scored=clips,
        pseudo_labels=pd.DataFrame(),
    )  # fmt: skip


def _test_clips() -> pd.DataFrame:
    rows = [
        (
            f"dcase2025/dev/{machine}/test/section_00_{domain}_test_{condition}_{place:04d}",
            "dcase2025",
            machine,
            "00",
            domain,
            condition,
        )
        for machine in MACHINES
        for domain, condition in product(("source", "target"), ("normal", "anomaly"))
        for place in range(CLIPS // 4)
    ]
    return pd.DataFrame(rows, columns=TEST_COLUMNS).sort_values("clip_id")


def _put_tables(results: Results, made: Sequence[TrialResult], *, first: int) -> None:
    """Write the results tables with a statement a table instead of a transaction a trial."""
    random = np.random.default_rng(1)
    blobs = [zlib.compress(random.normal(size=len(made[0].scored)).astype("<f8").tobytes()) for _ in range(BLOBS)]
    details = json.dumps(tables.result_detail(made[0]), sort_keys=True)
    with results.engine.begin() as connection:
        if first == 1:
            tables._put_test_clips(connection, "bbbb", made[0].scored)
        connection.execute(
            tables.trials.insert(),
            [
                {
                    **tables._spec_row(result.spec), "id": place, "status": "finished", "reason": "",
                    "run_id": run_id_of(result.spec.key()), "code": "recorded", "classes": 300, "singletons": 21,
                    "left_out": 0, "seconds": sum(result.seconds.values()), "peak_mb": 2000.0, "detail": details,
                    "recorded": tables._now(),
                }
                for place, result in enumerate(made, start=first)
            ],
        )  # fmt: skip
        connection.execute(
            tables.scores.insert(),
            [
                {
                    "trial_id": place, "scorer": "knn", "official_score": result.official["knn"],
                    "clip_scores": blobs[place % BLOBS],
                }
                for place, result in enumerate(made, start=first)
            ],
        )  # fmt: skip
        connection.execute(
            tables.machine_metrics.insert(),
            [
                {
                    "trial_id": place, "scorer": "knn", "dataset": each.dataset, "machine": each.machine,
                    "section": each.section, "auc": each.auc, "s_auc": each.s_auc, "t_auc": each.t_auc,
                    "p_auc": each.p_auc, "h_mean": result.machines["knn"][each.machine],
                }
                for place, result in enumerate(made, start=first)
                for each in result.metrics["knn"]
            ],
        )  # fmt: skip


def _put_runs(engine: sa.Engine, made: Sequence[TrialResult], *, experiment: str, parent: str) -> None:
    """Write MLflow's own tables, as its client fills them, without its client's milliseconds a run."""
    runs, metrics, params, tags = [], [], [], []
    for result in made:
        run, spec = run_id_of(result.spec.key()), result.spec
        runs.append(
            {
                "run_uuid": run, "name": spec.label(), "source_type": "UNKNOWN", "source_name": "",
                "entry_point_name": "", "user_id": "unknown", "status": "FINISHED", "start_time": NOW,
                "end_time": NOW, "source_version": "", "lifecycle_stage": "active", "artifact_uri": "",
                "experiment_id": int(experiment),
            }
        )  # fmt: skip
        last = result.epochs[-1]
        curves = {"loss": last.loss, "accuracy": last.accuracy, "learning_rate": last.learning_rate}
        numbers = [(name, value, 0) for name, value in result_metrics(result).items()]
        numbers += [(f"train/{name}", value, last.epoch) for name, value in curves.items()]
        metrics += [
            {"key": name, "value": value, "timestamp": NOW, "step": step, "is_nan": False, "run_uuid": run}
            for name, value, step in numbers
        ]
        known = {name: str(value) for name, value in spec_params(spec).items() if value is not None}
        params += [{"key": name, "value": value, "run_uuid": run} for name, value in known.items()]
        named = {
            "mlflow.runName": spec.label(), "mlflow.parentRunId": parent, "mlflow.user": "unknown",
            "mlflow.source.name": "asdbench", "mlflow.source.type": "LOCAL", "asd.kind": spec.kind,
            "asd.key": spec.key(), "asd.study": STUDY, "asd.train_data": spec.train_data,
            "asd.test_data": spec.test_data, "asd.code": "recorded",
        }  # fmt: skip
        tags += [{"key": name, "value": value, "run_uuid": run} for name, value in named.items()]
    with engine.begin() as connection:
        for table, rows in (
            ("runs", runs), ("latest_metrics", metrics), ("metrics", metrics), ("params", params), ("tags", tags),
        ):  # fmt: skip
            insert_rows(connection, table, rows)
