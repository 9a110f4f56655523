"""The command line in a real terminal of several widths: rows keep their names, and help keeps its words."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.console import Console

from harness.cli import console
from harness.cli.main import app
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.studies.progress import Progress, Running
from harness.tables import plain
from harness.told import tell
from tests.harness.made_up import record_study

termios = pytest.importorskip("termios", reason="Windows has no pseudo-terminals")
fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals")

VERBS = ("leaderboard", "compare", "select", "study ls", "reference paper", "ls scorers", "study status made-up")
RUN_ALL = """
import sys
from harness.cli.main import app
for line in sys.argv[1:]:
    print("VERB", line, flush=True)
    app(line.split(), standalone_mode=False)
"""
STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(folder: Path, width: int, *lines: str) -> dict[str, str]:
    """Run verbs in a pseudo-terminal; return what each printed, without colours."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        os.chdir(folder)
        # said in full: readline sets a COLUMNS that os.environ does not show, and of a dumb terminal rich says 80
        sizes = ("COLUMNS", "LINES")
        environment = {name: value for name, value in os.environ.items() if name not in sizes}
        environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[3])}
        os.execve(sys.executable, [sys.executable, "-c", RUN_ALL, *lines], environment)
    printed = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not more:
            break
        printed += more
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, printed.decode()
    text = STYLES.sub("", printed.decode()).replace("\r\n", "\n")
    return {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1] for part in text.split("VERB ")[1:]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    """A folder with a recorded study of two backbones."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    places = find_places(tracking=f"sqlite:///{folder / 'mlflow.db'}")
    results = Results(places.results)
    record_study(Recorder(Tracker(places.tracking, code="test"), results), m=(1, 3), machines=("fan", "valve"))
    results.close()
    return folder


@pytest.mark.parametrize("width", [60, *(pytest.param(each, marks=pytest.mark.slow) for each in (80, 120, 200))])
def test_tables_keep_names(folder: Path, width: int) -> None:
    """At every width rows of every table have their names whole, and what there is no room for is said."""
    printed = in_terminal(folder, width, *VERBS)
    for verb in ("leaderboard", "compare", "select"):
        cells = [line for line in printed[verb].splitlines() if "  " in line.strip()]  # sentences have single spaces
        rows = [line for line in cells if any(sign in line for sign in ("+", "±", " knn ", " to "))]
        assert rows, printed[verb]
        for row in rows:
            assert "audiomae-small" in row or "beats-small" in row, (verb, row)
        assert "audiomae-small" in printed[verb]
    for verb in VERBS:
        lines = printed[verb].splitlines()
        rules = [at for at, line in enumerate(lines) if line[:1] in ("─", "┏")]
        assert rules, verb
        assert all(len(lines[at]) <= width for at in rules), printed[verb]
    assert "official %" in printed["leaderboard"]
    assert ("No room for:" in printed["leaderboard"]) == (width < 200)


def test_wide_and_columns(folder: Path) -> None:
    """--wide shows every column in a narrow terminal; --columns shows those alone, beside the names."""
    wide, some = in_terminal(folder, 60, "leaderboard --wide", "leaderboard --columns pauc,fan").values()
    assert "s/trial" in wide and "valve" in wide and "No room" not in wide
    assert "pAUC" in some and "fan" in some and "official %" not in some and "valve" not in some


def test_help_swallows_no_word() -> None:
    """No text of --help has brackets, which would be taken for a style and left out; defaults have their own place."""
    commands = [typer.main.get_command(app)]
    seen = 0
    while commands:
        command = commands.pop()
        commands += list(getattr(command, "commands", {}).values())
        for text in (command.help, *(getattr(param, "help", None) for param in command.params)):
            assert "[" not in (text or ""), (command.name, text)
            seen += 1
    assert seen > 100


def watched(**changes: Any) -> Progress:
    """A study of nine trials of which two were recorded before and one runs."""
    running = Running("beats-small M=3 K1=15 K2=15 seed=0", ("trial", "beats-small"), epochs=10)
    progress = Progress(
        planned=9, finished=3, started=2, ended=1, taken_over=2, best=(0.7423, "beats-small M=1 seed=0")
    )
    progress.trials["a"], progress.took = running, {("trial", "beats-small"): [60.0]}
    progress.waiting.update({("trial", "beats-small"): 5})
    return replace(progress, **changes)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], io.StringIO]:
    """Give standard error a terminal of 80 columns, or a file."""

    def give(terminal: bool) -> io.StringIO:
        held = io.StringIO()
        width = 80 if terminal else console.WIDE
        monkeypatch.setattr(console, "err", Console(file=held, force_terminal=terminal, width=width))
        return held

    return give


def test_a_study_is_shown_while_it_runs(shown: Callable[[bool], io.StringIO]) -> None:
    """A terminal shows a bar for the study and for each running trial, the best learned row, what was taken over."""
    held, progress = shown(True), watched()
    trial = progress.trials["a"]
    trial.learned(1)
    trial.first = (trial.last - 4.0, 0)  # the epoch took four seconds
    with console.watching() as listen:
        listen(progress)
        drawn = Console(file=io.StringIO(), width=80, force_terminal=False)
        drawn.print(console._display.get()._drawn())
    lines = drawn.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    study, trial_line, best = lines
    assert study.startswith("trials (2 from before)") and "3/9" in study and "left" in study
    assert (
        trial_line.startswith("beats-small M=3") and "epoch 1/10 4.0 s each" in trial_line and "0:36 left" in trial_line
    )
    assert best.strip() == "best 74.23: beats-small M=1 seed=0"
    assert "2 of 9 trials were recorded before and are taken over." in STYLES.sub("", held.getvalue())


def test_without_a_terminal_there_are_lines(shown: Callable[[bool], io.StringIO]) -> None:
    """Elsewhere a study is a line a trial, whole, with what a terminal's display would show."""
    held = shown(False)
    with console.watching() as listen:
        listen(watched())
        listen(watched(last="beats-small M=1 seed=0: 74.23 (60.0 s)", running=1))
    first, second = held.getvalue().splitlines()
    assert first == "2 of 9 trials were recorded before and are taken over."
    assert second.startswith(
        "[3/9] beats-small M=1 seed=0: 74.23 (60.0 s) | best 74.23 beats-small M=1 seed=0 | 1 running | "
    )
    assert second.endswith(" left")


