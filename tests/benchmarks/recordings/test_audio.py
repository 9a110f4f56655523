from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from benchmarks.clips import make_clips
from benchmarks.contract import BenchmarkError, Dataset
from benchmarks.recordings.audio import RecordingError, decode
from benchmarks.recordings.index import index_root
from benchmarks.recordings.packed import FLOOR_DB, open_pack
from benchmarks.recordings.packing import pack

Write = Callable[..., Path]


def table(paths: list[Path]) -> pd.DataFrame:
    """Return a clip table of recordings; ids are their stems."""
    return make_clips(
        [(p.stem, str(p), "dcase2023", "dev", "fan", "00", "train", "source", "normal", None) for p in paths]
    )


def noise(size: int, seed: int = 0) -> np.ndarray:
    """Return (size,) int16 noise."""
    return np.random.default_rng(seed).integers(-20_000, 20_000, size).astype(np.int16)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_16_bit_is_exact(kind: str, write_clip: Write) -> None:
    """16-bit recordings at 16 kHz are decoded bit for bit."""
    np.testing.assert_array_equal(decode(str(write_clip("a.wav", noise(500), kind=kind))), noise(500))


def test_the_first_channel_is_used(write_clip: Write) -> None:
    """Of several channels the first one counts."""
    both = np.stack([noise(500), noise(500, 1)], axis=1)
    np.testing.assert_array_equal(decode(str(write_clip("a.wav", both))), noise(500))


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_24", "PCM_32"])
def test_other_encodings(subtype: str, write_clip: Write) -> None:
    """Float, 24-bit and 32-bit recordings come out as their 16-bit original."""
    path = write_clip("a.wav", noise(500) / 32768, subtype=subtype)
    np.testing.assert_array_equal(decode(str(path)), noise(500))


def test_other_rates(write_clip: Write) -> None:
    """A tone at 44.1 kHz keeps its pitch, level and duration at 16 kHz."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100)
    samples = decode(str(write_clip("a.wav", tone, rate=44_100, subtype="FLOAT"))) / 32768
    assert samples.size == 16_000
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=2e-3)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([1.5, -1.5, 0.0], r"the peak of .* is 1\.5 and 66\.7 % of its samples are beyond; lower the gain"),
        ([1.001, 0.0], r"is 1\.001 and 50 %"),
        ([-3000.0, 12.0], "16-bit integers, so divide all by 32768"),
        ([8e6, 0.0], "24-bit integers"),
    ],
)
def test_too_loud_floats_are_refused(samples: list[float], words: str, write_clip: Write) -> None:
    """Float samples beyond full scale are neither clipped nor wrapped: the file is refused, with its peak."""
    with pytest.raises(RecordingError, match=words) as raised:
        decode(str(write_clip("a.wav", np.array(samples), subtype="FLOAT")))
    assert raised.value.kind == "loud"


def test_floats_at_full_scale_are_used(write_clip: Write) -> None:
    """Float samples of -1 and 1 are the ends of 16 bits."""
    path = write_clip("a.wav", np.array([1.0, -1.0, 0.0]), subtype="FLOAT")
    assert decode(str(path)).tolist() == [32767, -32768, 0]


def cut(path: Path, share: float) -> Path:
    """Cut a file's end off."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda write, folder: cut(write("a.wav", noise(4000)), 0.6), "cut short"),
        (lambda write, folder: cut(write("a.flac", noise(40_000), kind="FLAC"), 0.6), "cut short|cannot be read"),
        (lambda write, folder: cut(write("a.wav"), 0.0), "is empty"),
        (lambda write, folder: write("a.wav", np.zeros(0, dtype=np.int16)), "is empty"),
        (lambda write, folder: (folder / "a.wav").write_text("not audio " * 50) and folder / "a.wav", "cannot be read"),
        (lambda write, folder: write("a.wav", np.array([0.1, np.nan]), subtype="FLOAT"), "must be finite"),
        (lambda write, folder: folder / "missing.wav", "No such file"),
    ],
    ids=["wav cut short", "flac cut short", "no bytes", "no samples", "text", "nan", "missing"],
)
def test_bad_files_are_named(
    make: Callable[[Write, Path], Path], reason: str, write_clip: Write, tmp_path: Path
) -> None:
    """A recording that cannot be used is one error with its path and the reason."""
    path = make(write_clip, tmp_path)
    with pytest.raises(BenchmarkError, match=reason) as raised:
        pack(table([path]), tmp_path / "pack")
    assert str(path) in str(raised.value)


