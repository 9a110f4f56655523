"""Killed anywhere, started eight at once, with a full disk: every cell ends once in every store, with its numbers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from harness.places import Places, find_places
from harness.verbs.stores import open_results
from tests.harness.quick_driver import POINTS, drive, quick_result, quick_specs

pytestmark = pytest.mark.slow

log = logging.getLogger(__name__)  # shown when a test fails

MOST_SECONDS = 300
# of the driver and of workers; while one worker starts anew the other ends trials, and there are 21
FEW, MANY = ["driver"] * 2 + ["worker"], ["driver"] * 13 + ["worker"] * 7
DRIVERS = 8
SEED = int(os.environ.get("ASD_TEST_SEED", "20"))  # of the moments; printed, so that a failure can be repeated
TRIAL_SECONDS = 1.0


CONTEXT = multiprocessing.get_context("forkserver")  # a driver starts with its imports made
CONTEXT.set_forkserver_preload(["tests.harness.quick_driver"])


class Disk:
    """Stores of one test and the drivers that write into them."""

    def __init__(self, tracking: str, folder: Path, *, log: Path) -> None:
        self.places, self.folder, self.log = find_places(tracking=tracking), folder, log

    def start(self, *, alone: bool = True, die: str | None = None) -> BaseProcess:
        """Start a driver."""
        given = (self.places.tracking, self.folder, self.log)
        options = {"alone": alone, "seconds": TRIAL_SECONDS, "die": die}
        driver = CONTEXT.Process(target=drive, args=given, kwargs=options)
        driver.start()
        return driver

    def run(self, *, die: str | None = None) -> int | None:
        """Run a driver to its end and return its exit status; killed it is below zero."""
        driver = self.start(die=die)
        driver.join(MOST_SECONDS)
        return driver.exitcode

    def said(self) -> str:
        """What the drivers said."""
        return self.log.read_text()


@pytest.fixture(params=["sqlite", "postgres"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Stores that do not exist yet."""
    monkeypatch.chdir(tmp_path)
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if request.param == "postgres":
        tracking = request.getfixturevalue("postgres").create()
    return Disk(tracking, tmp_path, log=tmp_path / "log.txt")


def assert_whole(places: Places) -> None:
    """Every cell stands once in every store, nothing is left open, and the numbers are those of a quiet study."""
    specs = quick_specs()
    client = MlflowClient(tracking_uri=places.tracking)
    experiment = client.get_experiment_by_name("asdbench").experiment_id
    runs = client.search_runs([experiment], run_view_type=ViewType.ACTIVE_ONLY, max_results=5000)
    status = Counter(run.info.status for run in runs)
    finished = Counter(run.data.tags["asd.key"] for run in runs if run.info.status == "FINISHED")
    parents = [run for run in runs if run.data.tags["asd.kind"] == "study"]
    assert (len(parents), parents[0].info.status) == (1, "FINISHED")
    assert finished == Counter([*specs, parents[0].data.tags["asd.key"]]), finished
    assert set(status) <= {"FINISHED", "KILLED"}, status
    storage = optuna.storages.RDBStorage(places.optuna)
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(storage=storage, study_name=summary.study_name).get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    complete = Counter(trial.user_attrs["key"] for trial in trials if trial.state.name == "COMPLETE")
    assert complete == Counter(list(specs)), states
    assert set(states) <= {"COMPLETE", "FAIL", "PRUNED"}, states
    with open_results(places) as results:
        rows = results.trial_scores()
        clips = results.clip_scores(specs, "knn")
    quiet = {key: quick_result(spec) for key, spec in specs.items()}
    assert dict(zip(rows["key"], rows["official_score"], strict=True)) == {
        key: result.official["knn"] for key, result in quiet.items()
    }
    assert len(rows) == len(specs)
    for key, result in quiet.items():
        told = result.scored.set_index("clip_id")["score_knn"]
        assert (clips[key].set_index("clip_id")["score"].loc[told.index] == told).all()


