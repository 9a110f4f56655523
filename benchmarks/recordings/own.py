"""Own recordings: a folder of wavs and a small csv, a dataset like any year.

The dataset is called `own`, its only part `dev`; a protocol trains on and scores "own/dev", and the protocol `own` does
both. Below a root, the csv stands in the root itself or in `own/`, under any name, beside or above the recordings:

    file,machine,split,domain,condition,attribute
    a/0001.wav,press,train,source,normal,speed_3
    a/0002.wav,press,test,target,anomaly,

`file` (relative to the csv, WAV or FLAC whichever ending it writes) and `split` must be there. An empty cell or a
column that is not there means: `machine` is the folder's name; `domain` is source; `condition` is normal in training
and unknown in test, whose clips then cannot be scored; `attribute` is unknown. The section is always 00.

The csv is UTF-8 or UTF-16 with a byte order mark; a comma, a semicolon or a tab separates its cells. Headings and the
words of `split`, `domain` and `condition` may be written in capitals. `file` may have backslashes, and accents in
either form of Unicode: file systems and spreadsheets differ in both.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from benchmarks.clips import ALLOWED
from benchmarks.contract import BenchmarkError, Dataset, Problem
from benchmarks.files import Table, printable, read_table
from benchmarks.recordings.layout import ENDINGS, is_hidden
from benchmarks.recordings.names import MEANT, first_word, machine_in, said_by
from benchmarks.suggestions import did_you_mean

COLUMNS = ("file", "machine", "split", "domain", "condition", "attribute")
NEEDED = ("file", "split")
FREE = ("file", "machine", "attribute")  # whose cells are the user's own words
SECTION = "00"
FIRST_NAME = "recordings.csv"  # of a csv that was guessed
EVERY = 4  # of clips that do not say their split, each fourth is a test clip
OTHER_SOUND = (".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".aif", ".aiff", ".caf", ".mp4", ".3gp", ".amr")
MOST_NAMED = 5  # wrong headings that a sentence names
MOST_LETTERS = 255  # of a machine type and an attribute, which become names of files and columns


class _LineError(BenchmarkError):
    """What is wrong with a line; `value` is what tells it from other lines' faults, as of `Problem`."""

    def __init__(self, sentence: str, value: str = "") -> None:
        super().__init__(sentence)
        self.value = value


def find_own(root: Path, dataset: Dataset) -> Path | None:
    """Return the csv that lists own recordings, None where there is none.

    Args:
        root: an absolute folder.
        dataset: its `folder` is looked into first.

    Raises:
        BenchmarkError: if there are several.
    """
    found = [path for path, why in _candidates(root, dataset) if not why]
    if len(found) > 1:
        raise BenchmarkError(
            f"own recordings must be listed by one csv, but {found[0]} and {found[1]} both have the columns file and "
            "split; join them or keep them in different roots."
        )
    return found[0] if found else None


def why_not(root: Path, dataset: Dataset) -> list[str]:
    """Say of each csv where own recordings could be listed why it lists none; one sentence each."""
    return [why for _, why in _candidates(root.expanduser().absolute(), dataset) if why]


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
    content = read_table(table)
    heading = _heading(content)
    _check_heading(heading, table)
    rows: list[tuple[str, ...]] = []
    listed: dict[str, tuple[str, int]] = {}
    for number, cells in content.rows[1:]:
        place = f"{table}:{number}"
        wrong: list[_LineError] = []
        try:
            named = _by_column(heading, cells, content.separator)
            wrong += _wrong_cells(named)
            row = _row(table, dataset, named)
            before, line = (row[0], number) if wrong else listed.setdefault(row[1], (row[0], number))
            if before != row[0]:  # one recording under two spellings or in two splits: a test clip would be trained on
                raise _LineError(f"recordings must be listed once, but {row[1]} is listed in line {line} too.", "twice")
        except BenchmarkError as error:
            wrong.insert(0, error if isinstance(error, _LineError) else _LineError(str(error)))
        if not wrong:
            rows.append(row)
        problems += [
            Problem("misnamed", place, f"{place}: {each}", dataset=dataset.name, part="dev", value=each.value)
            for each in wrong
        ]
    for row in sorted(rows, key=lambda row: (row[4], row[6] != "train", row[0])):
        yield tuple(cell or None for cell in row)


