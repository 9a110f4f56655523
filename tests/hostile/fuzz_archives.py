"""Readers of what a download brings, for fuzzers: whatever bytes they get, they may only raise a BenchmarkError.

For longer: python -m tests.hostile.fuzz_archives SECONDS
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

from benchmarks.archives.record import read_record
from benchmarks.archives.unpack import unpack
from benchmarks.contract import BenchmarkError
from tests.hostile import fuzzing
from tests.hostile.zips import GOOD, LINK, overlapping, special, zip_of

RECORD = b'{"dev_fan.zip": {"record": 1, "bytes": 5, "md5": "%s", "sha256": "%s", "unpacked": ["train", "test"]}}' % (
    b"0" * 32, b"0" * 64,
)  # fmt: skip


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
        assert not [path for path in target.rglob("*") if path.is_symlink()]


def fuzz_record(data: bytes) -> None:
    """Read any bytes as what an earlier download noted."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "manifest.json").write_bytes(data)
        with suppress(BenchmarkError):
            read_record(Path(folder))


def kinds() -> dict[str, tuple[fuzzing.Reader, list[bytes]]]:
    """Return each reader with whole inputs to start from."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    zips = [*(zip_of(GOOD, method) for method in methods), special(LINK), overlapping()]
    return {"archives": (fuzz_zip, zips), "records": (fuzz_record, [RECORD])}


if __name__ == "__main__":
    fuzzing.run(kinds(), float(sys.argv[1]))
