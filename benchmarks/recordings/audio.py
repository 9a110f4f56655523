"""Recordings, read and brought to 16 kHz and one channel.

What is refused: a file that is no regular one, or whose container holds less than it announces
(`benchmarks.recordings.containers`); samples that are not finite; float samples beyond full scale, which is -1..1,
since 16 bits would clip them and another gain would change the clip's level; sample rates and lengths out of bounds.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from hashlib import blake2b, md5
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from benchmarks.contract import BenchmarkError, Mix, ProblemKind
from benchmarks.files import open_regular, printable
from benchmarks.recordings.containers import Announced, last_flac_frame, read_announced, with_flac_total

SAMPLE_RATE = 16_000  # Hz; of all official recordings
FULL_SCALE = 32_768.0  # int16
RATES = (1000, 1_000_000)  # Hz; below, a small file would become a huge clip; nothing is recorded above
MOST_SAMPLES = 2**28  # of a clip, all channels together, as recorded or at 16 kHz: 4.6 h of one channel
BLOCK_SAMPLES = 2**20
# Containers whose header tells their length; of others, a cut file could not be told from a whole one.
FORMATS = ("WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "Ogg", "NIST", "MP3 with a Xing header")
# what needs a second channel
FAR: dict[Mix, str] = {
    "second": "the far microphone",
    "difference": "the difference of two microphones",
    "both": "the second of both microphones",
}
# what becomes of a recording's channels, for sentences
CHANNELS_USED: dict[Mix, str] = {
    "first": "the first one is used",
    "second": "the second one is used",
    "mean": "their mean is used",
    "difference": "the first less the second is used",
    "both": "the first two are used, one after the other",
}
FLOATS = ("FLOAT", "DOUBLE")
WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # bytes a sample
STARTS = {"FLAC": b"fLaC\0\0\0\x22", "Ogg": b"OggS\0\2"}  # of which libsndfile reads the first of several in a file
INTEGER_PEAK = 128.0  # float samples beyond it look like the steps of integers: no gain is 42 dB too high

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
        peak: largest absolute sample of all channels, 1 at full scale.
        full_share: share of the samples that stand at full scale, where a recorder clips.
        behind: bytes of the file after the samples that its header announces, which are not read.
    """

    rate: int
    channels: int
    seconds: float
    encoding: str
    digest: str
    peak: float = 0.0
    full_share: float = 0.0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording as it is heard, and what its file was.

    Attributes:
        samples: at 16 kHz, as `decode` returns them.
        rate: Hz of the file.
        channels: of the file.
    """

    samples: Samples
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class _Content:
    samples: NDArray[Any]  # (frames, channels), int16 where the file is, else float32
    rate: int
    encoding: str
    behind: int = 0


def decode(path: str, mix: Mix = "first") -> Samples:
    """Read a recording: one channel at 16 kHz, (samples,) int16; of the mix "both" two, the second behind the first.

    16-bit files at 16 kHz come out bit for bit; others are resampled by soxr (HQ) and rounded. What exceeds full scale
    by resampling alone is clipped.

    Args:
        path: a wav or flac file.
        mix: which sound of several channels counts.

    Raises:
        RecordingError: if the file is missing, empty, cut short, no audio, or holds a sample that is not finite or, as
            a float, beyond -1..1; if its rate or length is out of bounds; if it has one channel and two are asked for.
    """
    return listen(path, mix).samples


def listen(path: str, mix: Mix = "first") -> Sound:
    """Read a recording, as `decode`, and say at which rate and with how many channels it was written.

    Raises:
        RecordingError: as `decode`.
    """
    content = _read(path)
    _demand_channels(path, content.samples.shape[1], mix)
    return Sound(_convert(content, mix), content.rate, content.samples.shape[1])


def from_memory(samples: NDArray[Any], rate: int, mix: Mix = "first", *, name: str = "the waveform") -> Sound:
    """Bring a waveform to what `decode` makes of a file that holds it.

    Args:
        samples: (frames,) or (frames, channels), floats within -1..1 or int16.
        rate: Hz.
        mix: which sound of several channels counts.
        name: what sentences call it.

    Raises:
        RecordingError: it is no waveform, holds samples that are not finite or beyond full scale, or its rate is out of
            bounds.
    """
    frames = samples[:, None] if samples.ndim == 1 else samples
    if frames.ndim != 2 or frames.dtype.kind not in "fiu" or not frames.size:
        raise RecordingError(
            f"waveforms must be numbers, (samples,) or (samples, channels), but {name} has the shape {samples.shape}.",
            "empty",
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise RecordingError(
            f"sample rates must be between {RATES[0]} and {RATES[1]} Hz, but {name} says {rate}.", "rate"
        )
    if frames.dtype != np.int16:
        frames = _check_floats(frames.astype(np.float64), "DOUBLE", name)
    _demand_channels(name, frames.shape[1], mix)
    return Sound(_convert(_Content(frames, rate, ""), mix), rate, frames.shape[1])


def inspect(path: str, mix: Mix = "first") -> Inspection:
    """Read a recording to the end and say what it is.

    Raises:
        RecordingError: as `decode`.
    """
    content = _read(path)
    frames, channels = content.samples.shape
    _demand_channels(path, channels, mix)
    digest = blake2b(_convert(content, mix).astype("<i2", copy=False).tobytes(), digest_size=16).hexdigest()
    scale = FULL_SCALE if content.samples.dtype == np.int16 else 1.0
    low, high = float(content.samples.min()) / scale, float(content.samples.max()) / scale
    top = 1 - 1 / FULL_SCALE  # the highest step of int16
    full = 0
    if high >= top or low <= -1:
        full = int(np.count_nonzero((content.samples >= top * scale) | (content.samples <= -scale)))
    return Inspection(
        content.rate, channels, frames / content.rate, content.encoding, digest, max(high, -low),
        full / content.samples.size, content.behind,
    )  # fmt: skip


def look(job: tuple[str, Mix]) -> Inspection | RecordingError:
    """Inspect a recording, (path, mix), or return what is wrong with it; for processes that go on all the same."""
    try:
        return inspect(*job)
    except RecordingError as error:
        return error


def _read(path: str) -> _Content:
    """Read a file whole."""
    shown = printable(path)
    try:
        opened = open_regular(Path(path))
    except BenchmarkError as error:
        raise RecordingError(str(error), "unreadable") from error
    with opened:
        there = os.fstat(opened.fileno()).st_size
        if there == 0:
            raise RecordingError(f"recordings must be wav or flac files, but {shown} is empty.", "empty")
        announced = read_announced(opened)
        missing = announced.missing(there) if announced else ""
        if missing:
            raise _cut_short(shown, missing)
        try:
            samples, rate, encoding = _decode_all(opened, announced, shown)
        except (soundfile.LibsndfileError, OSError) as error:
            total = last_flac_frame(opened) if announced and announced.flac else None
            if announced and announced.frames and total != announced.frames:
                held = f"{total} are there" if total is not None else "its last frame is not whole"
                raise _cut_short(
                    shown, f"its header announces {announced.frames} samples a channel and {held}"
                ) from error
            reason = getattr(error, "error_string", error)
            raise RecordingError(
                f"recordings must be wav or flac files, but {shown} cannot be read ({reason}).", "unreadable"
            ) from error
        if announced and announced.frames is not None and announced.frames > len(samples):
            raise _cut_short(
                shown, f"its header announces {announced.frames} samples a channel and {len(samples)} are there"
            )
        behind = announced.behind if announced else 0
        if announced and behind and encoding in WIDTHS:  # libsndfile may read more of a W64 than its header announces
            samples = samples[: (announced.size or 0) // (WIDTHS[encoding] * samples.shape[1])]
        if announced and announced.container in STARTS:
            behind = _next_recording(opened, announced.container)
        if len(samples) == 0:
            raise RecordingError(f"recordings must hold samples, but {shown} is empty.", "empty")
        if announced and announced.flac:
            _check_flac(samples, *announced.flac, shown)
    if samples.dtype != np.int16:
        samples = _check_floats(samples, encoding, shown)
    return _Content(samples, rate, encoding, behind)


def _decode_all(file: BinaryIO, announced: Announced | None, shown: str) -> tuple[NDArray[Any], int, str]:
    """Decode a file to its end: (frames, channels) samples, Hz and the encoding."""
    there = os.fstat(file.fileno()).st_size
    if there > 8 * MOST_SAMPLES:
        raise RecordingError(
            f"recordings must have at most {8 * MOST_SAMPLES} bytes, but {shown} has {there}.", "length"
        )
    source: int | io.BytesIO = file.fileno()
    file.seek(0)
    if announced and announced.flac and announced.frames is None:  # libsndfile reads no FLAC without its length
        total = last_flac_frame(file)
        if total is None:
            raise _cut_short(shown, "its header announces no length, and its last frame is not whole")
        file.seek(0)
        source = io.BytesIO(with_flac_total(file.read(), announced.start, total))
    elif announced and announced.size is None:  # a placeholder that libsndfile may not know
        source = io.BytesIO(announced.completed(file.read()))
    else:
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # the file itself, whose first bytes Python has read ahead
    with soundfile.SoundFile(source, closefd=False) as recording:
        rate, channels, encoding = recording.samplerate, recording.channels, recording.subtype
        if announced is None:
            raise RecordingError(
                f"recordings must be of a format whose length can be checked ({', '.join(FORMATS)}), but {shown} is "
                f"{recording.format_info}; write it as WAV or FLAC.", "unreadable",
            )  # fmt: skip
        if not RATES[0] <= rate <= RATES[1]:
            raise RecordingError(
                f"sample rates must be between {RATES[0]} and {RATES[1]} Hz, but {shown} says {rate}.", "rate"
            )
        most = int(MOST_SAMPLES / channels * min(1.0, channels * rate / SAMPLE_RATE))  # frames
        # 16 bits are finite, and scaling them here is faster than in libsndfile; doubles may be beyond float32
        kind = {"PCM_16": "int16", "DOUBLE": "float64"}.get(encoding, "float32")
        if recording.seekable() and recording.frames <= min(most, BLOCK_SAMPLES):  # every usual clip
            return recording.read(dtype=kind, always_2d=True), rate, encoding
        # The number of frames of a FLAC from a pipe is unknown, and some codecs cannot seek: read until nothing comes
        blocks: list[NDArray[Any]] = []
        count, step = 0, max(1, BLOCK_SAMPLES // channels)
        while not blocks or len(blocks[-1]) == step:
            blocks.append(recording.read(step, dtype=kind, always_2d=True))
            count += len(blocks[-1])
            if count > most:
                raise RecordingError(
                    f"recordings must have at most {MOST_SAMPLES} samples, all channels together and at {SAMPLE_RATE} "
                    f"Hz ({MOST_SAMPLES / SAMPLE_RATE / 3600:.1f} hours), but {shown} has more.", "length",
                )  # fmt: skip
        return np.concatenate(blocks), rate, encoding


def _next_recording(file: BinaryIO, container: str) -> int:
    """Count the bytes from where a second recording begins in a file; 0 where there is only one."""
    file.seek(0, os.SEEK_END)  # libsndfile has moved the file under Python's buffer
    file.seek(0)
    data = file.read()
    first = data.find(STARTS[container])
    second = data.find(STARTS[container], first + 1)
    return len(data) - second if 0 <= first < second else 0


def _check_floats(samples: NDArray[Any], encoding: str, shown: str) -> NDArray[np.float32]:
    """Return float samples as float32; raise where they are not finite or beyond full scale."""
    if not np.isfinite(samples).all():
        raise RecordingError(f"samples must be finite numbers, but {shown} holds some that are not.", "not finite")
    peak = max(float(samples.max()), -float(samples.min())) if encoding in FLOATS else 0.0
    if peak > 1:
        share = np.count_nonzero(np.abs(samples) > 1) / samples.size
        way = "lower the gain of all recordings alike"
        if peak > INTEGER_PEAK:
            bits = next((bits for bits in (16, 24, 32) if peak <= 2 ** (bits - 1)), 0)
            way = f"they look like {bits}-bit integers, so divide all by {2 ** (bits - 1)}" if bits else way
        raise RecordingError(
            f"float samples must lie within -1..1, which is full scale, but the peak of {shown} is {peak:.6g} and "
            f"{100 * share:.3g} % of its samples are beyond; {way}.", "loud",
        )  # fmt: skip
    return samples.astype(np.float32, copy=False)


def _check_flac(samples: NDArray[Any], told: bytes, bits: int, shown: str) -> None:
    """Raise where FLAC's samples are not those that its header has the sum of; writers into a pipe know none."""
    if bits not in {8, 16, 24} or not any(told):
        return
    steps = samples if samples.dtype == np.int16 else np.rint(samples * np.float32(2 ** (bits - 1))).astype("<i4")
    width = bits // 8
    data = steps.astype("<i4").reshape(-1, 1).view(np.uint8)[:, :width]
    found = md5(data.tobytes(), usedforsecurity=False).digest()
    if found != told:
        raise RecordingError(
            f"recordings must be whole, but {shown} is damaged: its header announces samples with the sum {told.hex()} "
            f"and those that are there have {found.hex()}.", "truncated",
        )  # fmt: skip


