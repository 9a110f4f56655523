from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.contract import PARTS, Dataset, DatasetPart, Problem, Protocol
from benchmarks.protocols import find_protocol
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.index import index_root
from benchmarks.recordings.packing import pack
from benchmarks.synthetic.generator import generate

Load = Callable[[str], Dataset]
YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026")
SMALL = {"train_source": 1, "train_target": 1, "test_per_cell": 1, "seconds": 0.5}
RAW = "dcase2025t2/dev_data/raw"


@pytest.mark.parametrize("year", YEARS)
def test_a_generated_year_is_clean(year: str, load_dataset: Load, tmp_path: Path) -> None:
    """All parts of a generated year, with every machine type and section, are there and nothing is wrong."""
    dataset = load_dataset(year)
    generate(tmp_path, dataset, parts=PARTS, **SMALL)
    found = examine(tmp_path, [dataset], protocol=find_protocol(year), ground_truth=tmp_path / "ground_truth")
    # names of 2026 have a key twice, in generated sets too
    assert {problem.kind for problem in found.problems} == ({"repeated key"} if year == "dcase2026" else set())
    assert found.verdict is not None
    assert found.verdict.runs, found.verdict.why
    clips = index_root(tmp_path, [dataset])
    counted = clips.groupby("part", observed=True).size()
    assert {report.part: (report.clips, report.missing) for report in found.parts} == {
        part: (counted[part], ()) for part in PARTS
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two machine types of 2025."""
    from benchmarks.datasets.dcase2025 import DATASET

    root = tmp_path_factory.mktemp("made")
    generate(root, DATASET, machines=["fan", "bearing"], train_source=12, train_target=2, test_per_cell=2, seconds=0.5)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it to be spoiled."""
    return Path(shutil.copytree(made, tmp_path / "root"))


def first(root: Path, folder: str = "fan/train") -> Path:
    """Return a recording of a folder."""
    return sorted((root / RAW / folder).glob("*.wav"))[0]


def cut(root: Path) -> Path:
    path = first(root)
    path.write_bytes(path.read_bytes()[:-600])
    return path


def empty(root: Path) -> Path:
    path = first(root)
    path.write_bytes(b"")
    return path


def text(root: Path) -> Path:
    path = first(root)
    path.write_text("this is a text file " * 80)
    return path


def rewrite(root: Path, *, rate: int = 16_000, channels: int = 1, subtype: str = "PCM_16", samples: int = 8000) -> Path:
    path = first(root)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, noise, rate, subtype=subtype)
    return path


def not_a_number(root: Path) -> Path:
    path = first(root)
    soundfile.write(path, np.array([0.1, np.nan] * 4000), 16_000, subtype="FLOAT")
    return path


def misnamed(root: Path) -> Path:
    return first(root).rename(first(root).with_name("recording1.wav"))


def no_text(root: Path) -> Path:
    path = first(root)
    name = os.fsencode(path.parent) + b"/section_00_source_train_normal_9999_\xff.wav"
    path.rename(os.fsdecode(name))
    return Path(os.fsdecode(name.replace(b"\xff", rb"\xff")))


def in_the_wrong_folder(root: Path) -> Path:
    path = first(root, "fan/test")
    return path.rename(first(root).parent / path.name)


def gone(root: Path) -> Path:
    first(root).unlink()
    return first(root).parents[1]


def doubled(root: Path) -> Path:
    path = first(root)
    copy = path.with_name(path.name.replace("normal_0000", "normal_0777"))
    shutil.copy(path, copy)
    table = path.parents[1] / "attributes_00.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *(line.replace(path.name, copy.name) for line in lines if path.name in line)]))
    return copy


def in_another_format(root: Path) -> Path:
    path = first(root)
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path.with_suffix(".flac"), samples, rate)
    return path


def other_table(root: Path) -> Path:
    table = first(root).parents[1] / "attributes_00.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1].replace("n-lv,", "n-xx,"), *lines[2:]]))
    return table.parent


def unknown_machine(root: Path) -> Path:
    return (root / RAW / "fan").rename(root / RAW / "fann")


def loop(root: Path) -> Path:
    path = root / RAW / "gearbox"
    path.symlink_to(path)
    return path


def dangling(root: Path) -> Path:
    path = first(root)
    path.unlink()
    path.symlink_to(root / "nowhere.wav")
    return path


