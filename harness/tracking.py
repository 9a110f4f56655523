"""MLflow: one parent run a study, one child a trial."""

from __future__ import annotations

import getpass
import json
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no harness sends anything anywhere by itself

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException

from backbones.contract import EpochReport
from harness.contract import HarnessError, TrialResult, TrialSpec, protocol_content
from harness.results import creation_lock, result_detail, sqlite_path, without_password

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

EXPERIMENT = "asdbench"
SERVER_SECONDS = 5  # a tracking server that has not answered by then is not there
# of labels against the truth, per machine type, where there is one
QUALITY = ("purity", "nmi", "ari", "recall_at_m", "recall_at_m_retained", "entropy", "judged_left_out")
BATCH = 1000  # metrics that MLflow takes in one log_batch


class Tracker:
    """The MLflow side of a driver; no other process writes there.

    Args:
        uri: where MLflow keeps its runs; a database or a tracking server.
        code: revision of the code, a tag of every run.
    """

    def __init__(self, uri: str, *, code: str) -> None:
        self.uri, self.code = uri, code
        if uri.startswith(("http://", "https://")):
            _ask_server(uri)
        with _errors(uri), creation_lock(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment()

    def start_study(self, key: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Return the study's parent run, opened again if it is there already."""
        with _errors(self.uri):
            found = self._find(f"tags.`asd.kind` = 'study' and tags.`asd.key` = '{key}'")
            if found:
                run_id = str(found[0].info.run_id)
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            run = self._create(name, {"asd.kind": "study", "asd.key": key, **tags})
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
        with _errors(self.uri):
            run_id = self._create(spec.label(), tags)
            self.client.log_batch(run_id, params=_params(spec_params(spec)))
            self.client.log_inputs(run_id, datasets=_inputs(spec))
            return run_id

    def log_epoch(self, run_id: str, report: EpochReport) -> None:
        """Add one epoch to the curves."""
        now = _milliseconds()
        values = {"loss": report.loss, "accuracy": report.accuracy, "learning_rate": report.learning_rate}
        with _errors(self.uri):
            self.client.log_batch(
                run_id, metrics=[Metric(f"train/{name}", value, now, report.epoch) for name, value in values.items()]
            )

    def log_result(self, run_id: str, result: TrialResult) -> None:
        """Log a trial's metrics and artifacts; the run stays open."""
        now = _milliseconds()
        metrics = [Metric(name, value, now, 0) for name, value in result_metrics(result).items()]
        with _errors(self.uri):
            for start in range(0, len(metrics), BATCH):
                self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])
            with tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
                _write_artifacts(Path(folder), result)
                self.client.log_artifacts(run_id, folder)

    def log_text(self, run_id: str, texts: Mapping[str, str | bytes]) -> None:
        """Add small files to a run, by name."""
        with _errors(self.uri), tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
            for name, content in texts.items():
                path = Path(folder) / name
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.client.log_artifacts(run_id, folder)

    def log_study(self, run_id: str, values: Mapping[str, float]) -> None:
        """Log a study's own numbers."""
        now = _milliseconds()
        with _errors(self.uri):
            self.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values.items()])

    def finish(self, run_id: str, status: str = "FINISHED", *, reason: str = "") -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        with _errors(self.uri):
            if reason:
                self.client.set_tag(run_id, "asd.reason", reason[:5000])
            self.client.set_terminated(run_id, status)

    def retire(self, run_id: str, successor: str) -> None:
        """Move a run to MLflow's bin, from which it can be restored: another run now stands for its trial."""
        with _errors(self.uri):
            self.client.set_tag(run_id, "asd.successor", successor)
            self.client.delete_run(run_id)

    def open_trials(self, parent: str) -> list[tuple[str, str]]:
        """Return (run id, trial key) of a study's runs that nobody closed."""
        with _errors(self.uri):
            found = self._find(f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'")
        return [(str(run.info.run_id), str(run.data.tags.get("asd.key", ""))) for run in found]

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
        path = sqlite_path(self.uri)
        # a folder called mlruns would make a bare `mlflow ui` beside it read files instead of the database
        place = (path.parent / "mlartifacts").as_uri() if path else None
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))

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


