"""Decoded recordings in memory-mapped packs, which all trials and workers share."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError, Mix, Problem
from benchmarks.recordings.audio import FULL_SCALE

logger = logging.getLogger(__name__)

# A clip of nothing but zeros gets the level of int16's own rounding noise, so that levels stay finite.
FLOOR_DB = float(10 * np.log10((1 / FULL_SCALE) ** 2 / 12))
FORMAT = 2  # of the packs; those of another format are read anew

Fit: TypeAlias = Literal["repeat", "pad"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a recording's samples stand, and what its file looked like when it was read."""

    clip_id: str
    path: str
    size: int
    mtime_ns: int
    length: int
    digest: str
    segment: str
    offset: int
    mix: Mix


class PackedAudio:
    """Decoded clips in memory-mapped files; cheap to open, shared by processes, picklable.

    Attributes:
        ids: (n,) clip ids.
        lengths: (n,) int64 samples at 16 kHz.
        hashes: (n,) digest of each clip's samples.
        skipped: the files that were left out, where that was asked for.
    """

    def __init__(
        self, folder: Path, entries: Sequence[Entry], ids: Sequence[str], skipped: Sequence[Problem] = ()
    ) -> None:
        self._folder = folder
        self._entries = dict(zip(ids, entries, strict=True))
        self._maps: dict[str, NDArray[np.int16]] = {}
        self.ids = np.array(ids, dtype=np.str_)
        self.lengths = np.array([entry.length for entry in entries], dtype=np.int64)
        self.hashes = np.array([entry.digest for entry in entries], dtype=np.str_)
        self.skipped = tuple(skipped)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def read(self, ids: Sequence[str] | NDArray[np.str_], samples: int, fit: Fit = "repeat") -> NDArray[np.float32]:
        """Return clips at one length: (b,) ids -> (b, samples) float32 in -1..1.

        Args:
            ids: clips, in the order wanted.
            samples: length of each at 16 kHz; a longer clip loses its end.
            fit: a shorter clip is repeated, or padded with zeros.

        Raises:
            BenchmarkError: if a clip is not in the pack, or `samples` or `fit` are none.
        """
        if samples < 1:
            raise BenchmarkError(f"samples must be at least 1, the length of a clip, but got {samples}.")
        if fit not in {"repeat", "pad"}:
            raise BenchmarkError(f"fit must be repeat or pad, but got {fit}.")
        out = np.zeros((len(ids), samples), dtype=np.float32)
        for row, clip_id in zip(out, ids, strict=True):
            clip = self._samples(str(clip_id))[:samples]
            row[: clip.size] = clip
            if fit == "repeat":
                for start in range(clip.size, samples, clip.size):
                    row[start : start + clip.size] = row[: min(clip.size, samples - start)]
        out /= FULL_SCALE
        return out

    def waveform(self, clip_id: str) -> NDArray[np.float32]:
        """Return one clip whole: (samples,) float32 in -1..1."""
        return self._samples(clip_id).astype(np.float32) / np.float32(FULL_SCALE)

    def levels_db(self, ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.float64]:
        """Return the RMS level of clips: (n,) dB re full scale, `FLOOR_DB` at the least."""
        powers = [
            float(np.mean(np.square(self._samples(str(clip_id)), dtype=np.float64))) / FULL_SCALE**2 for clip_id in ids
        ]
        floor = 10 ** (FLOOR_DB / 10)
        return np.array([10 * np.log10(max(power, floor)) for power in powers], dtype=np.float64)

    def fingerprint(self, ids: Sequence[str] | NDArray[np.str_]) -> str:
        """Digest which clips these are and what is in them, whatever their order."""
        pairs = sorted((str(clip_id), self._entry(str(clip_id)).digest) for clip_id in ids)
        return blake2b(json.dumps(pairs).encode(), digest_size=16).hexdigest()

    def _entry(self, clip_id: str) -> Entry:
        try:
            return self._entries[clip_id]
        except KeyError:
            raise BenchmarkError(
                f"clips must be packed before they are read, but {clip_id} is not among the {len(self._entries)} "
                f"of {self._folder}; pack it first."
            ) from None

    def _samples(self, clip_id: str) -> NDArray[np.int16]:
        entry = self._entry(clip_id)
        if entry.segment not in self._maps:
            self._maps[entry.segment] = np.memmap(self._folder / f"{entry.segment}.i16", dtype="<i2", mode="r")
        return self._maps[entry.segment][entry.offset : entry.offset + entry.length]


def open_pack(folder: Path | str) -> PackedAudio:
    """Open everything that a folder holds; of a clip id that was packed twice, what came last.

    Raises:
        BenchmarkError: if nothing was packed there.
    """
    folder = Path(folder).absolute()
    entries = {entry.clip_id: entry for entry in read_index(folder).values()}
    if not entries:
        raise BenchmarkError(f"{folder} must hold packed clips, but holds none; pack them first.")
    return PackedAudio(folder, list(entries.values()), list(entries))


def read_index(folder: Path) -> dict[str, Entry]:
    """Read what every segment says of itself, by path; a later segment speaks last."""
    entries: dict[str, Entry] = {}
    for table in sorted(folder.glob("segment-*.json")):
        data = table.with_suffix(".i16")
        try:
            content = json.loads(table.read_text(encoding="utf-8"))
        except ValueError:  # a power failure can leave a file without its content
            content = {}
        whole = data.is_file() and data.stat().st_size == content.get("bytes")
        if not whole or content.get("format") != FORMAT:
            logger.warning("%s does not fit its table and is passed over; its clips are read again.", data)
            continue
        for clip_id, path, size, mtime_ns, length, digest, offset, mix in content["clips"]:
            entries.pop(path, None)  # so that what was packed last also stands last
            entries[path] = Entry(clip_id, path, size, mtime_ns, length, digest, data.stem, offset, mix)
    return entries
