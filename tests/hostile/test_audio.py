"""Recordings that are cut, lying, too loud or no files: one row an input with what must be answered."""

# ruff: noqa: E501 - a row an input

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings

from benchmarks.clips import make_clips
from benchmarks.contract import BenchmarkError
from benchmarks.datasets.own import DATASET as OWN
from benchmarks.recordings.audio import RecordingError, inspect
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.packed import FileState
from benchmarks.recordings.packing import pack
from tests.hostile.fuzz_recordings import fuzz_wav, spoiled_recordings

FRAMES = 16_000
NOISE = (np.random.default_rng(0).normal(size=FRAMES) * 3000).astype("<i2")
CONTAINERS = (
    "WAV/PCM_16", "WAV/PCM_24", "WAV/FLOAT", "WAV/ULAW", "WAV/IMA_ADPCM", "WAVEX/PCM_16", "WAVEX/PCM_24", "RF64/PCM_16",
    "W64/PCM_16", "AIFF/PCM_16", "AIFF/FLOAT", "AU/PCM_16", "CAF/PCM_16", "CAF/ALAC_16", "FLAC/PCM_16", "FLAC/PCM_24",
    "OGG/VORBIS", "NIST/PCM_16", "MP3/MPEG_LAYER_III",
)  # fmt: skip
SLOW_CODECS = ("WAV/GSM610", "AU/G721_32", "WAV/NMS_ADPCM_16", "WAV/NMS_ADPCM_24", "WAV/NMS_ADPCM_32")  # cannot seek


def made(container: str, samples: np.ndarray, folder: Path, rate: int = 16_000) -> bytes:
    """Return a whole recording in a container."""
    path = folder / "made"
    kind, subtype = container.split("/")
    soundfile.write(str(path), samples, rate, format=kind, subtype=subtype)
    return path.read_bytes()


def riff(
    data: bytes,
    *,
    size: int | None = None,
    riff_size: int | None = None,
    rate: int = 16_000,
    behind: bytes = b"",
    magic: bytes = b"RIFF",
) -> bytes:
    """Return a plain wav whose header says what is asked for."""
    order = ">" if magic == b"RIFX" else "<"
    form = struct.pack(f"{order}HHIIHH", 1, 1, rate, 2 * rate % 2**32, 2, 16)
    body = b"WAVEfmt " + struct.pack(f"{order}I", 16) + form + b"data"
    body += struct.pack(f"{order}I", len(data) if size is None else size) + data + behind
    return magic + struct.pack(f"{order}I", len(body) if riff_size is None else riff_size) + body


