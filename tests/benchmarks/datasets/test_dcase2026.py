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

from benchmarks.clips import make_clips
from benchmarks.contract import MIXES, BenchmarkError, Protocol
from benchmarks.datasets.dcase2026 import DATASET, EVAL_MACHINES
from benchmarks.protocols import find_protocol, heard, parse_protocol
from benchmarks.recordings.attributes import name_traps
from benchmarks.recordings.audio import RecordingError, decode
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.index import index_root
from benchmarks.synthetic.generator import generate
from harness.cache import Cache
from harness.keys import digest
from harness.trials.contract import protocol_content
from harness.trials.recordings import open_recordings, prepare_recordings

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
    wanted = {"near": near, "far": far, "mean": np.rint((near + far) / 2), "difference": np.rint((near - far) / 2),
              "both": np.concatenate([near, far])}  # fmt: skip
    for word, sound in wanted.items():
        protocol = parse_protocol({"name": "x", "train": ["dcase2026/dev"], "score": ["dcase2026/dev"],
                                   "channels": word})  # fmt: skip
        assert np.array_equal(decode(str(path), heard(DATASET, protocol)), sound), word
        assert protocol_content(protocol)["channels"] == word
    assert np.array_equal(decode(str(path), heard(DATASET, replace(protocol, channels=None))), near)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, samples[:, 0], 16_000)
    assert np.array_equal(decode(str(mono), MIXES["near"]), decode(str(mono), MIXES["mean"]))
    for word in ("far", "difference", "both"):
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


def told(word: str | None) -> Protocol:
    """Return the year's protocol with another word for its channels."""
    return replace(find_protocol("dcase2026"), name=f"2026 {word}", channels=word)  # type: ignore[arg-type]


def test_each_way_of_hearing_has_its_own_pack(made: Path, tmp_path: Path) -> None:
    """Trials that hear differently run side by side: each opens what it was prepared with, under another fingerprint.

    Near is what the year's protocol hears by itself, so its recordings are the same ones.
    """
    cache = Cache(tmp_path / "cache")
    prepared = {word: prepare_recordings(made, told(word), cache) for word in (None, *MIXES)}
    assert prepared[None].train_data == prepared["near"].train_data
    assert len({each.train_data for each in prepared.values()}) == len(MIXES)
    assert len({each.test_data for each in prepared.values()}) == len(MIXES)
    for each in prepared.values():
        opened = open_recordings(each.place)
        assert (opened.train_data, opened.test_data) == (each.train_data, each.test_data)


def test_both_channels_stand_one_behind_the_other(made: Path, tmp_path: Path) -> None:
    """A clip that is heard by both microphones is the near one's and then the far one's, each cut or repeated alike."""
    cache = Cache(tmp_path / "cache")
    both, near, far = (prepare_recordings(made, told(word), cache).packed for word in ("both", "near", "far"))
    ids = near.ids[:3]
    for samples in (3000, 8000, 11_000):
        for fit in ("repeat", "pad"):
            sides = [side.read(ids, samples, fit) for side in (near, far)]
            np.testing.assert_array_equal(both.read(ids, samples, fit), np.concatenate(sides, axis=1))
    np.testing.assert_array_equal(both.lengths, near.lengths)
    for side, place in ((near, slice(0, 3000)), (far, slice(3000, 6000))):  # a window is the same seconds of both
        np.testing.assert_array_equal(both.read(ids[:1], 3000, start=4000)[0, place], side.waveform(ids[0])[4000:7000])
    for start in (-1, 8000):
        with pytest.raises(BenchmarkError, match=f"start must lie within every clip, but got {start}"):
            both.read(ids, 3000, start=start)
    whole = np.concatenate([side.waveform(ids[0]) for side in (near, far)])
    np.testing.assert_array_equal(both.waveform(ids[0]), whole)


