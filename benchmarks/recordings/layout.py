"""Where the recordings of a year stand below a root: the layouts in which people keep the official archives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contract import PARTS, BenchmarkError, Dataset, Domain, Part, Problem, Split
from benchmarks.files import printable
from benchmarks.suggestions import did_you_mean

ENDINGS = (".wav", ".flac")
DEV: Mapping[Split, Part] = {"train": "dev", "test": "dev"}
EVAL: Mapping[Split, Part] = {"train": "additional", "test": "eval"}
PART_FOLDERS: Mapping[str, Mapping[Split, Part]] = {"dev_data": DEV, "eval_data": EVAL}
SUPPLEMENTAL = "supplemental"  # delivered beside train/ in 2025; no training clips, so never read
MAC_FOLDER = "__MACOSX"  # in zip files made on a Mac; holds no recordings, but files of their names
# 2021 has a test folder a domain.
CLIP_FOLDERS: Mapping[str, tuple[Split, Domain | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}
YEAR_NAME = re.compile(r"dcase20[0-9]{2}(t2)?")
COLLECTIONS = ("", "formatted", "original")  # below a root; the latter two are ASDKit's


@dataclass(frozen=True)
class MachineFolder:
    """A folder that holds clips of one machine type.

    Attributes:
        path: of the folder.
        machine: machine type.
        parts: the part that each split is of; None where only the section tells, as in ASDKit's formatted layout and
            where archives were unzipped side by side.
    """

    path: Path
    machine: str
    parts: Mapping[Split, Part] | None


def find_year(root: Path, dataset: Dataset, datasets: Sequence[Dataset]) -> Path | None:
    """Return a year's folder: below the root, or the root itself where its name or the lone year says so.

    Args:
        root: an absolute folder.
        dataset: the year.
        datasets: all years that are looked for; a root without a year's name belongs to the only one.

    Raises:
        BenchmarkError: if the year stands below the root twice.
    """
    names = (dataset.folder, dataset.name)
    if root.name in names:
        return root
    found: list[Path] = []
    for folder in (root / collection / name for collection in COLLECTIONS for name in names):
        if folder.is_dir() and not any(folder.samefile(other) for other in found):
            found.append(folder)
    if len(found) > 1:
        raise BenchmarkError(
            f"a root must hold {dataset.name} once, but {found[0]} and {found[1]} both hold it; "
            "name one of the two as the root."
        )
    if found:
        return found[0]
    if len(datasets) > 1 or YEAR_NAME.fullmatch(root.name) or any(map(YEAR_NAME.fullmatch, _names_in(root))):
        return None
    return root if any(machine_folders(root, dataset, [])) else None


def machine_folders(year: Path, dataset: Dataset, problems: list[Problem]) -> Iterator[MachineFolder]:
    """Yield a year's machine folders: development first, then evaluation, then those that do not say their part.

    Below the year's folder, `dev_data/` or `eval_data/`, or `raw/` in one of these, stand folders of machine types, or
    folders called as an archive that hold them.

    Args:
        year: its folder.
        dataset: the year.
        problems: takes what is found besides.

    Raises:
        BenchmarkError: if two folders hold the same clips' folder of a machine type.
    """
    seen: list[MachineFolder] = []
    everywhere = {machine for part in PARTS for machine in dataset.machines.get(part, ())}
    for folder, parts in _bases(year):
        known = everywhere if parts is None else {m for p in parts.values() for m in dataset.machines.get(p, ())}
        for name in subfolders(folder, dataset, problems):
            found = _machine_folder(folder / name, dataset, parts, known)
            if found is not None:
                if not _stands_twice(found, seen, dataset):
                    seen.append(found)
                    yield found
            elif not CLIP_FOLDERS.keys().isdisjoint(_names_in(folder / name)):
                hint = did_you_mean(name, known)
                problems.append(
                    Problem(
                        "extra", str(folder / name),
                        f"{folder / name} is no machine type of {dataset.name} and is passed over.{hint}",
                        bad=False, dataset=dataset.name, value=name,
                    )
                )  # fmt: skip


def subfolders(folder: Path, dataset: Dataset, problems: list[Problem]) -> list[str]:
    """List the folders in a folder, sorted; one that cannot be entered is a problem."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                try:
                    if not is_hidden(entry.name) and entry.is_dir():
                        names.append(entry.name)
                except OSError as error:  # a link to itself
                    problems.append(_unreadable(entry.path, error, dataset))
    except OSError as error:
        problems.append(_unreadable(str(folder), error, dataset))
    return names


