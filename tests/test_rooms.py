"""The house keeps its shape: rooms of a few files each, files that are read at one sitting, tests that mirror them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("harness", "backbones", "labeling", "benchmarks")
MOST_FILES, MOST_LINES = 12, 400
# folders where a file is a plugin: as many as there are plugins
OPEN = {"harness/scorers", "labeling/strategies", "backbones/encoders", "backbones/losses", "benchmarks/datasets"}
# of what a room is about, not of Python: study files, published tables, page templates
DATA = {"benchmarks/studies", "benchmarks/reference", "harness/report/templates"}
FILES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))
ROOMS = sorted({path.parent.relative_to(ROOT).as_posix() for path in FILES})


def _files(room: str) -> list[Path]:
    return [path for path in (ROOT / room).glob("*.py") if path.name not in {"__init__.py", "__main__.py"}]


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in OPEN])
def test_a_room_has_few_files(room: str) -> None:
    """A room has at most 12 files beside its `__init__`, and no room has one alone."""
    files = _files(room)
    assert len(files) <= MOST_FILES, f"{room} has {len(files)} files; make a room of those that belong together"
    assert len(files) != 1 or room in DATA, f"{room} has one file; it belongs into the room above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_read_at_one_sitting(path: Path) -> None:
    """No file has more than 400 lines."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines; split it by noun"


def test_nothing_is_called_a_helper() -> None:
    """No file or room is called after what it is not: utils, common, helpers, manager, misc."""
    empty = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "shared"}
    names = {path.stem for path in FILES} | {part for room in ROOMS for part in room.split("/")}
    assert not names & empty


def test_every_test_folder_is_a_room() -> None:
    """A folder of tests has the name of the room whose tests it holds."""
    folders = {
        path.parent.relative_to(ROOT / "tests").as_posix()
        for top in TOPS
        for path in (ROOT / "tests" / top).rglob("test_*.py")
    }
    assert folders <= set(ROOMS)