def _cut_short(shown: str, missing: str) -> RecordingError:
    """Return the error of a recording whose end is missing."""
    return RecordingError(f"recordings must be whole, but {shown} is cut short: {missing}.", "truncated")


def _convert(content: _Content, mix: Mix) -> Samples:
    """Bring a file's content to 16 kHz: (frames, channels) -> (samples,) int16, of both channels (2 * samples,)."""
    if mix == "both":
        return np.concatenate([_convert(content, one) for one in ("first", "second")])
    samples = content.samples
    mono = _mixed(samples, "first" if samples.shape[1] == 1 else mix)
    if mono.dtype == np.int16 and content.rate == SAMPLE_RATE:
        return np.ascontiguousarray(mono)
    scale = np.float32(1.0 if samples.dtype == np.int16 else FULL_SCALE)  # to the steps of int16
    mono = mono.astype(np.float32) * scale
    if content.rate != SAMPLE_RATE:
        mono = soxr.resample(mono, content.rate, SAMPLE_RATE, quality="HQ")
    np.rint(mono, out=mono)
    np.clip(mono, -FULL_SCALE, FULL_SCALE - 1, out=mono)
    return mono.astype(np.int16)


def _mixed(samples: NDArray[Any], mix: Mix) -> NDArray[Any]:
    """Return the sound that counts: (frames, channels) -> (frames,), halved where two channels are subtracted.

    The difference of two full-scale signals would not fit; half of it does, and scores hear no loudness by design.
    """
    if mix == "mean":
        mixed: NDArray[Any] = samples.mean(axis=1, dtype=np.float32)
        return mixed
    if mix == "difference":
        less: NDArray[Any] = np.subtract(samples[:, 0], samples[:, 1], dtype=np.float32) * np.float32(0.5)
        return less
    return samples[:, 0] if mix == "first" else samples[:, 1]


def _demand_channels(path: str, channels: int, mix: Mix) -> None:
    if mix in FAR and channels < 2:
        words = FAR[mix]
        raise RecordingError(
            f"{words} must be the second channel of a recording, but {printable(path)} has one channel; leave channels "
            "out of the protocol, or say near.",
            "channels",
        )
