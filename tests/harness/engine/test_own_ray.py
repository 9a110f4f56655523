"""A Ray that a study starts on this machine: who can reach it, where its files are, and what it leaves."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from harness.engine import own_ray
from harness.engine.own_ray import SOCKET_BYTES, keep_token_private, short_folder
from harness.errors import HarnessError
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from harness.studies.progress import Progress
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_trials import answer_at_once
from tests.harness.studies.test_cells import RECORDINGS, study


def listening() -> dict[int, set[str]]:
    """Addresses at which this process and all that it has started listen, by process."""
    found: dict[int, set[str]] = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            open_ = process.net_connections("inet")
        except psutil.Error:
            continue
        found[process.pid] = {each.laddr.ip for each in open_ if each.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.slow
def test_a_study_on_one_machine_is_reached_from_it_alone_and_leaves_nothing(
    places: Places, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While trials run, every socket is on loopback; a long TMPDIR is passed over, and Ray's folder goes with Ray."""
    from harness.engine.tune import run_study

    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    seen: list[dict[int, set[str]]] = []
    folders: list[Path] = []

    def listen(progress: Progress) -> None:
        seen.append(listening())

    def noted(folder: Path) -> None:
        folders.append(folder)
        start(folder)

    start = own_ray._start
    monkeypatch.setattr(own_ray, "_start", noted)
    outcome = run_study(
        make_plan(study(level=False, seeds=[0])), RECORDINGS, recorder, places, workers=2, listen=listen,
        trial=partial(answer_at_once, result=make_result(make_spec()), seconds=0.2),
    )  # fmt: skip
    assert outcome.progress.finished == 3
    addresses = set[str]().union(*(each for now in seen for each in now.values()))
    listeners = [pid for pid, each in seen[-1].items() if each]
    assert len(listeners) >= 4, "the control store, the raylet, a worker and this driver at least"
    assert {each.removeprefix("::ffff:") for each in addresses} <= {"127.0.0.1", "::1"}
    (folder,) = folders
    assert long not in folder.parents
    assert not folder.exists()


@pytest.mark.slow
def test_importing_the_engine_is_enough() -> None:
    """A command line, which imports Ray by way of the engine alone, has it on loopback without any setting."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    code = "import harness.engine.cluster, ray; print(ray.util.get_node_ip_address())"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert said.stdout.strip() in {"127.0.0.1", "::1"}


def test_an_error_within_stops_ray_and_removes_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the block, Ray is stopped once, and its folder goes; where it never started the log stays."""
    made: list[Path] = []
    running = [False]

    def start(folder: Path) -> None:
        made.append(folder)
        (folder / "ray").mkdir()
        running[0] = len(made) == 1
        if not running[0]:
            raise HarnessError("it did not start")

    monkeypatch.setattr(own_ray, "_start", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: running[0])
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(KeyboardInterrupt), own_ray.own_ray():
        raise KeyboardInterrupt
    with pytest.raises(HarnessError, match="did not start"), own_ray.own_ray():
        pytest.fail("Ray did not start")
    assert [each.exists() for each in made] == [False, True]
    shutil.rmtree(made[1])


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine on which Ray gives up waiting for itself gets two more tries, then one sentence."""
    tries: list[str] = []

    def slow(**options: object) -> None:
        tries.append(str(options["address"]))
        if len(tries) < needed:
            raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", slow)
    needed = 3
    own_ray.connect(address="somewhere")
    assert tries == ["somewhere"] * 3
    tries.clear()
    needed = 4
    with (
        pytest.raises(HarnessError, match="Ray must start on this machine, but it did not: it took longer than 3"),
        own_ray.own_ray(),
    ):
        pass
    assert tries == ["local"] * 3


def test_lines_of_a_start_are_held_back(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """What Ray logs while it starts, once or again, stands in no terminal; what it logs afterwards does."""
    log = logging.getLogger("ray")
    monkeypatch.setattr(log, "level", log.level)
    tries = []

    def start(*, logging_level: int, **_: object) -> None:
        log.setLevel(logging_level)  # as Ray does
        tries.append(logging_level)
        logging.getLogger("ray._private.services").error("Failed to start the dashboard")
        if len(tries) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", start)
    shown = logging.StreamHandler()
    log.addHandler(shown)
    try:
        own_ray.connect(address="somewhere")
        assert len(tries) == 2
        assert capfd.readouterr().err == ""
        logging.getLogger("ray.tune").error("A trial failed")
        assert "A trial failed" in capfd.readouterr().err
    finally:
        log.removeHandler(shown)


def test_folder_for_sockets_is_private_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TMPDIR is taken where it is short enough, whatever bytes its name has; the folder is its owner's alone."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as short:
        cases = [(short, True), (f"{short}/{'é' * 20}", False), (f"{short}/gone", False), ("", False)]
        Path(cases[1][0]).mkdir()
        for place, taken in cases:
            monkeypatch.setenv("TMPDIR", place)
            folder = short_folder()
            assert (str(folder.parent) == place) == taken
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert len(os.fsencode(folder)) + len("/ray/session_2026-11-28_01-22-52_610258_1234567/sockets/raylet") < (
                SOCKET_BYTES
            )
            folder.rmdir()


def test_no_folder_for_sockets_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing short can be written, the sentence says what to set."""

    def full(**_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_ray.tempfile, "mkdtemp", full)
    with pytest.raises(HarnessError, match=r"at most .* bytes.*set TMPDIR to a short folder"):
        short_folder()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a token, of a user who lets everybody read new files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


def test_token_is_its_owners_alone(home: Path) -> None:
    """One that is made is 0600 whatever the umask; one that Ray has made for all to read is closed, and kept."""
    keep_token_private()
    token = home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    said = token.read_text()
    assert len(said) == 64
    token.chmod(0o644)
    keep_token_private()
    assert (stat.S_IMODE(token.stat().st_mode), token.read_text()) == (0o600, said)
    assert [each.name for each in token.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_MODE", "disabled")])
def test_no_token_is_made_where_the_user_has_said_how(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A token from the environment, or none at all, needs no file."""
    monkeypatch.setenv(name, value)
    keep_token_private()
    assert not (home / ".ray").exists()


@pytest.mark.slow
def test_folders_of_killed_drivers_are_removed(tmp_path: Path) -> None:
    """A folder whose driver was killed goes at the next start; one that is held, and one that is not ours, stay."""
    hold = (
        "import sys, time; from contextlib import ExitStack; from pathlib import Path\n"
        "from harness.engine.own_ray import _hold\n"
        "held = ExitStack(); _hold(Path(sys.argv[1]), held); print('held', flush=True); time.sleep(60)"
    )
    dead, living, other = (tmp_path / name for name in ("asd-dead", "asd-living", "asd-other"))
    drivers = []
    for folder in (dead, living):
        (folder / "ray").mkdir(parents=True)
        drivers.append(subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True))
        assert drivers[-1].stdout is not None
        assert drivers[-1].stdout.readline() == "held\n"
    other.mkdir()  # no lock of ours in it
    try:
        drivers[0].kill()
        drivers[0].wait()
        own_ray.clear_leftovers(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"asd-living", "asd-other"}
    finally:
        drivers[1].kill()
        drivers[1].wait()
