"""A cache on disk of values that several trials share, keyed by a digest of everything that they depend on.

An entry is an `.npz` file: the arrays of a value, and `value.json` with its structure, texts and numbers. Reading one
executes no code (no pickle), so a cache may come from anybody. An entry that is damaged, or that belongs to another
key, is ignored, and its value is made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.files import make_private_folder, open_regular, private_lock, write_whole

logger = logging.getLogger(__name__)

FORMAT = 1  # version of the entries' format; entries of another version are ignored
WORDS = "value.json"
ENTRY = ".npz"
ENTRIES = (ENTRY, ".pkl")  # pickles of earlier versions are never opened, only deleted when room is needed
MOST_BYTES = 2**31  # largest entry; latents of a year's 17,000 clips take some 50 MB
CHUNK_BYTES = 2**20  # of an entry that are read at once
MOST_WORDS = 2**22  # largest value.json, bytes; names of many clips are arrays, not JSON
PLAIN = "biufcU"  # allowed `dtype.kind`: bool, integers, floats, complex, text; no objects
# the header of the .npy format, matched strictly here, since NumPy evaluates it as a Python literal
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[<>|=][biufcU]\d{1,9})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[\d, ]{0,200})\), \} *\n",
    re.DOTALL,
)
Class: TypeAlias = type[Any]
Fits: TypeAlias = Callable[[Any], object]


class Cache:
    """A folder of values, each made at most once by all processes of a machine.

    A value is an array, number, text, bytes, None, or a list, tuple, dict (with text keys) or dataclass of these. An
    entry is written to a temporary file and renamed, so that it is never seen half-written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        try:
            make_private_folder(self.folder)
        except OSError as error:
            raise HarnessError(
                f"The cache folder {self.folder} must be writable, but {error.strerror}; "
                "name another one with ASDBENCH_CACHE."
            ) from error

    def get(
        self,
        kind: str,
        key: str,
        make: Callable[[], Any],
        *,
        of: Sequence[Class] = (),
        fits: Fits | None = None,
    ) -> Any:
        """Return the value kept under (kind, key). If there is none, make and keep it.

        Args:
            kind: sort of value, for example "latent"; each has its own folder.
            key: digest of all that the value depends on.
            make: makes the value.
            of: the dataclasses that may occur in the value.
            fits: checks a kept value, for example that it has a row for each clip. If it returns False or raises, the
                value is made again.
        """
        value = self._read(kind, key, of, fits)
        if value is not None:
            return value[0]
        with self.alone(kind, key):
            value = self._read(kind, key, of, fits)
            if value is None:
                value = (make(),)
                try:
                    content = _packed(value[0], kind, key, of)
                except TypeError as error:
                    logger.warning("a value of %r is made each time, since it cannot be kept: %s", kind, error)
                else:
                    self._write(kind, key, content)
        return value[0]

    @contextmanager
    def alone(self, kind: str, key: str) -> Iterator[None]:
        """Lock (kind, key): other processes that want to make the same value wait until the block has ended."""
        path = self.path(kind, key)
        with _writing(self.folder):
            make_private_folder(path.parent)
            lock = private_lock(path.with_name(f"{path.name}.lock"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def find(self, kind: str, key: str, *, of: Sequence[Class] = (), fits: Fits | None = None) -> Any | None:
        """Return the value kept under (kind, key); None if there is none, or if it is damaged. See `get`."""
        value = self._read(kind, key, of, fits)
        return None if value is None else value[0]

    def put(self, kind: str, key: str, value: Any, *, of: Sequence[Class] = (), most_bytes: int | None = None) -> None:
        """Keep a value that was made elsewhere.

        Args:
            kind: sort of value; each has its own folder.
            key: digest of all that the value depends on.
            value: of the types that `Cache` lists.
            of: the dataclasses that may occur in the value.
            most_bytes: size limit of the kind's folder; the oldest values are deleted to stay within it.

        Raises:
            TypeError: the value contains another type.
        """
        content = _packed(value, kind, key, of)
        if most_bytes is not None:
            _make_room(self.folder / kind, most_bytes - len(content))
        self._write(kind, key, content)

    def memo(
        self, features: NDArray[np.floating[Any]], *, salt: str = "", of: Sequence[Class] = ()
    ) -> Callable[[str, Callable[[], Any]], Any]:
        """Return a memo for one feature matrix, as a `RankRequest` takes it.

        Args:
            features: (n, d); their digest is part of every key.
            salt: text with anything else that the values depend on.
            of: the dataclasses that may occur in the values.
        """
        owner = hashlib.blake2b(np.ascontiguousarray(features).tobytes(), digest_size=16)
        owner.update(repr(features.shape).encode() + salt.encode())
        stem = owner.hexdigest()

        def remember(name: str, make: Callable[[], Any]) -> Any:
            key = hashlib.blake2b(f"{stem}:{name}".encode(), digest_size=16).hexdigest()
            return self.get("labeling", key, make, of=of)

        return remember

    def path(self, kind: str, key: str) -> Path:
        """Return the file that keeps the value of (kind, key), whether it is there or not."""
        return self.folder / kind / key[:2] / f"{key}{ENTRY}"

    def _write(self, kind: str, key: str, content: bytes) -> None:
        if len(content) > MOST_BYTES:
            logger.warning("a value of %r has %d MiB and is made each time", kind, len(content) // 2**20)
            return
        path = self.path(kind, key)
        with _writing(self.folder):
            make_private_folder(path.parent)
            write_whole(path, content, private=True)

    def _read(self, kind: str, key: str, of: Sequence[Class], fits: Fits | None) -> tuple[Any] | None:
        try:
            with open_regular(self.path(kind, key)) as file:
                value = _unpacked(file, kind, key, of)
            return (value,) if fits is None or fits(value) else None
        except FileNotFoundError:
            return None
        except FAULTS as error:
            logger.info("an entry of %r is made anew: %s", kind, type(error).__name__)
            return None


# errors that reading a file of arbitrary content may raise: those of zipfile and json, and of the checks below
FAULTS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError, MemoryError,
    NameError, struct.error, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile,
)  # fmt: skip


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `HarnessError` that says that the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"The cache folder {folder} must take what is written there, but {error.filename or folder}: "
            f"{error.strerror}; make room there, or name another one with ASDBENCH_CACHE."
        ) from error


def _make_room(folder: Path, most_bytes: int) -> None:
    """Delete the oldest values of a folder until the rest takes at most this many bytes."""
    there = []
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process may make room at the same time
            if path.suffix in ENTRIES:
                found = path.lstat()
                there.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in there)
    for _, size, path in sorted(there):
        if total <= most_bytes:
            return
        with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            path.unlink()
        total -= size


