"""What `--help` shows: verbs in the order of a new user's way, every default, and no word that is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from harness.cli.main import VERBS, app

WIDTH = 80
CUT = "\N{HORIZONTAL ELLIPSIS}"  # what the terminal's library puts where a word is too long


@pytest.fixture(scope="module")
def whole() -> Any:
    """The command as its library sees it."""
    return typer.main.get_command(app)


def verbs_of(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every group and verb with its name, the whole command first."""
    yield name, command
    for inner, each in getattr(command, "commands", {}).items():
        yield from verbs_of(each, f"{name} {inner}".strip())


def help_of(whole: Any, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command prints of itself, or of a verb."""
    whole.main(args=list(words), prog_name="asdbench", standalone_mode=False)
    return capsys.readouterr().out


def test_verbs_stand_in_the_order_of_the_journey(
    whole: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups and plain verbs are listed as the table of verbs has them, panel by panel."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    printed = help_of(whole, capsys, "--help")
    listed = re.findall(r"^│ ([a-z][a-z-]*) ", printed, re.MULTILINE)
    assert listed == [name for panel in VERBS.values() for name in panel]
    panels = re.findall(r"^╭─ ([A-Z][a-z ]+) ─", printed, re.MULTILINE)
    assert [name for name in panels if name != "Options"] == list(VERBS)


def test_no_word_of_help_is_cut_at_80_columns(
    whole: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-h` is help for every group and verb, and a terminal of 80 columns has room for each word of it."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    for name, _ in verbs_of(whole):
        printed = help_of(whole, capsys, *name.split(), "-h")
        assert "Usage:" in printed, name
        cut = [line for line in printed.splitlines() if CUT in line]
        assert not cut, f"{name}: {cut}"
        assert max(map(len, printed.splitlines())) <= WIDTH, name


def test_a_pair_of_flags_says_whether_it_is_on(whole: Any) -> None:
    """The default of `--references / --no-references` is on, which its first name alone would not say."""
    pairs = [each for _, command in verbs_of(whole) for each in command.params if each.secondary_opts]
    assert len(pairs) > 1
    assert {each.show_default for each in pairs} <= {"on", "off"}
