"""Embeddings that somebody made elsewhere: an npz with `files (n,)` and `vectors (n, d)` or `(n, tokens, d)`.

The names are paths as in the official attribute tables, `fan/train/section_00_source_train_normal_0000_m-n_X.wav`. A
folder of a year may stand in front (`dcase2025t2/...`), and must where clips of several years have the same name.

The file is a stranger's: nothing in it is run, what it declares is compared with what it holds before memory is taken
for it, and arrays of tokens are reduced to their mean piece by piece.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from backbones.contract import BackboneError
from backbones.files import open_file, refuse_stand_in

FILES, VECTORS = "files", "vectors"
ENDINGS = (".wav", ".flac")
SPLITS = {"train": "train", "test": "test", "source_test": "test", "target_test": "test"}  # by folder; 2021 has two
YEAR = re.compile(r"(dcase20\d\d)(?:t2)?|(own)")
FLOATS = (2, 4, 8)  # bytes of a number: float16, float32, float64
MOST_CLIPS = 5_000_000
MOST_SIZE = 1_000_000  # numbers of an embedding; the largest in use have some 6,000
MOST_NAMES_BYTES = 2**30
MOST_HELD_BYTES = 4 * 2**30  # of embeddings in memory; those of all years take 0.5 GiB
MOST_HEADER = 10_000  # letters, as numpy has it
MOST_VALUE = 1e15  # squares of larger numbers leave float32
CHUNK_BYTES = 2**26  # that are read at once
SHOWN = 3  # clips that a sentence names
FAULTS = (
    OSError, ValueError, LookupError, RuntimeError, EOFError, TypeError, NotImplementedError, MemoryError,
    OverflowError, struct.error, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile, SyntaxError,
)  # fmt: skip


class ClipPlace(NamedTuple):
    """What a path says of its clip: `dcase2025t2/dev_data/raw/fan/train/section_00_... .wav`.

    Attributes:
        year: "dcase2025"; None where the path names none.
        machine: machine type, the folder of the clip's folder.
        folder: train, test, or 2021's source_test and target_test.
        stem: name without its ending.
    """

    year: str | None
    machine: str
    folder: str
    stem: str

    @property
    def within(self) -> str:
        """Return "fan/train/section_00_...", as ids of clips end."""
        return f"{self.machine}/{SPLITS[self.folder]}/{self.stem}"


@dataclass(frozen=True)
class EmbeddingFile:
    """Embeddings of named clips, as they were read.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        places: of each clip.
        vectors: (n, d) float32, the mean where the file has tokens.
    """

    path: Path
    sha256: str
    places: tuple[ClipPlace, ...]
    vectors: NDArray[np.float32] = field(repr=False)
    _by_name: Mapping[tuple[str | None, str], int] = field(repr=False, default_factory=dict)

    def rows(self, ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.int64]:
        """Find clips by their ids, `dcase2025/dev/fan/train/section_00_...`: (n,) ids -> (n,) rows of `vectors`.

        Raises:
            BackboneError: the file has no embedding of a clip, or one that two clips could mean.
        """
        found, missing, bare = [], [], dict[int, str]()
        for clip_id in map(str, ids):
            year, _, within = clip_id.split("/", 2)
            within = unicodedata.normalize("NFC", within)
            row = self._by_name.get((year, within))
            if row is None:
                row = self._by_name.get((None, within))
                if row is not None and bare.setdefault(row, clip_id) != clip_id:
                    raise BackboneError(
                        f"Names of clips must say their year where several years have the same, but {within} in "
                        f"{self.path} could be {bare[row]} or {clip_id}; put the year's folder in front, {year}t2/..."
                    )
            if row is None:
                missing.append(clip_id)
            else:
                found.append(row)
        if missing:
            raise BackboneError(
                f"{self.path} must hold an embedding of every clip, but lacks {_some(missing)} (it has "
                f"{len(self.places):,}); add them, or leave their recordings out."
            )
        return np.array(found, dtype=np.int64)


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read a file of embeddings; one that was read already and has not changed is not read again.

    Raises:
        BackboneError: it is not there, is no such npz, or has missing, doubled, misnamed, non-finite or empty clips.
    """
    with open_file(path) as file:
        refuse_stand_in(path, file.read(512), what="an npz of embeddings")
        file.seek(0)
        total = hashlib.file_digest(file, "sha256").hexdigest()
    return _read(path, total)