@pytest.mark.parametrize(
    ("disk", "kills"),
    [
        pytest.param("sqlite", FEW, id="sqlite-few"),
        pytest.param("sqlite", MANY, id="sqlite-many", marks=pytest.mark.long),
        pytest.param("postgres", MANY, id="postgres-many", marks=pytest.mark.long),
    ],
    indirect=["disk"],
)
def test_killed_at_random_moments(disk: Disk, kills: list[str]) -> None:
    """Driver or worker killed with SIGKILL at 3 or 20 random moments, the driver started again each time."""
    moments, driver, done = random.Random(SEED), disk.start(alone=False), Counter[str]()
    log.warning("moments of seed %d", SEED)
    planned = moments.sample(kills, len(kills))
    while planned:
        whom = planned[-1]
        early = whom == "driver" and moments.random() < 0.3  # it dies while it starts, too
        wait = moments.uniform(0.2, 4.0) if early else moments.uniform(0.0, 1.2 * TRIAL_SECONDS)
        if not early:
            wait_for_trial(disk.folder / "begun.txt", driver)
        time.sleep(wait)
        assert driver.exitcode is None, f"the study ended after {done}: {disk.said()}"
        log.warning("%s killed %.3f s after %s", whom, wait, "its start" if early else "a trial began")
        if whom == "worker":
            busy = [each for each in psutil.Process(driver.pid).children(recursive=True) if is_worker(each)]
            if not busy:
                continue
            moments.choice(busy).kill()
        else:
            os.killpg(driver.pid or 0, signal.SIGKILL)
            driver.join()
            driver = disk.start(alone=False)
        done[planned.pop()] += 1
    driver.join(MOST_SECONDS)
    assert driver.exitcode == 0, disk.said()
    assert_whole(disk.places)


def wait_for_trial(sign: Path, driver: BaseProcess) -> None:
    """Wait until a trial begins."""
    before, deadline = sign.stat().st_size if sign.exists() else 0, time.monotonic() + MOST_SECONDS
    while driver.exitcode is None and time.monotonic() < deadline:
        if sign.exists() and sign.stat().st_size > before:
            return
        time.sleep(0.01)


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is a Ray worker that runs trials."""
    try:
        return process.name().startswith("ray::Implicit")  # what Tune makes of a trial's function
    except psutil.Error:
        return False


def test_killed_at_every_write(disk: Disk) -> None:
    """Killed just before and just after each kind of write of a trial's recording, one life after the other."""
    for point in (f"{when}-{name}" for name in POINTS for when in ("before", "after")):
        assert disk.run(die=point) == -signal.SIGKILL, f"{point}: {disk.said()}"
    assert disk.run() == 0, disk.said()
    assert_whole(disk.places)


def test_eight_drivers_at_once(disk: Disk) -> None:
    """Eight drivers start at once on databases that do not exist yet: all end well, every cell is run once."""
    drivers = [disk.start() for _ in range(DRIVERS)]
    for driver in drivers:
        driver.join(MOST_SECONDS)
    assert [driver.exitcode for driver in drivers] == [0] * DRIVERS, disk.said()
    assert_whole(disk.places)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A file system of its own with 24 MB; its content is gone afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a file system cannot be mounted here")
    monkeypatch.chdir(tmp_path)
    try:
        yield Disk(f"sqlite:///{folder / 'mlflow.db'}", folder, log=tmp_path / "log.txt")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk(small_disk: Disk) -> None:
    """A disk that runs full stops the study with a sentence; with room again it goes on to the same numbers."""
    assert small_disk.run(die="after-close") == -signal.SIGKILL, small_disk.said()
    ballast = small_disk.folder / "ballast"
    fill(ballast, leave=400_000)
    assert small_disk.run() == 1, small_disk.said()
    sentence = small_disk.said().strip().splitlines()[-1]
    assert sentence.startswith("harness.errors.HarnessError: "), sentence
    assert "full" in sentence or "No space left" in sentence
    ballast.unlink()
    assert small_disk.run() == 0, small_disk.said()
    assert_whole(small_disk.places)


def test_read_only_disk(small_disk: Disk) -> None:
    """A database that cannot be written stops the study with a sentence; once it can, the study goes on."""
    assert small_disk.run(die="after-tables") == -signal.SIGKILL, small_disk.said()
    subprocess.run(["mount", "-o", "remount,ro", small_disk.folder], check=True)
    assert small_disk.run() == 1, small_disk.said()
    sentence = small_disk.said().strip().splitlines()[-1]
    assert sentence.startswith("harness.errors.HarnessError: "), sentence
    assert "mlflow.db" in sentence
    subprocess.run(["mount", "-o", "remount,rw", small_disk.folder], check=True)
    assert small_disk.run() == 0, small_disk.said()
    assert_whole(small_disk.places)


def fill(path: Path, *, leave: int) -> None:
    """Fill a file system with a file, but for some bytes."""
    there = os.statvfs(path.parent)
    path.write_bytes(b"\0" * max(0, there.f_bavail * there.f_frsize - leave))
