"""What is inside a zip file: every member is checked before any is written, every fault said in one sentence."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable

MOST_MEMBERS = 200_000  # the largest official archive has some 7,000
NAME_BYTES, PATH_BYTES = 255, 4096  # of one name and of a whole path, on the usual systems
LOCAL_HEADER_BYTES = 30  # in front of each member, without its name
BLOCK_BYTES = 2**20
PASSED_OVER = ("__MACOSX", ".DS_Store")
# Whatever `zipfile` and the decompressors raise on damaged bytes; damage shows in the strangest places.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError,
    ArithmeticError, LookupError, MemoryError,
)  # fmt: skip

Members: TypeAlias = list[tuple[zipfile.ZipInfo, PurePosixPath]]


class RefusedArchiveError(BenchmarkError):
    """An archive that must not be used because of what is in it; the same bytes would be refused again."""


class BrokenArchiveError(RefusedArchiveError):
    """An archive whose bytes are damaged; fetching it again may help."""


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turn everything that goes wrong while a zip file is read into a BrokenArchiveError."""
    try:
        yield
    except BenchmarkError:
        raise
    except UNREADABLE as error:
        raise BrokenArchiveError(
            f"archives must be whole zip files, but {archive} is not ({printable(str(error)) or type(error).__name__})."
        ) from error


def check_members(opened: zipfile.ZipFile, archive: Path, machine: str) -> Members:
    """Return the files of an archive with their places below the folder that it is unpacked into.

    Args:
        opened: the archive.
        archive: its path, for sentences.
        machine: the only folder that it may hold.

    Raises:
        RefusedArchiveError: if one of them would leave its folder, is a link or another special file, is encrypted,
            stands there twice or as a file and a folder, has a name that disks do not take, or shares its bytes with
            another one.
    """
    infos = opened.infolist()
    if len(infos) > MOST_MEMBERS:
        raise RefusedArchiveError(
            f"archives must unpack to at most {MOST_MEMBERS:,} files, but {archive} has {len(infos):,} members."
        )
    members: Members = []
    files, folders = set[PurePosixPath](), set[PurePosixPath]()
    for member in infos:
        place = PurePosixPath(member.filename)
        if any(part in PASSED_OVER for part in place.parts):
            continue
        _check_member(member, place, archive, machine)
        folders.update(place.parents)
        if member.is_dir():
            folders.add(place)
            continue
        if place in files or len(place.parts) < 2:
            raise RefusedArchiveError(
                f"members must stand in {machine}/ once, but {archive} has {printable(repr(member.filename))}."
            )
        files.add(place)
        members.append((member, place))
    if both := files & folders:
        raise RefusedArchiveError(
            f"members must be files or folders, but {archive} has {printable(repr(str(min(both))))} as both."
        )
    if not members:
        raise RefusedArchiveError(f"{archive} must hold files of {machine}, but holds none.")
    _check_bytes_apart(members, archive)
    return members


def _check_member(member: zipfile.ZipInfo, place: PurePosixPath, archive: Path, machine: str) -> None:
    """Raise RefusedArchiveError where a member is not safe to write."""
    name = printable(repr(member.filename))
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedArchiveError(f"archives must hold files alone, but {archive} has {name}, a link or device.")
    # `filename` ends at a NUL, `orig_filename` is what the archive says
    unsafe = place.is_absolute() or ".." in place.parts or any(sign in member.orig_filename for sign in "\\:\0")
    if unsafe or not place.parts:
        raise RefusedArchiveError(f"members must stay in their folder, but {archive} has {name}.")
    if place.parts[0] != machine:
        raise RefusedArchiveError(f"{archive} must unpack to {machine}/, but has {name}.")
    if not member.filename.isprintable():
        raise RefusedArchiveError(f"names of members must have no control characters, but {archive} has {name}.")
    longest = max(len(part.encode()) for part in place.parts)
    if longest > NAME_BYTES or len(str(place).encode()) > PATH_BYTES:
        raise RefusedArchiveError(
            f"names of members must have at most {NAME_BYTES} bytes, and {PATH_BYTES:,} with their folders, but "
            f"{archive} has {name}."
        )
    if member.flag_bits & 1:
        raise RefusedArchiveError(f"archives must not be encrypted, but {archive} is.")


def _check_bytes_apart(members: Members, archive: Path) -> None:
    """Raise RefusedArchiveError where members share bytes, as in bombs that write the same megabyte many times."""
    spans = sorted(
        (member.header_offset, LOCAL_HEADER_BYTES + len(member.orig_filename) + member.compress_size)
        for member, _ in members
    )
    for (start, length), (following, _) in pairwise(spans):
        if start + length > following:
            raise RefusedArchiveError(f"members must have bytes of their own, but those of {archive} overlap.")


def blocks(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """Yield a member's bytes, just as many as it announces; `zipfile` checks their sum at the end.

    Raises:
        BrokenArchiveError: if it is damaged, or longer or shorter than it announces.
    """
    left = member.file_size
    with reading(archive), opened.open(member) as source:
        while block := source.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                break
            yield block
    if left:
        longer = "longer" if left < 0 else "shorter"
        raise BrokenArchiveError(f"{printable(member.filename)} of {archive} is {longer} than it announces.")
