"""Readers of csv files, for fuzzers: scores, official files, attributes and own lists in any spelling.

For longer: python -m tests.hostile.fuzz_tables SECONDS
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from benchmarks.contract import BenchmarkError
from benchmarks.datasets import dcase2025
from benchmarks.datasets.own import DATASET as OWN
from benchmarks.metrics.score_files import read_scores
from benchmarks.recordings.index import index_root, scan_root
from benchmarks.recordings.truth import listed_clips, read_truth
from tests.hostile import fuzzing

CLIP = "section_00_source_test_normal_0000_m-n_X"
SCORES = "".join(
    f"section_00_{domain}_test_{condition}_000{number}_m-n_X.wav,0.{number}\n"
    for domain in ("source", "target")
    for condition in ("normal", "anomaly")
    for number in range(2)
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


def fuzz_score_csv(data: bytes) -> None:
    """Read any bytes as a score file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "anomaly_score_fan_section_00_test.csv").write_bytes(data)
        with suppress(BenchmarkError):
            read_scores(folder, dcase2025.DATASET)


def fuzz_truth_csv(data: bytes) -> None:
    """Read any bytes as an official file about evaluation clips, and as a folder of released attributes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ground_truth_fan_section_00_test.csv", "attributes_00.csv", "eval_data_list_2025.csv"):
            Path(folder, name).write_bytes(data)
        for read in (lambda: listed_clips(folder, dcase2025.DATASET), lambda: read_truth(folder)):
            with suppress(BenchmarkError):
                read()


@cache
def _root(kind: str) -> Path:
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    if kind == "own":
        (root / "a.wav").write_bytes(b"RIFF")
    else:
        train = root / "dcase2025t2/dev_data/raw/fan/train"
        train.mkdir(parents=True)
        (train / "section_00_source_train_normal_0000_m-n_X.wav").write_bytes(b"RIFF")
    return root


def fuzz_attribute_csv(data: bytes) -> None:
    """Read any bytes as a machine type's table of attributes."""
    (_root("2025") / "dcase2025t2/dev_data/raw/fan/attributes_00.csv").write_bytes(data)
    with suppress(BenchmarkError):
        scan_root(_root("2025"), [dcase2025.DATASET])


def fuzz_own_csv(data: bytes) -> None:
    """Read any bytes as the list of own recordings."""
    (_root("own") / "list.csv").write_bytes(data)
    with suppress(BenchmarkError):
        index_root(_root("own"), [OWN], skip_bad=True)


def kinds() -> dict[str, tuple[fuzzing.Reader, list[bytes]]]:
    """Return each reader with whole inputs to start from, in several spellings."""

    def spelled(text: str) -> list[bytes]:
        commas = [text.encode(encoding) for encoding in ENCODINGS]
        return [*commas, text.replace(",", ";").encode(), text.replace(",", "\t").encode()]

    attributes = "file_name,d1p,d1v\nfan/train/section_00_source_train_normal_0000_m-n_X.wav,m-n,X\n"
    own = "file,split,machine,section,domain,condition,attribute\na.wav,train,fan,00,source,normal,x\na.wav,test,,,,,\n"
    return {
        "score files": (fuzz_score_csv, spelled(SCORES)),
        "official files": (fuzz_truth_csv, spelled(f"{CLIP}.wav,0\n{CLIP}.wav,1\n") + spelled(attributes)),
        "attribute tables": (fuzz_attribute_csv, spelled(attributes)),
        "own lists": (fuzz_own_csv, spelled(own)),
    }


if __name__ == "__main__":
    fuzzing.run(kinds(), float(sys.argv[1]))