def test_what_came_before_a_bad_file_is_kept(write_clip: Write, tmp_path: Path) -> None:
    """An error does not undo the clips that were read before it."""
    good, bad = write_clip("a.wav"), cut(write_clip("b.wav"), 0.5)
    with pytest.raises(BenchmarkError, match="cut short"):
        pack(table([good, bad]), tmp_path / "pack")
    assert open_pack(tmp_path / "pack").ids.tolist() == ["a"]


def test_reading(write_clip: Write, tmp_path: Path) -> None:
    """Clips are read in the order wanted: cut when longer, else repeated or padded, in -1..1."""
    short, long = noise(3), noise(9, 1)
    packed = pack(table([write_clip("s.wav", short), write_clip("l.wav", long)]), tmp_path / "pack")
    assert packed.lengths.tolist() == [3, 9]
    repeated = packed.read(["l", "s"], 7, "repeat")
    assert repeated.dtype == np.float32
    np.testing.assert_array_equal(repeated * 32768, [long[:7], np.tile(short, 3)[:7]])
    np.testing.assert_array_equal(packed.read(["s"], 7, "pad")[0] * 32768, [*short, 0, 0, 0, 0])
    np.testing.assert_array_equal(packed.waveform("l") * 32768, long)


def test_what_cannot_be_read(write_clip: Write, tmp_path: Path) -> None:
    """A clip that is not packed, no samples and an unknown fit are errors."""
    packed = pack(table([write_clip("a.wav")]), tmp_path / "pack")
    with pytest.raises(BenchmarkError, match="b is not among the 1"):
        packed.read(["b"], 10, "pad")
    with pytest.raises(BenchmarkError, match="samples must be at least 1"):
        packed.read(["a"], 0, "pad")
    with pytest.raises(BenchmarkError, match="fit must be repeat or pad"):
        packed.read(["a"], 10, "stretch")
    with pytest.raises(BenchmarkError, match="holds none"):
        open_pack(tmp_path / "nothing")


def test_levels(write_clip: Write, tmp_path: Path) -> None:
    """Levels are RMS in dB re full scale, and finite for silence."""
    half = np.full(100, 16_384, dtype=np.int16)
    packed = pack(table([write_clip("h.wav", half), write_clip("z.wav", half * 0)]), tmp_path / "pack")
    np.testing.assert_allclose(packed.levels_db(["h", "z"]), [20 * np.log10(0.5), FLOOR_DB])


def test_fingerprints_are_of_content(write_clip: Write, tmp_path: Path) -> None:
    """A fingerprint ignores order, path and encoding, and changes with a sample or with the choice of clips."""
    first = pack(table([write_clip("x/a.wav", noise(50)), write_clip("x/b.wav", noise(60))]), tmp_path / "p1")
    second = pack(
        table([write_clip("y/b.flac", noise(60), kind="FLAC"), write_clip("y/a.wav", noise(50))]), tmp_path / "p2"
    )
    assert first.fingerprint(["a", "b"]) == second.fingerprint(["b", "a"])
    assert first.fingerprint(["a"]) != first.fingerprint(["a", "b"])
    changed = noise(50)
    changed[7] += 1
    third = pack(table([write_clip("z/a.wav", changed), write_clip("z/b.wav", noise(60))]), tmp_path / "p3")
    assert first.fingerprint(["a", "b"]) != third.fingerprint(["a", "b"])


def test_packing_again_reads_nothing(write_clip: Write, tmp_path: Path) -> None:
    """Only clips that are new or whose file has changed are read."""
    paths = [write_clip(f"{name}.wav", noise(50)) for name in "abc"]
    done: list[tuple[int, int]] = []
    pack(table(paths[:2]), tmp_path / "pack", progress=lambda *now: done.append(now))
    pack(table(paths[:2]), tmp_path / "pack", progress=lambda *now: done.append(now))
    assert done == [(1, 2), (2, 2)]
    write_clip("a.wav", noise(70))
    packed = pack(table(paths), tmp_path / "pack", progress=lambda *now: done.append(now))
    assert done[2:] == [(1, 2), (2, 2)]
    assert packed.lengths.tolist() == [70, 50, 50]
    assert open_pack(tmp_path / "pack").waveform("a").size == 70


def test_workers_change_nothing(write_clip: Write, tmp_path: Path) -> None:
    """Two decoding processes give the same pack as none."""
    clips = table([write_clip(f"{number}.wav", noise(50 + number)) for number in range(9)])
    one, two = (pack(clips, tmp_path / f"p{workers}", workers=workers) for workers in (1, 2))
    assert one.ids.tolist() == two.ids.tolist()
    assert one.hashes.tolist() == two.hashes.tolist()


