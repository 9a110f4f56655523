"""Own recordings: a folder of wavs and a small csv, a dataset like any year.

The dataset is called `own`, its only part `dev`; a protocol trains on and scores "own/dev", and the protocol `own` does
both. Below a root, the csv stands in the root itself or in `own/`, under any name, beside or above the recordings:

    file,machine,split,domain,condition,attribute
    a/0001.wav,press,train,source,normal,speed_3
    a/0002.wav,press,test,target,anomaly,

`file` (relative to the csv, WAV or FLAC whichever ending it writes) and `split` must be there. An empty cell or a
column that is not there means: `machine` is the folder's name; `domain` is source; `condition` is normal in training
and unknown in test, whose clips then cannot be scored; `attribute` is unknown. The section is always 00.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from benchmarks.clips import ALLOWED, did_you_mean
from benchmarks.contract import BenchmarkError, Dataset, Problem
from benchmarks.recordings.layout import ENDINGS

COLUMNS = ("file", "machine", "split", "domain", "condition", "attribute")
SECTION = "00"


def find_own(root: Path, dataset: Dataset) -> Path | None:
    """Return the csv that lists own recordings, None where there is none.

    Args:
        root: an absolute folder.
        dataset: its `folder` is looked into first.

    Raises:
        BenchmarkError: if there are several.
    """
    found = [
        table
        for folder in (root / dataset.folder, root)
        for table in sorted(folder.glob("*.csv"))
        if not table.name.startswith(".") and {"file", "split"} <= set(_header(table))
    ]
    if len(found) > 1:
        raise BenchmarkError(
            f"own recordings must be listed by one csv, but {found[0]} and {found[1]} both have the columns file and "
            "split; join them or keep them in different roots."
        )
    return found[0] if found else None


def list_own(root: Path, dataset: Dataset, problems: list[Problem]) -> Iterator[tuple[str | None, ...]]:
    """Yield a row a recording that the csv lists, in the order of the clip table's columns, sorted by name.

    Args:
        root: an absolute folder.
        dataset: gives the clips' dataset.
        problems: takes lines that are no recordings, and recordings that are not there.

    Raises:
        BenchmarkError: if there are several csv files, or one has a column that means nothing.
    """
    table = find_own(root, dataset)
    if table is None:
        return
    for column in _header(table):
        if column not in COLUMNS:
            raise BenchmarkError(
                f"columns of {table} must be among {', '.join(COLUMNS)}, but one is {column!r}."
                f"{did_you_mean(column, COLUMNS)}"
            )
    rows: list[tuple[str, ...]] = []
    for number, cells in _lines(table):
        place = f"{table}:{number}"
        try:
            rows.append(_row(table, dataset, cells))
        except BenchmarkError as error:
            problems.append(Problem("misnamed", place, f"{place}: {error}", dataset=dataset.name, part="dev"))
    for row in sorted(rows, key=lambda row: (row[4], row[6] != "train", row[0])):
        yield tuple(cell or None for cell in row)


def unlisted(root: Path, dataset: Dataset, listed: set[str]) -> list[str]:
    """List the recordings beside or below the csv that it does not name, sorted."""
    table = find_own(root, dataset)
    if table is None:
        return []
    inside = (path for path in table.parent.rglob("*") if path.suffix.lower() in ENDINGS)
    return sorted(str(path) for path in inside if not path.name.startswith(".") and str(path) not in listed)


def _lines(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Read the csv: each line's number and its cells, "" where there is none."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            return [
                (reader.line_num, {column: (cells.get(column) or "").strip() for column in COLUMNS}) for cells in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchmarkError(f"{table} must be a UTF-8 csv, but cannot be read ({error}); save it as UTF-8.") from error


def _row(table: Path, dataset: Dataset, cells: Mapping[str, str]) -> tuple[str, ...]:
    """Read a line of the csv in the order of the clip table's columns, "" where unknown."""
    name = PurePosixPath(cells["file"])
    if not cells["file"] or name.is_absolute() or ".." in name.parts:
        raise BenchmarkError(f"file must be a path below {table.parent}, but is {cells['file']!r}.")
    for column in ("split", "domain", "condition"):
        left_out = not cells[column] and column != "split"
        if not left_out and cells[column] not in ALLOWED[column]:
            raise BenchmarkError(
                f"{column} must be one of {', '.join(ALLOWED[column])}, but is {cells[column]!r} for {name}."
                f"{did_you_mean(cells[column], ALLOWED[column])}"
            )
    if cells["split"] == "train" and cells["condition"] == "anomaly":
        raise BenchmarkError(f"training clips must be normal, but {name} is an anomaly; make it a test clip.")
    path = _find(table.parent / name)
    if path is None:
        raise BenchmarkError(f"{table.parent / name} must be a recording, but there is no such file.")
    machine = cells["machine"] or table.parent.name
    condition = cells["condition"] or ("normal" if cells["split"] == "train" else "")
    clip_id = f"{dataset.name}/dev/{machine}/{cells['split']}/{name.with_suffix('')}"
    place = (clip_id, str(path), dataset.name, "dev", machine, SECTION, cells["split"])
    return (*place, cells["domain"] or "source", condition, cells["attribute"])


def _find(path: Path) -> Path | None:
    """Return a recording as it is listed or, where it is not there, with another ending."""
    others = (path.with_suffix(ending) for ending in (*ENDINGS, *(ending.upper() for ending in ENDINGS)))
    return next((found for found in (path, *others) if found.is_file()), None)


def _header(table: Path) -> list[str]:
    """Read a csv's columns; none where it is no csv."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            return [cell.strip() for cell in next(csv.reader(lines), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