@lru_cache(maxsize=4)
def _read(path: Path, total: str) -> EmbeddingFile:
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in (FILES, VECTORS):
                if name not in members:
                    raise BackboneError(
                        f"{path} must hold the arrays {FILES} and {VECTORS}, but lacks {name} and has "
                        f"{_some(sorted(members)) or 'none'}; write it with np.savez(path, files=..., vectors=...)."
                    )
            names = _names(path, archive, members[FILES])
            vectors = _vectors(path, archive, members[VECTORS], names=names)
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != total:
                raise BackboneError(f"{path} changed while it was read; start again.")
    except FAULTS as error:
        if isinstance(error, BackboneError):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(
            f"{path} could not be read as an npz of embeddings ({said}); write it again with np.savez."
        ) from error
    places = tuple(_place(path, name) for name in names)
    by_name: dict[tuple[str | None, str], int] = {}
    for row, place in enumerate(places):
        first = by_name.setdefault((place.year, place.within), row)
        if first != row:
            raise BackboneError(
                f"Each clip must stand once in {path}, but {names[row]} stands in row {first} and in row {row}; remove "
                "one."
            )
    return EmbeddingFile(path, total, places, vectors, by_name)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _place(path: Path, name: str) -> ClipPlace:
    """Read a clip's path.

    Raises:
        BackboneError: it has no folder of clips in it.
    """
    parts = unicodedata.normalize("NFC", name.replace("\\", "/")).split("/")
    at = max((place for place, part in enumerate(parts[:-1]) if part in SPLITS), default=0)
    stem = "/".join(parts[at + 1 :])
    ending = next((ending for ending in ENDINGS if stem.lower().endswith(ending)), "")
    stem = stem[: len(stem) - len(ending)]
    if at == 0 or not parts[at - 1] or not stem:
        raise BackboneError(
            f"Names in {path} must read MACHINE/train/NAME.wav or MACHINE/test/NAME.wav, as in the official attribute "
            f"tables, but got {name!r}."
        )
    years = [found for part in parts[: at - 1] if (found := YEAR.fullmatch(part)) is not None]
    return ClipPlace((years[-1][1] or years[-1][2]) if years else None, parts[at - 1], parts[at], stem)