def unlisted(root: Path, dataset: Dataset) -> list[str]:
    """List the recordings beside or below the csv that it does not name, sorted.

    A line whose other cells cannot be used names its recording all the same.
    """
    table = find_own(root, dataset)
    if table is None:
        return []
    content = read_table(table)
    heading = _heading(content)
    listed: set[str] = set()
    for _, cells in content.rows[1:]:
        with suppress(BenchmarkError):  # of lines that name no recording, which are problems of their own
            listed.add(str(_find(table.parent, dict(zip(heading, cells, strict=False)).get("file", ""))[0]))
    inside = (path for path in table.parent.rglob("*") if path.suffix.lower() in ENDINGS and str(path) not in listed)
    return sorted(
        str(path) for path in inside if not any(map(is_hidden, path.relative_to(table.parent).parts)) and path.is_file()
    )


def _candidates(root: Path, dataset: Dataset) -> list[tuple[Path, str]]:
    """List the csv files beside own recordings, each with why it does not list them; "" where it does."""
    found = []
    for folder in (root / dataset.folder, root):
        for table in sorted(path for path in folder.glob("*") if path.suffix.lower() == ".csv"):
            if is_hidden(table.name):
                continue
            try:
                heading = _heading(read_table(table))
            except BenchmarkError as error:
                found.append((table, str(error)))
                continue
            lacking = [column for column in NEEDED if column not in heading]
            has = printable(", ".join(heading)) or "nothing"
            why = f"{table} does not count, since it lacks the column {lacking[0]} and has {has}." if lacking else ""
            found.append((table, why))
    return found


def _heading(content: Table) -> tuple[str, ...]:
    """Return a csv's columns in small letters, without the empty ones at its end that spreadsheets leave."""
    heading = [cell.casefold() for cell in content.rows[0][1]] if content.rows else []
    while heading and not heading[-1]:
        heading.pop()
    return tuple(heading)


def _check_heading(heading: tuple[str, ...], table: Path) -> None:
    wrong = [column for column in dict.fromkeys(heading) if column not in COLUMNS or heading.count(column) > 1]
    if wrong:
        named = ", ".join(repr(printable(column)) for column in wrong[:MOST_NAMED])
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        meant = "".join(did_you_mean(column, COLUMNS) for column in wrong[:MOST_NAMED] if column not in COLUMNS)
        raise BenchmarkError(
            f"columns of {table} must be among {', '.join(COLUMNS)}, each once, but "
            f"{'one is' if len(wrong) == 1 else 'some are'} {named}{more}.{meant}"
        )


def _by_column(heading: tuple[str, ...], cells: tuple[str, ...], separator: str) -> Mapping[str, str]:
    """Return a line's cells by column, "" where there is none.

    Raises:
        BenchmarkError: if there is text behind the last column.
    """
    if any(cells[len(heading) :]):
        raise _LineError(
            f"lines must have at most {len(heading)} cells, one a column, but this one has {len(cells)}; put a cell "
            f"that holds {separator!r} in quotes.",
            "cells",
        )
    return dict.fromkeys(COLUMNS, "") | dict(zip(heading, cells, strict=False))


