"""Files that somebody else wrote: opened only where they are files, read once, and summed as they were read."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from backbones.contract import BackboneError

MOST_BYTES = 16 * 2**30  # of one file; the largest audio encoders (Whisper large in float32) take 6 GiB
LFS_POINTER = b"version https://git-lfs"
KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


@dataclass(frozen=True)
class ReadFile:
    """A file's bytes as they were when it was read, and the sum of exactly these.

    Attributes:
        path: where it lay.
        data: what it held.
        sha256: of `data`, 64 hexadecimal digits.
    """

    path: Path
    data: bytes
    sha256: str


def what_is(path: Path) -> str:
    """Say what stands under a path: "is a file", "is a folder", "is a named pipe", "does not exist", ..."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing" if path.is_symlink() else "does not exist"
    except (OSError, ValueError) as error:  # a link to itself, a name that is too long, a folder that may not be read
        return f"cannot be reached ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISREG(mode):
        return "is a file"
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), "is no file")


def is_file(path: Path) -> bool:
    """Tell whether a regular file stands under a path; links are followed."""
    return what_is(path) == "is a file"


def open_file(path: Path) -> io.FileIO:
    """Open a regular file for reading; anything else under its name is refused at once, and nothing waits.

    A named pipe would block whoever opens it until somebody writes, and a device may do anything, so both are told by
    their kind before they are opened and once more afterwards, in case something was put in between.

    Raises:
        BackboneError: it is no regular file, or may not be read.
    """
    if (kind := what_is(path)) != "is a file":
        raise BackboneError(f"{path} must be a file, but {kind}.")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BackboneError(f"{path} could not be opened: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BackboneError(f"{path} must be a file, but something else was put in its place.")
    return io.FileIO(descriptor, "rb")


def read_file(path: Path, *, most_bytes: int = MOST_BYTES) -> ReadFile:
    """Read a regular file once, and sum what was read.

    Whoever records the sum and uses the bytes can be sure that they belong together, whatever becomes of the file.

    Raises:
        BackboneError: it is no regular file, may not be read, or is larger than `most_bytes`.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise BackboneError(f"{path} must have at most {most_bytes:,} bytes, but has {size:,}.")
        try:
            data = file.read() or b""  # None where there is nothing yet, as in /proc/kmsg
        except OSError as error:
            raise BackboneError(f"{path} could not be read: {error.strerror}.") from error
    return ReadFile(path, data, hashlib.sha256(data).hexdigest())


def sha256_of_file(path: Path) -> str:
    """Sum a regular file without keeping it in memory.

    Raises:
        BackboneError: it is no regular file, or may not be read.
    """
    with open_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BackboneError(f"{path} could not be read: {error.strerror}.") from error


def refuse_stand_in(path: Path, data: bytes, *, what: str) -> None:
    """Refuse what often lies under a downloaded file's name in its place: nothing, a pointer of Git LFS, a web page.

    Args:
        path: of the file.
        data: its bytes, or the first few hundred.
        what: it should be, for example "a checkpoint".

    Raises:
        BackboneError: it is one of these.
    """
    if not data:
        raise BackboneError(f"{path} is empty (0 bytes), so it is not {what}; download it again.")
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(LFS_POINTER):
        raise BackboneError(
            f"{path} is a Git LFS pointer, which stands for the file until it is fetched, and not {what} itself; "
            "run git lfs pull in its repository."
        )
    if start.startswith(b"<"):
        shown = start[:40].decode("utf-8", "replace").splitlines()[0]
        raise BackboneError(
            f"{path} is a text file and not {what} (it begins with {shown!r}), perhaps an error page that was saved "
            "in its place; download it again."
        )
