"""MLflow: one parent run a study, one child a trial."""

from __future__ import annotations

import getpass
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # asdbench sends nothing anywhere without being asked
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it would print the address with the password
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, ViewType
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from backbones.contract import EpochReport
from harness.credentials import remember, scrubbed
from harness.files import make_private_folder, making_private, private_umask
from harness.places import sqlite_path
from harness.stores.database import creation_lock
from harness.stores.kept.models import KeptModels
from harness.stores.records import write_failure, write_result
from harness.stores.run_names import EXPERIMENT, experiment_tags, result_metrics, spec_params
from harness.stores.server import ask_server, mlflow_errors, watch
from harness.trials.contract import Failure, TrialResult, TrialSpec

INTERRUPTED = "interrupted: "  # before the name of a run that was given up
PREVIEWED = 2000  # rows of a table that MLflow's pages can show
BATCH = 1000  # metrics that MLflow takes in one log_batch


class Tracker:
    """The MLflow side of a driver; no other process writes there.

    Args:
        uri: where MLflow keeps its runs; a database or a tracking server.
        code: revision of the code, a tag of every run.
    """

    def __init__(self, uri: str, *, code: str) -> None:
        self.uri, self.code = uri, code
        remember(uri)
        if uri.startswith(("http://", "https://")):
            ask_server(uri)
        with creation_lock(uri), mlflow_errors(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment()
            self._present()
        watch(uri)

    def start_study(self, key: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Return the id of the study's parent run, which is reopened if it exists already."""
        return self.start_run("study", key, name, tags=tags, params=params)

    def start_run(self, kind: str, key: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Return the id of the run of this kind and key, which is reopened if it exists already."""
        with mlflow_errors(self.uri):
            found = self._find(f"tags.`asd.kind` = '{kind}' and tags.`asd.key` = '{key}'")
            if found:
                run_id = str(found[0].info.run_id)
                self.client.update_run(run_id, status="RUNNING")
                if "asd.reason" in found[0].data.tags:
                    self.client.delete_tag(run_id, "asd.reason")  # why an earlier try ended
                return run_id
            run = self._create(name, {"asd.kind": kind, "asd.key": key, **tags})
            self.client.log_batch(run, params=_params(params))
            return run

    def start_trial(self, spec: TrialSpec, *, parent: str | None, study: str) -> str:
        """Open a trial's run and return its id; what is known beforehand is logged at once."""
        tags = {
            "asd.kind": spec.kind,
            "asd.key": spec.key(),
            "asd.study": study,
            "asd.train_data": spec.train_data,
            "asd.test_data": spec.test_data,
        }
        if parent:
            tags["mlflow.parentRunId"] = parent
        with mlflow_errors(self.uri):
            run_id = self._create(spec.label(), tags)
            try:
                self.client.log_batch(run_id, params=_params(spec_params(spec)))
                self.client.log_inputs(run_id, datasets=_inputs(spec))
            except BaseException:
                with suppress(MlflowException):
                    self.client.set_terminated(run_id, "KILLED")  # no other code knows this run's id yet
                raise
            return run_id

    def log_epochs(self, run_id: str, reports: Sequence[EpochReport]) -> None:
        """Add epochs to the curves."""
        now = _milliseconds()
        points = [
            Metric(f"train/{name}", value, now, report.epoch)
            for report in reports
            for name, value in (
                ("loss", report.loss), ("accuracy", report.accuracy), ("learning_rate", report.learning_rate),
            )
        ]  # fmt: skip
        with mlflow_errors(self.uri):
            for start in range(0, len(points), BATCH):
                self.client.log_batch(run_id, metrics=points[start : start + BATCH])

    def log_step(self, run_id: str, values: Mapping[str, float], *, step: int) -> None:
        """Add a point to each of several curves."""
        now = _milliseconds()
        with mlflow_errors(self.uri):
            self.client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def logged_steps(self, run_id: str, name: str) -> set[int]:
        """Return the steps at which a curve has a point."""
        with mlflow_errors(self.uri):
            return {int(point.step) for point in self.client.get_metric_history(run_id, name)}

    def log_result(self, run_id: str, result: TrialResult, *, model_id: str | None = None) -> None:
        """Log a trial's metrics and artifacts; the run stays open.

        Args:
            run_id: of the trial's run.
            result: what it found.
            model_id: of the model that keeps its encoder, which then has the metrics too, on the test recordings.
        """
        now = _milliseconds()
        tested = _inputs(result.spec)[-1].dataset if model_id else None
        of_model = (
            {"model_id": model_id, "dataset_name": tested.name, "dataset_digest": tested.digest} if tested else {}
        )
        metrics = [Metric(name, value, now, 0, **of_model) for name, value in result_metrics(result).items()]
        with mlflow_errors(self.uri):
            for start in range(0, len(metrics), BATCH):
                self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            with self._artifacts(run_id) as folder:
                _write_artifacts(folder, result)

    @property
    def kept_models(self) -> KeptModels:
        """Return the encoders that trials keep."""
        return KeptModels(self.client, self.experiment, self.uri)

    def log_failure(self, run_id: str, spec: TrialSpec, failure: Failure) -> None:
        """Log what failed and its traceback; the run stays open."""
        with mlflow_errors(self.uri), self._artifacts(run_id) as folder:
            write_failure(folder, spec, failure)
            if failure.trace:
                (folder / "traceback.txt").write_text(failure.trace)

    def log_text(self, run_id: str, texts: Mapping[str, str | bytes]) -> None:
        """Add small files to a run, by name."""
        with mlflow_errors(self.uri), self._artifacts(run_id) as folder:
            for name, content in texts.items():
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def finished_run(self, kind: str, key: str) -> str | None:
        """Return the id of a run of this kind and key that was closed as finished."""
        with mlflow_errors(self.uri):
            where = f"tags.`asd.kind` = '{kind}' and tags.`asd.key` = '{key}' and attributes.status = 'FINISHED'"
            found = self._find(where)
        return str(found[0].info.run_id) if found else None

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with mlflow_errors(self.uri):
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)

    def log_study(self, run_id: str, values: Mapping[str, float]) -> None:
        """Log a study's own numbers."""
        now = _milliseconds()
        with mlflow_errors(self.uri):
            self.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values.items()])

    def finish(
        self, run_id: str, status: str = "FINISHED", *, reason: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        with mlflow_errors(self.uri):
            for name, value in {**({"asd.reason": scrubbed(reason)[:5000]} if reason else {}), **(tags or {})}.items():
                self.client.set_tag(run_id, name, value)
            self.client.set_terminated(run_id, status)

    def interrupt(self, run_id: str, reason: str) -> None:
        """Close the run of a try that was given up, under a name that tells it from the runs that count."""
        with mlflow_errors(self.uri):
            name = str(self.client.get_run(run_id).info.run_name)
            if not name.startswith(INTERRUPTED):
                self.client.update_run(run_id, name=f"{INTERRUPTED}{name}")
        self.finish(run_id, "KILLED", reason=reason, tags={"asd.status": "interrupted"})

    def adopt(self, run_id: str, parent: str) -> None:
        """Let a trial that was run outside of any study stand under the study that takes it over."""
        with suppress(MlflowException):  # a trial that was synchronised from elsewhere has no run here
            run = self.client.get_run(run_id)
            if "mlflow.parentRunId" not in run.data.tags:
                self.client.set_tag(run_id, "mlflow.parentRunId", parent)

    @contextmanager
    def system_metrics(self, run_id: str) -> Iterator[None]:
        """Log processor, memory, disk and GPU of this machine to a run, where MLflow's own setting asks for it."""
        if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            yield
            return
        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def retire(self, run_id: str, successor: str) -> None:
        """Move a run to MLflow's bin, from which it can be restored, since a new run of its trial replaces it."""
        with mlflow_errors(self.uri):
            self.client.set_tag(run_id, "asd.successor", successor)
            self.client.delete_run(run_id)

    def address(self, run_id: str) -> str | None:
        """Return where a browser finds a run on a tracking server, without a password; None for a database."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        front, _, back = self.uri.partition("://")
        host, slash, path = back.partition("/")
        server = f"{front}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")
        return f"{server}/#/experiments/{self.experiment}/runs/{run_id}"

    def is_open(self, run_id: str) -> bool:
        """Tell whether nobody has closed a run."""
        with mlflow_errors(self.uri):
            return bool(self.client.get_run(run_id).info.status == "RUNNING")

    def open_trials(self, parent: str) -> list[tuple[str, str]]:
        """Return (run id, trial key) of a study's runs that nobody closed."""
        with mlflow_errors(self.uri):
            found = self._find(f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'")
        return [(str(run.info.run_id), str(run.data.tags.get("asd.key", ""))) for run in found]

    @contextmanager
    def _artifacts(self, run_id: str) -> Iterator[Path]:
        """Yield a temporary folder whose files become a run's artifacts, with the rights of the folder they go to."""
        place = _artifact_folder(self.uri)
        with making_private(place), tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
            Path(folder).chmod(0o777 & ~private_umask(place))  # MLflow copies a folder's rights with it
            yield Path(folder)
            self.client.log_artifacts(run_id, folder)

    def _find(self, where: str) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], where, run_view_type=ViewType.ACTIVE_ONLY, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None and found.lifecycle_stage == "active":
            return str(found.experiment_id)
        if found is not None:
            self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        place = _artifact_place(self.uri)
        if place is not None and place.startswith("file:"):
            make_private_folder(_artifact_folder(self.uri))
        try:
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another driver of the same server was first
                raise
            return str(self.client.get_experiment_by_name(EXPERIMENT).experiment_id)

    def _present(self) -> None:
        """Tell MLflow's pages how to show the experiment; a description that somebody wrote stays."""
        there = self.client.get_experiment(self.experiment).tags
        for name, value in experiment_tags(self.experiment).items():
            if name not in there or (name.startswith("mlflow.sharedViewState") and there[name] != value):
                self.client.set_experiment_tag(self.experiment, name, value)

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        base = {
            "mlflow.user": _user(),
            "mlflow.source.name": "asdbench",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": self.code.split("+")[0],
            "asd.code": self.code,
        }
        run = self.client.create_run(self.experiment, run_name=name, tags={**base, **tags})
        return str(run.info.run_id)


def _write_artifacts(folder: Path, result: TrialResult) -> None:
    write_result(folder, result)
    if len(result.pseudo_labels):
        result.pseudo_labels.to_parquet(folder / "pseudo_labels.parquet", index=False)
    for name, table in (("clip_scores", result.scored), ("pseudo_labels", result.pseudo_labels)):
        if len(table):  # MLflow's pages show CSV and not parquet
            table.head(PREVIEWED).to_csv(folder / f"{name}_preview.csv", index=False)
    for name, content in result.pictures.items():
        (folder / name).write_bytes(content)


def _inputs(spec: TrialSpec) -> list[DatasetInput]:
    parts = (("training", spec.protocol.train, spec.train_data), ("testing", spec.protocol.score, spec.test_data))
    return [
        DatasetInput(
            Dataset(
                name=" ".join(str(part) for part in names)[:500],
                digest=data[:36],
                source_type="local",
                source=json.dumps({"parts": [str(part) for part in names]}),
            ),
            tags=[InputTag("mlflow.data.context", context)],
        )
        for context, names, data in parts
        if names  # an external system was trained elsewhere
    ]


def _params(values: Mapping[str, Any]) -> Sequence[Param]:
    return [Param(name, str(value)[:6000]) for name, value in values.items() if value is not None]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _artifact_place(uri: str) -> str | None:
    """Return where artifacts go: ASDBENCH_ARTIFACTS, else beside a SQLite file or here; None if a server decides.

    The folder is not called mlruns, since `mlflow ui` would then read that folder instead of the database.
    """
    named = os.environ.get("ASDBENCH_ARTIFACTS", "")
    if named:
        return named if "://" in named else Path(named).absolute().as_uri()
    if uri.startswith(("http://", "https://")):
        return None
    return _artifact_folder(uri).as_uri()


def _artifact_folder(uri: str) -> Path:
    """Return the folder of artifacts on this machine; if they are elsewhere, the folder that they would have here."""
    named, path = os.environ.get("ASDBENCH_ARTIFACTS", ""), sqlite_path(uri)
    if named and "://" not in named:
        return Path(named).absolute()
    return (path.parent if path else Path.cwd()) / "mlartifacts"
