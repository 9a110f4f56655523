"""Recordings, read and brought to 16 kHz and one channel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError, Mix, ProblemKind

SAMPLE_RATE = 16_000  # Hz; of all official recordings
FULL_SCALE = 32_768.0  # int16
STREAMED = (0, 0xFFFFFFFF)  # data sizes of wav writers that could not go back to their header

Samples: TypeAlias = NDArray[np.int16]


class RecordingError(BenchmarkError):
    """A file that cannot be used, said in one sentence.

    Attributes:
        kind: what is wrong with it.
    """

    def __init__(self, message: str, kind: ProblemKind) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.kind)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a recording is.

    Attributes:
        rate: Hz.
        channels: of the file.
        seconds: its length.
        encoding: as libsndfile calls it, for example PCM_16.
        digest: of the samples as they are used, whatever the file's format.
    """

    rate: int
    channels: int
    seconds: float
    encoding: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Content:
    samples: NDArray[Any]  # (frames, channels), int16 where the file is, else float32
    rate: int
    encoding: str


def decode(path: str, mix: Mix = "first") -> Samples:
    """Read a recording: one channel at 16 kHz, (samples,) int16.

    16-bit files at 16 kHz come out bit for bit; others are resampled by soxr (HQ) and rounded, and what exceeds full
    scale is clipped.

    Args:
        path: a wav or flac file.
        mix: which sound of several channels counts.

    Raises:
        RecordingError: if the file is missing, empty, cut short, no audio, or holds a sample that is not finite.
    """
    return _convert(_read(path), mix)


def inspect(path: str, mix: Mix = "first") -> Inspection:
    """Read a recording to the end and say what it is.

    Raises:
        RecordingError: as `decode`.
    """
    content = _read(path)
    frames, channels = content.samples.shape
    digest = blake2b(_convert(content, mix).astype("<i2", copy=False).tobytes(), digest_size=16).hexdigest()
    return Inspection(content.rate, channels, frames / content.rate, content.encoding, digest)


def look(job: tuple[str, Mix]) -> Inspection | RecordingError:
    """Inspect a recording, (path, mix), or return what is wrong with it; for processes that go on all the same."""
    try:
        return inspect(*job)
    except RecordingError as error:
        return error


def _read(path: str) -> _Content:
    """Read a file whole."""
    try:
        with soundfile.SoundFile(path) as recording:
            whole = recording.subtype == "PCM_16"  # and so finite; scaling it here is faster than in libsndfile
            samples = recording.read(dtype="int16" if whole else "float32", always_2d=True)
            frames, rate, ending = recording.frames, recording.samplerate, recording.format
            encoding = recording.subtype
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if len(samples) != frames or (ending == "WAV" and _missing_bytes(path)):
        raise RecordingError(
            f"recordings must be whole, but {path} is cut short: its header announces more samples.", "truncated"
        )
    if len(samples) == 0:
        raise RecordingError(f"recordings must hold samples, but {path} is empty.", "empty")
    if not whole and not np.isfinite(samples).all():
        raise RecordingError(f"samples must be finite numbers, but {path} holds some that are not.", "not finite")
    return _Content(samples, rate, encoding)


def _convert(content: _Content, mix: Mix) -> Samples:
    """Bring a file's content to one channel at 16 kHz: (frames, channels) -> (samples,) int16."""
    samples = content.samples
    mono = samples[:, 0] if mix == "first" or samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if mono.dtype == np.int16 and content.rate == SAMPLE_RATE:
        return np.ascontiguousarray(mono)
    scale = np.float32(1.0 if samples.dtype == np.int16 else FULL_SCALE)  # to the steps of int16
    mono = mono.astype(np.float32) * scale
    if content.rate != SAMPLE_RATE:
        mono = soxr.resample(mono, content.rate, SAMPLE_RATE, quality="HQ")
    np.rint(mono, out=mono)
    np.clip(mono, -FULL_SCALE, FULL_SCALE - 1, out=mono)
    return mono.astype(np.int16)


def _unreadable(path: str, error: Exception) -> RecordingError:
    """Say why a file cannot be opened."""
    place = Path(path)
    try:
        empty = place.stat().st_size == 0
    except OSError as missing:
        return RecordingError(f"recordings must be readable, but {path} is not: {missing.strerror}.", "unreadable")
    if empty:
        return RecordingError(f"recordings must be wav or flac files, but {path} is empty.", "empty")
    if not os.access(place, os.R_OK):
        return RecordingError(f"recordings must be readable, but {path} is not: Permission denied.", "unreadable")
    return RecordingError(f"recordings must be wav or flac files, but {path} cannot be read ({error}).", "unreadable")


def _missing_bytes(path: str) -> int:
    """Return how many bytes a wav file's data chunk announces and does not hold; libsndfile passes over that."""
    with Path(path).open("rb") as recording:
        size = recording.seek(0, os.SEEK_END)
        position = 12  # "RIFF", size, "WAVE"
        while position + 8 <= size:
            recording.seek(position)
            header = recording.read(8)
            length = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                return 0 if length in STREAMED else max(0, position + 8 + length - size)
            position += 8 + length + length % 2  # chunks stand at even places
    return 0