def _check_values(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Refuse embeddings by which no clip can be compared, by name."""
    largest = np.abs(vectors).max(axis=1)  # NaN where one is
    for wrong, what in (
        (~np.isfinite(largest), "be finite, but NaN or infinite numbers are in that of"),
        (largest > MOST_VALUE, f"have numbers below {MOST_VALUE:g}, but larger ones are in that of"),
        (largest == 0, "point somewhere, but nothing but zeros is in that of"),
    ):
        if wrong.any():
            bad = [names[row] for row in np.flatnonzero(wrong)[:SHOWN]]
            more = int(wrong.sum()) - len(bad)
            rest = f" and {more:,} more" if more else ""
            raise BackboneError(f"Embeddings in {path} must {what} {', '.join(bad)}{rest}; make them again.")


# --- arrays of an npz, whose headers are believed once the sizes agree


@dataclass(frozen=True)
class _Header:
    """What a member says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _header(path: Path, member: IO[bytes], info: zipfile.ZipInfo, *, name: str) -> _Header:
    """Read the head of an array; raise where it declares more, or other things, than the member has."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member, max_header_size=MOST_HEADER)
    if dtype.hasobject:
        raise BackboneError(
            f"The array {name} of {path} holds Python objects, which are never loaded; write plain arrays: names of a "
            "text type, vectors of floats."
        )
    declared = math.prod(shape) * dtype.itemsize
    there = info.file_size - member.tell()
    if declared != there:
        raise BackboneError(
            f"The array {name} of {path} declares the shape {shape} of {dtype}, {declared:,} bytes, but {there:,} are "
            "there; write the file again."
        )
    return _Header(tuple(shape), fortran, dtype)


def _names(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> list[str]:
    with archive.open(info) as member:
        head = _header(path, member, info, name=FILES)
        if len(head.shape) != 1 or head.dtype.kind not in "US" or not head.dtype.itemsize:
            raise BackboneError(
                f"The array {FILES} of {path} must have the shape (n,) and hold texts, but has {head.shape} of "
                f"{head.dtype}."
            )
        if not 1 <= head.shape[0] <= MOST_CLIPS or info.file_size > MOST_NAMES_BYTES:
            raise BackboneError(
                f"{path} must name 1 to {MOST_CLIPS:,} clips in at most {MOST_NAMES_BYTES:,} bytes, but names "
                f"{head.shape[0]:,} in {info.file_size:,}."
            )
        found = np.frombuffer(member.read(), dtype=head.dtype)
    texts: list[str] = [str(each) for each in (np.char.decode(found, "utf-8") if head.dtype.kind == "S" else found)]
    return texts


def _vectors(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, names: Sequence[str]
) -> NDArray[np.float32]:
    with archive.open(info) as member:
        head = _header(path, member, info, name=VECTORS)
        if head.dtype.kind != "f" or head.dtype.itemsize not in FLOATS:
            raise BackboneError(
                f"The array {VECTORS} of {path} must be of float16, float32 or float64, but is of {head.dtype}; "
                "convert it with .astype(np.float32)."
            )
        if len(head.shape) not in (2, 3) or 0 in head.shape[1:]:
            raise BackboneError(
                f"The array {VECTORS} of {path} must have the shape (n, d) or (n, tokens, d), but has {head.shape}."
            )
        if head.shape[0] != len(names):
            raise BackboneError(
                f"{path} must hold a vector a name, but has {len(names):,} {FILES} and {head.shape[0]:,} {VECTORS}."
            )
        size = head.shape[-1]
        held = head.shape[0] * size * 4 if not head.fortran else math.prod(head.shape) * head.dtype.itemsize
        if size > MOST_SIZE or held > MOST_HELD_BYTES:
            raise BackboneError(
                f"Embeddings must have at most {MOST_SIZE:,} numbers each and {MOST_HELD_BYTES:,} bytes together, but "
                f"those of {path} have {size:,} and {held:,}."
            )
        vectors = np.empty((head.shape[0], size), dtype=np.float32)  # filled in place: joined parts would be held twice
        done = 0
        for part in map(_pooled, _parts(member, head)):
            _check_values(path, names[done : done + len(part)], part)
            vectors[done : done + len(part)] = part
            done += len(part)
    return vectors


def _parts(member: IO[bytes], head: _Header) -> Iterator[NDArray[Any]]:
    """Yield the array a few clips at a time; one whose axes stand the other way round is read whole."""
    if head.fortran:
        yield (
            np.frombuffer(_exactly(member, math.prod(head.shape) * head.dtype.itemsize), head.dtype)
            .reshape(head.shape[::-1])
            .T
        )
        return
    clip_bytes = math.prod(head.shape[1:]) * head.dtype.itemsize
    at_once = max(1, CHUNK_BYTES // clip_bytes)
    for start in range(0, head.shape[0], at_once):
        count = min(at_once, head.shape[0] - start)
        yield np.frombuffer(_exactly(member, count * clip_bytes), head.dtype).reshape(count, *head.shape[1:])


def _exactly(member: IO[bytes], size: int) -> bytes:
    data = member.read(size)
    if len(data) != size:
        raise EOFError(f"it ends {size - len(data):,} bytes early")
    return data


def _pooled(part: NDArray[Any]) -> NDArray[np.float32]:
    """Return one vector a clip: (b, d) as they are, (b, tokens, d) -> (b, d) their mean."""
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is said by name
        numbers = part.astype(np.float32)
    if numbers.ndim == 2:
        return numbers
    pooled: NDArray[np.float32] = torch.from_numpy(np.ascontiguousarray(numbers)).mean(dim=1).numpy()
    return pooled


def packed_embeddings(names: Sequence[str], vectors: NDArray[np.float32]) -> bytes:
    """Return the bytes of a file of embeddings: the same ones make the same bytes.

    Args:
        names: (n,) paths of the clips.
        vectors: (n, d).
    """
    content = io.BytesIO()
    np.savez(content, **{FILES: np.array(names, dtype=np.str_), VECTORS: vectors})  # type: ignore[arg-type]
    return content.getvalue()
