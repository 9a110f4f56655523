"""What is printed rules no terminal, fills no screen, and needs no sign that an encoding lacks."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli import console
from harness.tables import CONTROLS, Form, brief, plain, printable, written

HOSTILE = {
    "an escape": "a\x1b[31mb",
    "a title of the window": "a\x1b]0;owned\x07b",
    "a bell": "a\x07b",
    "a return to the line's start": "real\rfake",
    "backspaces": "a\x08\x08b",
    "an eight-bit escape": "a\x9b31mb",
    "NUL": "a\x00b",
    "delete": "a\x7fb",
    "text turned around": "a\u202egpj.exe",
    "an isolate": "a\u2066b\u2069",
    "a line separator": "a\u2028b",
    "a paragraph separator": "a\u2029b",
}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What reaches the terminal, standard output and error together."""
    held = io.StringIO()
    for name in ("out", "err"):
        monkeypatch.setattr(console, name, Console(file=held, soft_wrap=True, width=console.WIDE))
    return held


@pytest.mark.parametrize("name", HOSTILE)
def test_sentences_hold_no_control_character(name: str, said: io.StringIO) -> None:
    """Answers, notes and errors print a name's control characters as replacement characters, in one line."""
    console.say(HOSTILE[name])
    console.note(HOSTILE[name])
    lines = said.getvalue().split("\n")
    assert len(lines) == 3
    assert not any(CONTROLS.search(line) for line in lines)
    assert "\N{REPLACEMENT CHARACTER}" in lines[0]


@pytest.mark.parametrize("form", ["text", "json", "csv", "markdown"])
@pytest.mark.parametrize("name", HOSTILE)
def test_tables_hold_no_control_character(name: str, form: Form, said: io.StringIO) -> None:
    """Tables of every form neither; JSON writes the sign as JSON does, so that no name is changed there."""
    rows = [{"name": HOSTILE[name]}]
    console.show(form, [plain("name")], rows, title=HOSTILE[name])
    assert not any(CONTROLS.search(line) for line in said.getvalue().split("\n"))
    if form == "json":
        assert json.loads(said.getvalue()) == {"rows": rows}


@pytest.mark.parametrize("name", HOSTILE)
def test_progress_holds_no_control_character(name: str, said: io.StringIO) -> None:
    """Neither does the progress of long work."""
    with console.telling() as told:
        told(HOSTILE[name], 1, 2)
    assert not any(CONTROLS.search(line) for line in said.getvalue().split("\n"))


def test_markup_is_text(said: io.StringIO) -> None:
    """What looks like markup is a name like any other."""
    console.say("[red]a[/foo]")
    assert said.getvalue() == "[red]a[/foo]\n"


def test_long_sentences_are_cut(said: io.StringIO) -> None:
    """Of a sentence of a megabyte its two ends are printed; a value that a sentence quotes is shorter still."""
    console.note("a" * 10**6 + "the way out")
    assert len(said.getvalue()) <= console.NOTED + 1
    assert said.getvalue().endswith("the way out\n")
    before = len(said.getvalue())
    console.say("a" * 10**6)
    assert len(said.getvalue()) - before <= console.LONGEST + 1
    assert len(brief("b" * 10**6)) < 200
    assert printable("c" * 10**6) == "c" * 10**6


def test_csv_keeps_its_lines() -> None:
    """Rows stay rows."""
    assert written("csv", [], [{"a": 1}, {"a": 2}], {}) == "a\n1\n2"


def run(*line: str, encoding: str = "utf-8", stdout: int = subprocess.PIPE, folder: Path) -> tuple[int, bytes, bytes]:
    """Run the command line in a process of its own: (exit status, stdout, stderr)."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *line], stdout=stdout, stderr=subprocess.PIPE, env=environment,
        cwd=folder, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout or b"", done.stderr


@pytest.mark.parametrize(
    "encoding",
    [
        "ascii",
        pytest.param("cp932", marks=pytest.mark.slow),
        *(pytest.param(each, marks=[pytest.mark.slow, pytest.mark.long]) for each in ("latin-1", "euc_jp")),
    ],
)
def test_signs_that_an_encoding_lacks_are_replaced(encoding: str, tmp_path: Path) -> None:
    """Tables and errors are printed in an encoding without their signs."""
    status, out, err = run("reference", "rmis", "--markdown", encoding=encoding, folder=tmp_path)
    assert (status, err) == (0, b"")
    assert out.count(b"\n") > 10
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "list.csv").write_text("file,split,machine\na.wav,train,gerät\N{SNOWMAN}\n")
    status, out, err = run("data", "index", ".", "--dataset", "own", "--markdown", encoding=encoding, folder=tmp_path)
    assert (status, [line for line in err.splitlines() if not line.startswith(b"index: ")]) == (0, [])
    assert b"?" in out
    status, _, err = run("ls", "gerät–", encoding=encoding, folder=tmp_path)
    assert status == 1
    assert b"Traceback" not in err
    assert err.startswith(b"asdbench: ")


@pytest.mark.parametrize("line", [("ls",), ("ls", "--json"), ("--help",)])
def test_a_full_device_is_one_sentence(line: tuple[str, ...], tmp_path: Path) -> None:
    """What cannot be written is said in one sentence with exit status 1."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        status, _, err = run(*line, stdout=full, folder=tmp_path)
    finally:
        os.close(full)
    assert status == 1
    assert err.decode().strip() == (
        "asdbench: What was asked must be written to standard output, but that cannot be: No space left on device."
    )