SPOILED: dict[str, tuple[Callable[[Path], Path], str, bool]] = {
    "truncated": (cut, "truncated", True),
    "empty": (empty, "empty", True),
    "text renamed to wav": (text, "unreadable", True),
    "44.1 kHz": (lambda root: rewrite(root, rate=44_100, samples=22_050), "rate", False),
    "8 channels": (lambda root: rewrite(root, channels=8), "channels", False),
    "float": (lambda root: rewrite(root, subtype="FLOAT"), "encoding", False),
    "24 bit": (lambda root: rewrite(root, subtype="PCM_24"), "encoding", False),
    "NaN": (not_a_number, "not finite", True),
    "another length": (lambda root: rewrite(root, samples=12_000), "length", False),
    "misnamed": (misnamed, "misnamed", True),
    "not UTF-8": (no_text, "misnamed", True),
    "in the wrong folder": (in_the_wrong_folder, "misnamed", True),
    "missing": (gone, "missing", False),
    "duplicated content": (doubled, "duplicated", False),
    "wav and flac": (in_another_format, "doubled", True),
    "another attribute in the table": (other_table, "attributes", False),
    "unknown machine type": (unknown_machine, "extra", False),
    "link to itself": (loop, "unreadable", True),
    "link to nothing": (dangling, "unreadable", True),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_is_found(name: str, root: Path, load_dataset: Load) -> None:
    """Each way to spoil a root is found, named by path, with its kind and whether the file can be used all the same."""
    spoil, kind, bad = SPOILED[name]
    dataset = load_dataset("dcase2025")
    path = spoil(root)
    protocol = Protocol("p", (DatasetPart("dcase2025", "dev"),), (DatasetPart("dcase2025", "dev"),))
    found = examine(root, [dataset], protocol=protocol)
    named = [p for p in found.problems if p.kind == kind and str(path.parent) in p.path and str(path) in p.sentence]
    assert named, [problem.sentence for problem in found.problems]
    assert {problem.bad for problem in named} == {bad}
    assert found.verdict is not None
    assert found.verdict.runs is not bad


def test_a_clean_copy_lacks_only_machine_types(root: Path, load_dataset: Load) -> None:
    """A good root lacks only the machine types that were not written, with the command that brings them."""
    (problem,) = examine(root, [load_dataset("dcase2025")]).problems
    assert problem.kind == "missing"
    assert not problem.bad
    assert f"asdbench data download dcase2025 --to {root} --part dev --machines gearbox" in problem.sentence


def test_a_protocol_that_could_not_run_says_why(
    root: Path, load_dataset: Load, write_clip: Callable[..., Path]
) -> None:
    """A protocol lacks a year, or training clips of a scored section."""
    years = [load_dataset("dcase2024"), load_dataset("dcase2025")]
    verdict = examine(root, years, protocol=find_protocol("demo")).verdict
    assert verdict is not None
    assert verdict.why.startswith("protocol demo must find clips of dcase2024/dev, but there are none")
    shutil.rmtree(root / RAW / "fan" / "train")
    verdict = examine(root, years, protocol=find_protocol("dcase2025")).verdict
    assert verdict is not None
    assert "training clips of every machine type that it scores, but has none of fan" in verdict.why


def test_processes_find_the_same(root: Path, load_dataset: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two reading processes find what one finds."""
    cut(root)
    monkeypatch.setattr("benchmarks.recordings.doctor.WORTH_PROCESSES", 2)
    told: list[tuple[int, int]] = []
    one = examine(root, [load_dataset("dcase2025")])
    two = examine(root, [load_dataset("dcase2025")], workers=2, progress=lambda *now: told.append(now))
    assert one == two
    assert told[-1][0] == told[-1][1] == len(told)


def test_an_empty_root_is_said_to_be_empty(tmp_path: Path, load_dataset: Load) -> None:
    """A folder without recordings is one problem that says how to name a year."""
    (problem,) = examine(tmp_path, [load_dataset("dcase2025"), load_dataset("own")]).problems
    assert isinstance(problem, Problem)
    assert "none was found; where archives were unzipped side by side" in problem.sentence


@pytest.mark.slow
@pytest.mark.real
def test_the_real_recordings_are_in_order(shared: Path, load_dataset: Load) -> None:
    """The real recordings lack machine types and are otherwise in order; the samples cannot run the real protocol."""
    years = [load_dataset(year) for year in YEARS]
    found = examine(shared / "data", years, protocol=find_protocol("real-mini"), workers=2)
    assert {problem.kind for problem in found.problems} == {"missing"}
    assert found.verdict is not None
    assert found.verdict.runs
    verdict = examine(shared / "samples", years, protocol=find_protocol("real-mini")).verdict
    assert verdict is not None
    assert not verdict.runs


def test_another_year_is_one_declaration(write_clip: Callable[..., Path], tmp_path: Path) -> None:
    """A stereo year is indexed, examined and packed from its declaration alone, mixed as it says."""
    dataset = Dataset(
        name="dcase2026",
        folder="dcase2026t2",
        machines={"dev": ("ToyCarEmu",)},
        sections={"dev": {"ToyCarEmu": ("00",)}},
        rule="dcase2022",
        channels=2,
        mix="mean",
    )
    both = np.stack([np.full(800, 100), np.full(800, 300)], axis=1).astype(np.int16)
    both[:, 0] += np.arange(800, dtype=np.int16)
    raw = "dcase2026t2/dev_data/raw/ToyCarEmu"
    write_clip(f"{raw}/train/section_00_source_train_normal_0001_spd_1.wav", both)
    write_clip(f"{raw}/test/section_00_target_test_anomaly_0001_spd_2.wav", both[::-1])
    assert examine(tmp_path, [dataset]).problems == ()
    clips = index_root(tmp_path, [dataset])
    assert clips[["section", "domain", "attribute"]].values.tolist() == [
        ["00", "source", "spd_1"], ["00", "target", "spd_2"],
    ]  # fmt: skip
    packed = pack(clips, tmp_path / "pack", mix={dataset.name: dataset.mix})
    np.testing.assert_array_equal(packed.waveform(clips["clip_id"][0]) * 32768, np.rint(both.mean(axis=1)))
