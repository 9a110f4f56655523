"""Decoded recordings in memory-mapped packs, which all trials and workers share."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError, Mix, Problem
from benchmarks.files import read_text
from benchmarks.recordings.audio import FULL_SCALE

logger = logging.getLogger(__name__)

# A clip of nothing but zeros gets the level of int16's own rounding noise, so that levels stay finite.
FLOOR_DB = float(10 * np.log10((1 / FULL_SCALE) ** 2 / 12))
FORMAT = 3  # of the packs; those of another format are read anew, but for the one before
BEFORE = 2  # without what tells a file that was changed under its old size and time, so its clips are checked once
SEGMENT = re.compile(r"segment-[0-9]{6,}")

AGAIN = "start again, which packs it anew; where that does not help, remove the folder."

Fit: TypeAlias = Literal["repeat", "pad"]


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file looked like when it was read.

    Attributes:
        size: bytes.
        mtime_ns: when its content was changed, as far as programs say; anybody can set it back.
        ctime_ns: when anything of it was changed; the system alone sets it (on Windows, when the file was made).
        inode: of the file; another one after it was replaced.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a recording's samples stand, and what its file looked like when it was read.

    Attributes:
        clip_id: of the clip.
        path: of the file.
        state: of the file.
        blocks: digest of some bytes of the file (`benchmarks.recordings.packing`).
        length: samples.
        digest: of the samples.
        segment: file of the pack that holds them.
        offset: their place there, in samples.
        mix: which sound of several channels they are.
    """

    clip_id: str
    path: str
    state: FileState
    blocks: str
    length: int
    digest: str
    segment: str
    offset: int
    mix: Mix


class _Place(NamedTuple):
    """Where a clip's samples stand in a pack, how many there are, of how many channels, and their digest."""

    segment: str
    offset: int
    length: int
    channels: int
    digest: str


