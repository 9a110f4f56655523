from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from benchmarks.clips import make_clips
from benchmarks.contract import BenchmarkError, DatasetPart
from benchmarks.protocols import PROTOCOLS, find_protocol, parse_protocol, says_no_labels, split_clips


def clip(dataset: str, part: str, machine: str, split: str, condition: str | None) -> tuple[str | None, ...]:
    """Return a row of a clip table."""
    clip_id = f"{dataset}/{part}/{machine}/{split}/{condition}"
    return (clip_id, f"/{clip_id}.wav", dataset, part, machine, "00", split, "source", condition, None)


@pytest.fixture
def clips() -> pd.DataFrame:
    """Give clips of two years and three parts."""
    return make_clips(
        [
            clip(year, part, machine, split, condition)
            for year in ("dcase2024", "dcase2025")
            for part, machine in (("dev", "fan"), ("dev", "valve"), ("additional", "Polisher"))
            for split, condition in (("train", "normal"), ("test", "normal"), ("test", "anomaly"))
            if not (part == "additional" and split == "test")
        ]
        + [clip("dcase2025", "eval", "Polisher", "test", None)]
    )


def test_a_year_trains_on_its_development_set_alone() -> None:
    """The protocol of a year neither trains nor scores anything but that year's development set."""
    for year in ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025"):
        protocol = find_protocol(year)
        assert protocol.train == protocol.score == (DatasetPart(year, "dev"),)


def test_the_papers_protocol() -> None:
    """The paper trains on development and additional clips of six years and fixes Table 1's cases."""
    protocol = find_protocol("paper")
    assert protocol is find_protocol("dcase2025-paper")
    assert len(protocol.train) == 12
    assert protocol.score == (DatasetPart("dcase2025", "dev"),)
    assert protocol.cases == {
        "bearing": "sample-wise", "slider": "sample-wise", "ToyTrain": "sample-wise", "fan": "fragmented",
        "ToyCar": "partial", "AirCompressor": "unlabeled", "BandSealer": "direct",
    }  # fmt: skip


def test_small_protocols() -> None:
    """The protocols of the real clips and of the demo train on two years; the demo scores the later one."""
    assert [str(part) for part in find_protocol("real-mini").score] == ["dcase2020/dev", "dcase2023/dev"]
    assert [str(part) for part in find_protocol("demo").train] == ["dcase2024/dev", "dcase2025/dev"]
    assert [str(part) for part in find_protocol("demo").score] == ["dcase2025/dev"]


def test_a_misspelt_protocol() -> None:
    """An unknown name is answered with the nearest known one."""
    with pytest.raises(BenchmarkError, match=r"Did you mean dcase2023\?"):
        find_protocol("dcase-2023")


def test_every_protocol_is_kept_under_its_own_name() -> None:
    """The name that finds a protocol is the name that it has."""
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())


def test_a_protocol_from_a_file() -> None:
    """A mapping, as TOML gives it, becomes a protocol."""
    protocol = parse_protocol(
        {
            "name": "mine",
            "train": ["dcase2024/dev"],
            "score": ["dcase2025/dev"],
            "machines": ["fan"],
            "cases": {"fan": "direct"},
        }
    )
    assert protocol.train == (DatasetPart("dcase2024", "dev"),)
    assert (protocol.machines, dict(protocol.cases)) == (("fan",), {"fan": "direct"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"score": ["dcase2025/test"]},
            r"parts must be written <dataset>/<dev\|additional\|eval>, but got dcase2025/test",
        ),
        ({"score": ["dcase2025"]}, "parts must be written"),
        ({"train": []}, "must each list a part"),
        ({"train": "dcase2025/dev"}, "train of a protocol must be a list of texts"),
        ({"cases": {"fan": "fragmentd"}}, "Did you mean fragmented"),
        ({"machine": ["fan"]}, "Did you mean machines"),
        ({"name": 3}, "must be texts"),
    ],
)
def test_a_wrong_protocol_file(change: dict[str, object], words: str) -> None:
    """A mistake in a protocol is an error that says the key, the rule and the value."""
    with pytest.raises(BenchmarkError, match=words):
        parse_protocol({"name": "mine", "train": ["dcase2024/dev"], "score": ["dcase2025/dev"]} | change)


