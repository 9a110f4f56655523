"""The year 2026: its names as they are, two microphones, and names that mislead."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.contract import MIXES, BenchmarkError
from benchmarks.datasets.dcase2026 import DATASET, EVAL_MACHINES
from benchmarks.protocols import find_protocol, parse_protocol
from benchmarks.recordings.audio import RecordingError, decode
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.index import index_root
from benchmarks.synthetic.generator import generate
from harness.trials.contract import protocol_content
from harness.trials.recordings import heard

WITHHELD = ("ToyCar", "bearingEmu", "sliderEmu", "valveEmu", "SewingMachine", "ToothBrush")
# an independent reading of the grammar: everything behind the index is the attribute
GRAMMAR = re.compile(r"section_00_(source|target)_(train|test)_(normal|anomaly)_\d{4}_(.+)\.wav")


def listed(shared: Path) -> Iterator[str]:
    """Yield the names of all training and development test clips, `machine/split/name`."""
    for name in ("dcase2026_train.txt.gz", "dcase2026_dev_test.txt.gz"):
        with gzip.open(shared / "oracles" / "file_lists" / name, "rt") as lines:
            yield from filter(None, map(str.strip, lines))


def test_every_listed_name_is_indexed(shared: Path, tmp_path: Path) -> None:
    """13,400 names have the machine, domain, condition and attribute that their words say; withheld ones have none."""
    names = list(listed(shared))
    for machine in {name.split("/")[0] for name in names}:
        for split in ("train", "test"):
            part = "eval_data" if machine in EVAL_MACHINES else "dev_data"
            (tmp_path / "dcase2026t2" / part / "raw" / machine / split).mkdir(parents=True)
    for name in names:
        part = "eval_data" if name.split("/")[0] in EVAL_MACHINES else "dev_data"
        (tmp_path / "dcase2026t2" / part / "raw" / name).touch()
    clips = index_root(tmp_path, [DATASET])
    assert len(clips) == len(names) == 13_400
    clips["attribute"] = clips["attribute"].astype(object).where(clips["attribute"].notna(), None)
    by_name = {"/".join(Path(row["path"]).parts[-3:]): row for row in clips.to_dict("records")}
    for name in names:
        machine, split, stem = name.split("/")
        words = GRAMMAR.fullmatch(stem)
        assert words is not None, name
        clip = by_name[name]
        attribute = None if machine in WITHHELD or words[4] == "noAttribute" else words[4]
        assert (clip["machine"], clip["section"], clip["split"]) == (machine, "00", split), name
        assert (clip["domain"], clip["condition"], clip["attribute"]) == (words[1], words[3], attribute), name
    counts = clips.groupby(["machine", "split", "domain"], observed=True).size()
    assert set(counts.xs("train", level="split").xs("source", level="domain")) == {990}
    assert set(counts.xs("train", level="split").xs("target", level="domain")) == {10}
    assert set(counts.xs("test", level="split")) == {100}


def test_the_papers_protocol_does_not_change() -> None:
    """The paper's protocol has the years 2020 to 2025 and says nothing of channels, so that its key is what it was."""
    content = protocol_content(find_protocol("paper"))
    assert not any("2026" in part for part in (*content["train"], *content["score"]))
    assert "channels" not in content


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two machine types of 2026, clips of half a second."""
    root = tmp_path_factory.mktemp("made")
    generate(root, DATASET, machines=("gearboxEmu", "ToyCarEmu"), train_source=2, train_target=1, test_per_cell=2,
             seconds=0.5)  # fmt: skip
    return root


def test_which_microphone_is_heard(made: Path, tmp_path: Path) -> None:
    """Near, far, mean and difference are what a plain reading of both channels gives; near is the default."""
    path = next(made.rglob("*gearboxEmu/train/*.wav"))
    samples, _ = soundfile.read(path, dtype="int16")
    near, far = samples[:, 0].astype(int), samples[:, 1].astype(int)
    assert samples.shape == (8000, 2) and not np.array_equal(near, far)
    wanted = {"near": near, "far": far, "mean": np.rint((near + far) / 2), "difference": np.rint((near - far) / 2)}
    for word, sound in wanted.items():
        protocol = parse_protocol({"name": "x", "train": ["dcase2026/dev"], "score": ["dcase2026/dev"],
                                   "channels": word})  # fmt: skip
        assert np.array_equal(decode(str(path), heard(DATASET, protocol)), sound), word
        assert protocol_content(protocol)["channels"] == word
    assert np.array_equal(decode(str(path), heard(DATASET, replace(protocol, channels=None))), near)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, samples[:, 0], 16_000)
    assert np.array_equal(decode(str(mono), MIXES["near"]), decode(str(mono), MIXES["mean"]))
    for word in ("far", "difference"):
        with pytest.raises(RecordingError, match=r"must be the second channel of a recording, but .* has one channel"):
            decode(str(mono), MIXES[word])


@pytest.mark.parametrize("word", ["nar", 1, ["near"], True, ""])
def test_channels_are_words(word: object) -> None:
    """What is no word for a microphone is refused, with those there are."""
    with pytest.raises(BenchmarkError, match="channels of a protocol must be one of near, far, mean, difference"):
        parse_protocol({"name": "x", "train": ["dcase2026/dev"], "score": ["dcase2026/dev"], "channels": word})


def test_lengths_differ_by_machine(tmp_path: Path) -> None:
    """Where no length is asked for, a generated clip lasts as long as the year's recordings of its machine type."""
    generate(tmp_path, DATASET, machines=("ToyCarEmu", "fan"), train_source=1, train_target=1, test_per_cell=1)
    seconds = {machine: {soundfile.info(path).duration for path in tmp_path.rglob(f"{machine}/**/*.wav")}
               for machine in ("ToyCarEmu", "fan")}  # fmt: skip
    assert seconds == {"ToyCarEmu": {12.0}, "fan": {10.0}}


def test_traps_in_names_are_the_doctors(made: Path, tmp_path: Path) -> None:
    """A key that stands twice and a spelling that tells the condition are said once a machine type, as harmless."""
    root = shutil.copytree(made, tmp_path / "root")
    for path in sorted(root.rglob("gearboxEmu/test/*target*.wav")):
        way = "pro_y" if "_normal_" in path.name else "pro_Y"
        path.rename(path.with_name(re.sub(r"pro_.*\.wav", f"{way}.wav", path.name)))
    for table in root.rglob("attributes_*.csv"):
        table.unlink()
    found = [problem for problem in examine(root, [DATASET]).problems if problem.kind != "missing"]
    assert {(problem.kind, problem.effect) for problem in found} == {
        ("repeated key", "harmless"), ("telling name", "harmless"),
    }  # fmt: skip
    (telling,) = (problem.sentence for problem in found if problem.kind == "telling name")
    assert (
        "gearboxEmu: attributes of test clips differ in capitals alone, pro_y (2 normal) and pro_Y (2 anomaly)"
        in telling
    )
    (repeated,) = (problem.sentence for problem in found if problem.kind == "repeated key")
    assert "ToyCarEmu: the key mic occurs twice" in repeated
    fair = shutil.copytree(made, tmp_path / "fair")
    assert "telling name" not in {problem.kind for problem in examine(fair, [DATASET]).problems}
