"""Reads the runs of an MLflow database or tracking server, which may be somebody else's."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import mlflow
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from harness.credentials import HIDDEN, remember, shown
from harness.errors import HarnessError
from harness.files import read_bytes
from harness.places import sqlite_path
from harness.stores.database import creation_lock, look_at, tables_of
from harness.stores.records import TRIAL_FILE, read_spec
from harness.stores.run_names import EXPERIMENT
from harness.stores.server import ask_server, mlflow_errors
from harness.trials.contract import TrialSpec

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000  # ms; no run can be older than MLflow
CLOCKS_MS = 60_000  # a run may end this much before it began, since its host's clock may have been set back
LATER = datetime.max.replace(tzinfo=UTC)
MOST_BYTES = 2**28  # of an artifact that is read back


@dataclass(frozen=True)
class PastRun:
    """A study's or trial's run, as MLflow has it.

    Attributes:
        run_id: of MLflow.
        kind: "study", or the trial's.
        key: of the study or trial.
        name: of the run.
        code: revision of the code.
        parent: run id of the study that began it; empty for a trial of its own.
        status: MLflow's FINISHED, FAILED, KILLED or RUNNING; PRUNED if its study stopped it early.
        ended: when it ended; None if it has not.
        reason: why it failed or was killed.
        binned: whether it was moved to MLflow's bin, since a later run of the same trial replaced it.
        wrong: why it cannot be a valid run, in a sentence; empty if it can.
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
    wrong: str = ""


class History:
    """Reads runs of a database or tracking server, whoever recorded them, and writes nothing there.

    Raises:
        HarnessError: the place cannot be read, or nothing was recorded there by asdbench.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        remember(uri)
        if uri.startswith(("http://", "https://")):
            ask_server(uri)
        path = sqlite_path(uri)
        if path is not None:
            _demand_runs(path, uri)
        with mlflow_errors(uri):
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
        """Return the runs of all studies and trials in the order in which they ended; open ones are last."""
        found: list[PastRun] = []
        token: str | None = None
        with mlflow_errors(self.uri):
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
        with mlflow_errors(self.uri):
            place = str(self.client.get_run(run_id).info.artifact_uri)
        if (local := folder_at(place)) is not None:
            for name in names:  # not by MLflow, which would copy a pipe or a device without end
                if (local / name).exists():
                    (folder / name).write_bytes(read_bytes(local / name, what=name, most=MOST_BYTES))
            return
        try:
            there = {each.path: each.file_size or 0 for each in self.client.list_artifacts(run_id)}
            for name in names:
                if there.get(name, 0) > MOST_BYTES:
                    raise HarnessError(f"{name} must have at most {MOST_BYTES} bytes, but has {there[name]}.")
                if name in there:
                    self.client.download_artifacts(run_id, name, str(folder))
        except HarnessError:
            raise
        except Exception as error:  # S3, SFTP, ... each raise their own, and ImportError where their package is missing
            raise HarnessError(
                f"Artifacts must lie where they can be read, but {shown(place)[:200]} answered "
                f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
            ) from error


def place_of_runs(origin: str, tracking: str) -> str:
    """Return where a recorded trial's run is read, since an origin is recorded with its password masked.

    Args:
        origin: as recorded; "" is `tracking`.
        tracking: address of this MLflow, whose password holds for the origin if that is the same place.

    Raises:
        HarnessError: the origin asks for a password that nothing says.
    """
    if HIDDEN not in origin:
        return origin or tracking
    if _without_login(origin) == _without_login(tracking):
        return tracking
    parts = urlsplit(origin)
    said = {name: os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD")}
    web = parts.scheme in ("http", "https")
    if web and said["PASSWORD"] and said["USERNAME"] == unquote(parts.username or ""):
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))  # MLflow logs in by these itself
    way = (
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to its user's"
        if web
        else "name that address, with its password, in MLFLOW_TRACKING_URI"
    )
    raise HarnessError(f"The run must be read from {shown(origin)[:200]}, but its password is not recorded; {way}.")


def _without_login(uri: str) -> tuple[str, str, str]:
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower(), parts.path.rstrip("/")


def fetch_spec(uri: str, run_id: str, *, key: str) -> TrialSpec:
    """Read from a run's artifacts what its trial was.

    Args:
        uri: database or tracking server that has the run.
        run_id: of MLflow.
        key: of the trial.

    Raises:
        HarnessError: the place cannot be read, or the run has no such record.
    """
    with tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
        History(uri).fetch(run_id, (TRIAL_FILE,), Path(folder))
        return read_spec(Path(folder), key=key)


def _demand_runs(path: Path, uri: str) -> None:
    """Check that a file is an MLflow database of this version, before MLflow opens it.

    MLflow would create its tables in any database that it opens, and migrate an older one without asking.
    """
    if not path.exists():
        raise HarnessError(f"Runs are read from {path}, but there is no such file; name another database.")
    tables = tables_of(path)
    if missing := {"alembic_version", "experiments", "runs", "tags"} - tables:
        raise HarnessError(f"Runs are read from MLflow's database, but {path} has no table {min(missing)}.")
    try:
        found = [str(row[0]) for row in look_at(path, "select version_num from alembic_version")]
    except (sqlite3.Error, OSError) as error:
        raise HarnessError(f"Runs are read from MLflow's database, but {path} has none: {error}.") from error
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if found == [scripts.get_current_head()]:
        return
    if {each.revision for each in scripts.walk_revisions()} >= set(found):
        raise HarnessError(
            f"Runs are read from a database of this version of MLflow, but {path} is of an earlier one; take a copy, "
            f"and bring that up to date with `mlflow db upgrade {shown(uri)}`."
        )
    raise HarnessError(
        f"Runs are read from a database of this version of MLflow, but {path} is of another one; "
        "install the version of MLflow that wrote it."
    )


def folder_at(place: str) -> Path | None:
    """Return the folder that an artifact address means on this machine; None for any other place."""
    parts = urlsplit(place)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(place) if place.startswith("/") else None


def _times(run: Run) -> tuple[datetime | None, str]:
    """Return when a run ended, and what is wrong with its times; empty where nothing is."""
    began, ended = run.info.start_time, run.info.end_time
    latest = (datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000
    for name, value in (("began", began), ("ended", ended)):
        if value and not (isinstance(value, int | float) and EARLIEST <= value <= latest):
            return None, f"A run must have {name} between the year 2000 and now, but its time is {str(value)[:30]}."
    if began and ended and ended < began - CLOCKS_MS:
        return None, f"A run must end after it began, but it began at {began} and ended at {ended}."
    return (datetime.fromtimestamp(ended / 1000, UTC) if ended else None), ""


def _past(run: Run) -> PastRun:
    tags = run.data.tags
    ended, wrong = _times(run)
    return PastRun(
        run_id=str(run.info.run_id),
        kind=str(tags.get("asd.kind", "")),
        key=str(tags.get("asd.key", "")),
        name=str(run.info.run_name),
        code=str(tags.get("asd.code", ""))[:64],
        parent=str(tags.get("mlflow.parentRunId", "")),
        status="PRUNED" if tags.get("asd.status") == "pruned" else str(run.info.status),
        ended=ended,
        wrong=wrong,
        reason=str(tags.get("asd.reason", "")),
        binned=run.info.lifecycle_stage != "active",
    )
