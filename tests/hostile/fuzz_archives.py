"""Two readers for fuzzers: whatever bytes they get, they may only raise a BenchmarkError."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.archives.unpack import unpack
from benchmarks.contract import BenchmarkError
from benchmarks.datasets import dcase2025
from benchmarks.metrics.score_files import read_scores


def fuzz_zip(data: bytes) -> None:
    """Unpack any bytes; nothing is written outside the target, and nothing stays of what was refused."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "in", "x.zip")
        place.parent.mkdir()
        place.write_bytes(data)
        target = Path(folder, "deep", "raw")
        with suppress(BenchmarkError):
            unpack(place, target, machine="fan")
        assert {path.name for path in Path(folder).iterdir()} <= {"in", "deep"}
        assert {path.name for path in target.iterdir()} <= {"fan"} if target.exists() else True


def fuzz_score_csv(data: bytes) -> None:
    """Read any bytes as a score file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "anomaly_score_fan_section_00_test.csv").write_bytes(data)
        with suppress(BenchmarkError):
            read_scores(folder, dcase2025.DATASET)