def _wrong_cells(cells: Mapping[str, str]) -> Iterator[_LineError]:
    """Yield what is wrong with each cell of a line by itself, all of it, so that one round of mending suffices."""
    for column in ("machine", "attribute"):
        if len(cells[column]) > MOST_LETTERS or not cells[column].isprintable():
            shown = printable(cells[column])
            yield _LineError(
                f"{column} must have at most {MOST_LETTERS} characters that can be printed, but is {shown!r}.",
                f"{column} {shown}",
            )
    for column in ("split", "domain", "condition"):
        word, left_out = cells[column].casefold(), not cells[column] and column != "split"
        if not left_out and word not in ALLOWED[column]:
            shown = printable(word)
            yield _LineError(
                f"{column} must be one of {', '.join(ALLOWED[column])}, but is {shown!r} for "
                f"{printable(cells['file'])}.{_meant(word[:MOST_LETTERS], ALLOWED[column])}",
                f"{column} {shown}",
            )


def _row(table: Path, dataset: Dataset, cells: Mapping[str, str]) -> tuple[str, ...]:
    """Read a line of the csv in the order of the clip table's columns, "" where unknown."""
    cells = {column: cell if column in FREE else cell.casefold() for column, cell in cells.items()}
    path, name = _find(table.parent, cells["file"])
    if cells["split"] == "train" and cells["condition"] == "anomaly":
        raise _LineError(
            f"training clips must be normal, but {printable(str(name))} is an anomaly; make it a test clip.",
            "an anomaly in training",
        )
    machine = cells["machine"] or table.parent.name
    condition = cells["condition"] or ("normal" if cells["split"] == "train" else "")
    clip_id = f"{dataset.name}/dev/{machine}/{cells['split']}/{name.with_suffix('')}"
    place = (clip_id, str(path), dataset.name, "dev", machine, SECTION, cells["split"])
    return (*place, cells["domain"] or "source", condition, unicodedata.normalize("NFC", cells["attribute"]))


def _find(folder: Path, cell: str) -> tuple[Path, PurePosixPath]:
    """Return a recording below a folder, as it stands on disk and as it is listed.

    Raises:
        BenchmarkError: if the cell is no path below the folder, or there is no such file.
    """
    spellings = [cell, cell.replace("\\", "/")]
    for spelling in dict.fromkeys(spellings):  # a name on Linux may have a backslash in it, so that comes first
        name = PurePosixPath(spelling)
        outside = name.is_absolute() or PureWindowsPath(spelling).anchor or ".." in PureWindowsPath(spelling).parts
        if not name.name or outside:
            raise _LineError(f"file must be a path below {folder}, but is {printable(cell)!r}.", "elsewhere")
        exact = folder / name
        others = (exact.with_suffix(ending) for ending in (*ENDINGS, *(ending.upper() for ending in ENDINGS)))
        try:
            for path in (exact, *others):
                found = path if path.is_file() else _in_other_form(folder, path)
                if found is not None:
                    return found, name
            there = exact.exists()
        except OSError as error:
            raise BenchmarkError(f"{printable(exact)} must be a recording, but is not: {error.strerror}.") from error
        if there:
            raise BenchmarkError(f"{printable(exact)} must be a recording, but is no regular file.")
    raise BenchmarkError(f"{printable(folder / spellings[-1])} must be a recording, but there is no such file.")


def _in_other_form(folder: Path, path: Path) -> Path | None:
    """Return the file whose path is the same text in Unicode's other form, as Macs and spreadsheets write accents."""
    if str(path).isascii():
        return None
    place = folder
    for part in path.relative_to(folder).parts:
        if not (place / part).exists():
            same = unicodedata.normalize("NFC", part)
            names = [name for name in _names(place) if unicodedata.normalize("NFC", name) == same]
            if len(names) != 1:
                return None
            place /= names[0]
        else:
            place /= part
    return place if place.is_file() else None


def _names(folder: Path) -> list[str]:
    """List a folder's names; none where it is no folder."""
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - names are wanted, not paths


def _meant(word: str, allowed: Collection[str]) -> str:
    """Return " Did you mean X?" for what a word means, or for what it looks like."""
    return f" Did you mean {MEANT[word]}?" if MEANT.get(word) in allowed else did_you_mean(word, allowed)


