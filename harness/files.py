"""Files and folders: ours are private, written whole, and only regular files are read.

A trial's recordings, scores and runs are nobody else's business by default: folders that are made here get mode 0700
and files 0600, whatever the umask says. A folder that was there before keeps its rights. A team shares a folder by
making it so first, `chgrp team FOLDER; chmod 2770 FOLDER` (setgid, writable by its group): what is then made inside is
the group's as well (2770 and 0660).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from benchmarks.folders import file_beside
from harness.errors import HarnessError

OWNER_ONLY, OWNER_AND_GROUP = 0o077, 0o007  # umasks
MOST_BYTES = 2**30  # of a file that is read at once; a year's score files have a thousandth of it
KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def private_umask(folder: Path) -> int:
    """Return which rights are taken from what is made in a folder: all but its owner's, or its group's where shared.

    Args:
        folder: need not be there; then the nearest one above it that is counts.
    """
    for place in (folder, *folder.parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        return OWNER_AND_GROUP if mode & stat.S_ISGID and mode & stat.S_IWGRP else OWNER_ONLY
    return OWNER_ONLY


def make_private_folder(folder: Path) -> Path:
    """Make a folder, and those above it that are missing, for their owner alone; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_private_folder(folder.parent)
        umask = private_umask(folder.parent)
        try:
            folder.mkdir(mode=0o777 & ~umask)
        except FileExistsError:
            if not folder.is_dir():  # a file; else another process was quicker
                raise
        else:
            if umask == OWNER_AND_GROUP:  # the process's own umask may have taken the group's rights
                folder.chmod(0o2770)
    return folder


def make_private_file(path: Path) -> None:
    """Make an empty file for its owner alone, unless there is one: a database that is opened there keeps these rights.

    Raises:
        OSError: it cannot be made.
    """
    umask = private_umask(path.parent)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666 & ~umask)
    except FileExistsError:
        return
    os.fchmod(handle, 0o666 & ~umask)
    os.close(handle)


@contextmanager
def making_private(folder: Path) -> Iterator[None]:
    """Let other libraries make files in a folder with the rights that ours have there.

    The umask is the whole process's: for a writer's short blocks, not for a notebook's cell.
    """
    before = os.umask(private_umask(folder))
    try:
        yield
    finally:
        os.umask(before)


def private_lock(path: Path, *, timeout: float = -1) -> FileLock:
    """Return a lock between processes, in a file that whoever shares the folder can open."""
    return FileLock(path, timeout=timeout, mode=0o666 & ~private_umask(path.parent))


def write_whole(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file beside its place and rename it, so that a reader sees all of it or none.

    Args:
        path: of the file; one that is there is replaced.
        content: of it.
        private: for its owner alone, as what we keep; else with the rights that the umask leaves, as a file that
            somebody asked for by name.

    Raises:
        HarnessError: something stands there that is no file, such as a folder or /dev/null.
        OSError: it cannot be written.
    """
    if path.exists():
        _demand_regular(path.stat().st_mode, path, "What is written")
    with file_beside(path, mode=0o666 & ~private_umask(path.parent) if private else None) as file:
        file.write(content)


def open_regular(path: Path, *, what: str = "What is read") -> BinaryIO:
    """Open a regular file to read bytes: a named pipe would wait for ever, a device may never end.

    Args:
        path: of the file, or of a link to one.
        what: it is, for the sentence; for example "A baseline".

    Raises:
        HarnessError: it is no regular file.
        OSError: it is missing, or cannot be opened.
    """
    _demand_regular(path.stat().st_mode, path, what)  # first: opening a device may already do something
    file = open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115 - of a handle
    try:
        _demand_regular(os.fstat(file.fileno()).st_mode, path, what)  # it may have changed in between
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, *, what: str = "What is read", most: int = MOST_BYTES) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: of the file.
        what: it is, for the sentence.
        most: bytes that it may have.

    Raises:
        HarnessError: it is missing, no regular file, too large, or cannot be read.
    """
    try:
        with open_regular(path, what=what) as file:
            content = file.read(most + 1) or b""  # None where there is nothing yet, as in /proc/kmsg
    except FileNotFoundError:
        raise HarnessError(f"{what} must be a file that exists, but there is no {path}.") from None
    except OSError as error:
        raise HarnessError(f"{what} must be a file that can be read, but {path}: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, HarnessError):
            raise
        raise HarnessError(f"{what} must have a name that a file can have, but {str(path)!r}: {error}.") from error
    if len(content) > most:
        raise HarnessError(f"{what} must have at most {most} bytes, but {path} has more.")
    return content


def read_text(path: Path, *, what: str = "What is read", most: int = MOST_BYTES) -> str:
    """Read a regular file of bounded size as UTF-8, with or without a byte order mark.

    Raises:
        HarnessError: as `read_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path, what=what, most=most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HarnessError(
            f"{what} must be text in UTF-8, but {path} has the byte 0x{content[error.start]:02x} at {error.start}; "
            "save it as UTF-8."
        ) from None


def _demand_regular(mode: int, path: Path, what: str) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in KINDS if is_kind(mode)), "something else")
        raise HarnessError(f"{what} must be a regular file, but {path} is {kind}.")
