"""Runs of a database or tracking server as they were recorded, by whomever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from harness.credentials import remember, shown
from harness.errors import HarnessError
from harness.places import sqlite_path
from harness.stores.database import creation_lock
from harness.stores.run_names import EXPERIMENT
from harness.stores.server import ask_server, mlflow_errors

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
            ask_server(uri)
        path = sqlite_path(uri)
        if path is not None and not path.is_file():
            raise HarnessError(f"Runs are read from {path}, but there is no such file; name another database.")
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
        """Return every run, studies' among them, in the order in which they ended; open ones are last."""
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
