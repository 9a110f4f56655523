"""Every command of the documentation: its verb and options exist, and what can be run here is run, page by page."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.datasets import dcase2023, dcase2024, dcase2025
from benchmarks.synthetic.generator import generate
from harness.cli.main import app
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from tests.docs.pages import PAGES, ROOT, Page
from tests.harness.made_up import KEY, record_study

Run = Callable[[list[str]], None]

# what is run at once, on made-up results and a few generated clips; other verbs train or start Ray, and are run by the
# slow test
CHEAP = {
    "ls", "data index", "data doctor", "data generate", "leaderboard", "compare", "select", "importance", "reference",
    "report", "score", "submit", "study ls", "study status", "sync", "weights ls", "baseline export", "regress",
}  # fmt: skip
# what no test runs: it needs the challenge's archives, a hub, or somebody else's server
ABSENT = {"data download", "weights download", "weights check"}
ELSEWHERE = re.compile(r"https?://|--address")
# programs that pages call beside asdbench
PROGRAMS = {"make", "pip", "mlflow", "optuna-dashboard", "ray", "export", "pre-commit"}
RESAMPLES = 100
CONTENT = '{"space": {"m": [1, 3]}, "seeds": [0, 1], "scorers": ["knn"], "recipe": {}}'
STUDIES = ("demo", "mine", "regression-tiny", "real-layers")  # that pages ask about, as made-up results


@cache
def whole_command() -> Any:
    """Return the command line as its library sees it; building it takes a tenth of a second."""
    return typer.main.get_command(app)


def verb_of(words: list[str]) -> tuple[str, Any, list[str]]:
    """Find the verb that a command line means: its name, itself, and what stands behind it."""
    command = whole_command()
    name, rest = "", list(words)
    while hasattr(command, "commands"):
        assert rest, f"no verb: {shlex.join(words)}"
        assert rest[0] in command.commands, f"no such verb: {shlex.join(words)}"
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}".strip(), rest[1:]
    return name, command, rest


def check_command(words: list[str]) -> None:
    """Check a command without running it; settings such as NAME=value may stand before it."""
    words = list(dropwhile(re.compile(r"[A-Z_]+=").match, words))
    program = Path(words[0]).name
    if program == "asdbench":
        if words[1:] not in (["--help"], ["--version"]):
            name, command, rest = verb_of(words[1:])
            if rest != ["--help"]:
                command.make_context(name, list(rest))  # raises where an option, argument or value is wrong
    elif program == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), shlex.join(words)
    elif program == "pip":
        for name in words[2:]:
            if name != "--no-deps":
                check_installed(name)
    else:
        assert program in PROGRAMS, f"which program is {program}?"


def check_installed(name: str) -> None:
    """Check what a page tells pip to install: a folder of the repository, or asdbench with extras that exist."""
    extras = re.fullmatch(r"asdbench\[([\w,]+)\]", name)
    if extras:
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras[1].split(",")) <= set(known), name
    else:
        assert (ROOT / name / "pyproject.toml").is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Page) -> None:
    """Verbs, options, arguments and their values are right in every command that a page shows."""
    for words, _run in page.commands():
        check_command(words)
    for code in page.inline_code():
        if re.match(r"asdbench [a-z]", code) and "..." not in code:
            check_named(shlex.split(code)[1:])
        elif code.startswith(("pip install ", "make ")):
            check_command(shlex.split(code))


def check_named(words: list[str]) -> None:
    """Check a command that a sentence names: it may leave out what the verb needs, but not name what is not there."""
    command = whole_command()
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands") or not words or words[0].startswith("--"), f"no such verb: {words}"
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, f"no such option: {words}"


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of three years, a few short generated clips of one machine type each."""
    root = tmp_path_factory.mktemp("dcase")
    for year in (dcase2023, dcase2024, dcase2025):
        generate(root, year.DATASET, machines=("fan",), train_source=14, train_target=6, test_per_cell=3, seconds=1.0)
    return root


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose stores hold made-up results of the studies that pages ask about."""
    from harness.stores.tracker import Tracker

    folder = tmp_path_factory.mktemp("recorded")
    places = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    results = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="docs"), results)
    run_id = record_study(recorder, name=STUDIES[0], backbones=("beats-small",), m=(1, 3), machines=("fan", "valve"))
    for name in STUDIES[1:]:  # the same trials under other names: recording them takes most of this fixture's time
        results.put_study(name, name=name, protocol="toy", run_id=run_id, planned=7, content=CONTENT)
        results.link(name, results.study_keys(KEY))
    results.close()
    return folder


@pytest.fixture
def at_home(tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of a newcomer: ~/dcase has recordings, and no setting names another place."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dcase").symlink_to(recordings)
    work = tmp_path / "work"
    (work / "results").mkdir(parents=True)
    write_scores(recordings, work / "results")
    monkeypatch.setenv("HOME", str(home))
    for name in ("MLFLOW_TRACKING_URI", "ASDBENCH_CACHE", "ASDBENCH_WEIGHTS", "ASDBENCH_DATA", "ASDBENCH_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(work)
    return work


def write_scores(root: Path, folder: Path) -> None:
    """Write the score file of a system of somebody else's: a line a test clip of 2023."""
    clips = sorted(path.name for path in root.rglob("*fan/test/*.wav") if "dcase2023" in str(path))
    assert clips
    lines = [f"{name},{'anomaly' in name:d}.{i:03d}" for i, name in enumerate(clips)]
    (folder / "anomaly_score_fan_section_00_test.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of asdbench in this process."""

    def run_here(words: list[str]) -> None:
        expanded = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words[1:]]
        try:
            app(expanded, standalone_mode=False)
        except typer.Exit as end:
            assert end.exit_code == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
        except SystemExit as end:
            assert not end.code, f"{shlex.join(words)}: {capsys.readouterr().err}"

    return run_here