@dataclass(frozen=True)
class FirstTable:
    """A csv that was guessed from the names of a folder's recordings.

    Attributes:
        path: where it belongs.
        rows: of its lines, cells by column.
        left_out: a sentence for each file that is not listed.
    """

    path: Path
    rows: tuple[Mapping[str, str], ...]
    left_out: tuple[str, ...]

    def text(self) -> str:
        """Return the csv."""
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()


def guess_table(folder: Path, *, machine: str = "") -> FirstTable:
    """Guess a first csv of a folder's recordings from the names of folders and files, for its owner to mend.

    - `machine` is the first folder below this one that is not only words such as train or normal; of files that lie
      in no such folder it is the letters that their names begin with, where several names share them, else this
      folder's name.
    - `split`, `domain` and `condition` come from the words train, test, source, target, normal, anomaly and what
      people write for them (`benchmarks.recordings.names.MEANT`), in the file's name or the nearest folder's.
    - Where no name says the split, an anomaly is a test clip, and so is every fourth of a machine's other clips in the
      order of their names; the rest train. Where some names say it, the other clips are of the other split.

    Args:
        folder: an absolute folder.
        machine: of all recordings, instead of what names say.

    Raises:
        BenchmarkError: there are no recordings.
    """
    found, left_out = _recordings_below(folder)
    if not found:
        raise BenchmarkError(
            f"{printable(folder)} must hold WAV or FLAC recordings, but holds none.{' ' if left_out else ''}"
            f"{' '.join(left_out[:1])}"
        )
    loose = Counter(first_word(name.stem) for name in found if not any(map(machine_in, name.parts[:-1])))
    shared = bool(loose) and min(loose.values()) > 1  # a word of one file alone names that file, and no machine
    rows = []
    for name in found:
        said: dict[str, str] = {}
        for part in name.parts[:-1]:
            said |= said_by(part)
        said |= said_by(name.stem)
        inside = next(filter(None, map(machine_in, name.parts[:-1])), "") or (shared and first_word(name.stem))
        rows.append(
            dict.fromkeys(COLUMNS, "") | said | {"file": str(name), "machine": machine or inside or folder.name}
        )
    for one in dict.fromkeys(row["machine"] for row in rows):
        _deal([row for row in rows if row["machine"] == one])
    return FirstTable(folder / FIRST_NAME, tuple(rows), tuple(left_out))


def _deal(rows: Sequence[dict[str, str]]) -> None:
    """Say of each of a machine's clips in which split it is, where its name does not."""
    told = {row["split"] for row in rows} - {""}
    untold = []
    for row in rows:
        if row["condition"] == "anomaly":
            row["split"] = "test"
        elif not row["split"]:
            untold.append(row)
    for place, row in enumerate(untold):
        if told:
            row["split"] = "test" if told == {"train"} else "train"
        else:
            last = len(untold) < EVERY and place == len(untold) - 1 > 0
            row["split"] = "test" if place % EVERY == EVERY - 1 or last else "train"


def _recordings_below(folder: Path) -> tuple[list[PurePosixPath], list[str]]:
    """Return the recordings below a folder by their names, sorted, and a sentence for each file that is left out."""
    found: dict[PurePosixPath, PurePosixPath] = {}
    left_out = []
    others: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if any(map(is_hidden, name.parts)) or not path.is_file():
            continue
        if path.suffix.lower() not in ENDINGS:
            if path.suffix.lower() in OTHER_SOUND:
                others[path.suffix.lower()] += 1
        elif not str(name).isprintable():
            left_out.append(f"{printable(str(name))} must have a name that can be printed; rename it.")
        elif (same := found.setdefault(name.with_suffix(""), name)) != name:
            left_out.append(f"{name} has the name of {same}, which is listed; rename one of them.")
    for ending, count in sorted(others.items()):
        left_out.append(f"Files that end in {ending} are not read ({count} of them); write them as WAV or FLAC.")
    return list(found.values()), left_out
