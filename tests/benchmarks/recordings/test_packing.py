from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.clips import make_clips
from benchmarks.recordings.audio import RecordingError, decode
from benchmarks.recordings.packing import pack

Write = Callable[..., Path]
KILLS = 10


def table(paths: list[Path], dataset: str = "dcase2023") -> pd.DataFrame:
    """Return a clip table of recordings; ids are their stems."""
    return make_clips([(p.stem, str(p), dataset, "dev", "fan", "00", "train", "source", "normal", None) for p in paths])


def noise(size: int, seed: int = 0) -> np.ndarray:
    """Return (size,) int16 noise."""
    return np.random.default_rng(seed).integers(-20_000, 20_000, size).astype(np.int16)


def test_channels_are_mixed_as_the_dataset_says(write_clip: Write, tmp_path: Path) -> None:
    """A dataset uses the first channel or the mean of all; another choice reads the file anew."""
    both = np.stack([noise(500), noise(500, 1)], axis=1)
    path = write_clip("a.wav", both)
    mean = np.rint(both.astype(np.float32).mean(axis=1)).astype(np.int16)
    np.testing.assert_array_equal(decode(str(path), "mean"), mean)
    done: list[int] = []
    for mix, expected in (("first", both[:, 0]), ("mean", mean), ("mean", mean)):
        packed = pack(
            table([path]), tmp_path / "pack", mix={"dcase2023": mix}, progress=lambda now, _: done.append(now)
        )
        np.testing.assert_array_equal(packed.waveform("a") * 32768, expected)
    assert done == [1, 1]  # the third call read nothing


def test_mixing_leaves_one_channel_as_it_is(write_clip: Write) -> None:
    """The mean of one channel is that channel, bit for bit."""
    path = write_clip("a.wav", noise(500))
    np.testing.assert_array_equal(decode(str(path), "mean"), noise(500))


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_recordings_are_left_out_and_named(
    workers: int, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With skip_bad the good ones are packed; the bad ones are named with what is wrong, and counted."""
    paths = [write_clip(f"{name}.wav", noise(300, seed)) for seed, name in enumerate("abcd")]
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    paths[2].write_text("no audio " * 60)
    paths[3].unlink()
    packed = pack(table(paths), tmp_path / "pack", skip_bad=True, workers=workers)
    assert packed.ids.tolist() == ["a"]
    assert {(problem.path, problem.kind) for problem in packed.skipped} == {
        (str(paths[1]), "truncated"), (str(paths[2]), "unreadable"), (str(paths[3]), "unreadable"),
    }  # fmt: skip
    assert "3 bad recordings are left out" in caplog.text
    again = pack(table(paths), tmp_path / "pack", skip_bad=True)
    assert {problem.path for problem in again.skipped} == {problem.path for problem in packed.skipped}


def pack_small(clips: pd.DataFrame, folder: Path) -> None:
    """Pack into segments of a few clips, in a process of its own."""
    from benchmarks.recordings import packing

    packing.SEGMENT_BYTES = 40_000
    packing.pack(clips, folder)


@pytest.mark.slow
def test_killed_ten_times_the_bytes_are_the_same(write_clip: Write, tmp_path: Path) -> None:
    """Killed with SIGKILL at ten random moments, the next run ends with the bytes of an undisturbed one."""
    clips = table([write_clip(f"{number:04}.wav", noise(6000, number)) for number in range(400)])
    context = multiprocessing.get_context("fork")
    began = time.perf_counter()
    undisturbed = context.Process(target=pack_small, args=(clips, tmp_path / "whole"))
    undisturbed.start()
    undisturbed.join()
    seconds = time.perf_counter() - began
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(KILLS):
        process = context.Process(target=pack_small, args=(clips, tmp_path / "killed"))
        process.start()
        time.sleep(rng.uniform(0.01, 0.01 + 0.15 * seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    last = context.Process(target=pack_small, args=(clips, tmp_path / "killed"))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert killed >= 3  # a slow first run makes late kills, which find the work done
    files = {
        place: {path.name: path.read_bytes() for path in (tmp_path / place).iterdir() if path.suffix != ".lock"}
        for place in ("whole", "killed")
    }
    assert files["whole"] == files["killed"]
    assert len(files["whole"]) > 20


def test_a_file_that_may_not_be_read_is_named(write_clip: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording without permission is said to be unreadable for that reason, not to be no audio."""
    path = write_clip("a.wav")

    def refused(*_: object) -> object:  # root may read everything, so permissions alone would test nothing
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("benchmarks.files.os.open", refused)
    with pytest.raises(
        RecordingError, match=r"a\.wav must be a readable file, but is not: Permission denied"
    ) as raised:
        decode(str(path))
    assert raised.value.kind == "unreadable"
