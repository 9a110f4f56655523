"""What is installed is what is here: the wheel holds every file of the four rooms, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("asdbench.py", "harness", "backbones", "labeling", "benchmarks")
DEMO_SECONDS = 900  # after which a demonstration that has not ended a trial will not
NO_DATA = {".pyc", ".lock", ".part"}  # endings of what programs leave behind


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files where it is made."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("copy")
    for name in (*TOPS, "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    made = subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", copy / "made", copy],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    (found,) = (copy / "made").glob("asdbench-*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    """Modules, study files, tables and templates are in it, under the names of the tree; no test and no page is."""
    files = [ROOT / "asdbench.py", *(path for top in TOPS[1:] for path in (ROOT / top).rglob("*") if path.is_file())]
    tree = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in NO_DATA}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    about = {name for name in packed if name.split("/")[0].endswith(".dist-info")}
    assert packed - about == tree
    assert {"studies", "reference"} <= {name.split("/")[1] for name in packed if name.startswith("benchmarks/")}


@dataclass(frozen=True)
class Installed:
    """The wheel, unpacked where nothing else of this repository is found, and an empty folder to work in."""

    place: Path
    work: Path

    def begin(self, line: str) -> subprocess.Popen[str]:
        """Start the installed command in the folder."""
        environment = {**os.environ, "PYTHONPATH": str(self.place)}
        for name in ("MLFLOW_TRACKING_URI", "ASDBENCH_CACHE", "ASDBENCH_DATA", "ASDBENCH_WEIGHTS"):
            environment.pop(name, None)
        return subprocess.Popen(
            [sys.executable, self.place / "bin" / "asdbench", *line.split()], cwd=self.work, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, line: str) -> str:
        """Run it to its end and return what it printed."""
        with self.begin(line) as begun:
            out, err = begun.communicate()
        assert begun.returncode == 0, f"{line}: {out}{err}"
        return out


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Installed:
    """Install the wheel beside an empty folder."""
    found = Installed(tmp_path / "installed", tmp_path / "work")
    found.work.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", "--target", found.place, wheel], check=True)
    return found


@pytest.mark.slow
def test_what_is_installed_begins_the_demonstration(installed: Installed) -> None:
    """`asdbench demo` in an empty folder generates its recordings, starts Ray's workers and records trials.

    It is stopped after the first trial: what comes then is the same, and takes minutes.
    """
    begun = installed.begin("demo --workers 1")
    late = threading.Timer(DEMO_SECONDS, begun.kill)
    late.start()
    try:
        assert begun.stderr is not None
        said = []
        for line in begun.stderr:
            said.append(line)
            if line.startswith("[1/"):
                break
        begun.send_signal(signal.SIGTERM)  # unlike Ctrl-C never ignored by what a shell started in the background
        _, rest = begun.communicate()
    finally:
        late.cancel()
        begun.kill()
    assert begun.returncode == 143, "".join(said) + rest
    assert "Run the same command again to go on" in rest
    assert any(line.startswith("[1/") for line in said), "".join(said)
    assert "level" in installed.run("leaderboard --study demo")
    assert "demo" in installed.run("study ls")


@pytest.mark.slow
def test_what_is_installed_runs_in_an_empty_folder(installed: Installed) -> None:
    """The command lists, generates, runs a trial, reports."""
    run = installed.run
    assert "leaderboard" in run("--help")
    assert "real-mini" in run("ls studies --csv")
    run("data generate made --dataset dcase2025 --machine fan --train-source 8 --train-target 4 --test-per-cell 3")
    assert "finished" in run("trial made --protocol dcase2025 --backbone tiny --frozen --clip-seconds 1 --json")
    assert run("reference paper --csv").count("\n") > 10  # the published tables are there
    run("report --out report.html")
    assert "tiny" in (installed.work / "report.html").read_text()
