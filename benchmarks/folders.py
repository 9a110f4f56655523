"""Folders that are written to: files in them are whole or not there, and refusals are said in one sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    """Turn what the disk refuses inside into a BenchmarkError.

    Args:
        folder: that is written to; the sentence names it, and the file that could not be written where there is one.

    Raises:
        BenchmarkError: for every OSError inside.
    """
    try:
        yield
    except OSError as error:
        where = f" ({printable(os.fsdecode(error.filename))})" if isinstance(error.filename, str | bytes) else ""
        why = f"{error.strerror or error}{where}"
        if error.errno in FULL:
            raise BenchmarkError(
                f"{printable(folder)} must have room for what is written, but: {why}; what is there is whole, so make "
                "room and run the same again."
            ) from error
        raise BenchmarkError(
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
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
