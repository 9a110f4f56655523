"""Killed, a study of real trials run again ends with the numbers of an undisturbed one; see also test_store_faults."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.harness.toy_study import STUDY, counts, official

pytestmark = pytest.mark.slow

MOST_SECONDS = 240


def start(folder: Path, recordings: Path) -> subprocess.Popen[bytes]:
    """Start the toy study's command line in a folder, in a process group of its own."""
    (folder / "toy.toml").write_text(STUDY % "1e-3")
    environment = {**os.environ, "ASDBENCH_CACHE": str(folder / "cache")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "harness.cli.main", "study", "run", "toy.toml", "--data", str(recordings)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def recorded(folder: Path) -> int:
    """How many trials stand in the results tables; a look that makes no table itself."""
    try:
        with sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from asd_trials where status = 'finished'").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def wait_for(folder: Path, process: subprocess.Popen[bytes], trials: int) -> None:
    """Wait until so many trials are recorded."""
    deadline = time.monotonic() + MOST_SECONDS
    while recorded(folder) < trials and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def finish(folder: Path, recordings: Path) -> None:
    """Run the study to its end."""
    assert start(folder, recordings).wait(MOST_SECONDS) == 0, (folder / "log.txt").read_text()


def assert_whole(folder: Path, undisturbed: dict[str, float]) -> None:
    """Every cell stands once in every store, nothing is left open, and the numbers are the undisturbed ones."""
    held = counts(folder)
    assert held["mlflow"].get("FINISHED") == 7, held
    assert "RUNNING" not in held["mlflow"], held
    assert held["tables"] == {"finished": 7}, held
    assert held["optuna"].get("COMPLETE") == 4, held
    assert held["optuna"].get("RUNNING", 0) == held["optuna"].get("WAITING", 0) == 0, held
    assert official(folder) == undisturbed


@pytest.mark.long  # tests/harness/stores/test_faults.py kills drivers, too
def test_driver_killed(root: Path, tmp_path: Path, undisturbed: dict[str, float]) -> None:
    """The driver of real trials killed with SIGKILL after two: the same command goes on to the same numbers."""
    process = start(tmp_path, root)
    wait_for(tmp_path, process, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finish(tmp_path, root)
    assert_whole(tmp_path, undisturbed)


@pytest.mark.long  # tests/harness/engine/test_searcher.py has a worker that dies, too
def test_worker_killed(root: Path, tmp_path: Path, undisturbed: dict[str, float]) -> None:
    """A worker killed with SIGKILL in the middle of a trial: the trial is made again, the study ends well."""
    process = start(tmp_path, root)
    wait_for(tmp_path, process, 1)
    workers = [each for each in psutil.Process(process.pid).children(recursive=True) if is_busy(each)]
    assert workers, (tmp_path / "log.txt").read_text()
    workers[0].kill()
    assert process.wait(MOST_SECONDS) == 0, (tmp_path / "log.txt").read_text()
    assert_whole(tmp_path, undisturbed)
    said = (tmp_path / "log.txt").read_text()
    assert "its worker process died" in said
    assert "trying again" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        pytest.param(lambda process: os.killpg(process.pid, signal.SIGINT), 130, id="Ctrl-C"),
        pytest.param(subprocess.Popen.terminate, 143, id="SIGTERM", marks=pytest.mark.long),
    ],
)
def test_interrupted(
    stop: Callable[[subprocess.Popen[bytes]], None],
    status: int,
    root: Path,
    tmp_path: Path,
    undisturbed: dict[str, float],
) -> None:
    """Ctrl-C of a terminal, which every process gets, or SIGTERM of a scheduler, which the driver gets, stops cleanly.

    No run is left open, and a sentence says how to go on.
    """
    process = start(tmp_path, root)
    wait_for(tmp_path, process, 2)
    stop(process)
    found = process.wait(60)
    said, held = (tmp_path / "log.txt").read_text(), counts(tmp_path)
    assert found == status, said
    assert said.rstrip().endswith("Run the same command again to go on where it stopped."), said
    assert "RUNNING" not in {**held["mlflow"], **held["optuna"]}, held
    finish(tmp_path, root)
    assert_whole(tmp_path, undisturbed)


def is_busy(process: psutil.Process) -> bool:
    """Whether a process is a Ray worker that runs trials."""
    try:
        return process.name().startswith("ray::Implicit")  # what Tune makes of a trial's function
    except psutil.Error:
        return False
