"""Score files of anybody: every way in which people write them, and every way in which they go wrong."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.contract import BenchmarkError, Dataset
from benchmarks.datasets import dcase2023
from benchmarks.metrics.measures import measure, metric_rows
from benchmarks.metrics.official_counts import official_counts
from benchmarks.metrics.score_files import read_scores
from benchmarks.synthetic.plan import plan_clips
from benchmarks.synthetic.tables import write_tables

Load = Callable[[str], Dataset]
YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026")
COUNTS = {"source": 1, "target": 1, "test": 3}


def file_ending(dataset: Dataset, machine: str, section: str, domain: str | None) -> str:
    """Return the official name of a section's files, behind `anomaly_score_`."""
    if not dataset.has_domains:
        return f"{machine}_id_{section}"
    return f"{machine}_section_{section}{f'_{domain}' if len(dataset.test_folders) > 1 else ''}_test"


def planned_rows(dataset: Dataset, part: Any, machines: tuple[str, ...]) -> dict[str, list[tuple[str, float]]]:
    """Return made-up scores of a part's test clips by official file name; anomalies tend to score higher."""
    rng, rows = random.Random(0), dict[str, list[tuple[str, float]]]()
    for clip in plan_clips(dataset, part, machines, counts=COUNTS):
        if clip.truth.split == "test":
            name = f"anomaly_score_{file_ending(dataset, clip.machine, clip.truth.section, clip.truth.domain)}.csv"
            score = rng.gauss(clip.truth.condition == "anomaly", 1.0)
            rows.setdefault(name, []).append((f"{clip.stem}.wav", score))
    return rows


def write_files(folder: Path, rows: dict[str, list[tuple[str, float]]]) -> Path:
    """Write score files."""
    for name, lines in rows.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{clip},{score!r}\n" for clip, score in lines))
    return folder


def write_truth(root: Path, dataset: Dataset, machines: tuple[str, ...]) -> Path:
    """Write the official files about evaluation clips."""
    write_tables(root, dataset, list(plan_clips(dataset, "eval", machines, counts=COUNTS)))
    return root / "ground_truth"


@pytest.mark.parametrize("year", YEARS)
def test_development_files_need_no_other(year: str, load_dataset: Load, tmp_path: Path) -> None:
    """Conditions and domains of development clips stand in the names of clips or files."""
    dataset = load_dataset(year)
    machines = dataset.machines["dev"][:2]
    rows = planned_rows(dataset, "dev", machines)
    found = read_scores(write_files(tmp_path, rows), dataset)
    assert found.part == "dev"
    assert len(found.clips) == sum(map(len, rows.values()))
    assert found.clips["condition"].notna().all()
    assert found.clips["domain"].notna().all() == dataset.has_domains
    assert {machine for machine, _ in found.absent} == set(dataset.machines["dev"]) - set(machines)
    assert metric_rows(measure(found.clips, dataset.rule), dataset.rule)["value"].notna().all()


@pytest.mark.parametrize("year", YEARS)
def test_evaluation_files_are_joined_with_the_truth_by_name(year: str, load_dataset: Load, tmp_path: Path) -> None:
    """Evaluation clips get condition and domain from the official files, in whichever order their rows stand."""
    dataset = load_dataset(year)
    machines = dataset.machines["eval"][:2]
    truth = write_truth(tmp_path, dataset, machines)
    rows = planned_rows(dataset, "eval", machines)
    for lines in rows.values():
        random.Random(1).shuffle(lines)
    scores = write_files(tmp_path / "scores", rows)
    found = read_scores(scores, dataset, ground_truth=truth)
    planned = {
        f"{year}/eval/{clip.machine}/test/{clip.stem}": clip.truth
        for clip in plan_clips(dataset, "eval", machines, counts=COUNTS)
    }
    told = found.clips.set_index("clip_id")
    assert {name: told.loc[name, "condition"] for name in told.index} == {
        name: truth.condition for name, truth in planned.items()
    }
    if dataset.has_domains:
        assert all(told.loc[name, "domain"] == each.domain for name, each in planned.items())
    inner = next(truth.rglob("ground_truth_data"))
    assert read_scores(scores, dataset, ground_truth=inner).clips.equals(found.clips)


