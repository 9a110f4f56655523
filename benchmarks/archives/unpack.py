"""Archives, unpacked safely: nothing leaves its folder, nothing half-unpacked is ever taken for whole."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

from benchmarks.archives.members import (
    BrokenArchiveError,
    Members,
    RefusedArchiveError,
    blocks,
    check_members,
    reading,
)
from benchmarks.contract import BenchmarkError
from benchmarks.files import open_regular
from benchmarks.folders import clear_folders, held_folder, writing

__all__ = ["BrokenArchiveError", "RefusedArchiveError", "clear_leftovers", "unpack"]

MOST_BYTES = 8 * 2**30  # of one archive, unpacked; the largest official one, ToyConveyor of 2020, has some 2 GiB
MOST_RATIO = 200  # unpacked to packed; silence in 16-bit wav packs a hundredfold, a zip bomb a thousandfold
STAGING = ".unpacking-"  # in front of an archive's name: the folder that it is unpacked into first


def unpack(archive: Path, target: Path, *, machine: str) -> tuple[str, ...]:
    """Unpack an official archive: `<machine>/...` below a folder.

    Everything is unpacked beside its place and moved there, a folder at a time, when all of it is whole. What stands
    there already must be the same, as after a kill between two moves.

    Args:
        archive: a zip file.
        target: folder that gets `<machine>/`.
        machine: the only folder that the archive may hold.

    Returns:
        The names below `<machine>/` that now stand there, sorted.

    Raises:
        BrokenArchiveError: if the archive is damaged.
        RefusedArchiveError: if a member is not safe to write, or the archive is too large for its kind.
        BenchmarkError: if the folder cannot be written to, is too small, or holds other files in the archive's place.
    """
    with open_regular(archive) as file, writing(target), reading(archive), zipfile.ZipFile(file) as opened:
        members = check_members(opened, archive, machine)
        size = _check_size(members, archive)
        with writing(target), held_folder(target, f"{STAGING}{archive.name}-") as staging:
            _check_place(target / machine)
            free = shutil.disk_usage(target).free
            if size > free:
                raise BenchmarkError(
                    f"{archive} needs {size:,} bytes to unpack, but {target} has {free:,} left; make room."
                )
            for member, place in members:
                path = staging / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as out:
                    for block in blocks(opened, member, archive):
                        out.write(block)
                    out.flush()
                    os.fsync(out.fileno())  # or the manifest could outlive the recordings when the power fails
            names = sorted(os.listdir(staging / machine))  # noqa: PTH208 - names are wanted, not paths
            (target / machine).mkdir(exist_ok=True)
            for name in names:
                _move(staging / machine / name, target / machine / name)
            return tuple(names)


def clear_leftovers(target: Path, names: Collection[str]) -> None:
    """Remove what unpackings that were killed have left: folders of ours, of these archives, that no process holds.

    Args:
        target: folder that archives are unpacked into.
        names: of the archives.
    """
    ours = re.compile(f"{re.escape(STAGING)}({'|'.join(map(re.escape, names))})(-.*)?")
    with writing(target):
        clear_folders(target, lambda name: ours.fullmatch(name) is not None)


def _check_size(members: Members, archive: Path) -> int:
    """Return how many bytes an archive unpacks to; RefusedArchiveError where that is too much for its kind."""
    size = sum(member.file_size for member, _ in members)
    most = min(MOST_BYTES, MOST_RATIO * archive.stat().st_size)
    if size > most:
        raise RefusedArchiveError(
            f"archives must unpack to at most {most:,} bytes, but {archive} would to {size:,} bytes in "
            f"{len(members):,} files."
        )
    return size


def _check_place(folder: Path) -> None:
    """Raise BenchmarkError where recordings would not come to stand in the folder itself."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BenchmarkError(
            f"{folder} must be a folder or not be there before it is unpacked, but it is "
            f"{'a link' if folder.is_symlink() else 'a file'}; move it away."
        )


def _move(source: Path, place: Path) -> None:
    """Move a finished file or folder to its place; there it may stand already, if it is the same.

    Raises:
        BenchmarkError: if something else stands there.
    """
    if not os.path.lexists(place):
        source.rename(place)
    elif not _same(source, place):
        raise BenchmarkError(
            f"{place} must not be there before it is unpacked, or hold the same, but it differs; move it away."
        )


def _same(one: Path, other: Path) -> bool:
    """Tell whether two files, or all files of two folders, hold the same bytes."""
    if other.is_symlink() or not (other.is_dir() if one.is_dir() else other.is_file()):
        return False
    if one.is_file():
        return filecmp.cmp(one, other, shallow=False)
    names = sorted(os.listdir(one))  # noqa: PTH208 - names are wanted, not paths
    return names == sorted(os.listdir(other)) and all(_same(one / name, other / name) for name in names)  # noqa: PTH208 - likewise
