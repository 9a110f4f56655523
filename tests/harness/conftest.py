"""Stores, specs and made-up results for the harness's tests."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.interrupts import STOPS
from harness.places import Places, find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from tests.harness.made_up import open_tables


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
    # shells start what runs in the background deaf to Ctrl-C, and tests that press it would wait for ever
    if answers.get(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    """Empty results tables."""
    tables = open_tables(tmp_path)
    yield tables
    tables.close()
