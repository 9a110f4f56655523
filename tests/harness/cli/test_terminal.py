"""The command line in a real terminal of several widths: rows keep their names, and help keeps its words."""

from __future__ import annotations

import os
import pty
import re
import shutil
import struct
import sys
from pathlib import Path

import pytest
import typer.main

from harness.cli.main import app
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
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


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_keep_names(folder: Path, width: int) -> None:
    """At every width rows of every table have their names whole, and what there is no room for is said."""
    printed = in_terminal(folder, width, *VERBS)
    for verb in ("leaderboard", "compare", "select"):
        cells = [line for line in printed[verb].splitlines() if "  " in line.strip()]  # sentences have single spaces
        rows = [line for line in cells if "+" in line or "±" in line or " knn " in line]
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
