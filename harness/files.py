"""Files and folders: created for their owner only, written atomically, and read only if they are regular files.

By default nobody else may read a user's recordings, scores and runs: folders that are created here get mode 0700 and
files 0600, whatever the umask is. Existing folders keep their rights. To share a folder, a team creates it first, with
`chgrp team FOLDER; chmod 2770 FOLDER` (setgid, writable by the group): folders and files inside then get 2770 and 0660.
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
SMALL_BYTES = 2**20
MOST_BYTES = 2**30  # largest file that is read into memory; a year's score files take a thousandth of it
KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def private_umask(folder: Path) -> int:
    """Return the umask for new files in a folder: 0o077, or 0o007 if the folder is shared by its group.

    Args:
        folder: if it does not exist, its nearest existing parent counts.
    """
    for place in (folder, *folder.parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        return OWNER_AND_GROUP if mode & stat.S_ISGID and mode & stat.S_IWGRP else OWNER_ONLY
    return OWNER_ONLY


def make_private_folder(folder: Path) -> Path:
    """Create a folder and its missing parents with `private_umask`; existing ones are not changed.

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
            if not folder.is_dir():  # a file of that name; otherwise another process created the folder
                raise
        else:
            if umask == OWNER_AND_GROUP:  # the process's umask may have removed the group's rights
                folder.chmod(0o2770)
    return folder


def make_private_file(path: Path) -> None:
    """Create an empty file with `private_umask` unless it exists. A database opened there later keeps these rights.

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
    """Set the process's umask to that of a folder, for libraries that create files in it.

    The umask applies to all threads of the process, so keep the block short.
    """
    before = os.umask(private_umask(folder))
    try:
        yield
    finally:
        os.umask(before)


def private_lock(path: Path, *, timeout: float = -1) -> FileLock:
    """Return a lock between processes, with a lock file that all who share the folder can open."""
    return FileLock(path, timeout=timeout, mode=0o666 & ~private_umask(path.parent))


def write_whole(path: Path, content: bytes, *, private: bool = False, new: bool = False) -> None:
    """Write a file atomically: to a temporary file beside it that is then renamed, so that no reader sees half of it.

    Args:
        path: of the file; an existing one is replaced, unless it must be new.
        content: of the file.
        private: whether to use `private_umask`, as for everything that asdbench keeps for itself. Otherwise the
            process's umask applies, as for files that a user asks for by name.
        new: whether an existing file is left as it is, which is a FileExistsError.

    Raises:
        HarnessError: the path exists and is no regular file, such as a folder or /dev/null.
        OSError: it cannot be written.
    """
    if path.exists():
        _demand_regular(path.stat().st_mode, path, "What is written")
    with file_beside(path, mode=0o666 & ~private_umask(path.parent) if private else None, new=new) as file:
        file.write(content)


def demand_regular(path: Path, *, what: str = "What is read") -> None:
    """Refuse a path that leads to a pipe, a folder or a device, without opening it.

    Raises:
        HarnessError: it is no regular file.
        OSError: there is nothing, or it cannot be reached.
    """
    _demand_regular(path.stat().st_mode, path, what)


def open_regular(path: Path, *, what: str = "What is read") -> BinaryIO:
    """Open a regular file to read bytes; refuse pipes and devices, from which reading might never end.

    Args:
        path: of the file, or of a link to one.
        what: name of the file in error sentences, such as "A baseline".

    Raises:
        HarnessError: it is not a regular file.
        OSError: it is missing, or cannot be opened.
    """
    _demand_regular(path.stat().st_mode, path, what)  # before opening: opening a device may have side effects
    file = open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115 - of a handle
    try:
        _demand_regular(os.fstat(file.fileno()).st_mode, path, what)  # again: the path may lead to another file by now
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, *, what: str = "What is read", most: int = MOST_BYTES) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: of the file.
        what: name of the file in error sentences.
        most: largest allowed size, bytes.

    Raises:
        HarnessError: it is missing, no regular file, too large, or cannot be read.
    """
    try:
        with open_regular(path, what=what) as file:
            # read() takes as much memory as it is asked for, however small the file; some of Linux's own say size 0
            size = max(os.fstat(file.fileno()).st_size, SMALL_BYTES)
            content = file.read(min(most, size) + 1) or b""  # read() returns None if a special file has no data yet
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
