"""Speed of the data: indexing 47,151 names, and packing 1,000 clips against a bare parallel read and resample."""

from __future__ import annotations

import csv
import gzip
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from benchmarks.clips import make_clips
from benchmarks.datasets.dcase2020 import DATASET
from benchmarks.recordings.index import index_root
from benchmarks.recordings.packing import pack
from tests.speed.bare_reading import read_and_resample

pytestmark = pytest.mark.speed

CLIPS = 1000
SECONDS = 10
LISTS = (("dev_file_info.csv.gz", "dev_data"), ("additional_train_file_info.csv.gz", "eval_data"))
# A process of its own, so that nothing is warm but the disk, and its memory is its own: prints seconds and MB.
COLD = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from benchmarks.datasets.dcase2020 import DATASET
from benchmarks.recordings.index import index_root
index_root(sys.argv[1], [DATASET])
seconds = time.perf_counter() - began
status = Path("/proc/self/status").read_text()  # getrusage would count the process that this one was forked from
print(seconds, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.fixture(scope="module")
def many_names(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of the 2020 development and additional training sets, empty."""
    root = tmp_path_factory.mktemp("names")
    for name, folder in LISTS:
        with gzip.open(shared / "oracles" / "file_lists" / name, "rt") as lines:
            for row in csv.DictReader(lines):
                path = root / DATASET.folder / folder / "raw" / row["file"].split("/", 1)[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return root


def test_indexing(bench, many_names: Path) -> None:
    """47,151 names are indexed cold within 15 s and 500 MB, warm within 1 s."""
    done = subprocess.run([sys.executable, "-c", COLD, str(many_names)], check=True, capture_output=True, text=True)
    seconds, megabytes = map(float, done.stdout.split())
    bench.limit("index 47,151 names, a fresh process", seconds, 15, "s")
    bench.limit("index 47,151 names, memory", megabytes, 500, "MB")
    clips = index_root(many_names, [DATASET])
    assert len(clips) == 47_151
    warm = bench.best_of(3, lambda: index_root(many_names, [DATASET]))
    bench.limit("index 47,151 names, again", warm, 1, "s")
    walk = bench.best_of(3, lambda: sum(len(files) for _, _, files in os.walk(many_names)))
    bench.row(
        f"index, {len(clips) / warm:,.0f} files/s", warm, f"os.walk, {len(clips) / walk:,.0f} files/s", walk, 0.03
    )


def write_clips(folder: Path, rate: int) -> pd.DataFrame:
    """Write 1,000 clips of 10 s of eight different noises, as a clip table."""
    noises = [np.random.default_rng(seed).integers(-9000, 9000, SECONDS * rate).astype(np.int16) for seed in range(8)]
    rows = []
    for number in range(CLIPS):
        path = folder / f"{number:04}.wav"
        soundfile.write(path, noises[number % 8], rate)
        rows.append((path.stem, str(path), "dcase2023", "dev", "fan", "00", "train", "source", "normal", None))
    return make_clips(rows)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_packing(bench, rate: int, tmp_path: Path) -> None:
    """Packing reaches 0.8 of a bare parallel read and resample of the same files; a second start reads nothing."""
    clips = write_clips(tmp_path, rate)
    workers = len(os.sched_getaffinity(0))

    def bare() -> None:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(read_and_resample, clips["path"], chunksize=8))

    ours, reference = [], []
    for _ in range(2):  # in turn, so that other work disturbs both alike
        shutil.rmtree(tmp_path / "pack", ignore_errors=True)
        ours.append(bench.best_of(1, lambda: pack(clips, tmp_path / "pack", workers=workers)))
        reference.append(bench.best_of(1, bare))
    read: list[int] = []
    again = bench.best_of(2, lambda: pack(clips, tmp_path / "pack", progress=lambda done, _: read.append(done)))
    assert not read
    bench.limit(f"pack {CLIPS} clips at {rate} Hz again", again, 1, "s")
    what = f"pack {CLIPS} clips of {SECONDS} s at {rate} Hz"
    bench.row(what, min(ours), f"bare, {workers} processes", min(reference), 0.8)
