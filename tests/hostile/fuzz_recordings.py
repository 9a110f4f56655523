"""Functions that give anything to the readers of recordings: only a `BenchmarkError` may come out of them.

Run by `test_audio.py` with a few examples, and for as long as wanted by

    python -m tests.hostile.fuzz_recordings SECONDS
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.contract import BenchmarkError
from benchmarks.datasets.own import DATASET as OWN
from benchmarks.files import read_table
from benchmarks.recordings.audio import inspect
from benchmarks.recordings.index import index_root
from benchmarks.recordings.names import parse_name

SEEDS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "NIST")


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


@cache
def seed(container: str) -> bytes:
    """Return a whole recording of 200 samples in a container."""
    path = _folder() / f"seed.{container}"
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 200)
    soundfile.write(str(path), samples, 16_000, format=container, subtype="VORBIS" if container == "OGG" else "PCM_16")
    return path.read_bytes()


def fuzz_wav(data: bytes) -> None:
    """Read bytes as a recording."""
    path = _folder() / "clip.wav"
    path.write_bytes(data)
    with contextlib.suppress(BenchmarkError):
        inspect(str(path))


def fuzz_name(text: str) -> None:
    """Read a text as the name of a recording, of 2020 and of later years."""
    for with_ids in (False, True):
        with contextlib.suppress(BenchmarkError):
            parse_name(text, with_ids=with_ids)


def fuzz_csv(data: bytes) -> None:
    """Read bytes as a csv, and as the list of own recordings."""
    folder = _folder() / "own"
    folder.mkdir(exist_ok=True)
    table = folder / "list.csv"
    table.write_bytes(data)
    for read in (lambda: read_table(table), lambda: index_root(folder, [OWN], skip_bad=True)):
        with contextlib.suppress(BenchmarkError):
            read()


@st.composite
def spoiled_recordings(draw: st.DrawFn) -> bytes:
    """Draw a recording with some bytes of its header changed, and perhaps its end cut off."""
    data = bytearray(seed(draw(st.sampled_from(SEEDS))))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, min(len(data), 160) - 1))
        new = draw(
            st.sampled_from([b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f", b"\x80"])
            | st.binary(max_size=4)
        )
        data[place : place + len(new)] = new
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def spoiled_tables(draw: st.DrawFn) -> bytes:
    """Draw a csv of own recordings with odd cells, separators and encodings."""
    cell = st.sampled_from(
        ["file", "split", "train", "a.wav", "..\\b.wav", "\u00e9.wav", "e\u0301.wav", "", '"', "=1"]
    ) | st.text(max_size=6)
    rows = draw(st.lists(st.lists(cell, max_size=7), max_size=5))
    mark = draw(st.sampled_from([",", ";", "\t", "|"]))
    text = f"file{mark}split\n" * draw(st.booleans()) + "\n".join(mark.join(row) for row in rows)
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp932", "euc_jp"])
    )
    return text.encode(encoding, "replace") + draw(st.binary(max_size=3))


names = st.text(max_size=40) | st.lists(
    st.sampled_from(
        [
            "section",
            "00",
            "\uff10\uff10",
            "source",
            "train",
            "normal",
            "0001",
            "id",
            "m-n",
            "(1)",
            " ",
            "copy",
            "\u00e9",
            "\0",
        ]
    ),
    max_size=9,
).map("_".join)


def run(seconds: float) -> None:
    """Try all three for some time; the first exception that is none of ours ends it."""
    kinds = ((fuzz_wav, spoiled_recordings()), (fuzz_csv, spoiled_tables()), (fuzz_name, names))
    tried, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for function, strategy in kinds:
            free = settings(
                max_examples=500, database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            free(given(strategy)(function))()
            tried += 500
    sys.stdout.write(f"{tried} inputs, no exception but ours\n")


if __name__ == "__main__":
    run(float(sys.argv[1]))
