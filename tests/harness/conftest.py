"""Stores, specs and made-up results for the harness's tests."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backbones.contract import EpochReport, FinetuneRecipe
from benchmarks.contract import DatasetPart, Protocol
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from harness.cli.main import main
from harness.interrupts import STOPS
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.trials.contract import BackboneChoice, TrialResult, TrialSpec

MACHINES = ("fan", "ToyCar")
RULE = "dcase2022"


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


def make_scored(*, shift: float = 1.0, seed: int = 0, per_cell: int = 10) -> pd.DataFrame:
    """Test clips of two machine types whose anomalies score higher by a shift."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"dcase2023/dev/{machine}/test/{domain}_{condition}_{i:03d}", "dcase2023", machine, "00", domain, condition)
        for machine in MACHINES
        for domain in ("source", "target")
        for condition in ("normal", "anomaly")
        for i in range(per_cell)
    ]
    clips = pd.DataFrame(rows, columns=["clip_id", "dataset", "machine", "section", "domain", "condition"])
    return clips.assign(score_knn=rng.normal(size=len(clips)) + shift * (clips["condition"] == "anomaly"))


def make_result(spec: TrialSpec, *, shift: float = 1.0, seed: int | None = None) -> TrialResult:
    """A finished trial with official metrics computed from made-up scores."""
    scored = make_scored(shift=shift, seed=spec.seed if seed is None else seed)
    metrics = tuple(measure(scored.assign(score=scored["score_knn"]), RULE))
    h_means = {machine: value for (_, machine), value in machine_h_means(metrics, RULE).items()}
    return TrialResult(
        spec=spec,
        metrics={"knn": metrics},
        official={"knn": official_score(metrics, RULE)},
        machines={"knn": h_means},
        labels=({"machine": "fan", "classes": 3, "singletons": 1, "left_out": 0, "clips": 20, "pseudo_labeled": 5},),
        epochs=(EpochReport(1, 2.0, 0.1, 1e-3, 0.1), EpochReport(2, 1.0, 0.5, 1e-4, 0.1)),
        seconds={"finetune": 1.0, "score": 0.5},
        peak_mb={"finetune": 100.0},
        scored=scored,
        pseudo_labels=pd.DataFrame({"clip_id": ["a"], "machine": ["fan"], "class": ["fan|x"]}),
        pictures={"scores_knn.png": b"\x89PNG"},
    )


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it: making one takes over a second."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def places(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Stores of one test, with MLflow's tables ready."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def recorder(places: Places):
    """The one writer of a test's stores."""
    from harness.stores.tracker import Tracker

    results = Results(places.results)
    yield Recorder(Tracker(places.tracking, code="test"), results)
    results.close()


@pytest.fixture(autouse=True)
def _stops() -> Iterator[None]:
    """Leave the answers to Ctrl-C and SIGTERM as they were: a command line has its own."""
    answers = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, answer in answers.items():
        signal.signal(number, answer)


@pytest.fixture
def asdbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "ASDBENCH_CACHE", "ASDBENCH_WEIGHTS", "ASDBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)

    def run(line: str, **values: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asdbench", *line.format(**values).split()])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
