"""What recording and scheduling cost beside the trial itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param

from harness.engine import tune as study
from harness.engine.messages import ANSWER
from harness.places import Places, find_places
from harness.stores.records import write_result
from harness.stores.results import Results
from harness.stores.run_names import result_metrics, spec_params
from harness.studies.plan import Plan, make_plan
from harness.studies.study_file import StudyFile
from harness.trials.contract import TrialResult
from harness.verbs.stores import open_recorder
from tests.harness.made_up import make_result
from tests.harness.quick_trials import answer_at_once
from tests.speed.many_trials import copy_trial, plan_of_many

TRIALS = 200
MOST_SECONDS = 0.1  # a trial, beyond what MLflow's own client takes to record it
MOST_START = 30.0  # of a study, once: new databases, Ray and its workers, which import torch, and their end
RESUME_SECONDS = 5.0
MOST_GROWTH = 1.5  # of one more trial, between a hundred recorded ones and ten thousand; noise included
DATA = {"train_data": "aaaa", "test_data": "bbbb"}


def places_in(folder: Path) -> Places:
    """Stores in a folder."""
    return find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")


def run(plan: Plan, places: Places, *, workers: int = 2, **options: Any) -> Any:
    """Run a study of trials that need no recordings, from opening its stores on."""
    recordings: Any = SimpleNamespace(
        **DATA, truth_data="", place=places.cache, skipped=0, packed=SimpleNamespace(heard=True)
    )
    with open_recorder(places) as recorder:
        return study.run_study(plan, recordings, recorder, places, workers=workers, **options)


def log_by_hand(client: MlflowClient, experiment: str, results: Iterable[TrialResult]) -> None:
    """Record trials as a script without a harness does: a run, parameters, data, metrics, tables, pictures."""
    data = [Dataset(name, digest, "local", "{}") for name, digest in DATA.items()]
    for result in results:
        run_id = client.create_run(experiment, tags={"key": result.spec.key()}).info.run_id
        params = [Param(name, str(value)) for name, value in spec_params(result.spec).items()]
        client.log_batch(run_id, params=params)
        client.log_inputs(run_id, datasets=[DatasetInput(each) for each in data])
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(n, v, now, 0) for n, v in result_metrics(result).items()])
        with tempfile.TemporaryDirectory() as folder:
            write_result(Path(folder), result)
            result.pseudo_labels.to_parquet(Path(folder) / "pseudo_labels.parquet")
            for name, table in (("clip_scores", result.scored), ("pseudo_labels", result.pseudo_labels)):
                table.to_csv(Path(folder) / f"{name}.csv", index=False)  # MLflow's pages show CSV and not parquet
            for name, content in result.pictures.items():
                (Path(folder) / name).write_bytes(content)
            client.log_artifacts(run_id, folder)
        client.set_terminated(run_id)


@pytest.mark.speed
def test_overhead_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    """200 trials that do nothing cost 0.1 s each beyond MLflow's own recording of them, and the study 30 s once."""
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    table = {"name": "nothing", "protocol": "dcase2023", "seeds": list(range(TRIALS // 10)), "frozen": False}
    plan = make_plan(
        StudyFile.model_validate({**table, "level": False, "space": {"backbone": ["tiny"], "m": list(range(1, 11))}})
    )
    specs = {spec.key(): spec for spec in plan.specs(**DATA)}
    results = [make_result(spec) for spec in specs.values()]
    ended: list[float] = []
    began = time.perf_counter()
    trial = partial(answer_at_once, result=results[0])
    outcome = run(plan, places_in(tmp_path), trial=trial, listen=lambda _progress: ended.append(time.perf_counter()))
    whole = time.perf_counter() - began
    assert outcome.progress.finished == TRIALS
    seconds = (ended[-1] - ended[-TRIALS]) / (TRIALS - 1)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'by_hand.db'}")
    experiment = client.create_experiment("by hand", artifact_location=(tmp_path / "artifacts").as_uri())
    began = time.perf_counter()
    log_by_hand(client, experiment, results)
    by_hand = (time.perf_counter() - began) / TRIALS
    what = f"scheduling and recording a trial that does nothing ({seconds:.3f} s), less MLflow's own ({by_hand:.3f} s)"
    start = whole - TRIALS * seconds
    bench.limit("a study's start and end: databases, Ray and its workers", start, MOST_START, "s")
    bench.limit(what, seconds - by_hand, MOST_SECONDS, "s")


class Clocked:
    """Runs what a study hands out in this process and keeps the time.

    Attributes:
        begun: when the study was ready to run its first trial.
        trials: seconds of each trial, from asking for it to its being recorded.
    """

    def __init__(self, specs: dict[str, Any], *, most: int) -> None:
        self.specs, self.most, self.begun, self.trials = specs, most, 0.0, list[float]()
        self.keys: list[str] = []

    def __call__(self, first: Any, *_: object, **__: object) -> None:
        """Stand in for Ray."""
        self.begun = time.perf_counter()
        searcher = first if isinstance(first, study.CellSearcher) else study.CellSearcher(first)
        while len(self.trials) < self.most:
            began, name = time.perf_counter(), f"trial-{len(self.trials)}"
            cell = searcher.suggest(name)
            if not isinstance(cell, dict):
                return
            answer = {ANSWER: make_result(self.specs[cell["key"]])}
            searcher.hear(name, answer)
            searcher.on_trial_complete(name, answer)
            self.trials.append(time.perf_counter() - began)
            self.keys.append(cell["key"])


def resume(folder: Path, monkeypatch: pytest.MonkeyPatch, *, recorded: int) -> tuple[float, float]:
    """Seconds until a study with so many recorded trials begins its next one, and seconds of that one."""
    folder.mkdir()
    monkeypatch.setenv("ASDBENCH_CACHE", str(folder / "cache"))
    plan, places = plan_of_many(-(-(recorded + 10) // 1000)), places_in(folder)
    specs = {spec.key(): spec for spec in plan.specs(**DATA)}
    with monkeypatch.context() as patch:
        patch.setattr(study, "_run", first := Clocked(specs, most=1))
        run(plan, places)
    (key,) = first.keys
    results = Results(places.results)
    run_id = results.run_of(key) or ""
    results.close()
    others = [each for each in specs if each != key][: recorded - 1]
    copy_trial(places, key=key, run_id=run_id, number=0, keys=others)
    with monkeypatch.context() as patch:
        patch.setattr(study, "_run", clock := Clocked(specs, most=8))
        began = time.perf_counter()
        outcome = run(plan, places)
    assert outcome.progress.finished == recorded + len(clock.trials)
    return clock.begun - began, min(clock.trials)


@pytest.mark.speed
def test_resume_with_ten_thousand_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    """With 10,000 recorded trials a study goes on within 5 s, and one more costs what it cost at 100."""
    _, at_hundred = resume(tmp_path / "hundred", monkeypatch, recorded=100)
    seconds, at_many = resume(tmp_path / "many", monkeypatch, recorded=10_000)
    bench.limit("going on with a study of 10,000 recorded trials", seconds, RESUME_SECONDS, "s")
    what = f"one more trial at 10,000 ({at_many:.3f} s) against one more at 100 ({at_hundred:.3f} s)"
    bench.limit(what, at_many / at_hundred, MOST_GROWTH, "times")