def test_clips_are_split(clips: pd.DataFrame) -> None:
    """Training clips come from the training parts, test clips from the scored ones."""
    train, test = split_clips(clips, find_protocol("demo"))
    assert set(train["dataset"]) == {"dcase2024", "dcase2025"}
    assert set(test["dataset"]) == {"dcase2025"}
    assert (train["split"] == "train").all()
    assert (test["split"] == "test").all()
    assert (len(train), len(test)) == (4, 4)


def test_machines_are_kept(clips: pd.DataFrame) -> None:
    """A protocol that names machine types keeps those alone."""
    protocol = parse_protocol(
        {"name": "x", "train": ["dcase2025/dev"], "score": ["dcase2025/dev"], "machines": ["fan"]}
    )
    train, test = split_clips(clips, protocol)
    assert set(train["machine"]) == set(test["machine"]) == {"fan"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"train": ["dcase2022/dev"]},
            "must find clips of dcase2022/dev, but there are none; there are clips of dcase2024/add",
        ),
        ({"machines": ["Fan"]}, "Did you mean fan"),
        ({"score": ["dcase2025/additional"]}, "must find test clips to score, but there is none"),
        ({"train": ["dcase2025/eval"]}, "must find training clips"),
        ({"train": ["dcase2025/additional"]}, "but has none of fan, valve"),
    ],
)
def test_what_cannot_be_split(clips: pd.DataFrame, change: dict[str, object], words: str) -> None:
    """A part, machine type or condition that is not there is an error that says what is."""
    protocol = parse_protocol({"name": "mine", "train": ["dcase2025/dev"], "score": ["dcase2025/dev"]} | change)
    with pytest.raises(BenchmarkError, match=words):
        split_clips(clips, protocol)


def test_without_any_label_all_test_clips_are_scored(clips: pd.DataFrame) -> None:
    """Where no test clip says whether it is normal all are kept, and one sentence says what is undefined."""
    protocol = parse_protocol({"name": "mine", "train": ["dcase2025/additional"], "score": ["dcase2025/eval"]})
    test = split_clips(clips, protocol)[1]
    assert len(test) == 1
    assert test["condition"].isna().all()
    assert "None of the 1 test clips says whether it is normal" in says_no_labels(test)
    labelled = split_clips(clips, parse_protocol({"name": "x", "train": ["dcase2025/dev"], "score": ["dcase2025/dev"]}))
    assert says_no_labels(labelled[1]) == ""


ANOTHER_YEAR = """
import sys
from pathlib import Path

import benchmarks.protocols as before

year, paper = Path(before.__file__).parent / "datasets" / "dcase2031.py", before.find_protocol("paper")
glob = Path.glob
Path.glob = lambda folder, pattern: [*glob(folder, pattern), year] if folder == year.parent else glob(folder, pattern)
del sys.modules["benchmarks.protocols"]
import benchmarks.protocols as after

assert after is not before
assert after.find_protocol("dcase2031") == after.year_protocol("dcase2031"), "the year has its protocol"
assert "dcase2031" not in before.PROTOCOLS
assert after.find_protocol("paper") == paper, "and the paper's is the same"
assert set(after.PROTOCOLS) - set(before.PROTOCOLS) == {"dcase2031"}
assert not [name for name in sys.modules if name.startswith("benchmarks.datasets.")], "no file is imported for it"
"""


def test_another_years_file_is_its_protocol() -> None:
    """A year that gets a file gets a protocol of that name, and the paper trains on its six years as before."""
    done = subprocess.run([sys.executable, "-c", ANOTHER_YEAR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