def test_a_pack_travels(write_clip: Write, tmp_path: Path) -> None:
    """A pack that is sent to another process reads the same."""
    packed = pack(table([write_clip("a.wav", noise(50))]), tmp_path / "pack")
    packed.waveform("a")
    sent = pickle.dumps(packed)
    assert len(sent) < 2000  # the samples stay where they are
    np.testing.assert_array_equal(pickle.loads(sent).waveform("a"), packed.waveform("a"))


def test_segments_are_many(write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are found again whichever segment they stand in."""
    monkeypatch.setattr("benchmarks.recordings.packing.SEGMENT_BYTES", 150)
    paths = [write_clip(f"{number}.wav", noise(50, number)) for number in range(5)]
    packed = pack(table(paths), tmp_path / "pack")
    assert len(list((tmp_path / "pack").glob("*.json"))) == 3
    for number in range(5):
        np.testing.assert_array_equal(packed.waveform(str(number)) * 32768, noise(50, number))


def test_a_broken_segment_is_read_again(write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Samples that do not fit their table are not used; the clips are read again, with a warning."""
    clips = table([write_clip("a.wav", noise(50))])
    pack(clips, tmp_path / "pack")
    cut(tmp_path / "pack" / "segment-000001.i16", 0.5)
    np.testing.assert_array_equal(pack(clips, tmp_path / "pack").waveform("a") * 32768, noise(50))
    assert "does not fit its table" in caplog.text


SCRIPT = """
import sys
from benchmarks.recordings import packing
from benchmarks.recordings.index import index_root
from benchmarks.recordings.packed import FLOOR_DB, open_pack
from benchmarks.recordings.packing import pack
from benchmarks.datasets.dcase2023 import DATASET
packing.SEGMENT_BYTES = 40_000
packing.pack(index_root(sys.argv[1], [DATASET]), sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_pack_goes_on(write_clip: Write, tmp_path: Path, load_dataset: Callable[[str], Dataset]) -> None:
    """Killed at any moment and started again, a pack ends with every clip once and right."""
    for number in range(300):
        stem = f"section_00_source_train_normal_{number:04}_m-n_W"
        write_clip(f"dcase2023t2/dev_data/raw/fan/train/{stem}.wav", noise(8000, number))
    folder, killed = tmp_path / "pack", 0
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(folder)])
        while process.poll() is None and len(list(folder.glob("segment-*.json"))) < 3 * (attempt + 1):
            time.sleep(0.001)
        time.sleep(0.002 * attempt)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    clips = index_root(tmp_path, [load_dataset("dcase2023")])
    packed = pack(clips, folder)
    assert killed >= 2
    for number, clip_id in enumerate(clips["clip_id"]):
        np.testing.assert_array_equal(packed.waveform(clip_id) * 32768, noise(8000, number))
    assert not list(folder.glob("*.tmp"))
    assert {path.stem for path in folder.glob("*.i16")} == {path.stem for path in folder.glob("*.json")}


def test_two_processes_share_a_folder(write_clip: Write, tmp_path: Path) -> None:
    """Processes that pack at once into one folder all succeed, and each clip is packed once."""
    for number in range(60):
        stem = f"section_00_source_train_normal_{number:04}_m-n_W"
        write_clip(f"dcase2023t2/dev_data/raw/fan/train/{stem}.wav", noise(800, number))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(tmp_path / "pack")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sum(path.stat().st_size for path in (tmp_path / "pack").glob("*.i16")) == 60 * 800 * 2
    assert len(open_pack(tmp_path / "pack").ids) == 60


@pytest.mark.slow
@pytest.mark.real
def test_every_real_clip_decodes(shared: Path, load_dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    """Every real recording decodes to the length that its year has: 10 to 12 s."""
    clips = pd.concat(
        [
            index_root(shared / "data", [load_dataset("dcase2020"), load_dataset("dcase2023")]),
            index_root(shared / "samples", [load_dataset("dcase2023")]),
        ]
    ).drop_duplicates("clip_id")
    packed = pack(clips, tmp_path)
    assert set(packed.lengths // 16_000) == {10, 11, 12}
    assert np.isfinite(packed.levels_db(packed.ids)).all()
    first = clips.iloc[0]
    np.testing.assert_array_equal(
        packed.waveform(first["clip_id"]) * 32768, soundfile.read(first["path"], dtype="int16")[0]
    )
