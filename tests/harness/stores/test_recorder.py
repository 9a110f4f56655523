"""A trial is recorded once, whatever happens between two writes."""

from __future__ import annotations

import json
import statistics

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from harness.errors import HarnessError
from harness.stores.recorder import Recorder
from harness.stores.run_names import VIEW
from harness.stores.server import mlflow_errors
from harness.stores.tracker import Tracker
from harness.trials.contract import Failure
from tests.harness.made_up import make_result, make_spec


def runs(recorder: Recorder, status: str) -> list[str]:
    """Names of the trial runs in a status."""
    found = recorder.tracker.client.search_runs(
        [recorder.tracker.experiment],
        f"attributes.status = '{status}' and tags.`asd.kind` != 'study'",
        run_view_type=ViewType.ACTIVE_ONLY,
    )
    return [run.info.run_name for run in found]


def test_finished_trial_stands_in_both_stores(recorder: Recorder) -> None:
    """A finished trial has one FINISHED run with metrics, artifacts and inputs, and one row a machine type."""
    spec = make_spec()
    run_id = recorder.begin(spec)
    result = make_result(spec)
    recorder.epochs(run_id, result.epochs)
    recorder.finish(run_id, result)
    run = recorder.tracker.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["official_score"] == pytest.approx(result.official["knn"])
    assert run.data.metrics["h_mean/fan"] == pytest.approx(result.machines["knn"]["fan"])
    assert [m.value for m in recorder.tracker.client.get_metric_history(run_id, "train/loss")] == [2.0, 1.0]
    assert {each.path for each in recorder.tracker.client.list_artifacts(run_id)} == {
        "clip_scores.parquet",
        "clip_scores_preview.csv",
        "pseudo_labels.parquet",
        "pseudo_labels_preview.csv",
        "scores_knn.png",
        "trial.json",
    }
    assert [each.dataset.digest for each in run.inputs.dataset_inputs] == ["aaaa", "bbbb"]
    assert len(recorder.results.metrics()) == 2
    assert recorder.results.ends([spec.key()])[spec.key()].official["knn"] == pytest.approx(result.official["knn"])


def test_mlflow_shows_what_matters(recorder: Recorder) -> None:
    """The experiment opens as one of trained models, with the official score first and the columns that matter."""
    client, experiment = recorder.tracker.client, recorder.tracker.experiment
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags["mlflow.experiment.primaryMetric.name"] == "official_score"
    view = json.loads(tags[f"mlflow.sharedViewState.{VIEW}"])
    spec = make_spec()
    run_id = recorder.begin(spec)
    recorder.finish(run_id, make_result(spec))
    run = client.get_run(run_id)
    shown = {"metrics": run.data.metrics, "params": run.data.params}
    assert {
        column for column in view["selectedColumns"] if column.split("`")[1] not in shown[column.split(".")[0]]
    } <= {"params.`labels`"}
    sections = [value for name, value in run.data.metrics.items() if name.startswith("s_auc/")]
    assert run.data.metrics["s_auc"] == pytest.approx(statistics.harmonic_mean(sections))
    assert f"viewStateShareKey={VIEW}" in tags["mlflow.note.content"]
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    again = Tracker(recorder.tracker.uri, code="test")
    assert client.get_experiment(again.experiment).tags["mlflow.note.content"] == "ours"


def test_interrupted_runs_do_not_look_like_results(recorder: Recorder) -> None:
    """A try that was given up is called so; a lone trial that a study takes over moves below it, another's stays."""
    spec = make_spec()
    lost = recorder.begin(spec)
    recorder.drop(lost, "the study was stopped")
    recorder.drop(lost, "the study was stopped")
    run = recorder.tracker.client.get_run(lost)
    assert (run.info.run_name, run.data.tags["asd.status"]) == (f"interrupted: {spec.label()}", "interrupted")
    alone, owned = recorder.begin(spec), recorder.begin(spec, parent="a" * 32)
    for run_id in (alone, owned):
        recorder.adopt(run_id, "b" * 32)
    recorder.adopt("c" * 32, "b" * 32)  # a run that is in another MLflow
    parents = [recorder.tracker.client.get_run(each).data.tags["mlflow.parentRunId"] for each in (alone, owned)]
    assert parents == ["b" * 32, "a" * 32]


def test_an_older_schema_is_one_sentence() -> None:
    """MLflow's refusal of an older database names the command that brings it up to date."""
    refused = MlflowException("Detected out-of-date database schema (found version a, but expected b). Take a backup")
    said = r"run `mlflow db upgrade sqlite:////x/mlflow.db`, then"
    with pytest.raises(HarnessError, match=said), mlflow_errors("sqlite:////x/mlflow.db"):
        raise refused


def test_clip_scores_come_back_as_they_were(recorder: Recorder) -> None:
    """Clip scores read from the tables equal those recorded, bit for bit, joined by clip id."""
    spec = make_spec()
    result = make_result(spec)
    recorder.finish(recorder.begin(spec), result)
    found = recorder.results.clip_scores([spec.key()], "knn")[spec.key()].set_index("clip_id")["score"]
    told = result.scored.set_index("clip_id")["score_knn"]
    assert (found.loc[told.index] == told).all()


def test_recording_twice_replaces(recorder: Recorder) -> None:
    """The same trial recorded again replaces its rows, and its older run goes to MLflow's bin."""
    spec = make_spec()
    for _ in range(2):
        recorder.finish(recorder.begin(spec), make_result(spec))
    assert len(recorder.results.trial_scores()) == 1
    assert len(recorder.results.metrics()) == 2
    assert len(runs(recorder, "FINISHED")) == 1


@pytest.mark.parametrize("step", ["log_result", "put_result", "finish"])
def test_killed_between_two_writes(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Killed before any write of a trial's recording, settling and recording again leaves it everywhere once."""
    parent = recorder.tracker.start_study("k", "toy", tags={}, params={})
    spec = make_spec()
    owner = recorder.results if step == "put_result" else recorder.tracker

    class KilledError(Exception):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, killed)
        with pytest.raises(KilledError):
            recorder.finish(recorder.begin(spec, parent=parent), make_result(spec))
    recorder.settle(parent, live=set())
    done = spec.key() in recorder.results.finished([spec.key()], scorers=["knn"])
    assert done == (step == "finish")
    if not done:
        recorder.finish(recorder.begin(spec, parent=parent), make_result(spec))
    assert len(runs(recorder, "FINISHED")) == 1
    assert runs(recorder, "RUNNING") == []
    assert len(recorder.results.trial_scores()) == 1


def test_failure_keeps_its_reason(recorder: Recorder) -> None:
    """A failed trial has a FAILED run with reason and traceback, and a row that says why."""
    spec = make_spec()
    run_id = recorder.begin(spec)
    recorder.fail(run_id, spec, Failure("loss became nan in epoch 3.", "Traceback ..."))
    run = recorder.tracker.client.get_run(run_id)
    assert (run.info.status, run.data.tags["asd.reason"]) == ("FAILED", "loss became nan in epoch 3.")
    assert [each.path for each in recorder.tracker.client.list_artifacts(run_id)] == [
        "traceback.txt",
        "trial.json",
    ]
    assert recorder.results.ends([spec.key()])[spec.key()].reason == "loss became nan in epoch 3."


def test_failure_never_hides_a_result(recorder: Recorder) -> None:
    """A failure recorded after a result leaves the result."""
    spec = make_spec()
    recorder.finish(recorder.begin(spec), make_result(spec))
    recorder.fail(recorder.begin(spec), spec, Failure("it died"))
    assert recorder.results.ends([spec.key()])[spec.key()].official["knn"] is not None
