"""A backbone in a package of its own: installed, listed, checked and run in a study, with no edit here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "packages" / "asdbench-depthwise"
REPOSITORY = Path(__file__).parents[3]
STUDY = """
name = "outside"
protocol = { name = "outside", train = ["dcase2025/dev"], score = ["dcase2025/dev"] }
seeds = [0]
level = false
frozen = false
space = { backbone = ["depthwise"], m = [1] }
recipe = { epochs = 1, batch_size = 8, clip_seconds = 0.5 }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The package, pip-installed into a folder of its own, and the environment that finds it."""
    source = tmp_path_factory.mktemp("source") / PACKAGE.name
    for path in PACKAGE.rglob("*"):  # a copy, since building leaves folders behind
        if path.is_file() and "egg-info" not in str(path) and path.suffix != ".pyc":
            copy = source / path.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(site)]), "OMP_NUM_THREADS": "1"}


def asdbench(arguments, environment, folder, *, status=0) -> str:
    command = "import sys; from harness.cli.main import main; sys.argv[0] = 'asdbench'; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], env=environment, cwd=folder, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_it_is_listed_and_meets_the_contract(installed, tmp_path):
    """`ls` names it without importing it, and `check-backbone` passes it line by line."""
    rows = json.loads(asdbench(["ls", "backbones", "--json"], installed, tmp_path))["rows"]
    (summary,) = (row["summary"] for row in rows if row["name"] == "depthwise")
    assert summary == "depthwise-separable convolutions, random weights (of the package asdbench-depthwise)"
    report = json.loads(asdbench(["check-backbone", "depthwise", "--json", "--seconds", "2"], installed, tmp_path))
    assert report["passed"]
    assert {row["status"] for row in report["rows"]} <= {"pass", "measured", "skip"}


@pytest.mark.slow
def test_a_failed_line_is_exit_status_1(installed, tmp_path):
    """What does not build fails the report: its line says why, and the exit status is 1."""
    printed = asdbench(["check-backbone", "depthwise", "--option", "depth=3", "--json"], installed, tmp_path, status=1)
    (row,) = json.loads(printed)["rows"]
    assert "depth" in row["found"]


@pytest.mark.slow
def test_weights_that_cannot_be_used_are_no_report(installed, tmp_path):
    """A file that is no checkpoint says nothing about the backbone: exit status 1, a sentence, and no table."""
    (tmp_path / "empty.pt").touch()
    assert asdbench(["check-backbone", "beats", "--weights", "empty.pt"], installed, tmp_path, status=1) == ""


@pytest.mark.slow
def test_it_runs_in_a_study(installed, tmp_path):
    """A study names it like any other; its trial is recorded and on the leaderboard."""
    (tmp_path / "outside.toml").write_text(STUDY)
    small = [
        "--machine",
        "ToyCar",
        "--part",
        "dev",
        "--train-source",
        "6",
        "--train-target",
        "2",
        "--test-per-cell",
        "3",
        "--seconds",
        "0.5",
    ]
    asdbench(["data", "generate", "recordings", "--dataset", "dcase2025", *small], installed, tmp_path)
    asdbench(["study", "run", "outside.toml", "--data", "recordings", "--workers", "1"], installed, tmp_path)
    rows = json.loads(asdbench(["leaderboard", "--json"], installed, tmp_path))["rows"]
    (row,) = [row for row in rows if row["kind"] == "trial"]
    assert row["backbone"] == "depthwise"
    assert 0 < row["official_score"] < 1


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_one_sentence(installed, tmp_path):
    """An entry point whose module fails stops the verb with its name and its error, and no traceback."""
    info = tmp_path / "site" / "broken-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[asdbench.backbones]\nbroken = no_such_module:BACKBONE\n")
    environment = {**installed, "PYTHONPATH": f"{installed['PYTHONPATH']}{os.pathsep}{tmp_path / 'site'}"}
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli.main import main; main()", "check-backbone", "broken"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no_such_module" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
