"""Folders that are written to: files in them are whole or not there, and refusals are said in one sentence.

What is unfinished is held (`flock`) by the process that writes it, however that process ends: what nobody holds was
left by one that was killed, and goes when the next one writes into the same folder.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable

# files that have not taken their names yet, as they are called now, and as they were before
UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part|\..+\.(wav|csv|json)\.\d+\.tmp")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderError(BenchmarkError):
    """A folder that takes nothing more: it cannot be written to, or is full."""


def folder_of(root: Path | str) -> Path:
    """Return the absolute path of a folder that a user named.

    Raises:
        BenchmarkError: if it begins with `~somebody` whose home nobody knows, or cannot be a path at all.
    """
    if "\0" in str(root):
        raise BenchmarkError(f"folders must have names without NUL, but got {printable(str(root))}.")
    try:
        return Path(root).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise BenchmarkError(f"{printable(str(root))} must be a folder that can be found, but: {error}.") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses inside into a FolderError.

    Args:
        folder: that is written to; the sentence names it, and the file that could not be written where there is one.

    Raises:
        FolderError: for every OSError inside.
    """
    try:
        yield
    except OSError as error:
        where = f" ({printable(os.fsdecode(error.filename))})" if isinstance(error.filename, str | bytes) else ""
        why = f"{error.strerror or error}{where}"
        if error.errno in FULL:
            raise FolderError(
                f"{printable(folder)} must have room for what is written, but: {why}; what is there is whole, so make "
                "room and run the same again."
            ) from error
        raise FolderError(
            f"{printable(folder)} must be a folder that can be written to, but: {why}; choose another folder, or mend "
            "this one."
        ) from error


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is whole: a reader sees all of it or none, also after a kill.

    Args:
        path: of the file; its folder is made where it lacks.
        durable: whether its bytes must be on the disk before it takes its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_beside(path) as file:
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def file_beside(path: Path, *, mode: int | None = None, new: bool = False) -> Iterator[BinaryIO]:
    """Open a file beside a path, which it takes over at the end: a reader sees all of it or what was there before.

    Args:
        path: of the file; its folder must be there.
        mode: the rights that it gets, whatever the umask; None leaves it to the umask.
        new: whether the path must be free, also where another process writes there at the same time.

    Raises:
        OSError: it cannot be written.
    """
    _clear_once(path.parent)
    beside, handle = _held_file(path.parent, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.fchmod(handle, mode)
            yield file
            file.flush()
            if new:
                os.link(beside, path)  # unlike a renaming, it never takes over what is there
                beside.unlink()
            else:
                beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove files that never took their names, since who wrote them was killed."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - 100,000 names, and hardly one that becomes a path
            if UNFINISHED.fullmatch(name):
                _remove_unless_held(folder / name, Path.unlink)


@contextmanager
def held_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that is this process's as long as it runs, and gone afterwards.

    Args:
        place: folder to make it in.
        prefix: of its name.
    """
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    handle = os.open(folder, os.O_RDONLY)
    try:
        _hold(handle)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def clear_folders(place: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove folders that `held_folder` made for processes that were killed.

    Args:
        place: that they were made in.
        is_ours: tells by a folder's name whether it is one of these.
    """
    for path in sorted(place.glob("*")):
        if is_ours(path.name) and path.is_dir() and not path.is_symlink():
            _remove_unless_held(path, shutil.rmtree)


@functools.cache
def _clear_once(folder: Path) -> None:
    """Clear a folder before this process first writes there."""
    clear_unfinished(folder)


def _held_file(folder: Path, mode: int) -> tuple[Path, int]:
    """Make a file of a name that nobody else has, open and held."""
    while True:
        path = folder / f".{secrets.token_hex(8)}.part"  # not of the file's name, which may be as long as allowed
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        with suppress(OSError):  # a disk without such locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process cleared it away before it was held
            return path, handle
        os.close(handle)


def _remove_unless_held(path: Path, remove: Callable[[Path], object]) -> None:
    """Remove a file or folder of this user's, unless a process holds it."""
    with suppress(OSError):  # gone meanwhile, or another's
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.fstat(handle).st_uid == os.geteuid() and _hold(handle):
                remove(path)
        finally:
            os.close(handle)


def _hold(handle: int) -> bool:
    """Hold an open file or folder until this process closes it or dies; False where another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without such locks
        return True
    return True
