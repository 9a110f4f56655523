"""The names of 2026, every one of them, and what is odd about them."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.clips import make_clips
from benchmarks.contract import Dataset
from benchmarks.protocols import PAPER_YEARS, find_protocol
from benchmarks.recordings.attributes import check_names
from benchmarks.recordings.index import index_root

Load = Callable[[str], Dataset]
WITHHELD = {"ToyCar", "bearingEmu", "sliderEmu", "valveEmu", "SewingMachine", "ToothBrush"}
# read here by another grammar than the library's: one expression for the whole name
NAME = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)_(?P<split>train|test)_(?P<condition>normal|anomaly)_"
    r"\d{4}_(?P<attribute>.+)\.wav"
)


def listed(shared: Path) -> list[str]:
    """Return "<machine>/<split>/<name>.wav" of the 12,000 training and 1,400 development test clips."""
    folder = shared / "oracles" / "file_lists"
    files = [folder / f"dcase2026_{name}.txt.gz" for name in ("train", "dev_test")]
    if not all(file.is_file() for file in files):
        pytest.skip(f"no lists of 2026's names in {folder}")
    return [line for file in files for line in gzip.decompress(file.read_bytes()).decode().split()]


def lay_out(root: Path, lines: list[str], dataset: Dataset, place: str) -> None:
    """Make an empty file of each name, in one of the layouts."""
    for line in lines:
        machine, split, name = line.split("/")
        part = "dev" if machine in dataset.machines["dev"] else "eval"
        if place == "official":
            folder = root / dataset.folder / f"{part}_data" / "raw" / machine / split
        else:
            (archive,) = (
                a.name
                for a in dataset.archives
                if a.machine == machine and (part == "dev" or a.name.endswith(f"_{split}.zip"))
            )
            folder = root / dataset.folder / archive.removesuffix(".zip") / machine / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def evaluation_names(dataset: Dataset) -> list[str]:
    """Return names as evaluation test clips have: they say a section and an index alone."""
    return [f"{m}/test/section_00_{at:04d}.wav" for m in dataset.machines["eval"] for at in range(200)]


@pytest.mark.parametrize("place", ["official", "archives"])
def test_every_name_is_indexed(place: str, shared: Path, load_dataset: Load, tmp_path: Path) -> None:
    """All 13,400 listed names, and evaluation names, have the machine type, part, domain, condition and attribute."""
    dataset = load_dataset("dcase2026")
    lines = listed(shared)
    assert len(lines) == 13_400
    lay_out(tmp_path, [*lines, *evaluation_names(dataset)], dataset, place)
    clips = index_root(tmp_path, [dataset])
    rows = clips.astype(object).where(clips.notna(), None).set_index("clip_id").to_dict("index")
    assert Counter(clips["part"]) == {"dev": 7 * 1200, "additional": 5 * 1000, "eval": 5 * 200}
    for line in lines:
        machine, split, name = line.split("/")
        said = NAME.fullmatch(name)
        assert said is not None
        part = "dev" if machine in dataset.machines["dev"] else "additional"
        clip = rows[f"dcase2026/{part}/{machine}/{split}/{name.removesuffix('.wav')}"]
        assert (clip["machine"], clip["split"], clip["section"]) == (machine, said["split"], said["section"])
        assert (clip["domain"], clip["condition"]) == (said["domain"], said["condition"])
        assert clip["attribute"] == (None if machine in WITHHELD else said["attribute"])
    evaluation = clips[clips["part"] == "eval"]
    assert evaluation[["domain", "condition", "attribute"]].isna().all(axis=None)
    assert set(clips.loc[clips["attribute"].isna() & (clips["part"] != "eval"), "machine"]) == WITHHELD


def test_the_traps_of_the_names_are_said(shared: Path, load_dataset: Load, tmp_path: Path) -> None:
    """The doctor names the key that stands twice, and the spelling that tells gearboxEmu's anomalies apart."""
    dataset = load_dataset("dcase2026")
    lay_out(tmp_path, listed(shared), dataset, "official")
    said = [problem.sentence for problem in check_names(index_root(tmp_path, [dataset]))]
    twice = [sentence for sentence in said if "the key mic twice" in sentence]
    assert [re.search(r"dcase2026/(\w+) (\w+)", sentence)[0] for sentence in twice] == [  # type: ignore[index]
        "dcase2026/dev ToyCarEmu", "dcase2026/additional ToyDrone",
    ]  # fmt: skip
    (away,) = [sentence for sentence in said if sentence not in twice]
    assert "dcase2026/dev gearboxEmu's test clips (section 00, target) give the label away" in away
    assert "all 17 of pro_Y are anomalies, all 17 of pro_y are normal (pro_Y and pro_y are one attribute" in away


def made(names: list[str]) -> pd.DataFrame:
    """Return a clip table of made-up test clips of a machine type: "normal:attribute" or "anomaly:attribute"."""
    rows = []
    for at, name in enumerate(names):
        condition, _, attribute = name.partition(":")
        clip_id = f"dcase2026/dev/fan/test/{at:04d}"
        rows.append((clip_id, f"/{at}.wav", "dcase2026", "dev", "fan", "00", "test", "source", condition, attribute))
    return make_clips(rows)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["normal:spd_1"] * 12 + ["anomaly:spd_2"] * 12, ["all 12 of spd_1 are normal, all 12 of spd_2 are anomalies"]),
        (["normal:spd_1"] * 12 + ["anomaly:spd_1"] * 12, []),
        (["normal:spd_1"] * 9 + ["normal:spd_2"] * 9 + ["anomaly:spd_2"] * 18, []),  # 9 may be chance
        (["normal:spd_1"] * 12 + ["anomaly:spd_1"] * 6, []),  # too few anomalies to tell
        (["normal:mic_2_spd_1_mic_1", "anomaly:spd_1"], ["hold the key mic twice, as in mic_2_spd_1_mic_1"]),
        (["normal:loc_A_pos_A", "anomaly:spd_1_loc_1"], []),  # a value may stand twice
        (["normal:a_1_b_2_1_3"], []),  # a number is no key
    ],
)
def test_odd_names_of_any_machine(names: list[str], said: list[str]) -> None:
    """Repeated keys and given-away labels are found by their kind; what chance could do is not said."""
    found = [problem.sentence for problem in check_names(made(names))]
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))


def test_the_papers_protocol_stays(load_dataset: Load) -> None:
    """A later year is in no protocol but its own; 2026's own trains and scores its development set."""
    paper = find_protocol("paper")
    assert {part.dataset for part in (*paper.train, *paper.score)} == set(PAPER_YEARS)
    own = find_protocol("dcase2026")
    assert [str(part) for part in (*own.train, *own.score)] == ["dcase2026/dev"] * 2