def rf64(data: bytes, told: int) -> bytes:
    """Return an RF64 whose long header announces so many bytes of samples."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    long = struct.pack("<IQQQI", 28, len(data) + 72, told, told // 2, 0)
    return b"RF64" + b"\xff" * 4 + b"WAVEds64" + long + b"fmt " + form + b"data" + b"\xff" * 4 + data


def flac_with(data: bytes, total: int, *, with_sum: bool = True) -> bytes:
    """Return a FLAC whose header tells another number of samples."""
    fixed = bytearray(data)
    packed = int.from_bytes(data[18:26], "big")
    fixed[18:26] = (packed - packed % 2**36 + total).to_bytes(8, "big")
    if not with_sum:
        fixed[26:42] = bytes(16)
    return bytes(fixed)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def answer(path: Path) -> str:
    """Return what is said of a recording: its frames, or the kind and sentence of its error."""
    try:
        found = inspect(str(path))
    except RecordingError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 900
        return f"{error.kind}: {error}"
    return f"{round(found.seconds * found.rate)} frames"


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [1.0, 0.99, 0.6, 0.34])
def test_every_container_is_whole_or_refused(container: str, share: float, tmp_path: Path) -> None:
    """A whole recording is read; one that is cut anywhere is refused, with what is announced and what is there."""
    data = made(container, NOISE / 32768, tmp_path)
    path = tmp_path / "clip.wav"
    path.write_bytes(data[: int(len(data) * share)])
    found = answer(path)
    if share == 1.0:
        assert found.endswith(" frames")
        assert abs(int(found.split()[0]) - FRAMES) < 1200  # codecs fill their last block
    else:
        assert found.startswith("truncated: recordings must be whole")
        assert "announces" in found


@pytest.mark.parametrize("container", SLOW_CODECS)
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_codecs_that_cannot_seek(container: str, share: float, tmp_path: Path) -> None:
    """GSM, G.721 and NMS ADPCM are read to their end, and refused where they are cut."""
    data = made(container, NOISE / 32768, tmp_path, rate=8000)
    path = tmp_path / "clip.wav"
    path.write_bytes(data[: int(len(data) * share)])
    assert answer(path).startswith("truncated" if share < 1 else "16")


W = NOISE.tobytes()
LYING: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "plain": (lambda _: riff(W), "16000 frames"),
    "big-endian": (lambda _: riff(NOISE.astype(">i2").tobytes(), magic=b"RIFX"), "16000 frames"),
    "big-endian, cut": (lambda _: riff(NOISE.astype(">i2").tobytes(), magic=b"RIFX")[:9000], "truncated: .* announces 32000 bytes .* 8956 are there"),
    "sox into a pipe": (lambda _: riff(W, size=0x7FFFF000, riff_size=0x7FFFF024), "16000 frames"),
    "arecord into a pipe": (lambda _: riff(W, size=0x80000000, riff_size=0x80000024), "16000 frames"),
    "arecord, killed": (lambda _: riff(W, size=0x7FFFFFFF - 36, riff_size=0x7FFFFFFF), "16000 frames"),
    "ffmpeg into a pipe": (lambda _: riff(W, size=0xFFFFFFFF, riff_size=0xFFFFFFFF), "16000 frames"),
    "ffmpeg, less its header": (lambda _: riff(W, size=0xFFFFFFFF - 44), "16000 frames"),
    "2^31 - 1": (lambda _: riff(W, size=0x7FFFFFFF), "16000 frames"),
    "never completed": (lambda _: riff(W, size=0, riff_size=0), "16000 frames"),
    "never completed, RIFF right": (lambda _: riff(W, size=0), "16000 frames"),
    "never completed, big-endian": (lambda _: riff(NOISE.astype(">i2").tobytes(), size=0, magic=b"RIFX"), "16000 frames"),
    "a pipe, cut within a sample": (lambda _: riff(W[:-1], size=0xFFFFFFFF), "truncated: .* last frame has 1 of 2 bytes"),
    "no samples": (lambda _: riff(b""), "empty: "),
    "no samples, a chunk behind": (lambda _: riff(b"", behind=b"LIST\x04\0\0\0INFO"), "empty: "),
    "a chunk behind": (lambda _: riff(W, behind=b"LIST\x04\0\0\0INFO"), "16000 frames"),
    "3 hours announced": (lambda _: riff(W, size=345_600_000), "truncated: .* announces 345600000 bytes of samples and 32000 are there"),
    "one byte too many announced": (lambda _: riff(W, size=32_001), "truncated: .* 32001 bytes .* 32000"),
    "1.9 GB announced": (lambda _: riff(W, size=0x70000000), "truncated: "),
    "RF64": (lambda _: rf64(W, 32_000), "16000 frames"),
    "RF64, 2^40 bytes": (lambda _: rf64(W, 2**40), "truncated: .* announces 1099511627776 bytes of samples and 32000"),
    "RF64 into a pipe": (lambda _: rf64(W, 2**64 - 1), "16000 frames"),
    "RF64 never completed": (lambda _: rf64(W, 0), "16000 frames"),
    "W64, 2^40 bytes": (lambda f: (d := made("W64/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 16, (2**40).to_bytes(8, "little")), "truncated: .* 1099511627752"),
    "W64 into a pipe": (lambda f: (d := made("W64/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 16, (2**63 - 1).to_bytes(8, "little")), "16000 frames"),
    "CAF, 2^40 bytes": (lambda f: (d := made("CAF/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 4, (2**40).to_bytes(8, "big")), "truncated: .* 1099511627772"),
    "CAF to the end": (lambda f: (d := made("CAF/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 4, b"\xff" * 8), "16000 frames"),
    "CAF, a chunk of 2^61 bytes before": (lambda f: (d := made("CAF/PCM_16", NOISE, f)) and patched(d, d.find(b"free") + 4, (2**61).to_bytes(8, "big")), "unreadable: "),
    "CAF, a chunk of 2^64 bytes before": (lambda f: (d := made("CAF/PCM_16", NOISE, f)) and patched(d, d.find(b"free") + 4, b"\xff" * 8), "unreadable: "),
    "AU, 1 GB": (lambda f: patched(made("AU/PCM_16", NOISE, f), 8, (10**9).to_bytes(4, "big")), "truncated: .* 1000000000"),
    "AU to the end": (lambda f: patched(made("AU/PCM_16", NOISE, f), 8, b"\xff" * 4), "16000 frames"),
    "AIFF, 1 GB": (lambda f: (d := made("AIFF/PCM_16", NOISE, f)) and patched(d, d.find(b"SSND") + 4, (10**9).to_bytes(4, "big")), "truncated: "),
    "AIFF, more frames than samples": (lambda f: (d := made("AIFF/PCM_16", NOISE, f)) and patched(d, d.find(b"COMM") + 10, (10**6).to_bytes(4, "big")), "truncated: .* announces 1000000 samples a channel and 16000"),
    "AIFF into a pipe": (lambda f: (d := made("AIFF/PCM_16", NOISE, f)) and patched(patched(d, d.find(b"SSND") + 4, (0x7F000008).to_bytes(4, "big")), d.find(b"COMM") + 10, (0x3F800000).to_bytes(4, "big")), "16000 frames"),
    "FLAC without a number": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 0), "16000 frames"),
    "FLAC from a pipe": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 0, with_sum=False), "16000 frames"),
    "FLAC from a pipe, cut": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 0, with_sum=False)[:-700], "truncated: .* last frame is not whole"),
    "FLAC, too few told": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 5), "truncated: .* damaged"),
    "FLAC, 10^9 told": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 10**9), "truncated: .* announces 1000000000 samples a channel and 16000"),
    "FLAC, 2^36 told": (lambda f: flac_with(made("FLAC/PCM_16", NOISE, f), 2**36 - 1), "truncated: "),
    "FLAC, another sum": (lambda f: patched(made("FLAC/PCM_16", NOISE, f), 26, bytes(range(16))), "truncated: .* damaged"),
    "1 Hz": (lambda _: riff(W, rate=1), "rate: sample rates must be between 1000 and 1000000 Hz, but .* says 1"),
    "999 Hz": (lambda _: riff(W, rate=999), "rate: "),
    "1 kHz": (lambda _: riff(W, rate=1000), "16000 frames"),
    "2 GHz": (lambda _: riff(W, rate=2**31 - 1), "rate: "),
    "0 Hz": (lambda _: riff(W, rate=0), "unreadable: "),
    "a Matlab file": (lambda f: made("MAT5/PCM_16", NOISE, f), "unreadable: .* whose length can be checked .* MAT5"),
    "a VOC file": (lambda f: made("VOC/PCM_16", NOISE, f), "unreadable: .* whose length can be checked .* VOC"),
    "float at full scale": (lambda f: made("WAV/FLOAT", np.array([1.0, -1.0] * 99), f), "198 frames"),
    "float over full scale": (lambda f: made("WAV/FLOAT", NOISE / 32768 * 20, f), r"loud: .* peak of .* is 7\.3.* %.* lower the gain"),
    "float a step over": (lambda f: made("WAV/FLOAT", np.array([1.0001, 0.0]), f), r"loud: .* 1\.0001 and 50 %"),
    "float as 16-bit steps": (lambda f: made("WAV/FLOAT", NOISE.astype(np.float32), f), "loud: .* 16-bit integers, so divide all by 32768"),
    "double as 24-bit steps": (lambda f: made("WAV/DOUBLE", NOISE * 256.0, f), "loud: .* 24-bit integers, so divide all by 8388608"),
    "AIFF, float over full scale": (lambda f: made("AIFF/FLOAT", NOISE / 32768 * 20, f), "loud: "),
    "double beyond float32": (lambda f: made("WAV/DOUBLE", np.array([1e300, 0.0]), f), r"loud: .* 1e\+300"),
    "infinite": (lambda f: made("WAV/FLOAT", np.array([np.inf, 0.0]), f), "not finite: "),
    "two recordings in one file": (lambda _: riff(W) + riff(W), "unreadable: "),
    "AU to the end, from beyond it": (lambda _: b".snd" + b"\xff" * 8 + bytes(12), "unreadable: |empty: |truncated: "),
    "no bytes": (lambda _: b"", "empty: "),
    "a page of a web site": (lambda _: b"<html>404</html>" * 9, "unreadable: "),
    "a RIFF that is no wav": (lambda _: b"RIFF\x10\0\0\0AVI LIST" + bytes(99), "unreadable: "),
}  # fmt: skip


@pytest.mark.parametrize("name", LYING)
def test_headers_that_lie_or_tell_nothing(name: str, tmp_path: Path) -> None:
    """What a header announces is there or the file is refused; placeholders of pipes run to the file's end."""
    make, expected = LYING[name]
    path = tmp_path / "clip.wav"
    path.write_bytes(make(tmp_path))
    assert re.match(expected, answer(path)), answer(path)


