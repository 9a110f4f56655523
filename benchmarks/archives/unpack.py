"""Archives, unpacked safely: nothing leaves its folder, nothing half-unpacked is ever taken for whole."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from benchmarks.contract import BenchmarkError

MOST_BYTES = 64 * 2**30  # of one archive, unpacked; the largest official one has a few GB
MOST_MEMBERS = 200_000
MOST_RATIO = 200  # unpacked to packed; silence in 16-bit wav packs a hundredfold, a zip bomb a thousandfold
BLOCK_BYTES = 2**20
PASSED_OVER = ("__MACOSX", ".DS_Store")


class BrokenArchiveError(BenchmarkError):
    """An archive whose bytes are damaged; fetching it again may help."""


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
        BenchmarkError: if a member would leave the folder, is a link or another special file, stands there twice, or
            belongs to another folder; if the archive is too large; or if other files stand in its place.
    """
    staging = target / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = list(_checked(opened, archive, machine))
            _check_size(members, archive, target)
            for member, place in members:
                _extract(opened, member, staging / place, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise BrokenArchiveError(f"archives must be whole zip files, but {archive} is not ({error}).") from error
    except BenchmarkError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    names = sorted(os.listdir(staging / machine))  # noqa: PTH208 - names are wanted, not paths
    (target / machine).mkdir(parents=True, exist_ok=True)
    for name in names:
        _move(staging / machine / name, target / machine / name)
    shutil.rmtree(staging)
    return tuple(names)


def _checked(opened: zipfile.ZipFile, archive: Path, machine: str) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Yield the files of an archive with their places, each of them safe to write.

    Raises:
        BenchmarkError: if one is not.
    """
    seen = set()
    for member in opened.infolist():
        place = PurePosixPath(member.filename)
        if any(part in PASSED_OVER for part in place.parts):
            continue
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BenchmarkError(
                f"archives must hold files alone, but {archive} has {member.filename}, a link or device."
            )
        unsafe = place.is_absolute() or ".." in place.parts or any(sign in member.filename for sign in "\\:\0")
        if unsafe or not place.parts:
            raise BenchmarkError(f"members must stay in their folder, but {archive} has {member.filename!r}.")
        if place.parts[0] != machine:
            raise BenchmarkError(f"{archive} must unpack to {machine}/, but has {member.filename!r}.")
        if member.flag_bits & 1:
            raise BenchmarkError(f"archives must not be encrypted, but {archive} is.")
        if member.is_dir():
            continue
        if place in seen or len(place.parts) < 2:
            raise BenchmarkError(f"members must stand in {machine}/ once, but {archive} has {member.filename!r}.")
        seen.add(place)
        yield member, place
    if not seen:
        raise BenchmarkError(f"{archive} must hold files of {machine}, but holds none.")


def _check_size(members: Sequence[tuple[zipfile.ZipInfo, PurePosixPath]], archive: Path, target: Path) -> None:
    """Raise BenchmarkError where an archive is too large for its kind or for the disk."""
    size = sum(member.file_size for member, _ in members)
    most = min(MOST_BYTES, MOST_RATIO * archive.stat().st_size)
    if size > most or len(members) > MOST_MEMBERS:
        raise BenchmarkError(
            f"archives must unpack to at most {most:,} bytes in {MOST_MEMBERS:,} files, but {archive} would to "
            f"{size:,} bytes in {len(members):,}."
        )
    target.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target).free
    if size > free:
        raise BenchmarkError(f"{archive} needs {size:,} bytes to unpack, but {target} has {free:,} left; make room.")


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Write a member, no more of it than it announces; the archive's sum is checked at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with opened.open(member) as source, path.open("xb") as out:
        while block := source.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise BrokenArchiveError(f"{member.filename} of {archive} is longer than it announces.")
            out.write(block)
        out.flush()
        os.fsync(out.fileno())  # or the manifest could outlive the recordings when the power fails
    if left:
        raise BrokenArchiveError(f"{member.filename} of {archive} is shorter than it announces.")


def _move(source: Path, place: Path) -> None:
    """Move a finished file or folder to its place; there it may stand already, if it is the same.

    Raises:
        BenchmarkError: if something else stands there.
    """
    if not place.exists():
        source.rename(place)
    elif not _same(source, place):
        raise BenchmarkError(
            f"{place} must not be there before it is unpacked, or hold the same, but it differs; move it away."
        )


def _same(one: Path, other: Path) -> bool:
    """Tell whether two files, or all files of two folders, hold the same bytes."""
    if one.is_file() or other.is_file():
        return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
    names = sorted(os.listdir(one))  # noqa: PTH208 - names are wanted, not paths
    return names == sorted(os.listdir(other)) and all(_same(one / name, other / name) for name in names)  # noqa: PTH208 - likewise
