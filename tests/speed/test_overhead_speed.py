"""What recording and scheduling cost beside the trial itself."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.plan import StudyFile, make_plan
from harness.recorder import Recorder
from harness.results import Results
from harness.stores import find_places
from tests.harness.conftest import make_result

TRIALS = 50
MOST_SECONDS = 0.5  # a trial


def answer_at_once(config: dict[str, Any], specs: dict[str, Any]) -> None:
    """A trial that does nothing."""
    from ray import tune

    tune.report({"answer": make_result(specs[config["key"]])})


@pytest.mark.speed
def test_overhead_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    """Scheduling and recording 50 trials that do nothing stay under half a second each, Ray's start included."""
    from ray import tune

    from harness.study import run_study
    from harness.tracking import Tracker

    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    places = find_places(tracking=f"sqlite:///{tmp_path / 'mlflow.db'}")
    file = StudyFile.model_validate(
        {
            "name": "nothing",
            "protocol": "dcase2023",
            "seeds": list(range(TRIALS)),
            "frozen": False,
            "level": False,
            "space": {"backbone": ["tiny"], "m": [1]},
        }
    )
    plan = make_plan(file)
    recordings: Any = SimpleNamespace(train_data="aaaa", test_data="bbbb", truth_data="", place=tmp_path, skipped=0)
    specs = {spec.key(): spec for spec in plan.specs(train_data="aaaa", test_data="bbbb")}
    recorder = Recorder(Tracker(places.tracking, code="test"), Results(places.results))
    began = time.perf_counter()
    outcome = run_study(
        plan, recordings, recorder, places, workers=2, trainable=tune.with_parameters(answer_at_once, specs=specs)
    )
    seconds = time.perf_counter() - began
    assert outcome.progress.finished == TRIALS
    bench.limit("scheduling and recording a trial that does nothing", seconds / TRIALS, MOST_SECONDS, "s")
