"""Files of a kind below a folder: which of them count, and why the others do not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable, read_bytes

MOST_BYTES = 64 * 2**20  # of a file that is compared with its copy
SHOWN = 3  # files that a sentence names
ASIDE = ("__MACOSX",)  # folders that archives bring along, beside those whose names begin with a dot
# What systems, browsers and editors write behind the name of a copy.
COPY = re.compile(
    r"(?: \([0-9]+\)|[ _]?- ?(?:copy|kopie|copie|copia|kopia|コピー|副本).*| (?:copy|kopie)(?: [0-9]+)?|-checkpoint)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """Files below a folder.

    Attributes:
        files: that count, sorted by path.
        passed_over: (path, why it does not count) of others that look as if they could.
    """

    files: tuple[Path, ...]
    passed_over: tuple[tuple[Path, str], ...]

    def notes(self) -> tuple[str, ...]:
        """Return a sentence about what was passed over, if anything was."""
        if not self.passed_over:
            return ()
        count = len(self.passed_over)
        return (f"{count} file{'s were' if count > 1 else ' was'} passed over: {list_reasons(self.passed_over)}.",)


def find_csvs(folder: Path, *, named: Callable[[str], bool], kind: str) -> Found:
    """Find csv files below a folder by their names; links to folders are not followed.

    Passed over are files in hidden folders, hidden files, other endings, and copies (`x (1).csv`, `x - Copy.csv`) that
    stand beside what they are copies of and hold the same.

    Args:
        folder: to search.
        named: tells by a file's name, in small letters, whether it is of the kind.
        kind: what the files are called, for sentences.

    Raises:
        BenchmarkError: if a folder cannot be read, or a copy differs from what it is a copy of, or stands alone: which
            of them is meant would be a guess.
    """
    files: list[Path] = []
    passed_over: list[tuple[Path, str]] = []
    for path in _walk(folder, named):
        inside = path.relative_to(folder).parts
        if _is_aside(inside):
            passed_over.append((path, "it is hidden, or in a hidden folder"))
        elif path.suffix.lower() != ".csv":
            passed_over.append((path, f"its name ends in {printable(path.suffix or 'nothing', most=40)}, not in .csv"))
        else:
            files.append(path)
    for path in list(files):
        original = path.with_name(f"{COPY.sub('', path.stem)}{path.suffix}")
        if original.name != path.name:
            if original not in files:
                raise BenchmarkError(
                    f"{kind} must not be copies by their names, but {printable(path)} is one, and there is no "
                    f"{printable(original.name)} beside it; rename it if it is the one that counts."
                )
            if read_bytes(path, most=MOST_BYTES) != read_bytes(original, most=MOST_BYTES):
                raise BenchmarkError(
                    f"{kind} and their copies must hold the same, but {printable(path)} differs from "
                    f"{printable(original.name)} beside it; remove the one that does not count."
                )
            files.remove(path)
            passed_over.append((path, f"it is a copy of {printable(original.name)}"))
    return Found(tuple(sorted(files)), tuple(sorted(passed_over)))


def other_csvs(folder: Path, *, named: Callable[[str], bool]) -> list[tuple[Path, str]]:
    """Return what a folder holds instead of the files of a kind, each with why it does not count.

    For the sentence that says that there are none; arguments as of `find_csvs`. What is hidden, such as the cache
    `.asdbench` in the current folder, nobody put there in their place.
    """
    there = _walk(folder, lambda name: not named(name) and name.endswith((".csv", ".tsv", ".txt", ".xlsx", ".gz")))
    seen = [path for path in there if not _is_aside(path.relative_to(folder).parts)]
    return [(path, "its name does not say that it is one") for path in seen]


def _is_aside(inside: Sequence[str]) -> bool:
    """Tell whether a path below a folder is hidden, or in a hidden folder."""
    return any(part.startswith((".", "~$")) or part in ASIDE for part in inside)


def list_reasons(passed_over: Sequence[tuple[Path, str]]) -> str:
    """Return the first few files with their reasons, and how many more there are."""
    more = len(passed_over) - SHOWN
    said = "; ".join(f"{printable(path)} ({why})" for path, why in passed_over[:SHOWN])
    return f"{said}{f' and {more} more' if more > 0 else ''}"


def _walk(folder: Path, named: Callable[[str], bool]) -> list[Path]:
    """Return everything below a folder that is named so, folders that look like csv files too; sorted."""

    def refuse(error: OSError) -> None:
        raise BenchmarkError(
            f"{printable(os.fsdecode(error.filename))} must be a folder that can be read, but: {error.strerror}."
        ) from error

    there: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in folders.copy():
            if name.lower().endswith(".csv") and named(name.lower()):
                folders.remove(name)
                files.append(name)
        there += [Path(place, name) for name in files if named(name.lower())]
    return sorted(there)