def runnable(page: Page, *, slow: bool) -> Iterator[list[str]]:
    """Yield the commands of a page that can be run here, in order; without `slow` only those that take a moment."""
    for words, may in page.commands():
        if may and Path(words[0]).name == "asdbench" and not ELSEWHERE.search(" ".join(words)):
            name = verb_of(words[1:])[0]
            if name not in ABSENT and (slow or name in CHEAP):
                yield words


def trains(page: Page) -> bool:
    """Tell whether a page has commands that only the slow test runs."""
    return len(list(runnable(page, slow=True))) > len(list(runnable(page, slow=False)))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(runnable(page, slow=False))], ids=lambda page: page.name
)
def test_commands_run(page: Page, at_home: Path, recorded: Path, run: Run) -> None:
    """The quick commands of a page run one after the other, where the studies that it speaks of are recorded."""
    for path in recorded.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, at_home / path.name)
    for words in runnable(page, slow=False):
        run([known_key(at_home) if word == "KEY" else word for word in words] + fewer(words))


def fewer(words: list[str]) -> list[str]:
    """Ask for few resamples, where a verb draws them: nobody looks at these intervals."""
    command = verb_of(words[1:])[1]
    draws = any("--resamples" in each.opts for each in command.params)
    return ["--resamples", str(RESAMPLES)] if draws else []


def known_key(folder: Path) -> str:
    """Return the key of a recorded trial that learned."""
    results = Results(f"sqlite:///{folder / 'mlflow.db'}")
    try:
        scores = results.trial_scores(results.study_keys(KEY))
        return str(scores[scores["kind"] == "trial"]["key"].iloc[0])
    finally:
        results.close()


def patient(page: Page) -> Any:
    """Leave to the long tests a page whose commands take minutes: whole studies and benches."""
    verbs = {verb_of(words[1:])[0] for words in runnable(page, slow=True)}
    return pytest.param(
        page, marks=[pytest.mark.long] if verbs & {"demo", "bench-backbone", "study run"} else [], id=page.name
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", [patient(page) for page in PAGES if trains(page)])
def test_commands_that_train_run(page: Page, at_home: Path, run: Run) -> None:
    """All commands of a page run one after the other from an empty folder; its study file is in it."""
    for block in page.blocks("toml"):
        said = tomllib.loads(block.text)
        if "space" in said and "name" in said:
            (at_home / f"{said['name']}.toml").write_text(block.text)
    for words in runnable(page, slow=True):
        run(words)


@pytest.mark.parametrize("page", [page for page in PAGES if page.blocks("python")], ids=lambda page: page.name)
def test_programs_run(page: Page, at_home: Path, recorded: Path) -> None:
    """The programs of a page run where the studies that it speaks of are recorded."""
    for path in recorded.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, at_home / path.name)
    for block in page.blocks("python"):
        if "import asdbench" in block.text:
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {})
