"""Readers of names, for fuzzers: of recordings, of score files, of systems, of databases.

For longer: python -m tests.hostile.fuzz_names SECONDS
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from benchmarks.contract import BenchmarkError
from benchmarks.datasets import dcase2020, dcase2025
from benchmarks.files import printable
from benchmarks.metrics.score_files import read_scores
from benchmarks.recordings.index import scan_root
from benchmarks.recordings.names import parse_name
from harness.errors import HarnessError
from harness.places import find_places, sqlite_path, sqlite_uri
from harness.tables import brief
from tests.hostile import fuzzing


def fuzz_name(data: bytes) -> None:
    """Read a text as the name of a recording, of 2020 and of later years; sentences about it can be shown."""
    text = os.fsdecode(data)
    for with_ids in (False, True):
        try:
            parse_name(text, with_ids=with_ids)
        except BenchmarkError as error:
            assert printable(str(error)).isprintable()
    assert "\n" not in brief(text)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "dcase2025t2/dev_data/raw/fan/train").mkdir(parents=True)
    (folder / "id/dev_data/raw/fan/train").mkdir(parents=True)
    return folder


def fuzz_file(data: bytes) -> None:
    """Give the name to a recording and to a score file, where a file can have it."""
    name = data.replace(b"/", b"").replace(b"\0", b"")
    train = _folder() / "dcase2025t2/dev_data/raw/fan/train"
    with tempfile.TemporaryDirectory() as scores:
        for folder, ending in ((train, b".wav"), (Path(scores), b".csv")):
            (folder / os.fsdecode(name[:240] + ending)).write_bytes(b"section_00_source_test_normal_0000.wav,0.5\n")
        try:
            scan = scan_root(_folder(), [dcase2025.DATASET, dcase2020.DATASET])
            assert all(problem.sentence.isprintable() for problem in scan.problems)
            with suppress(BenchmarkError):
                read_scores(scores, dcase2025.DATASET)
        finally:
            for each in train.iterdir():
                each.unlink()


def fuzz_address(data: bytes) -> None:
    """Read a text as the path of a database: its address means it, and no other."""
    name = os.fsdecode(data.replace(b"\0", b""))
    with suppress(HarnessError, ValueError):
        find_places(tracking=name)
    path = Path("/tmp", name).absolute()
    assert sqlite_path(sqlite_uri(path)) == path


def kinds() -> dict[str, tuple[fuzzing.Reader, list[bytes]]]:
    """Return each reader with whole names to start from."""
    names = [
        b"section_00_source_train_normal_0000_m-n_X", b"normal_id_00_00000000", b"section_00_0000",
        b"section_00_target_test_anomaly_0001_noAttribute", "section_００_source_train_normal_é".encode(),
    ]  # fmt: skip
    files = [b"anomaly_score_fan_section_00_test", b"anomaly_score_fan_id_00", b"decision_result_fan_section_00_test"]
    addresses = [
        b"sqlite:///mlflow.db",
        b"run%41/mlflow.db",
        b"what?v=2/x.db",
        b"a#b/mlflow.db",
        b"postgresql://a:b@c/d",
    ]
    return {
        "names of recordings": (fuzz_name, names),
        "files": (fuzz_file, [*files, *names]),
        "paths of databases": (fuzz_address, addresses),
    }


if __name__ == "__main__":
    fuzzing.run(kinds(), float(sys.argv[1]))
