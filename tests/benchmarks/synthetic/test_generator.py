from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.clips import count_clips
from benchmarks.contract import PARTS, BenchmarkError, Dataset
from benchmarks.recordings.index import format_name, index_root, parse_name
from benchmarks.recordings.packing import pack
from benchmarks.synthetic.generator import generate, make_clip
from benchmarks.synthetic.names import list_states
from benchmarks.synthetic.plan import plan_clips

Load = Callable[[str], Dataset]
YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026")
COUNTS = {"source": 3, "target": 2, "test": 2}
SMALL = {"train_source": 3, "train_target": 2, "test_per_cell": 2, "seconds": 0.5}


@pytest.mark.parametrize("year", YEARS)
def test_every_name_of_every_machine_is_read_back(year: str, load_dataset: Load) -> None:
    """Of every machine type, part and year, the names that are written say what is true and what may be told."""
    dataset = load_dataset(year)
    ids = not dataset.has_domains
    for part in PARTS:
        for clip in plan_clips(dataset, part, dataset.machines[part], counts=COUNTS):
            truth = replace(clip.truth, split=None) if ids else clip.truth  # names of 2020 do not say the split
            assert parse_name(format_name(truth, with_ids=ids), with_ids=ids) == truth
            told = parse_name(clip.stem, with_ids=ids)
            assert (told.section, told.index) == (clip.truth.section, clip.truth.index)
            assert told.condition == (None if part == "eval" else clip.truth.condition)
            hidden = part == "eval" or clip.machine in dataset.withheld.get(part, ())
            assert told.attribute == (None if hidden else clip.truth.attribute)


@pytest.mark.parametrize("year", YEARS)
def test_a_generated_year_is_indexed_without_a_warning(
    year: str, load_dataset: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every part of every year comes back from the disk with the clips that were asked for."""
    dataset = load_dataset(year)
    machines = [dataset.machines["dev"][0], dataset.machines["eval"][-1]]
    generate(tmp_path, dataset, machines=machines, parts=PARTS, **SMALL)
    clips = index_root(tmp_path, [dataset])
    assert not caplog.records
    groups = count_clips(clips).groupby(["part", "split"])["clips"].sum()
    domains, sections = (2 if dataset.has_domains else 1), {p: dataset.sections[p] for p in PARTS}
    units = {part: sum(len(sections[part].get(machine, ())) for machine in set(machines)) for part in PARTS}
    trained = SMALL["train_source"] + (SMALL["train_target"] if domains == 2 else 0)
    assert groups["dev", "train"] == units["dev"] * trained
    assert groups["dev", "test"] == units["dev"] * domains * 2 * 2
    assert groups["additional", "train"] == units["additional"] * trained
    assert groups["eval", "test"] == units["eval"] * domains * 2 * 2
    info = soundfile.info(clips["path"].iloc[0])
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, dataset.channels, "PCM_16", 8000)


def test_withheld_attributes_can_be_told(load_dataset: Load, tmp_path: Path) -> None:
    """What names withhold stands in the official tables: the full name first, then the published one."""
    dataset = load_dataset("dcase2025")
    generate(tmp_path, dataset, machines=["bearing", "fan"], **SMALL)
    clips = index_root(tmp_path, [dataset])
    assert clips.loc[clips["machine"] == "bearing", "attribute"].isna().all()
    assert clips.loc[clips["machine"] == "fan", "attribute"].notna().all()
    folder = tmp_path / "ground_truth_attributes" / "dcase2025t2" / "dev_data"
    assert [path.name for path in folder.iterdir()] == ["bearing"]
    for split, number in (("train", 5), ("test", 8)):
        with (folder / "bearing" / f"attributes_00_{split}_correspondence.csv").open() as lines:
            header, *rows = csv.reader(lines)
        assert header == ["source_file_name", "target_file_name"]
        assert len(rows) == number
        for full, published in rows:
            assert parse_name(full.removesuffix(".wav")).attribute in {
                state.attribute
                for domain in ("source", "target")
                for state in list_states("bearing", "dcase2025", domain)
            }
            assert published.endswith("_noAttribute.wav")
            assert (tmp_path / "dcase2025t2" / "dev_data" / "raw" / "bearing" / split / published).exists()


@pytest.mark.parametrize("year", YEARS)
def test_evaluation_clips_can_be_told(year: str, load_dataset: Load, tmp_path: Path) -> None:
    """The list of evaluation clips names each file and all that is true of it, balanced over conditions."""
    dataset = load_dataset(year)
    machine = dataset.machines["eval"][0]
    generate(tmp_path, dataset, machines=[machine], parts=("eval",), **SMALL)
    with (tmp_path / "ground_truth" / f"eval_data_list_{year[-4:]}.csv").open() as lines:
        head, *rows = csv.reader(lines)
    assert head == [machine]
    delivered = sorted(path.name for path in (tmp_path / dataset.folder).rglob("*.wav"))
    assert sorted(row[0] for row in rows) == delivered
    conditions = [parse_name(row[1][:-4], with_ids=not dataset.has_domains).condition for row in rows]
    assert conditions.count("normal") == conditions.count("anomaly") == len(rows) / 2


def test_a_clip_does_not_depend_on_the_others(load_dataset: Load, tmp_path: Path) -> None:
    """More clips and more machine types leave a clip's samples as they are; another seed does not."""
    dataset = load_dataset("dcase2023")
    arguments = {"train_target": 1, "test_per_cell": 1, "seconds": 0.5}
    generate(tmp_path / "a", dataset, machines=["fan"], train_source=2, **arguments)
    generate(tmp_path / "b", dataset, machines=["valve", "fan"], train_source=4, **arguments)
    generate(tmp_path / "c", dataset, machines=["fan"], train_source=2, seed=1, **arguments)
    for path in (tmp_path / "a").rglob("*.wav"):
        place = path.relative_to(tmp_path / "a")
        assert path.read_bytes() == (tmp_path / "b" / place).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / place).read_bytes()