def spec_params(spec: TrialSpec) -> dict[str, Any]:
    """Return a trial's choices under the names that MLflow's compare view lines up."""
    recipe = {f"recipe.{name}": value for name, value in asdict(spec.recipe).items()}
    backbone = spec.backbone
    return {
        "kind": spec.kind,
        "backbone": backbone.name if backbone else None,
        "encoder": backbone.encoder if backbone else None,
        "weights_sha256": backbone.weights_sha256 if backbone else None,
        **{f"encoder.{name}": value for name, value in (backbone.options if backbone else ())},
        "m": spec.m,
        "k1": spec.k1,
        "k2": spec.k2,
        "fusion": spec.fusion,
        "labels": spec.labels if spec.kind == "trial" else None,
        "truth_data": spec.truth_data or None,
        "min_confidence": spec.min_confidence,
        "below": spec.below,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        **(recipe if spec.kind == "trial" else {}),
    }


def result_metrics(result: TrialResult) -> dict[str, float]:
    """Return a trial's numbers by metric name; the first scorer's stand without its name in front."""
    values: dict[str, float | None] = {}
    for place, (scorer, metrics) in enumerate(result.metrics.items()):
        front = "" if place == 0 else f"{scorer}/"
        values[f"{front}official_score"] = result.official[scorer]
        for machine, h_mean in result.machines[scorer].items():
            values[f"{front}h_mean/{machine.replace('/', '.')}"] = h_mean
        many = len({each.dataset for each in metrics}) > 1
        sections = len({(each.dataset, each.machine) for each in metrics}) < len(metrics)
        for each in metrics:
            name = f"{each.dataset}.{each.machine}" if many else each.machine
            name = f"{name}.{each.section}" if sections else name
            for metric in ("auc", "s_auc", "t_auc", "p_auc"):
                values[f"{front}{metric}/{name}"] = getattr(each, metric)
    for name in ("clips", "classes", "singletons", "left_out", "pseudo_labeled"):
        if result.labels:
            values[f"labels/{name}"] = float(sum(int(row[name]) for row in result.labels))
    for row in result.labels:
        for name in QUALITY:
            values[f"labels/{name}/{row['machine']}"] = row.get(name)
    values |= {f"seconds/{stage}": value for stage, value in result.seconds.items()}
    values |= {f"peak_mb/{stage}": value for stage, value in result.peak_mb.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def _write_artifacts(folder: Path, result: TrialResult) -> None:
    result.scored.to_parquet(folder / "clip_scores.parquet", index=False)
    if len(result.pseudo_labels):
        result.pseudo_labels.to_parquet(folder / "pseudo_labels.parquet", index=False)
    for name, content in result.pictures.items():
        (folder / name).write_bytes(content)
    record = {
        "key": result.spec.key(),
        "spec": {
            **asdict(result.spec),
            "protocol": {"name": result.spec.protocol.name, **protocol_content(result.spec.protocol)},
        },
        "official": dict(result.official),
        "machines": {scorer: dict(values) for scorer, values in result.machines.items()},
        "metrics": {scorer: [asdict(each) for each in rows] for scorer, rows in result.metrics.items()},
        **result_detail(result),
    }
    (folder / "trial.json").write_text(json.dumps(record, indent=1, sort_keys=True))


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


def _ask_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_SECONDS):  # noqa: S310 - http(s) only, checked by the caller
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise HarnessError(
            f"The MLflow tracking server must answer at {_shown(uri)}, but it did not: {reason}; "
            "start it, or set MLFLOW_TRACKING_URI to another one or to sqlite:///mlflow.db."
        ) from error


def _shown(uri: str) -> str:
    front, at, back = uri.rpartition("@")
    return f"{front.split('//')[0]}//***@{back}" if at else uri


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        shown = _shown(uri) if uri.startswith("http") else without_password(uri)
        raise HarnessError(
            f"MLflow must be able to read and write {shown}, but it answered: {str(error).splitlines()[0]}; "
            "check that place, or name another one with MLFLOW_TRACKING_URI."
        ) from error
