"""What is kept between trials, keyed by what made it."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness.errors import HarnessError

SUM_BYTES = 16


class Cache:
    """A folder of values, each made at most once by all processes of a machine.

    An entry is written beside and renamed, and carries the sum of its bytes: a value is whole or it is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"The cache folder {self.folder} must be writable, but {error.strerror}; "
                "name another one with ASDBENCH_CACHE."
            ) from error

    def get(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """Return the value kept under (kind, key), making and keeping it if there is none.

        Args:
            kind: what sort of value, for example "latent"; a folder of its own.
            key: digest of all that the value depends on.
            make: makes the value, which must be picklable.
        """
        path = self.folder / kind / key[:2] / f"{key}.pkl"
        value = _read(path)
        if value is not None:
            return value[0]
        with self.alone(kind, key):
            value = _read(path)
            if value is None:
                value = (make(),)
                write_whole(path, _sealed(value))
        return value[0]

    @contextmanager
    def alone(self, kind: str, key: str) -> Iterator[None]:
        """Hold a value's place: whoever wants to make the same value waits until this one is there, or given up."""
        path = self.folder / kind / key[:2] / f"{key}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield

    def find(self, kind: str, key: str) -> Any | None:
        """Return the value kept under (kind, key); None where there is none, or it is not whole."""
        value = _read(self.folder / kind / key[:2] / f"{key}.pkl")
        return None if value is None else value[0]

    def put(self, kind: str, key: str, value: Any, *, most_bytes: int | None = None) -> None:
        """Keep a value that was made elsewhere.

        Args:
            kind: what sort of value; a folder of its own.
            key: digest of all that the value depends on.
            value: must be picklable.
            most_bytes: of the kind's folder; the oldest values make room.
        """
        path = self.folder / kind / key[:2] / f"{key}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = _sealed((value,))
        if most_bytes is not None:
            _make_room(self.folder / kind, most_bytes - len(content))
        write_whole(path, content)

    def memo(self, features: NDArray[np.floating[Any]], *, salt: str = "") -> Callable[[str, Callable[[], Any]], Any]:
        """Return a memo for one feature matrix, as a `RankRequest` takes it."""
        owner = hashlib.blake2b(np.ascontiguousarray(features).tobytes(), digest_size=16)
        owner.update(repr(features.shape).encode() + salt.encode())
        stem = owner.hexdigest()

        def remember(name: str, make: Callable[[], Any]) -> Any:
            key = hashlib.blake2b(f"{stem}:{name}".encode(), digest_size=16).hexdigest()
            return self.get("labeling", key, make)

        return remember


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that a reader sees all of it or none."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _make_room(folder: Path, most_bytes: int) -> None:
    """Remove the oldest values of a folder until what is left takes so many bytes at most."""
    there = []
    for path in folder.glob("*/*.pkl"):
        with suppress(FileNotFoundError):  # another process may make room at the same time
            found = path.stat()
            there.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in there)
    for _, size, path in sorted(there):
        if total <= most_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def _sealed(value: tuple[Any]) -> bytes:
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return hashlib.blake2b(body, digest_size=SUM_BYTES).digest() + body


def _read(path: Path) -> tuple[Any] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    body = content[SUM_BYTES:]
    if hashlib.blake2b(body, digest_size=SUM_BYTES).digest() != content[:SUM_BYTES]:
        return None
    value: tuple[Any] = pickle.loads(body)
    return value