def test_samples_behind_a_placeholder_are_those_of_the_whole_file(tmp_path: Path) -> None:
    """A recording from a pipe has the digest of the same recording with its length."""
    digests = set()
    for number, data in enumerate(
        [
            riff(W),
            riff(W, size=0x7FFFF000),
            riff(W, size=0),
            rf64(W, 0),
            flac_with(made("FLAC/PCM_16", NOISE, tmp_path), 0),
        ]
    ):
        (tmp_path / f"{number}.wav").write_bytes(data)
        digests.add(inspect(str(tmp_path / f"{number}.wav")).digest)
    assert len(digests) == 1


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


THINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a fifo": (fifo, "is a fifo"),
    "a socket": (bound_socket, "is a socket"),
    "a folder": (Path.mkdir, "is a folder"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "a terminal": (lambda path: path.symlink_to("/dev/null"), "is a device"),
    "a link to a fifo": (lambda path: (fifo(path.with_name("f")), path.symlink_to("f")), "is a fifo"),
    "a link to nothing": (lambda path: path.symlink_to("none"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "nothing": (lambda path: None, "No such file"),
}


@pytest.mark.parametrize("name", THINGS)
def test_things_that_are_no_files(name: str, tmp_path: Path) -> None:
    """Under the name of a recording, only a regular file is opened: nothing hangs."""
    make, words = THINGS[name]
    path = tmp_path / "clip.wav"
    make(path)
    assert answer(path).startswith("unreadable: ")
    assert words in answer(path)


def table(*paths: Path) -> pd.DataFrame:
    """Return a clip table of recordings; ids are their stems."""
    return make_clips([(p.stem, str(p), "own", "dev", "fan", "00", "train", "source", "normal", None) for p in paths])


def test_a_flood_of_silence_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small FLAC that holds more samples than a clip may have is refused while it is decoded."""
    monkeypatch.setattr("benchmarks.recordings.audio.MOST_SAMPLES", 100_000)
    path = tmp_path / "clip.wav"
    path.write_bytes(made("FLAC/PCM_16", np.zeros(150_000, dtype=np.int16), tmp_path))
    assert path.stat().st_size < 5000
    assert answer(path).startswith("length: ")
    path.write_bytes(riff(bytes(40_000), rate=1000))  # 20,000 samples of 1 kHz are 320,000 of 16 kHz
    assert answer(path).startswith("length: ")


@pytest.mark.parametrize("how", ["same times", "renamed over", "link moved", "only the middle"])
def test_a_change_under_the_same_size_and_time_is_seen(how: str, tmp_path: Path) -> None:
    """Another content under the old size and modification time has another fingerprint."""
    path = tmp_path / "clip.wav"
    other = NOISE[::-1].tobytes() if how != "only the middle" else W[:20_000] + b"\1\2" + W[20_002:]
    path.write_bytes(riff(W))
    before = pack(table(path), tmp_path / "pack").fingerprint(["clip"])
    times = path.stat()
    target = path.with_name("new.wav") if how in {"renamed over", "link moved"} else path
    target.write_bytes(riff(other))
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    if how == "renamed over":
        target.replace(path)
    elif how == "link moved":
        path.unlink()
        path.symlink_to(target)
    assert pack(table(path), tmp_path / "pack").fingerprint(["clip"]) != before


def test_a_system_without_change_times_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where size, times and inode all stay, blocks of the files tell that they were changed."""
    monkeypatch.setattr("benchmarks.recordings.packing.FileState", lambda size, mtime, *_: FileState(size, mtime))
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    before = pack(table(path), tmp_path / "pack").fingerprint(["clip"])
    times = path.stat()
    path.write_bytes(riff(NOISE[::-1].tobytes()))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pack(table(path), tmp_path / "pack").fingerprint(["clip"]) != before


def test_a_touched_file_is_not_packed_twice(tmp_path: Path) -> None:
    """A file whose times changed and whose content did not keeps its fingerprint and its place in the pack."""
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    before = pack(table(path), tmp_path / "pack")
    os.utime(path)
    after = pack(table(path), tmp_path / "pack")
    assert after.fingerprint(["clip"]) == before.fingerprint(["clip"])
    assert sum(part.stat().st_size for part in (tmp_path / "pack").glob("*.i16")) == len(W)
    np.testing.assert_array_equal(after.waveform("clip") * 32768, NOISE)
    done: list[int] = []
    pack(table(path), tmp_path / "pack", progress=lambda now, _: done.append(now))
    assert done == []


def test_a_pack_of_the_format_before_stays(tmp_path: Path) -> None:
    """A pack without change times is read on: its clips are checked once, and not written again."""
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    before = pack(table(path), tmp_path / "pack").fingerprint(["clip"])
    (segment,) = (tmp_path / "pack").glob("*.json")
    content = json.loads(segment.read_text())
    rows = [
        (i, p, s[0], s[1], length, digest, offset, mix)
        for i, p, s, _, length, digest, _, offset, mix in content["clips"]
    ]
    segment.write_text(json.dumps({"format": 2, "bytes": content["bytes"], "clips": rows}))
    done: list[int] = []
    after = pack(table(path), tmp_path / "pack", progress=lambda now, _: done.append(now))
    assert (after.fingerprint(["clip"]), done) == (before, [1])
    assert sum(part.stat().st_size for part in (tmp_path / "pack").glob("*.i16")) == len(W)


@pytest.mark.parametrize("how", ["made anew", "changed in place", "cut", "gone"])
def test_packed_audio_that_is_not_what_was_read_is_refused(how: str, tmp_path: Path) -> None:
    """A worker that holds an old index reads no other samples under the old fingerprint."""
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    sent = pickle.dumps(pack(table(path), tmp_path / "pack"))
    data = tmp_path / "pack" / "segment-000001.i16"
    if how == "made anew":
        shutil.rmtree(tmp_path / "pack")
        path.write_bytes(riff(NOISE[::-1].tobytes()))
        pack(table(path), tmp_path / "pack")
    elif how == "changed in place":
        data.write_bytes(b"\1\2" + W[2:])
    elif how == "cut":
        data.write_bytes(W[:-2])
    else:
        data.unlink()
    with pytest.raises(BenchmarkError, match=r"packed audio.*start again"):
        pickle.loads(sent).read(["clip"], 100)


@pytest.mark.parametrize("table_text", ["", "[]", "{}", '{"format": 3, "bytes": 0, "clips": [[1]]}', "[" * 100_000])
def test_a_spoiled_table_of_a_pack_is_passed_over(table_text: str, tmp_path: Path) -> None:
    """Whatever stands in a pack's table, its clips are read again."""
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    pack(table(path), tmp_path / "pack")
    (tmp_path / "pack" / "segment-000001.json").write_text(table_text)
    np.testing.assert_array_equal(pack(table(path), tmp_path / "pack").waveform("clip") * 32768, NOISE)


def test_a_pack_names_no_file_outside(tmp_path: Path) -> None:
    """A segment's name in a table leads nowhere else."""
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(W))
    pack(table(path), tmp_path / "pack")
    (segment,) = (tmp_path / "pack").glob("*.json")
    content = json.loads(segment.read_text())
    content["clips"][0][6] = "../elsewhere"
    segment.write_text(json.dumps(content))
    assert pack(table(path), tmp_path / "pack").waveform("clip").size == FRAMES


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_packed_audio_has_its_folders_rights(mode: int, umask: int, tmp_path: Path) -> None:
    """Who may not read the folder may not read the audio in it either, whatever the umask is."""
    (tmp_path / "clip.wav").write_bytes(riff(W))
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack").chmod(mode)
    before = os.umask(umask)
    try:
        pack(table(tmp_path / "clip.wav"), tmp_path / "pack")
    finally:
        os.umask(before)
    rights = {each.suffix: each.stat().st_mode & 0o777 for each in (tmp_path / "pack").iterdir()}
    assert rights == dict.fromkeys((".json", ".i16", ".lock"), mode & 0o666)


@pytest.mark.parametrize(("share", "told"), [(1.0, True), (0.05, True), (0.0011, True), (0.0004, False), (0.0, False)])
def test_the_doctor_names_clipped_recordings(share: float, told: bool, tmp_path: Path) -> None:
    """A share of samples at full scale is told with the peak, and the recording is used as it is."""
    samples = NOISE.copy()
    samples[: int(share * FRAMES)] = 32767
    (tmp_path / "a.wav").write_bytes(riff(samples.tobytes()))
    (tmp_path / "list.csv").write_text("file,split\na.wav,train\n")
    found = [problem for problem in examine(tmp_path, [OWN]).problems if problem.kind == "clipped"]
    assert bool(found) is told
    assert not any(problem.bad for problem in found)
    assert all("% of the samples" in problem.sentence and "peak is 0.9999" in problem.sentence for problem in found)


LIST = b"LIST\x04\0\0\0INFO"
LONGER: dict[str, tuple[Callable[[Path], bytes], int]] = {
    "all announced": (lambda _: riff(W), 0),
    "half announced": (lambda _: riff(W, size=16_000), 16_000),
    "all but a sample announced": (lambda _: riff(W, size=31_998), 2),
    "half announced, big-endian": (lambda _: riff(NOISE.astype(">i2").tobytes(), size=16_000, magic=b"RIFX"), 16_000),
    "a chunk behind": (lambda _: riff(W, behind=LIST), 0),
    "a chunk behind an odd number of bytes": (lambda _: riff(W[:-1], behind=b"\0" + LIST), 0),
    "several chunks behind": (lambda _: riff(W, behind=LIST * 3 + b"id3 \x01\0\0\0x\0"), 0),
    "a byte behind": (lambda _: riff(W, behind=b"\0"), 0),
    "zeros behind": (lambda _: riff(W, behind=bytes(4096)), 4096),
    "a chunk and zeros behind": (lambda _: riff(W, behind=LIST + bytes(500)), 500),
    "a chunk that is cut": (lambda _: riff(W, behind=LIST[:-2]), 10),
    "two W64": (lambda f: made("W64/PCM_16", NOISE, f) * 2, 32_104),
    "two RF64": (lambda f: made("RF64/PCM_16", NOISE, f) * 2, 32_104),
    "two AU": (lambda f: made("AU/PCM_16", NOISE, f) * 2, 32_024),
    "two CAF": (lambda f: made("CAF/PCM_16", NOISE, f) * 2, 36_096),
    "two FLAC": (lambda f: made("FLAC/PCM_16", NOISE, f) * 2, 27_550),
    "one FLAC": (lambda f: made("FLAC/PCM_16", NOISE, f), 0),
    "one Ogg": (lambda f: made("OGG/VORBIS", NOISE / 32768, f), 0),
    "a page behind": (lambda _: riff(W, behind=b"<html>404</html>"), 16),
    "RF64, half announced": (lambda _: rf64(W, 16_000), 16_000),
    "W64, half announced": (lambda f: (d := made("W64/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 16, (16_024).to_bytes(8, "little")), 16_000),
    "W64, zeros behind": (lambda f: made("W64/PCM_16", NOISE, f) + bytes(800), 800),
    "CAF, half announced": (lambda f: (d := made("CAF/PCM_16", NOISE, f)) and patched(d, d.find(b"data") + 4, (16_004).to_bytes(8, "big")), 16_000),
    "CAF, zeros behind": (lambda f: made("CAF/PCM_16", NOISE, f) + bytes(800), 800),
    "AU, half announced": (lambda f: patched(made("AU/PCM_16", NOISE, f), 8, (16_000).to_bytes(4, "big")), 16_000),
    "AU, zeros behind": (lambda f: made("AU/PCM_16", NOISE, f) + bytes(800), 800),
    "AIFF, zeros behind": (lambda f: made("AIFF/PCM_16", NOISE, f) + bytes(800), 800),
    "NIST, zeros behind": (lambda f: made("NIST/PCM_16", NOISE, f) + bytes(800), 800),
    "into a pipe": (lambda _: riff(W, size=0xFFFFFFFF), 0),
    "never completed": (lambda _: riff(W, size=0), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", LONGER)
def test_the_doctor_names_what_a_header_leaves_out(name: str, tmp_path: Path) -> None:
    """Bytes behind the samples that are no chunk are counted by the doctor; the recording is what its header says."""
    make, behind = LONGER[name]
    (tmp_path / "a.wav").write_bytes(make(tmp_path))
    (tmp_path / "list.csv").write_text("file,split\na.wav,train\n")
    found = [problem for problem in examine(tmp_path, [OWN]).problems if problem.kind == "longer"]
    assert [f"{behind:,} bytes behind" in problem.sentence for problem in found] == [True] * bool(behind)
    assert not any(problem.bad for problem in found)


def test_the_doctor_names_a_second_ogg(tmp_path: Path) -> None:
    """Of several streams in a row only the first one is read, and the others are told."""
    one, two = (made("OGG/VORBIS", NOISE / 32768, tmp_path) for _ in range(2))  # each of its own size
    (tmp_path / "a.wav").write_bytes(one + two)
    assert inspect(str(tmp_path / "a.wav")).behind == len(two)


def test_what_stands_behind_is_not_read(tmp_path: Path) -> None:
    """A recording is what its header announces, in every container whose samples lie open, whatever follows."""
    path = tmp_path / "clip.wav"
    for container in CONTAINERS:
        if container.startswith(("WAV/", "WAVEX", "RF64", "W64", "AU", "CAF")) and container.endswith("PCM_16"):
            path.write_bytes(whole := made(container, NOISE, tmp_path))
            before = inspect(str(path)).digest
            path.write_bytes(whole + b"\x01\x02\x03\x04" * 100)
            assert inspect(str(path)).digest == before, container


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled_recordings())
def test_no_recording_is_another_exception(data: bytes) -> None:
    """Whatever stands in a header, only our own errors are raised."""
    fuzz_wav(data)