def test_generating_again(load_dataset: Load, tmp_path: Path) -> None:
    """The same call does nothing, an unfinished one is finished, and other arguments are refused."""
    dataset = load_dataset("dcase2023")
    generate(tmp_path, dataset, machines=["fan"], **SMALL)
    files = sorted((tmp_path).rglob("*.wav"))
    written = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    generate(tmp_path, dataset, machines=["fan"], **SMALL)
    assert {path: path.stat().st_mtime_ns for path in files} == {path: when for path, (_, when) in written.items()}
    with pytest.raises(BenchmarkError, match=r"seed was 0 and is now 3; choose another root"):
        generate(tmp_path, dataset, machines=["fan"], seed=3, **SMALL)

    year = tmp_path / dataset.folder
    (year / "synthetic.json").rename(year / "synthetic.started.json")  # as a killed run leaves it
    files[3].unlink()
    generate(tmp_path, dataset, machines=["fan"], **SMALL)
    assert {path: path.read_bytes() for path in files} == {path: data for path, (data, _) in written.items()}
    assert (year / "synthetic.json").exists()


def test_real_recordings_are_not_overwritten(
    load_dataset: Load, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    """A folder with recordings that were not generated is refused."""
    write_clip("dcase2023t2/dev_data/raw/fan/train/section_00_source_train_normal_0000_m-n_W.wav")
    with pytest.raises(BenchmarkError, match="holds other recordings"):
        generate(tmp_path, load_dataset("dcase2023"), **SMALL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machines": ["toycar"]}, "Did you mean ToyCar"),
        ({"parts": ("test",)}, "parts must be among dev, additional, eval, but got test"),
        ({"train_source": 0}, "train_source must be at least 1, but got 0"),
        ({"seconds": 0.1}, "seconds must be at least 0.5"),
    ],
)
def test_wrong_arguments(change: dict[str, object], words: str, load_dataset: Load, tmp_path: Path) -> None:
    """A wrong argument is an error before anything is written."""
    with pytest.raises(BenchmarkError, match=words):
        generate(tmp_path, load_dataset("dcase2023"), **(SMALL | change))
    assert not list(tmp_path.iterdir())


