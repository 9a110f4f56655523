"""SQLite, PostgreSQL and an MLflow tracking server behave alike; the same tests run on each."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import verbs
from harness.engine.messages import ANSWER, Report
from harness.engine.worker import Desk
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from harness.trials.contract import Failure, TrialSpec
from tests.harness.made_up import make_result, make_spec

STORES = ("sqlite", "postgres", pytest.param("server", marks=pytest.mark.slow))


@pytest.fixture(params=STORES)
def places(
    request: pytest.FixtureRequest, tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Places:
    """Stores of one test, on each kind of database and server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if request.param == "server":
        return find_places(tracking=request.getfixturevalue("tracking_server"))
    if request.param == "postgres":
        return find_places(tracking=request.getfixturevalue("postgres").ready())
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return find_places()


@pytest.fixture
def recorder(places: Places) -> Iterator[Recorder]:
    """The one writer of a test's stores."""
    from harness.stores.tracker import Tracker

    results = Results(places.results)
    yield Recorder(Tracker(places.tracking, code="test"), results)
    results.close()


@pytest.fixture
def data() -> dict[str, str]:
    """Fingerprints that no other test on the same server has."""
    return {"train_data": uuid.uuid4().hex, "test_data": uuid.uuid4().hex}


def status_of(recorder: Recorder, run_id: str) -> str:
    """A run's status in MLflow."""
    return str(recorder.tracker.client.get_run(run_id).info.status)


def test_trial_is_recorded_and_read_back(recorder: Recorder, data: dict[str, str]) -> None:
    """A trial's run is closed with its metrics and artifacts; its rows and clip scores come back bit for bit."""
    spec = make_spec(**data)
    run_id = recorder.begin(spec)
    result = make_result(spec)
    recorder.epochs(run_id, result.epochs)
    recorder.finish(run_id, result)
    run = recorder.tracker.client.get_run(run_id)
    assert (run.info.status, run.data.metrics["official_score"]) == ("FINISHED", result.official["knn"])
    assert {"trial.json", "clip_scores.parquet"} <= {a.path for a in recorder.tracker.client.list_artifacts(run_id)}
    key = spec.key()
    assert recorder.results.finished([key], scorers=["knn"]) == {key: run_id}
    assert recorder.results.finished([key], scorers=["knn", "gmm"]) == {}
    assert recorder.results.ends([key])[key].official["knn"] == result.official["knn"]
    found = recorder.results.clip_scores([key], "knn")[key].set_index("clip_id")["score"]
    told = result.scored.set_index("clip_id")["score_knn"]
    assert (found.loc[told.index] == told).all()


def test_recording_again_replaces(recorder: Recorder, data: dict[str, str]) -> None:
    """The same trial twice is one row and one run; the older run is in the bin."""
    spec = make_spec(**data)
    runs = [recorder.begin(spec) for _ in range(2)]
    for run_id in runs:
        recorder.finish(run_id, make_result(spec))
    assert len(recorder.results.trial_scores([spec.key()])) == 1
    stages = [recorder.tracker.client.get_run(run_id).info.lifecycle_stage for run_id in runs]
    assert stages == ["deleted", "active"]


def test_failure_is_recorded(recorder: Recorder, data: dict[str, str]) -> None:
    """A failed trial says why in both stores."""
    spec = make_spec(**data)
    run_id = recorder.begin(spec)
    recorder.fail(run_id, spec, Failure("loss became nan.", "Traceback ..."))
    assert status_of(recorder, run_id) == "FAILED"
    assert recorder.results.ends([spec.key()])[spec.key()].reason == "loss became nan."


def test_open_run_is_settled(recorder: Recorder, data: dict[str, str]) -> None:
    """A run that a killed driver left open is closed by what the tables hold: finished, or killed."""
    parent = recorder.tracker.start_study(data["train_data"], "toy", tags={}, params={})
    specs = [make_spec(**data, seed=seed) for seed in range(2)]
    runs = [recorder.begin(spec, parent=parent) for spec in specs]
    recorder.results.put_result(make_result(specs[0]), run_id=runs[0], code="test")
    recorder.settle(parent, live=set())
    assert [status_of(recorder, run_id) for run_id in runs] == ["FINISHED", "KILLED"]