@pytest.fixture(scope="module")
def fans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[tuple[str, float]]]]:
    """Score files of two machine types of 2023, plainly written."""
    rows = planned_rows(dcase2023.DATASET, "dev", ("fan", "ToyCar"))
    return write_files(tmp_path_factory.mktemp("plain"), rows), rows


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_how_a_file_is_written_changes_nothing(
    fans: tuple[Path, dict[str, list[tuple[str, float]]]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Not the order of lines, headings, folders and endings of names, blanks, a byte order mark, or the folder."""
    plain, rows = fans
    folder = tmp_path_factory.mktemp("written")
    for name, lines in rows.items():
        machine = name.split("_")[2]
        shuffled = data.draw(st.permutations(lines))
        front = data.draw(st.sampled_from(["", f"/data/dev_data/raw/{machine}/test/", f"raw\\{machine}\\test\\"]))
        ending = data.draw(st.sampled_from([".wav", ""]))
        text = data.draw(st.sampled_from(["", "file_name,anomaly_score\n", "0,1\n", "﻿", "\n"]))
        space = data.draw(st.sampled_from(["", " "]))
        text += "".join(f"{front}{clip.removesuffix('.wav')}{ending},{space}{score!r}\n" for clip, score in shuffled)
        tail = data.draw(st.sampled_from(["seed13711_id(0_)", "seed13711_id(0_)_Dev"]))
        long = f"anomaly_score_DCASE2023T2{machine}_section_00_test_{tail}.csv"
        path = (
            folder / data.draw(st.sampled_from(["", f"{machine}/", "a/b/"])) / data.draw(st.sampled_from([name, long]))
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    same = read_scores(folder, dcase2023.DATASET).clips.drop(columns="path")
    assert same.equals(read_scores(plain, dcase2023.DATASET).clips.drop(columns="path"))


FAN = "anomaly_score_fan_section_00_test.csv"
NORMAL = "section_00_source_test_normal_0000_m-n_W.wav"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "must be a folder that holds anomaly_score_"),
        ({FAN: ""}, "but it is empty"),
        ({FAN: "name,score\n"}, "a row of headings alone"),
        ({FAN: f"{NORMAL},1,2\n"}, "must have two columns, a clip name and its score, but line 1 has 3"),
        ({FAN: f"{NORMAL}\n"}, "but line 1 has 1"),
        ({FAN: f"{NORMAL},nan\n"}, f"1 of .* are not: {NORMAL[:-4]} \\(nan\\)"),
        ({FAN: f"{NORMAL},-inf\n"}, "are not: .*-inf"),
        ({FAN: f"{NORMAL},\n"}, "are not: .*nothing"),
        ({FAN: f"{NORMAL},high\n"}, "are not: .*high"),
        ({FAN: f"{NORMAL},1_0\n"}, "are not: .*1_0"),
        ({FAN: f"{NORMAL},1\nsektion_00_source_test_normal_0001.wav,2\n"}, "but got sektion_00_source_test_normal"),
        ({FAN: "normal_id_00_00000000.wav,1\n"}, "no clip of dcase2023: names must follow section_NN"),
        ({FAN: f"{NORMAL},1\n{NORMAL},2\n"}, "1 have several scores: fan section_00_source_test_normal_0000"),
        ({FAN: f"{NORMAL},1\n", f"again/{FAN}": f"{NORMAL},1\n"}, "several scores: .*again.* and "),
        ({FAN: "section_01_source_test_normal_0000.wav,1\n"}, "clips of its own section, 00, but holds one of 01"),
        ({FAN: "section_00_source_train_normal_0000.wav,1\n"}, "clips of its own split, test, but holds one of train"),
        ({FAN: f"raw/valve/test/{NORMAL},1\n"}, "clips of its own machine type, fan, but holds one of valve"),
        ({"anomaly_score_fam_section_00_test.csv": f"{NORMAL},1\n"}, "of fam; .* Did you mean fan?"),
        ({"anomaly_score_fan_section_01_test.csv": f"{NORMAL},1\n"}, "fan of dcase2023 has sections 00, but .* of 01"),
        ({"anomaly_score_fan_section_00_source_test.csv": f"{NORMAL},1\n"}, "hold both domains"),
        ({"anomaly_score_DCASE2024T2fan_section_00_test_seed1.csv": f"{NORMAL},1\n"}, "says dcase2024"),
        ({"anomaly_score_fan.csv": f"{NORMAL},1\n"}, "names of score files must follow"),
        (
            {FAN: f"{NORMAL},1\n", "anomaly_score_bandsaw_section_00_test.csv": "section_00_0000.wav,1\n"},
            "choose with --part dev or --part eval",
        ),
        ({"anomaly_score_bandsaw_section_00_test.csv": "section_00_0000.wav,1\n"}, "give --ground-truth"),
        ({FAN: f"{NORMAL}\xff,1\n"}, "must be text in UTF-8, .* seems to be Latin-1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(files: dict[str, str], said: str, tmp_path: Path) -> None:
    """Whatever cannot be scored is one sentence that names it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="latin-1")
    with pytest.raises(BenchmarkError, match=said) as error:
        read_scores(tmp_path, dcase2023.DATASET)
    assert "\n" not in str(error.value)


def test_the_domain_of_a_clip_is_that_of_its_file(load_dataset: Load, tmp_path: Path) -> None:
    """2021: a clip of the other domain in a domain's file is an error."""
    path = tmp_path / "anomaly_score_fan_section_00_source_test.csv"
    path.write_text("section_00_target_test_normal_0000.wav,1\n")
    with pytest.raises(BenchmarkError, match="clips of its own domain, source, but holds one of target"):
        read_scores(tmp_path, load_dataset("dcase2021"))


@pytest.mark.parametrize("year", YEARS)
def test_against_the_truth_no_clip_is_missing_or_extra(year: str, load_dataset: Load, tmp_path: Path) -> None:
    """A clip that the official files list must be scored, and one that they do not list must not be there."""
    dataset = load_dataset(year)
    machine = dataset.machines["eval"][0]
    truth = write_truth(tmp_path, dataset, (machine,))
    rows = planned_rows(dataset, "eval", (machine,))
    name = next(iter(rows))
    lost, extra = (
        {**rows, name: rows[name][1:]},
        {**rows, name: [*rows[name], (rows[name][0][0].replace("000", "770"), 1.0)]},
    )
    stem = rows[name][0][0].removesuffix(".wav")
    with pytest.raises(BenchmarkError, match=f"must be scored, but 1 are missing: {machine} {stem}"):
        read_scores(write_files(tmp_path / "lost", lost), dataset, ground_truth=truth)
    with pytest.raises(BenchmarkError, match=f"1 are not, extra or misspelt: {machine} .*770"):
        read_scores(write_files(tmp_path / "extra", extra), dataset, ground_truth=truth)
    shutil.rmtree(truth / f"{year}_task2_evaluator")
    with pytest.raises(BenchmarkError, match="1 are missing"):
        read_scores(tmp_path / "lost", dataset, ground_truth=truth)


def test_a_truth_of_other_machines_is_no_truth(load_dataset: Load, tmp_path: Path) -> None:
    """Official files that say nothing of a scored machine type are an error that names it."""
    dataset = load_dataset("dcase2024")
    machines = dataset.machines["eval"]
    truth = write_truth(tmp_path, dataset, machines[:1])
    scores = write_files(tmp_path / "scores", planned_rows(dataset, "eval", machines[1:2]))
    with pytest.raises(BenchmarkError, match=f"says nothing of {machines[1]} of dcase2024"):
        read_scores(scores, dataset, ground_truth=truth)


def test_a_part_can_be_chosen(load_dataset: Load, tmp_path: Path) -> None:
    """Where a folder holds both parts, one is scored."""
    dataset = load_dataset("dcase2022")
    for part in ("dev", "eval"):
        write_files(tmp_path / part, planned_rows(dataset, part, ("fan",)))
    assert read_scores(tmp_path, dataset, part="dev").clips["part"].unique().tolist() == ["dev"]
    shutil.rmtree(tmp_path / "eval")
    with pytest.raises(BenchmarkError, match="score files of the eval part"):
        read_scores(tmp_path, dataset, part="eval")


def test_a_lost_development_clip_is_named(load_dataset: Load, tmp_path: Path) -> None:
    """No official file lists a development set, but how many clips of each kind it has is known."""
    kinds = [(domain, condition) for domain in ("source", "target") for condition in ("normal", "anomaly")]
    names = [f"section_00_{d}_test_{c}_{at:04d}_x_1.wav" for d, c in kinds for at in range(1, 51)]
    whole = {FAN: [(name, 1.0) for name in names]}
    dataset = load_dataset("dcase2024")
    assert read_scores(write_files(tmp_path / "whole", whole), dataset).notes == ()
    lost = {FAN: [(name, 1.0) for name in names if "target_test_normal_0007" not in name]}
    (note,) = read_scores(write_files(tmp_path / "lost", lost), dataset).notes
    assert "fan 00 has 49 of 50 target normal clips (there is no section_00_target_test_normal_0007)" in note
    known = load_dataset("dcase2021"), load_dataset("dcase2020")
    assert official_counts(known[0], "gearbox", "00")["source", "normal"] == 195
    assert all(official_counts(known[1], *unit) for unit in units(known[1]))


def units(dataset: Dataset) -> list[tuple[str, str]]:
    """Return the (machine type, section) of a development set."""
    return [(machine, section) for machine, sections in dataset.sections["dev"].items() for section in sections]


@pytest.mark.parametrize(
    ("year", "attribute", "said"),
    [
        ("dcase2025", "vel_8", "dcase2025 withholds the attributes of bearing"),
        ("dcase2025", "noAttribute", ""),
        ("dcase2023", "noAttribute", "dcase2023 gives the attributes of bearing"),
        ("dcase2024", "vel_8", ""),
    ],
)
def test_names_of_another_year_are_noticed(
    year: str, attribute: str, said: str, load_dataset: Load, tmp_path: Path
) -> None:
    """What a year withholds tells the development sets of 2022 to 2025 apart, which else have the same names."""
    rows = [(f"section_00_source_test_{c}_0000_{attribute}.wav", 1.0) for c in ("normal", "anomaly")]
    scores = write_files(tmp_path, {"anomaly_score_bearing_section_00_test.csv": rows})
    notes = [note for note in read_scores(scores, load_dataset(year)).notes if "attributes" in note]
    assert (said in notes[0]) if said else not notes


def test_the_files_of_2021_are_of_one_domain(load_dataset: Load, tmp_path: Path) -> None:
    """2021: a file of both domains is another year's, unless the baseline wrote it, whose files say their year."""
    dataset, rows = load_dataset("dcase2021"), [(f"section_00_{d}_test_normal_0000.wav", 1.0) for d in COUNTS]
    scores = write_files(tmp_path / "short", {FAN: rows[:2]})
    with pytest.raises(BenchmarkError, match=f"of one domain each, .* but .*{FAN} names none"):
        read_scores(scores, dataset)
    long = {"anomaly_score_DCASE2021T2fan_section_00_test_seed13711_id(0_).csv": rows[:2]}
    assert len(read_scores(write_files(tmp_path / "long", long), dataset).clips) == 2


def test_full_names_need_a_list_that_pairs_them(load_dataset: Load, tmp_path: Path) -> None:
    """Evaluation clips under their full names are found in the baseline's list alone, and the error says so."""
    dataset = load_dataset("dcase2023")
    truth = write_truth(tmp_path, dataset, ("bandsaw",))
    pairs = [line.split(",") for line in next(truth.rglob("eval_data_list_2023.csv")).read_text().split()[1:]]
    rows = {"anomaly_score_bandsaw_section_00_test.csv": [(full, float(at)) for at, (_, full) in enumerate(pairs)]}
    scores = write_files(tmp_path / "scores", rows)
    assert read_scores(scores, dataset, ground_truth=truth).clips["condition"].notna().all()
    next(truth.rglob("eval_data_list_2023.csv")).unlink()
    with pytest.raises(BenchmarkError, match=r"tells its condition; give the baseline's eval_data_list_2023\.csv"):
        read_scores(scores, dataset, ground_truth=truth)


@pytest.mark.parametrize("kind", ["ground_truth_data", "ground_truth_domain", "eval_data_list"])
def test_a_truth_that_contradicts_itself_is_refused(kind: str, load_dataset: Load, tmp_path: Path) -> None:
    """A clip that stands twice with two truths in the official files is an error that names it."""
    dataset = load_dataset("dcase2023")
    truth = write_truth(tmp_path, dataset, ("bandsaw",))
    scores = write_files(tmp_path / "scores", planned_rows(dataset, "eval", ("bandsaw",)))
    path = next(each for each in truth.rglob("*.csv") if kind in str(each))
    lines = path.read_text().split()
    name, told = lines[1].split(",")
    turned = str(1 - int(told)) if told in "01" else lines[-1].split(",")[1]
    path.write_text("\n".join([*lines, f"{name},{turned}"]))
    with pytest.raises(BenchmarkError, match=r"bandsaw section_00_.* stands twice with two truths"):
        read_scores(scores, dataset, ground_truth=truth)