# The form of one cache entry: arrays in the .npy format, and how they are nested.


@dataclass
class _Arrays:
    """The arrays of a value, numbered in the order in which they are found in it."""

    arrays: list[NDArray[Any]] = field(default_factory=list)

    def add(self, array: NDArray[Any]) -> int:
        """Return the array's number."""
        if array.dtype.kind not in PLAIN or array.dtype.hasobject:
            raise TypeError(f"an array of {array.dtype}")
        self.arrays.append(array)
        return len(self.arrays) - 1


def _packed(value: Any, kind: str, key: str, of: Sequence[Class]) -> bytes:
    """Return an entry's bytes, identical for identical values."""
    found = _Arrays()
    words = {"format": FORMAT, "kind": kind, "key": key, "value": _described(value, found, of)}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        file.writestr(zipfile.ZipInfo(WORDS), json.dumps(words))  # dated 1980: equal values, equal bytes
        for number, array in enumerate(found.arrays):
            with file.open(zipfile.ZipInfo(f"{number}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _described(value: Any, found: _Arrays, of: Sequence[Class]) -> Any:
    """Return a value as JSON, with each array replaced by its number; types that JSON lacks become dicts of one key."""
    node: Any = None
    if isinstance(value, np.ndarray):
        node = {"array": found.add(value)}
    elif isinstance(value, np.generic):
        node = {"number": found.add(np.asarray(value))}
    elif value is None or isinstance(value, bool | int | float | str):
        node = value
    elif isinstance(value, bytes):
        node = {"bytes": found.add(np.frombuffer(value, dtype=np.uint8))}
    elif isinstance(value, list | tuple):
        node = {type(value).__name__: [_described(each, found, of) for each in value]}
    elif isinstance(value, dict) and all(isinstance(name, str) for name in value):
        node = {"dict": [[name, _described(each, found, of)] for name, each in value.items()]}
    elif type(value) in of:
        names = [each.name for each in dataclasses.fields(value)]
        fields = {name: _described(getattr(value, name), found, of) for name in names}
        node = {"of": type(value).__name__, "fields": fields}
    else:
        raise TypeError(f"a {type(value).__name__}")
    return node


def _unpacked(file: BinaryIO, kind: str, key: str, of: Sequence[Class]) -> Any:
    """Read an entry, checking all sizes in it against the size of the file before anything is allocated.

    Raises:
        Exception: one of FAULTS: it is not an intact entry of this key.
    """
    length = file.seek(0, io.SEEK_END)
    _demand(length <= MOST_BYTES)
    with zipfile.ZipFile(file) as entry:
        members = {each.filename: each for each in entry.infolist()}
        # no compression, so that the contents are never larger than the file
        _demand(all(each.compress_type == zipfile.ZIP_STORED for each in members.values()))
        _demand(sum(each.file_size for each in members.values()) <= length)
        _demand(members[WORDS].file_size <= MOST_WORDS)
        words = json.loads(entry.read(WORDS))
        _demand((words["format"], words["kind"], words["key"]) == (FORMAT, kind, key))
        arrays = [_array(_read_member(entry, members[f"{number}.npy"])) for number in range(len(members) - 1)]
    return _value(words["value"], arrays, {each.__name__: each for each in of})


def _read_member(entry: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """Read a member into the memory that its array will have; `entry.read` and a writable copy would take it twice."""
    content, done = bytearray(member.file_size), 0
    with entry.open(member) as file, memoryview(content) as view:
        while part := file.read(CHUNK_BYTES):  # the last read compares the member's checksum
            view[done : done + len(part)] = part
            done += len(part)
    _demand(done == len(content))
    return content


def _array(content: bytearray) -> NDArray[Any]:
    """Read an array in the .npy format whose header agrees with the number of bytes; the array is writable."""
    said = HEADER.match(content)
    if said is None:
        raise ValueError("It is no array of numbers, truth values or texts.")
    dtype, fortran = np.dtype(said["dtype"].decode()), said["fortran"] == b"True"
    shape = tuple(int(size) for size in said["shape"].split(b",") if size.strip())
    _demand(math.prod(shape) * dtype.itemsize == len(content) - said.end())
    if 0 in (dtype.itemsize, *shape):
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=said.end())
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _value(node: Any, arrays: Sequence[NDArray[Any]], classes: dict[str, Class]) -> Any:
    """Return the value that `_described` described."""
    if not isinstance(node, dict):
        _demand(not isinstance(node, list))
        return node
    (word, content), *more = node.items()
    _demand(not more or word == "of")
    value: Any
    if word == "of":
        hints, ((_, fields),) = get_type_hints(classes[content]), more
        kept = {name: _value(each, arrays, classes) for name, each in fields.items()}
        _demand(all(_is(each, hints[name]) for name, each in kept.items()))
        value = classes[content](**kept)
    elif word == "array":
        value = arrays[content]
    elif word == "number":
        value = arrays[content][()]
    elif word == "bytes":
        value = arrays[content].tobytes()
    elif word == "dict":
        value = {name: _value(each, arrays, classes) for name, each in content}
    else:
        inside = [_value(each, arrays, classes) for each in content]
        value = {"list": inside, "tuple": tuple(inside)}[word]
    return value


def _is(value: Any, hint: Any) -> bool:
    """Tell whether a value has the type that a dataclass declares for its field."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is np.ndarray:  # NDArray[np.float64] is ndarray[shape, dtype[np.float64]]
        (kept,) = get_args(inside[1]) or (Any,)
        right = isinstance(value, np.ndarray) and (not isinstance(kept, type) or issubclass(value.dtype.type, kept))
    elif origin is Literal:
        right = value in inside
    elif origin in (Union, UnionType):
        right = any(_is(value, each) for each in inside)
    elif origin is tuple:
        wanted = [inside[0]] * len(value) if inside[1:] == (Ellipsis,) else inside
        right = isinstance(value, tuple) and len(wanted) == len(value) and all(map(_is, value, wanted))
    elif hint in (int, float):
        right = isinstance(value, (float, int) if hint is float else int) and not isinstance(value, bool)
    elif isinstance(kind := origin or hint, type):
        every = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        right = isinstance(value, kind) and (not inside or all(_is(each, inside[-1]) for each in every))
    else:
        right = hint is Any or hint is value is None
    return right


def _demand(holds: bool) -> None:
    if not holds:
        raise ValueError("It is no whole entry of this key.")