def test_sentences_break_between_words(shown: Callable[[bool], io.StringIO]) -> None:
    """In a terminal a long sentence is wrapped at blanks, never within a word."""
    held = shown(True)
    said = "the regularisation of pseudo-labels " * 8
    console.note(said)
    lines = STYLES.sub("", held.getvalue()).splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line.strip() for line in lines) == said.strip()


def test_a_path_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody will copy is not broken where the terminal ends: in a sentence, nor in the title of a table."""
    held = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=held, force_terminal=True, width=40))
    path = "/home/somebody/recordings/of/the/press/recordings.csv"
    console.say(f"Written: {path} and nothing else, so that it can be read")
    console.show("text", [plain("name")], [{"name": "press"}], title=f"What is in {path}")
    printed = STYLES.sub("", held.getvalue())
    assert printed.count(path) == 2
    assert all(len(line) <= 40 for line in printed.splitlines() if path not in line)


def test_silence_is_broken(shown: Callable[[bool], io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that tells nothing is shown with its name once it takes long, and what is told deep below reaches it."""
    monkeypatch.setattr(console, "PATIENCE", 0.01)
    held = shown(True)
    with console.displaying("label") as display:
        while display.live is None or not display.live.is_started:  # nothing else than the timer ends this loop
            time.sleep(0.005)
        display.live.refresh()
        tell("starting Ray")
        assert display.step == "starting Ray"
        tell("comparing", 1, 4)
        display.live.refresh()
    assert display.live is None
    text = STYLES.sub("", held.getvalue())
    assert "label" in text and "comparing" in text and "1/4" in text


def test_time_left_knows_trials_of_other_length() -> None:
    """Quick references say nothing of how long fine-tuning takes; two trials at once halve the time left."""
    progress = watched(took={("level", ""): [1.0], ("trial", "beats-small"): [60.0, 80.0]})
    progress.trials["b"] = Running("beats-small M=5", ("trial", "beats-small"), epochs=10)
    left = progress.seconds_left
    assert left is not None
    assert 240 < left <= (5 * 70 + 2 * 70) / 2
    assert watched(took={}).seconds_left is None
    trial = progress.trials["b"]
    progress.ends("b", counted=False)
    assert progress.waiting[trial.group] == 6


def test_no_log_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal, a step that says nothing is named again and again, and no end is told twice."""
    lines: list[str] = []
    monkeypatch.setattr(console, "note", lines.append)
    monkeypatch.setattr(console, "LONG_SECONDS", 0.05)
    display = console.Display("trial")
    try:
        for _ in range(4):
            display.tell("ranking candidates", 2, 2)
        assert lines == ["ranking candidates: 2/2"]
        deadline = time.monotonic() + 30
        while len(lines) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        display.close()
    assert lines[1:3] == ["trial: 0:00"] * 2
    told = len(lines)
    display.tell("too late", 1, 1)
    time.sleep(0.2)
    assert len(lines) == told + 1  # its own line; a closed display begins no new waiting


def test_silence_within_a_bar_names_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named is what runs, not the step before it."""
    lines: list[str] = []
    monkeypatch.setattr(console, "note", lines.append)
    monkeypatch.setattr(console, "LONG_SECONDS", 0.05)
    display = console.Display("trial")
    try:
        display.tell("opening", 0, 0)
        display.tell("reading recordings", 1, 64)
        deadline = time.monotonic() + 30
        while len(lines) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        display.close()
    assert lines[:2] == ["reading recordings: 1/64", "reading recordings: 0:00"]
