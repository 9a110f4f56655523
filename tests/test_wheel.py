"""What is installed is what is here: the wheel holds every file of the four rooms, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("asdbench.py", "harness", "backbones", "labeling", "benchmarks")
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


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    """Modules, study files, tables and templates are in it, under the names of the tree; no test and no page is."""
    files = [ROOT / "asdbench.py", *(path for top in TOPS[1:] for path in (ROOT / top).rglob("*") if path.is_file())]
    tree = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in NO_DATA}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    about = {name for name in packed if name.split("/")[0].endswith(".dist-info")}
    assert packed - about == tree
    assert {"studies", "reference"} <= {name.split("/")[1] for name in packed if name.startswith("benchmarks/")}


@pytest.mark.slow
def test_what_is_installed_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Unpacked where nothing else of this repository is found, the command lists, generates, runs a trial, reports."""
    place, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", "--target", place, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(place)}
    for name in ("MLFLOW_TRACKING_URI", "ASDBENCH_CACHE"):
        environment.pop(name, None)

    def run(line: str) -> str:
        program = [sys.executable, place / "bin" / "asdbench", *line.split()]
        done = subprocess.run(program, check=False, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    assert "leaderboard" in run("--help")
    assert "real-mini" in run("ls studies --csv")
    run("data generate made --dataset dcase2025 --machine fan --train-source 8 --train-target 4 --test-per-cell 3")
    assert "finished" in run("trial made --protocol dcase2025 --backbone tiny --frozen --clip-seconds 1 --json")
    assert run("reference paper --csv").count("\n") > 10  # the published tables are there
    run("report --out report.html")
    assert "tiny" in (work / "report.html").read_text()
