"""The rows of one score file: a clip's name and its score each, checked against what the file's own name says."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract import BenchmarkError, Dataset, Domain, Part
from benchmarks.files import printable, read_table
from benchmarks.metrics.numbers import is_number, read_column
from benchmarks.recordings.names import ClipName, parse_name

PANDAS_HEADER = ("0", "1")  # what pandas writes above two columns that nobody named
SCORED_PARTS: tuple[Part, ...] = ("dev", "eval")
SHOWN = 5  # names that an error gives


@dataclass(frozen=True)
class ScoreFile:
    """A score file, as its name says.

    Attributes:
        path: of the file.
        machine: machine type.
        section: section, or machine ID in 2020.
        domain: where the year has a file a domain.
        part: that has this machine type's section.
    """

    path: Path
    machine: str
    section: str
    domain: Domain | None
    part: Part


def file_rows(file: ScoreFile, dataset: Dataset) -> list[tuple[str, ClipName, float]]:
    """Return (stem, what the name says, score) of each row of a file.

    Raises:
        BenchmarkError: if the file is no readable csv or is empty, a row has not two columns, a name is no clip's of
            this file, or a score is no finite number.
    """
    path = printable(file.path)
    table = read_table(file.path)
    rows = [(line, _filled(cells)) for line, cells in table.rows]
    if not rows:
        raise BenchmarkError(f"{path} must hold a clip name and its score a row, but it is empty.")
    wrong = [(line, cells) for line, cells in rows if len(cells) != 2]
    if wrong:
        line, cells = wrong[0]
        comma = table.separator == "," and len(cells) == 3 and all(map(is_number, cells[1:]))
        hint = "; a decimal comma needs semicolons or tabs between the columns" if comma else ""
        raise BenchmarkError(
            f"rows of {path} must have two columns, a clip name and its score, but line {line} has {len(cells)}: "
            f"{printable(','.join(cells)[:80])}{hint}."
        )
    if _is_heading(rows[0][1], dataset):
        rows = rows[1:]
        if not rows:
            raise BenchmarkError(f"{path} must hold scored clips, but it holds a row of headings alone.")
    names = [_clip_name(cells[0], file, dataset) for _, cells in rows]
    scores, bad = read_column([cells[1] for _, cells in rows])
    if bad:
        shown = some([f"{printable(names[row][0])} ({why})" for row, why in bad.items()])
        raise BenchmarkError(f"scores must be finite numbers, but {len(bad)} of {path} are not: {shown}.")
    return [(stem, name, score) for (stem, name), score in zip(names, scores, strict=True)]


def clip_name_of(stem: str, dataset: Dataset) -> ClipName | None:
    """Return what a name says; None where it is no clip's."""
    try:
        return parse_name(stem, with_ids=not dataset.has_domains)
    except BenchmarkError:
        return None


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _filled(cells: Sequence[str]) -> tuple[str, ...]:
    """Return a row without the empty columns that spreadsheets leave behind the first two."""
    end = len(cells)
    while end > 2 and not cells[end - 1]:
        end -= 1
    return tuple(cells[:end])


def _is_heading(cells: Sequence[str], dataset: Dataset) -> bool:
    """Tell whether a row names columns instead of a clip and its score."""
    if tuple(cells) == PANDAS_HEADER:
        return True
    if is_number(cells[1]) or not any(sign.isalpha() for sign in cells[1]):
        return False
    stem, _ = _stem_and_folders(cells[0])
    return not cells[0].lower().endswith(".wav") and clip_name_of(stem, dataset) is None


def _clip_name(cell: str, file: ScoreFile, dataset: Dataset) -> tuple[str, ClipName]:
    """Return the stem of a clip's name and what it says, once it is one of this file's."""
    stem, folders = _stem_and_folders(cell)
    path = printable(file.path)
    try:
        name = parse_name(stem, with_ids=not dataset.has_domains)
    except BenchmarkError as error:
        raise BenchmarkError(f"{path} holds what is no clip of {dataset.name}: {printable(str(error))}") from None
    machines = {machine for each in SCORED_PARTS for machine in dataset.machines[each]}
    of_machine = next((folder for folder in reversed(folders) if folder in machines), file.machine)
    for what, said, wanted in (
        ("machine type", of_machine, file.machine),
        ("section" if dataset.has_domains else "machine ID", name.section, file.section),
        ("domain", name.domain or file.domain, file.domain or name.domain),
        ("split", name.split or "test", "test"),
    ):
        if said != wanted:
            raise BenchmarkError(
                f"{path} must score clips of its own {what}, {wanted}, but holds one of {said}: {printable(cell)}."
            )
    return stem, name


def _stem_and_folders(cell: str) -> tuple[str, list[str]]:
    """Part a path of either system into the file's name without its ending, and the folders in front.

    Names are composed (NFC), so that those that a Mac took apart are the same clips.
    """
    *folders, name = unicodedata.normalize("NFC", cell).replace("\\", "/").split("/")
    return (name[: -len(".wav")] if name.lower().endswith(".wav") else name), folders
