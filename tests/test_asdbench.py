"""`import asdbench`, and what in the working directory has the names of our packages and changes nothing."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import asdbench
from harness import ROOMS, shadows, verbs
from harness.cli import main

STUDY = """
name = "small"
protocol = { name = "fans", train = ["dcase2025/dev"], score = ["dcase2025/dev"] }
level = false
space = { backbone = ["tiny"], m = [1], k1 = [3], k2 = [3] }
recipe = { epochs = 1, clip_seconds = 1.0 }
"""
MAKE = (
    "asdbench.data_generate(Path('made'), 'dcase2025', machines=['fan'], train_source=4, train_target=2, "
    "test_per_cell=2, seconds=1.0)"
)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A working directory with a package, a file and folders of our packages' names, all of which fail."""
    for name in ("labeling", "harness", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('another package')\n")
    (tmp_path / "backbones.py").write_text("raise SystemExit('another module')\n")
    (tmp_path / "benchmarks" / "studies").mkdir(parents=True)
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """Start Python in a folder, which comes first on its path, and return what it printed."""
    environment = {**os.environ, "ASDBENCH_CACHE": str(folder / "cache")}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_verbs_are_functions_of_one_module() -> None:
    """Every verb is there under its name, and so are the functions that make frames."""
    assert {*verbs.__all__, "leaderboard_frame", "main"} <= {*dir(asdbench), "main"}
    assert asdbench.leaderboard is verbs.leaderboard
    assert list(asdbench.answer_frame([{"m": 3}]).m) == [3]
    for wrong, meant in (("leaderbord", "leaderboard"), ("study_runs", "study_run"), ("Demo", "demo")):
        with pytest.raises(AttributeError, match=f"^asdbench has no '{wrong}'. Did you mean {meant}\\?$"):
            getattr(asdbench, wrong)
    with pytest.raises(AttributeError, match=r"asdbench has answer_frame, .* but no 'zzz'"):
        asdbench.zzz()


def test_every_command_is_a_function() -> None:
    """Each command of the command line is a function of the same name, the demonstration too."""
    app: Any = typer.main.get_command(main.app)
    commands = [
        title.replace("-", "_").replace(" ", "_")
        for name, command in app.commands.items()
        for title in ([f"{name} {inner}" for inner in command.commands] if hasattr(command, "commands") else [name])
    ]
    assert set(commands) <= set(dir(asdbench))


def test_the_page_says_where_a_command_and_its_function_differ() -> None:
    """What a command takes and its function does not, or under another name, is in the table of docs/first_study.md."""
    page = (Path(asdbench.__file__).parent / "docs" / "first_study.md").read_text(encoding="utf-8")
    section = page.partition("## From Python")[2].partition("\n## ")[0]
    app: Any = typer.main.get_command(main.app)
    forms = {"help", "as_json", "as_csv", "as_markdown", "wide", "columns"}
    for name, command in app.commands.items():
        for title, each in getattr(command, "commands", {"": command}).items():
            function = getattr(asdbench, f"{name}_{title}".strip("_").replace("-", "_"))
            known = forms | {*inspect.signature(function).parameters}
            missing = [
                option.name
                for option in each.params
                if option.name not in known and not any(said in section for said in option.opts)
            ]
            assert not missing, f"{name} {title}: {missing}"


def test_a_trial_is_frozen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`frozen=True` is the command's --frozen: no labels, so no M."""
    seen = []
    monkeypatch.setattr("harness.verbs.trials.run_chosen", lambda _root, choices, **_: seen.append(choices.m))
    asdbench.trial(Path("made"), protocol="dcase2025", backbone="tiny", frozen=True)
    asdbench.trial(Path("made"), protocol="dcase2025", backbone="tiny", m=3)
    assert seen == [None, 3]


def test_names_of_the_working_directory_change_nothing(crowded: Path) -> None:
    """A notebook's Python and the processes that decode for it use our packages, whatever is beside it."""
    said = run(
        crowded,
        "-c",
        "import asdbench, json\n"
        "from benchmarks.protocols import find_protocol\n"
        "from benchmarks.recordings.processes import open_pool\n"
        "with open_pool(1) as pool:\n"
        "    other = pool.submit(find_protocol, 'dcase2025-paper').result().name\n"
        "print(json.dumps([other, asdbench.ls()]))",
    )
    other, listed = json.loads(said)
    assert other == "dcase2025-paper"
    assert {"demo", "tiny", "knn", "own"} <= {row["name"] for row in listed}


def test_a_package_that_is_imported_already_is_named(crowded: Path) -> None:
    """Where another package has one of our names already, importing asdbench says which one and what to do."""
    (crowded / "harness" / "__init__.py").write_text("")
    (crowded / "benchmarks" / "__init__.py").touch()
    for first, name in (("import harness", "harness"), ("import benchmarks", "benchmarks")):
        said = run(
            crowded,
            "-c",
            f"import sys; sys.path.insert(0, '')\n{first}\ntry: import asdbench\nexcept ImportError as e: print(e)",
        )
        assert f"a package named {name}, but {crowded}" in said
        assert "import asdbench before it" in said


@pytest.mark.slow
def test_shadows_are_seen_wherever_a_name_would_be_found(
    crowded: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A package, a module or a plain folder of one of our names counts; other files do not, nor do our own packages."""
    other = tmp_path_factory.mktemp("other")
    (other / "tests").mkdir()
    (other / "harness.toml").touch()
    assert shadows([crowded])
    assert not shadows([other, Path(asdbench.__file__).parent])
    for name in ROOMS:
        (other / f"{name}.py").touch()
        assert shadows([other])
        (other / f"{name}.py").unlink()


@pytest.mark.slow
@pytest.mark.long  # tests/harness/detection/test_detector.py loads a model beside files of our names
def test_a_study_runs_beside_packages_of_the_same_names(crowded: Path) -> None:
    """Ray puts the working directory first on its workers' path; trials run all the same."""
    (crowded / "small.toml").write_text(STUDY)
    run(crowded, "-c", f"import asdbench\nfrom pathlib import Path\n{MAKE}")
    said = run(crowded, "-m", "asdbench", "study", "run", "small.toml", "--data", "made", "--workers", "1")
    assert "2 of 2 trials finished, 0 failed" in said