class PackedAudio:
    """Decoded clips in memory-mapped files; cheap to open, shared by processes, picklable.

    The first time that a process reads a clip, its samples are checked against the digest that the fingerprints are
    made of: a pack that was made anew under the same name, or changed, is not read under the old fingerprint.

    Attributes:
        ids: (n,) clip ids.
        lengths: (n,) int64 samples at 16 kHz, of one channel.
        hashes: (n,) digest of each clip's samples.
        skipped: the files that were left out, where that was asked for.
    """

    def __init__(
        self, folder: Path, entries: Sequence[Entry], ids: Sequence[str], skipped: Sequence[Problem] = ()
    ) -> None:
        self._folder = folder
        # numbers in arrays, not the entries themselves: those of 150,000 clips would take 150 MB in every worker
        self._places = {clip_id: place for place, clip_id in enumerate(ids)}
        self._sizes = np.array([(entry.offset, entry.length, _channels(entry)) for entry in entries], dtype=np.int64)
        self._segments = tuple({entry.segment: None for entry in entries})
        codes = {segment: code for code, segment in enumerate(self._segments)}
        self._segment_of = np.array([codes[entry.segment] for entry in entries], dtype=np.int64)
        self._maps: dict[str, NDArray[np.int16]] = {}
        self._checked: set[str] = set()
        self.ids = np.array(ids, dtype=np.str_)
        self.lengths = np.array([entry.length // _channels(entry) for entry in entries], dtype=np.int64)
        self.hashes = np.array([entry.digest for entry in entries], dtype=np.str_)
        self.skipped = tuple(skipped)

    @property
    def heard(self) -> bool:
        """Tell whether there is sound; see `SilentClips`."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}, "_checked": set()}

    def read(
        self, ids: Sequence[str] | NDArray[np.str_], samples: int, fit: Fit = "repeat", *, start: int = 0
    ) -> NDArray[np.float32]:
        """Return clips at one length: (b,) ids -> (b, samples) float32 in -1..1.

        Where both channels are heard they stand one behind the other, each of that length: (b, 2 * samples).

        Args:
            ids: clips, in the order wanted.
            samples: length of each at 16 kHz; a longer clip loses its end.
            fit: a shorter clip is repeated, or padded with zeros.
            start: sample of each clip that is heard first; every clip must be longer.

        Raises:
            BenchmarkError: if a clip is not in the pack, or `samples` or `fit` are none.
        """
        if samples < 1:
            raise BenchmarkError(f"samples must be at least 1, the length of a clip, but got {samples}.")
        if fit not in {"repeat", "pad"}:
            raise BenchmarkError(f"fit must be repeat or pad, but got {fit}.")
        channels = self._channels_of(ids)
        if start < 0 or (start and any(self._entry(str(clip_id)).length // channels <= start for clip_id in ids)):
            raise BenchmarkError(f"start must lie within every clip, but got {start}.")
        out = np.zeros((len(ids), channels, samples), dtype=np.float32)
        for rows, clip_id in zip(out, ids, strict=True):
            for row, whole in zip(rows, self._samples(str(clip_id)).reshape(channels, -1), strict=True):
                clip = whole[start : start + samples]
                row[: clip.size] = clip
                if fit == "repeat":
                    for at in range(clip.size, samples, clip.size):
                        row[at : at + clip.size] = row[: min(clip.size, samples - at)]
        out /= FULL_SCALE
        return out.reshape(len(ids), channels * samples)

    def waveform(self, clip_id: str) -> NDArray[np.float32]:
        """Return one clip whole: (samples,) float32 in -1..1; of both channels, one behind the other."""
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

    def _channels_of(self, ids: Sequence[str] | NDArray[np.str_]) -> int:
        """Return how many channels these clips were read with, 1 where there are no clips.

        Raises:
            BenchmarkError: if some have one and others two.
        """
        found = {self._entry(str(clip_id)).channels for clip_id in ids}
        if len(found) > 1:
            raise BenchmarkError(
                f"clips that are read together must have as many channels each, but of those of {self._folder} some "
                f"have one and others two; {AGAIN}"
            )
        return found.pop() if found else 1

    def _entry(self, clip_id: str) -> _Place:
        try:
            place = self._places[clip_id]
        except KeyError:
            raise BenchmarkError(
                f"clips must be packed before they are read, but {clip_id} is not among the {len(self._places)} "
                f"of {self._folder}; pack it first."
            ) from None
        offset, length, channels = self._sizes[place].tolist()
        return _Place(self._segments[self._segment_of[place]], offset, length, channels, str(self.hashes[place]))

    def _samples(self, clip_id: str) -> NDArray[np.int16]:
        entry = self._entry(clip_id)
        if entry.segment not in self._maps:
            data = self._folder / f"{entry.segment}.i16"
            try:
                self._maps[entry.segment] = np.memmap(data, dtype="<i2", mode="r")
            except (OSError, ValueError) as error:  # gone, or empty
                raise BenchmarkError(f"{data} must hold packed audio, but cannot be read ({error}); {AGAIN}") from error
        samples = self._maps[entry.segment][entry.offset : entry.offset + entry.length]
        if clip_id not in self._checked:
            if samples_digest(samples) != entry.digest:
                raise BenchmarkError(
                    f"packed audio must be what was read from the recordings, but {entry.segment} of {self._folder} "
                    f"now holds other samples of {clip_id}; {AGAIN}"
                )
            self._checked.add(clip_id)
        return samples


def _channels(entry: Entry) -> int:
    """Return how many channels stand in a clip's samples, one behind the other."""
    return 2 if entry.mix == "both" else 1


class HeldClips(PackedAudio):
    """Clips whose sound is held in memory, and stands nowhere in a pack.

    Args:
        samples: clip id -> (samples,) int16 at 16 kHz; of both channels, one behind the other.
        channels: of each clip.
    """

    def __init__(self, samples: Mapping[str, NDArray[np.int16]], *, channels: int = 1) -> None:
        super().__init__(Path(), [], [])
        self._held, self._channels_each = dict(samples), channels
        self.ids = np.array(list(samples), dtype=np.str_)
        self.lengths = np.array([len(each) // channels for each in samples.values()], dtype=np.int64)
        self._digests = {clip_id: samples_digest(each) for clip_id, each in samples.items()}
        self.hashes = np.array(list(self._digests.values()), dtype=np.str_)

    def _entry(self, clip_id: str) -> _Place:
        return _Place("", 0, len(self._held[clip_id]), self._channels_each, self._digests[clip_id])

    def _samples(self, clip_id: str) -> NDArray[np.int16]:
        return self._held[clip_id]


class SilentClips(PackedAudio):
    """Clips that are known by embeddings alone: what stands where packed audio does, with vectors and without sound.

    Attributes:
        source: the file that they came from.
        vectors: (n, d) float32, a row an id.
    """

    def __init__(self, source: str, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        super().__init__(Path(source), [], [])
        self.source, self.vectors = source, np.ascontiguousarray(vectors)
        self.ids = np.array(ids, dtype=np.str_)
        self.lengths = np.ones(len(ids), dtype=np.int64)
        self.hashes = np.array([_vector_digest(row) for row in self.vectors], dtype=np.str_)
        self._places = {clip_id: place for place, clip_id in enumerate(ids)}

    @property
    def heard(self) -> bool:
        """Tell whether there is sound."""
        return False

    def of(self, ids: NDArray[np.str_]) -> NDArray[np.float32]:
        """Return the embeddings of clips: (b,) ids -> (b, d)."""
        return self.vectors[[self._places[str(clip_id)] for clip_id in ids]]

    def fingerprint(self, ids: Sequence[str] | NDArray[np.str_]) -> str:
        """Digest which clips these are and what their embeddings are, whatever their order."""
        pairs = sorted((str(clip_id), str(self.hashes[self._places[str(clip_id)]])) for clip_id in ids)
        return blake2b(json.dumps(pairs).encode(), digest_size=16).hexdigest()

    def _channels_of(self, ids: Sequence[str] | NDArray[np.str_]) -> int:
        return 1

    def _samples(self, clip_id: str) -> NDArray[np.int16]:
        raise BenchmarkError(
            f"recordings must be there for what is heard (another backbone, a clip's level), but {self.source} holds "
            f"embeddings alone, also of {clip_id}; take the backbone emb, or name the folder of the recordings as root."
        )


def warn_of_copies(packed: PackedAudio, train: Sequence[str], test: Sequence[str]) -> list[tuple[str, str]]:
    """Say in the log that test clips are copies of training clips: a scorer finds them at distance 0.

    Samples are compared by the digests that fingerprints are made of, so that nothing is read again, and a copy in
    another file format counts, too.

    Args:
        packed: audio of all these clips.
        train: ids of the training clips.
        test: ids of the test clips.

    Returns:
        Each such test clip with the first training clip that it is a copy of.
    """
    hashes = dict(zip(packed.ids.tolist(), packed.hashes.tolist(), strict=True))
    trained = {hashes[clip]: clip for clip in reversed(train)}
    copies = [(clip, trained[hashes[clip]]) for clip in test if hashes[clip] in trained]
    if copies:
        logger.warning(
            "%d of %d test clips are copies of training clips, so their scores say nothing about new recordings. "
            "First: %s is %s. See `asdbench data doctor`.", len(copies), len(test), *copies[0],
        )  # fmt: skip
    return copies


def _vector_digest(vector: NDArray[np.float32]) -> str:
    return blake2b(np.ascontiguousarray(vector, dtype="<f4").view(np.uint8).data, digest_size=16).hexdigest()


def samples_digest(samples: NDArray[np.int16]) -> str:
    """Digest a clip's samples: (n,) int16."""
    data = np.ascontiguousarray(samples, dtype="<i2").view(np.uint8).data
    return blake2b(data, digest_size=16).hexdigest()


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
    whole: set[str] = set()
    for table in sorted(folder.glob("segment-*.json")):
        data = table.with_suffix(".i16")
        try:
            found = _read_segment(table)
        except (BenchmarkError, LookupError, TypeError, ValueError, RecursionError):  # a power failure leaves anything
            logger.warning("%s does not fit its table and is passed over; its clips are read again.", data)
            continue
        whole.add(data.stem)
        for entry in found:
            entries.pop(entry.path, None)  # so that what was packed last also stands last
            entries[entry.path] = entry
    return {path: entry for path, entry in entries.items() if entry.segment in whole}


def _read_segment(table: Path) -> list[Entry]:
    """Read a segment's table; raise one of many errors where it is not one or does not fit its samples."""
    content = json.loads(read_text(table))
    data = table.with_suffix(".i16")
    if not data.is_file() or data.stat().st_size != content["bytes"]:
        raise ValueError(data)
    if content["format"] == BEFORE:
        return [
            Entry(clip_id, path, FileState(size, mtime_ns), "", length, digest, data.stem, offset, mix)
            for clip_id, path, size, mtime_ns, length, digest, offset, mix in content["clips"]
        ]
    if content["format"] != FORMAT:
        raise ValueError(content["format"])
    entries = []
    for clip_id, path, state, blocks, length, digest, segment, offset, mix in content["clips"]:
        if SEGMENT.fullmatch(segment) is None:  # it becomes the name of a file
            raise ValueError(segment)
        entries.append(Entry(clip_id, path, FileState(*state), blocks, length, digest, segment, offset, mix))
    return entries
