"""MLflow: one parent run a study, one child a trial."""

from __future__ import annotations

import base64
import getpass
import hashlib
import http.client
import json
import logging
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no harness sends anything anywhere by itself
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it prints the server's password with its address
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException

from backbones.contract import EpochReport
from harness.credentials import remember, scrubbed, shown
from harness.scoring.choice import plain_name
from harness.statistics.intervals import ScoreIntervals
from harness.stores.records import write_failure, write_result
from harness.stores.results import DATABASE_ERRORS, creation_lock, sqlite_path
from harness.trials.contract import Failure, HarnessError, TrialResult, TrialSpec

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

EXPERIMENT = "asdbench"
SERVER_SECONDS = 5  # a tracking server that has not answered by then is not there
# of labels against the truth, per machine type, where there is one
QUALITY = ("purity", "nmi", "ari", "recall_at_m", "recall_at_m_retained", "entropy", "judged_left_out")
LATER = datetime.max.replace(tzinfo=UTC)
MOST_BYTES = 2**28  # of an artifact that is read back
BATCH = 1000  # metrics that MLflow takes in one log_batch
PLAIN = re.compile(r"[\w -]{1,64}")  # MLflow's names may also have . and /, which join ours, and : except on Windows
ILLEGAL = re.compile(r"[^\w -]")


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
            _ask_server(uri)
        with _errors(uri), creation_lock(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment()

    def start_study(self, key: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Return the study's parent run, opened again if it is there already."""
        return self.start_run("study", key, name, tags=tags, params=params)

    def start_run(self, kind: str, key: str, name: str, *, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Return the run of this kind and key, opened again if it is there already."""
        with _errors(self.uri):
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
        with _errors(self.uri):
            run_id = self._create(spec.label(), tags)
            try:
                self.client.log_batch(run_id, params=_params(spec_params(spec)))
                self.client.log_inputs(run_id, datasets=_inputs(spec))
            except BaseException:
                with suppress(MlflowException):
                    self.client.set_terminated(run_id, "KILLED")  # nobody else knows of it
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
        with _errors(self.uri):
            for start in range(0, len(points), BATCH):
                self.client.log_batch(run_id, metrics=points[start : start + BATCH])

    def log_step(self, run_id: str, values: Mapping[str, float], *, step: int) -> None:
        """Add a point to each of several curves."""
        now = _milliseconds()
        with _errors(self.uri):
            self.client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def logged_steps(self, run_id: str, name: str) -> set[int]:
        """Return the steps at which a curve has a point."""
        with _errors(self.uri):
            return {int(point.step) for point in self.client.get_metric_history(run_id, name)}

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

    def log_failure(self, run_id: str, spec: TrialSpec, failure: Failure) -> None:
        """Log what failed and its traceback; the run stays open."""
        with _errors(self.uri), tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
            write_failure(Path(folder), spec, failure)
            if failure.trace:
                (Path(folder) / "traceback.txt").write_text(failure.trace)
            self.client.log_artifacts(run_id, folder)

    def log_text(self, run_id: str, texts: Mapping[str, str | bytes]) -> None:
        """Add small files to a run, by name."""
        with _errors(self.uri), tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
            for name, content in texts.items():
                path = Path(folder) / name
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.client.log_artifacts(run_id, folder)

    def finished_run(self, kind: str, key: str) -> str | None:
        """Return the id of a run of this kind and key that was closed as finished."""
        with _errors(self.uri):
            where = f"tags.`asd.kind` = '{kind}' and tags.`asd.key` = '{key}' and attributes.status = 'FINISHED'"
            found = self._find(where)
        return str(found[0].info.run_id) if found else None

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with _errors(self.uri):
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)

    def log_study(self, run_id: str, values: Mapping[str, float]) -> None:
        """Log a study's own numbers."""
        now = _milliseconds()
        with _errors(self.uri):
            self.client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in values.items()])

    def finish(
        self, run_id: str, status: str = "FINISHED", *, reason: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        with _errors(self.uri):
            for name, value in {**({"asd.reason": scrubbed(reason)[:5000]} if reason else {}), **(tags or {})}.items():
                self.client.set_tag(run_id, name, value)
            self.client.set_terminated(run_id, status)

    def retire(self, run_id: str, successor: str) -> None:
        """Move a run to MLflow's bin, from which it can be restored: another run now stands for its trial."""
        with _errors(self.uri):
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
        with _errors(self.uri):
            return bool(self.client.get_run(run_id).info.status == "RUNNING")

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
        try:
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=_artifact_place(self.uri)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another driver of the same server was first
                raise
            return str(self.client.get_experiment_by_name(EXPERIMENT).experiment_id)

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


@dataclass(frozen=True)
class PastRun:
    """A study's or trial's run, as MLflow has it.

    Attributes:
        run_id: of MLflow.
        kind: "study", or the trial's.
        key: of the study or trial.
        name: of the run.
        code: revision of the code.
        parent: run id of the study that began it; empty where none did.
        status: MLflow's: FINISHED, FAILED, KILLED or RUNNING; PRUNED where its study stopped it early.
        ended: when; None where it has not.
        reason: why it failed or was killed.
        binned: whether it lies in MLflow's bin, since another run stands for its trial.
    """

    run_id: str
    kind: str
    key: str
    name: str
    code: str
    parent: str
    status: str
    ended: datetime | None
    reason: str
    binned: bool


class History:
    """Reads runs of a database or tracking server, whoever recorded them, and writes nothing there.

    Raises:
        HarnessError: the place cannot be read, or nothing was recorded there by asdbench.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        remember(uri)
        if uri.startswith(("http://", "https://")):
            _ask_server(uri)
        path = sqlite_path(uri)
        if path is not None and not path.is_file():
            raise HarnessError(f"Runs are read from {path}, but there is no such file; name another database.")
        with _errors(uri):
            if path is None:
                with creation_lock(uri):
                    self.client = MlflowClient(tracking_uri=uri)
            else:
                self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            raise HarnessError(f"Runs are read from {shown(uri)}, but asdbench has recorded none there.")
        self.experiment = str(found.experiment_id)

    def runs(self) -> list[PastRun]:
        """Return every run, studies' among them, in the order in which they ended; open ones are last."""
        found: list[PastRun] = []
        token: str | None = None
        with _errors(self.uri):
            while True:
                page = self.client.search_runs([self.experiment], run_view_type=ViewType.ALL, page_token=token)
                found += [_past(run) for run in page]
                token = page.token
                if not token:
                    break
        return sorted(found, key=lambda run: (run.ended or LATER, not run.binned, run.run_id))

    def fetch(self, run_id: str, names: Sequence[str], folder: Path) -> None:
        """Copy some of a run's artifacts into a folder; those that it has not are left out.

        Raises:
            HarnessError: an artifact is larger than what a trial writes, or cannot be read.
        """
        with _errors(self.uri):
            there = {each.path: each.file_size or 0 for each in self.client.list_artifacts(run_id)}
            for name in names:
                if there.get(name, 0) > MOST_BYTES:
                    raise HarnessError(f"{name} must have at most {MOST_BYTES} bytes, but has {there[name]}.")
                if name in there:
                    self.client.download_artifacts(run_id, name, str(folder))


def _past(run: Run) -> PastRun:
    tags, ended = run.data.tags, run.info.end_time
    return PastRun(
        run_id=str(run.info.run_id),
        kind=str(tags.get("asd.kind", "")),
        key=str(tags.get("asd.key", "")),
        name=str(run.info.run_name),
        code=str(tags.get("asd.code", ""))[:64],
        parent=str(tags.get("mlflow.parentRunId", "")),
        status="PRUNED" if tags.get("asd.status") == "pruned" else str(run.info.status),
        ended=datetime.fromtimestamp(ended / 1000, UTC) if ended else None,
        reason=str(tags.get("asd.reason", "")),
        binned=run.info.lifecycle_stage != "active",
    )


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
    years = len({part.dataset for part in result.spec.protocol.score})  # several stand before a machine type's name
    for place, (scorer, metrics) in enumerate(result.metrics.items()):
        front = "" if place == 0 else f"{plain_name(scorer)}/"
        values[f"{front}official_score"] = result.official[scorer]
        values |= _interval_metrics(front, result.intervals.get(scorer))
        for found in result.thresholds.get(scorer, ()):
            values[f"{front}threshold/{joined_name(found.dataset, found.machine, found.section)}"] = found.value
        for machine, h_mean in result.machines[scorer].items():
            parts = machine.split("/", 1) if years > 1 else [machine]
            values[f"{front}h_mean/{joined_name(*parts)}"] = h_mean
        many = len({each.dataset for each in metrics}) > 1
        sections = len({(each.dataset, each.machine) for each in metrics}) < len(metrics)
        for each in metrics:
            parts = [*([each.dataset] if many else ()), each.machine, *([each.section] if sections else ())]
            name = joined_name(*parts)
            for metric in ("auc", "s_auc", "t_auc", "p_auc"):
                values[f"{front}{metric}/{name}"] = getattr(each, metric)
    for name in ("clips", "classes", "singletons", "left_out", "pseudo_labeled"):
        if result.labels:
            values[f"labels/{name}"] = float(sum(int(row[name]) for row in result.labels))
    for row in result.labels:
        for name in QUALITY:
            values[f"labels/{name}/{joined_name(str(row['machine']))}"] = row.get(name)
    values |= {f"seconds/{stage}": value for stage, value in result.seconds.items()}
    values |= {f"peak_mb/{stage}": value for stage, value in result.peak_mb.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def joined_name(*parts: str) -> str:
    """Return names of a year, machine type and section as one that MLflow takes in a metric's name.

    A part that MLflow would refuse, or that has a sign which joins parts, has _ for each such sign and ends in a digest
    of what it was, so that different names stay apart: `A&B <x>` becomes `A_B _x_-31c896d6`.
    """
    return ".".join(part if PLAIN.fullmatch(part) else _plainer(part) for part in parts)


def _plainer(part: str) -> str:
    told_apart = hashlib.blake2b(part.encode(), digest_size=4).hexdigest()
    return f"{ILLEGAL.sub('_', part[:48])}-{told_apart}"


def _interval_metrics(front: str, intervals: ScoreIntervals | None) -> dict[str, float | None]:
    """Return the ends of the official score's intervals by metric name."""
    ends: dict[str, float | None] = {}
    if intervals is not None:
        for name, found in (("ci", intervals.official), ("machines_ci", intervals.official_machines)):
            low, high = found or (None, None)
            ends |= {f"{front}official_score_{name}_low": low, f"{front}official_score_{name}_high": high}
    return ends


def _write_artifacts(folder: Path, result: TrialResult) -> None:
    write_result(folder, result)
    if len(result.pseudo_labels):
        result.pseudo_labels.to_parquet(folder / "pseudo_labels.parquet", index=False)
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
    """Return where artifacts go: beside a SQLite file, else the current folder's; a server knows its own place.

    A folder called mlruns would make a bare `mlflow ui` beside it read files instead of the database.
    """
    named = os.environ.get("ASDBENCH_ARTIFACTS", "")
    if named:
        return named if "://" in named else Path(named).absolute().as_uri()
    if uri.startswith(("http://", "https://")):
        return None
    path = sqlite_path(uri)
    return ((path.parent if path else Path.cwd()) / "mlartifacts").as_uri()


def _ask_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(_health(uri), timeout=SERVER_SECONDS):  # noqa: S310 - http(s) only, checked by the caller
            return
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise HarnessError(
            f"The MLflow tracking server must answer at {shown(uri)}, but it did not: {reason}; "
            "start it, or set MLFLOW_TRACKING_URI to another one or to sqlite:///mlflow.db."
        ) from error


def _health(uri: str) -> urllib.request.Request:
    """Ask how a server is, with user and password in a header: urllib takes none in an address."""
    parts = urlsplit(uri)
    people, at, host = parts.netloc.rpartition("@")
    user, _, password = people.partition(":")
    address = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
    request = urllib.request.Request(address)  # noqa: S310 - as above
    if at:
        word = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    elif os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}")
    return request


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError, *DATABASE_ERRORS) as error:
        raise HarnessError(
            f"MLflow must be able to read and write {shown(uri)}, but it answered: {_first_line(error)}; "
            "check that place, or name another one with MLFLOW_TRACKING_URI."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