@pytest.mark.parametrize("word", ["far", "difference", "both"])
def test_one_channel_among_recordings_with_two(word: str, made: Path, tmp_path: Path) -> None:
    """A recording of one channel is read by near and mean, and refused, or left out and counted, by the others."""
    root = shutil.copytree(made, tmp_path / "root")
    path = next(root.rglob("gearboxEmu/train/*.wav"))
    samples, _ = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[:, 0], 16_000)
    cache = Cache(tmp_path / "cache")
    assert (
        prepare_recordings(root, told("near"), cache).train_data
        == prepare_recordings(made, told("near"), cache).train_data
    )
    with pytest.raises(RecordingError, match=f"must be the second channel of a recording, but {path} has one channel"):
        prepare_recordings(root, told(word), cache)
    assert prepare_recordings(root, told(word), cache, skip_bad=True).skipped == 1
    judged = {each: examine(root, [DATASET], protocol=told(each)).verdict for each in ("near", word)}
    assert judged["near"] is not None and judged["near"].runs
    verdict = judged[word]
    assert verdict is not None and not verdict.runs
    assert "has one channel" in verdict.why


def test_keys_know_what_is_heard() -> None:
    """A protocol that says nothing of channels has the key that it had; each other word has its own, and is kept."""
    contents = {word: protocol_content(told(word)) for word in (None, *MIXES)}
    assert contents[None] == protocol_content(find_protocol("dcase2026"))
    assert "channels" not in contents[None]
    assert len({digest(content) for content in contents.values()}) == 1 + len(MIXES)
    for word, content in contents.items():
        assert parse_protocol({"name": "x", **content}).channels == word


@pytest.mark.parametrize("layout", ["archives", "archives side by side"])
def test_unzipped_archives_and_evaluation_names(layout: str, tmp_path: Path) -> None:
    """Archives unzipped into folders of their own names are read; evaluation test clips say neither domain nor label.

    The official README calls them section_00_test_0000.wav; on disk they are section_00_0000.wav. Both are read.
    """
    year = tmp_path / "dcase2026t2" if layout == "archives" else tmp_path
    for archive in DATASET.archives:
        if archive.part == "eval":
            names = [("test", f"section_00_{at:04d}.wav") for at in range(200)]
            names += [("test", "section_00_test_0000.wav")]
        else:
            names = [("train", "section_00_target_train_normal_0009_spd_2_grit_120.wav")]
        for split, name in names:
            path = year / archive.name.removesuffix(".zip") / archive.machine / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    clips = index_root(tmp_path, [DATASET])
    assert clips["part"].value_counts().to_dict() == {"dev": 7, "additional": 5, "eval": 5 * 201}
    evaluation = clips[clips["part"] == "eval"]
    assert evaluation[["domain", "condition", "attribute"]].isna().all(axis=None)
    assert set(evaluation["section"]) == {"00"}
    silent = clips.loc[clips["attribute"].isna() & (clips["split"] == "train"), "machine"]
    assert set(silent) == set(WITHHELD)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["normal spd_1"] * 12 + ["anomaly spd_2"] * 12, "spd_1 (12 normal) and spd_2 (12 anomaly)"),
        (["normal spd_1"] * 12 + ["anomaly spd_1"] * 12, ""),
        (["normal spd_1"] * 9 + ["normal spd_2"] * 9 + ["anomaly spd_2"] * 18, ""),  # 9 may be chance
        (["normal spd_1"] * 12 + ["anomaly spd_1"] * 6, ""),
        (["normal spd_1"] * 12 + ["anomaly spd_2"] * 6, ""),  # too few anomalies to tell
        (["normal a_y", "normal a_x", "anomaly a_Y", "anomaly a_x"], "a_y (1 normal) and a_Y (1 anomaly)"),
    ],
)
def test_attributes_that_only_one_condition_has(names: list[str], said: str) -> None:
    """Any attribute of enough test clips, all of one condition, is said; what chance could do is not."""
    rows = []
    for at, name in enumerate(names):
        condition, attribute = name.split()
        clip_id = f"dcase2026/dev/fan/test/{at:04d}"
        rows.append((clip_id, f"/{at}.wav", "dcase2026", "dev", "fan", "00", "test", "source", condition, attribute))
    found = [problem.sentence for problem in name_traps(make_clips(rows)) if problem.kind == "telling name"]
    assert len(found) == bool(said)
    assert all(said in sentence for sentence in found)