def recordings(folder: Path, dataset: Dataset, problems: list[Problem]) -> list[tuple[str, str]]:
    """List the recordings of a folder as (stem, path), sorted by stem; none where there is no such folder.

    Files that start with a dot are passed over. A name that is no UTF-8 is a problem, and so is a folder that cannot
    be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [os.path.splitext(entry.name) + (entry.path,) for entry in entries if entry.name[0] != "."]  # noqa: PTH122, RUF005 - 200,000 Path objects would cost seconds
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(_unreadable(str(folder), error, dataset))
        return []
    kept = []
    for stem, ending, path in found:
        if ending.lower() not in ENDINGS:
            continue
        if stem.isascii() or is_text(stem):
            kept.append((stem, path))
        else:
            shown = printable(path)
            problems.append(
                Problem("misnamed", shown, f"names must be UTF-8, but {shown} is not; rename it.", dataset=dataset.name)
            )
    return sorted(kept)


def is_hidden(name: str) -> bool:
    """Tell whether a folder or file is none of the user's recordings: `._x.wav`, `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith(".") or name == MAC_FOLDER


def is_text(name: str) -> bool:
    """Tell whether a name from the file system is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bases(year: Path) -> Iterator[tuple[Path, Mapping[Split, Part] | None]]:
    """Yield the folders that may hold machine types, each once however it is linked, and the parts that they say."""
    seen: list[Path] = []
    named = {year / name: parts for name, parts in PART_FOLDERS.items()}
    for folder, parts in [*named.items(), (year, None)]:
        for place in (folder / "raw", folder):
            if place.is_dir() and not any(place.samefile(other) for other in seen):
                seen.append(place)
                yield place, parts


def _machine_folder(
    folder: Path, dataset: Dataset, parts: Mapping[Split, Part] | None, known: set[str]
) -> MachineFolder | None:
    """Return what a folder holds: its own machine type, or that of the archive whose name it has."""
    if folder.name in known and folder.is_dir():
        nested = folder / folder.name  # unzipped into a folder of the machine type's name
        if nested.is_dir() and CLIP_FOLDERS.keys().isdisjoint(_names_in(folder)):
            return MachineFolder(nested, folder.name, parts)
        return MachineFolder(folder, folder.name, parts)
    for archive in dataset.archives:
        if folder.name == archive.name.removesuffix(".zip"):
            inner = folder / archive.machine
            return MachineFolder(
                inner if inner.is_dir() else folder, archive.machine, DEV if archive.part == "dev" else EVAL
            )
    return None


def _stands_twice(found: MachineFolder, seen: Sequence[MachineFolder], dataset: Dataset) -> bool:
    """Tell whether a folder is one that was seen, by another path.

    Raises:
        BenchmarkError: if it is another folder with the same clips' folders.
    """
    for other in seen:
        if other.machine != found.machine or (other.parts and found.parts and other.parts != found.parts):
            continue
        if other.path.samefile(found.path):
            return True
        both = CLIP_FOLDERS.keys() & set(_names_in(other.path)) & set(_names_in(found.path))
        if both and other.parts == found.parts:
            raise BenchmarkError(
                f"a root must hold {dataset.name} once, but {other.path} and {found.path} both hold {min(both)} clips "
                f"of {found.machine}; move one of the two away."
            )
    return False


def _names_in(folder: Path) -> list[str]:
    """List a folder's names; none where it cannot be listed, which others say."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted, not paths
    except OSError:
        return []


def _unreadable(path: str, error: OSError, dataset: Dataset) -> Problem:
    shown = printable(path)
    return Problem(
        "unreadable", shown,
        f"folders must be readable, but {shown} is not: {error.strerror}; change its permissions or remove it.",
        dataset=dataset.name,
    )  # fmt: skip