def test_leaderboard_and_compare(recorder: Recorder, places: Places, data: dict[str, str]) -> None:
    """A recorded study is ranked and compared, whatever holds it."""
    specs = [make_spec(**data, m=m, seed=seed) for m in (1, 3) for seed in (0, 1)]
    record_study(recorder, specs)
    rows = verbs.leaderboard(places=places, study="toy")
    assert [(row["m"], row["trials"]) for row in rows if row["kind"] == "trial"] == [(3, 2), (1, 2)]
    (row,) = verbs.compare(places=places, study="toy", resamples=100)
    assert (row["m"], row["pairs"]) == (3, 4)
    assert verbs.study_ls(places=places)[0]["finished"] == 4


def record_study(recorder: Recorder, specs: list[TrialSpec]) -> str:
    """Record a finished study of made-up trials; more M, better scores."""
    key = specs[0].train_data[:16]
    run_id = recorder.tracker.start_study(key, "toy", tags={"asd.study": "toy"}, params={})
    recorder.put_study(
        key, name="toy", protocol="toy", run_id=run_id, planned=len(specs), content="{}",
        trials=[spec.key() for spec in specs],
    )  # fmt: skip
    for spec in specs:
        recorder.finish(recorder.begin(spec, parent=run_id, study="toy"), make_result(spec, shift=float(spec.m or 1)))
    recorder.tracker.finish(run_id)
    return run_id


def answer_at_once(key: str, desk: Desk, report: Report) -> None:
    """A trial that makes its numbers up, the same whenever it is asked."""
    report({ANSWER: make_result(desk.specs[key], shift=float(desk.specs[key].m or 1))})


@pytest.mark.slow
@pytest.mark.parametrize(
    "places",
    ["postgres", *(pytest.param(store, marks=pytest.mark.long) for store in ("sqlite", "server"))],
    indirect=True,
)
def test_study_runs_and_goes_on(places: Places, data: dict[str, str]) -> None:
    """A study runs to its end; a larger one on the same cells takes over what is there and runs the rest."""
    from harness.engine.tune import run_study
    from harness.stores.tracker import Tracker

    def run(seeds: int) -> Any:
        table = {
            "name": f"toy-{data['train_data'][:6]}", "protocol": "dcase2023", "seeds": list(range(seeds)),
            "frozen": False, "level": False, "space": {"backbone": ["tiny"], "m": [1, 3]},
        }  # fmt: skip
        plan = make_plan(StudyFile.model_validate(table))
        recordings: Any = SimpleNamespace(
            **data, truth_data="", place=places.cache, skipped=0, packed=SimpleNamespace(heard=True)
        )
        results = Results(places.results)
        try:
            return run_study(
                plan, recordings, Recorder(Tracker(places.tracking, code="test"), results), places, workers=2,
                trial=answer_at_once,
            )  # fmt: skip
        finally:
            results.close()

    first, again, larger = run(1), run(1), run(2)
    assert (first.progress.started, first.progress.finished) == (2, 2)
    assert (again.progress.started, again.progress.finished) == (0, 2)
    assert (larger.progress.started, larger.progress.finished) == (2, 4)


def test_trial_recorded_while_it_is_asked_for(
    recorder: Recorder, data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that another driver records while its end is asked for is there with its scores, or not at all."""
    spec, ask = make_spec(**data), Results._rows
    result = make_result(spec)

    def ask_slowly(self: Results, query: Any) -> list[Any]:
        rows = ask(self, query)
        monkeypatch.setattr(Results, "_rows", ask)
        self.put_result(result, run_id="another", code="test")
        return rows

    monkeypatch.setattr(Results, "_rows", ask_slowly)
    assert recorder.results.ends([spec.key()]) == {}
    assert recorder.results.ends([spec.key()])[spec.key()].official == result.official