def test_states_are_the_same_in_every_year() -> None:
    """A machine type's physical states do not depend on the year; fan's names for them do."""
    for machine in ("bearing", "fan", "gearbox", "ToyCar"):
        early, late = (list_states(machine, year, "source") for year in ("dcase2024", "dcase2025"))
        assert [state.levels for state in early] == [state.levels for state in late]
        same = {state.attribute for state in early} == {state.attribute for state in late}
        assert same == (machine != "fan")
    names = [
        {s.attribute for s in list_states("fan", year, "source")} for year in ("dcase2024", "dcase2025", "dcase2026")
    ]
    assert names[0].isdisjoint(names[1])


def test_official_schemas() -> None:
    """Attributes are written as the official sets write them."""
    assert list_states("ToyCar", "dcase2023", "source")[0].attribute == "car_B1_spd_31V_mic_1"
    assert list_states("bearing", "dcase2023", "source")[2].attribute == "vel_12_loc_A"
    assert list_states("slider", "dcase2023", "source")[2].attribute == "vel_490_ac_0.05"
    assert list_states("RoboticArm", "dcase2024", "target")[0].attribute == "weight15_BckgF"
    assert list_states("fan", "dcase2021", "source")[0].attribute == "strength_1_ambient"
    assert list_states("fan", "dcase2020", "source")[0].attribute is None


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return the mean and deviation of a clip's log spectrum in 64 bands, its loudness taken out: (128,)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 1024)[::512] * np.hanning(1024)
    edges = np.unique(np.geomspace(2, 512, 65).astype(int))
    power = np.add.reduceat(np.abs(np.fft.rfft(frames)[:, :513]) ** 2, edges[:-1], axis=1)
    bands = np.log(power + 1)
    return np.concatenate([bands.mean(0) - bands.mean(), bands.std(0)])


def auc(anomalous: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs in the right order."""
    pairs = scores[anomalous][:, None] - scores[~anomalous][None]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["bearing", "fan", "gearbox", "slider", "ToyCar", "valve", "ToyTrain"])
def test_the_task_is_neither_trivial_nor_hopeless(machine: str, load_dataset: Load) -> None:
    """1-NN on log-mel statistics is above chance and below perfect, harder in the target domain; level says nothing."""
    dataset = load_dataset("dcase2025")
    planned = list(plan_clips(dataset, "dev", [machine], counts={"source": 40, "target": 5, "test": 50}))
    sounds = [make_clip(clip, dataset, samples=64_000, seed=0)[:, 0] for clip in planned]
    features = np.stack([log_mel(samples) for samples in sounds])
    levels = np.array([10 * np.log10(np.mean(np.square(samples, dtype=np.float64))) for samples in sounds])
    trained = np.array([clip.truth.split == "train" for clip in planned])
    anomalous = np.array([clip.truth.condition == "anomaly" for clip in planned])
    source = np.array([clip.truth.domain == "source" for clip in planned])
    scaled = (features - features[trained].mean(0)) / features[trained].std(0)
    scores = np.sqrt(((scaled[:, None] - scaled[trained][None]) ** 2).sum(-1)).min(1)
    for domain, low, high in ((source, 0.6, 0.95), (~source, 0.45, 0.9)):
        used = ~trained & (anomalous | domain)
        assert low < auc(anomalous[used], scores[used]) < high
        assert 0.35 < auc(anomalous[used], levels[used]) < 0.65
    normal = ~trained & ~anomalous
    assert scores[normal & ~source].mean() > scores[normal & source].mean()


@pytest.mark.slow
def test_clips_do_not_clip(load_dataset: Load, tmp_path: Path) -> None:
    """No more than a few clips in a thousand reach full scale, or level would give faults away."""
    dataset = load_dataset("dcase2024")
    generate(tmp_path, dataset, seconds=2.0, train_source=10, test_per_cell=10)
    packed = pack(index_root(tmp_path, [dataset]), tmp_path / "pack")
    full = [np.abs(packed.waveform(clip_id)).max() >= 0.999 for clip_id in packed.ids]
    assert np.mean(full) < 0.02
