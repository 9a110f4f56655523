from __future__ import annotations

import ast
import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.contract import PARTS, BenchmarkError, Dataset
from benchmarks.recordings.index import index_root
from benchmarks.recordings.truth import add_ground_truth, read_truth
from benchmarks.synthetic.generator import generate
from benchmarks.synthetic.plan import plan_clips

Load = Callable[[str], Dataset]
YEARS = ("dcase2020", "dcase2021", "dcase2022", "dcase2023", "dcase2024", "dcase2025")
SMALL = {"train_source": 2, "train_target": 1, "test_per_cell": 2, "seconds": 0.5}
COUNTS = {"source": 2, "target": 1, "test": 2}


def make(load_dataset: Load, root: Path, year: str, machine: str) -> Dataset:
    """Generate one machine type of a year, all parts."""
    dataset = load_dataset(year)
    generate(root, dataset, machines=[machine], parts=PARTS, **SMALL)
    return dataset


@pytest.mark.parametrize("files", ["both", "list", "evaluator"])
@pytest.mark.parametrize("year", YEARS)
def test_evaluation_clips_get_their_truth(year: str, files: str, load_dataset: Load, tmp_path: Path) -> None:
    """From the list, the evaluator's files, or both, every evaluation clip is told its condition and domain."""
    dataset = make(load_dataset, tmp_path, year, load_dataset(year).machines["eval"][0])
    for path in (tmp_path / "ground_truth").iterdir():
        if files != "both" and path.is_dir() != (files == "evaluator"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    clips = index_root(tmp_path, [dataset])
    told = add_ground_truth(clips, tmp_path / "ground_truth", [dataset])
    planned = plan_clips(dataset, "eval", dataset.machines["eval"][:1], counts=COUNTS)
    truth = {f"{year}/eval/{clip.machine}/test/{clip.stem}": clip.truth for clip in planned}
    evaluation = told[told["part"] == "eval"].set_index("clip_id")
    assert set(evaluation.index) == set(truth)
    for clip_id, clip in evaluation.iterrows():
        assert clip["condition"] == truth[str(clip_id)].condition
        if dataset.has_domains:
            assert clip["domain"] == truth[str(clip_id)].domain
    others = clips["part"] != "eval"
    assert told[others].equals(clips[others])
    assert told["attribute"].equals(clips["attribute"])


def test_the_evaluator_wins_over_a_list_that_contradicts_it(
    load_dataset: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """2022's ToyCar: where the list names other conditions and domains, the evaluator's hold, and that is counted."""
    dataset = make(load_dataset, tmp_path, "dcase2022", "ToyCar")
    expected = add_ground_truth(index_root(tmp_path, [dataset]), tmp_path / "ground_truth", [dataset])
    assert not caplog.records
    table = tmp_path / "ground_truth" / "eval_data_list_2022.csv"
    head, *rows = list(csv.reader(table.open()))
    names = [row[1] for row in rows]
    shifted = [[row[0], name] for row, name in zip(rows, names[1:] + names[:1], strict=True)]
    with table.open("w", newline="") as out:
        csv.writer(out).writerows([head, *shifted])
    told = add_ground_truth(index_root(tmp_path, [dataset]), tmp_path / "ground_truth", [dataset])
    assert told.equals(expected)
    assert "dcase2022 ToyCar: the baseline's list contradicts the evaluator in" in caplog.text
    shutil.rmtree(tmp_path / "ground_truth" / "dcase2022_task2_evaluator")
    add_ground_truth(index_root(tmp_path, [dataset]), tmp_path / "ground_truth", [dataset])
    assert "is known to be wrong for this machine type" in caplog.text


def test_formatted_names_are_found_through_the_list(load_dataset: Load, tmp_path: Path) -> None:
    """A clip that ASDKit renamed by the list gets the evaluator's truth of the name it was delivered under."""
    dataset = make(load_dataset, tmp_path, "dcase2022", "ToyCar")
    rows = list(csv.reader((tmp_path / "ground_truth" / "eval_data_list_2022.csv").open()))[1:]
    full = dict(row for row in rows)
    place = tmp_path / "asdkit" / "formatted" / "dcase2022" / "raw" / "ToyCar" / "test"
    place.mkdir(parents=True)
    for path in (tmp_path / "dcase2022t2" / "eval_data" / "raw" / "ToyCar" / "test").iterdir():
        (place / full[path.name]).symlink_to(path)
    table = next((tmp_path / "ground_truth").rglob("ground_truth_data/ground_truth_ToyCar_section_03_test.csv"))
    (name, label), *rest = list(csv.reader(table.open()))
    with table.open("w", newline="") as out:
        csv.writer(out).writerows([[name, str(1 - int(label))], *rest])
    told = add_ground_truth(index_root(tmp_path / "asdkit", [dataset]), tmp_path / "ground_truth", [dataset])
    clip = told[told["clip_id"].str.endswith(full[name].removesuffix(".wav"))].iloc[0]
    assert clip["condition"] == ("normal" if label == "1" else "anomaly")


def test_the_year_of_an_evaluator_must_be_told(load_dataset: Load, tmp_path: Path) -> None:
    """Without a year in a folder's name, an evaluator's files are of the only year there, and of two of neither."""
    years = [make(load_dataset, tmp_path, year, "fan") for year in ("dcase2021", "dcase2022")]
    folder = tmp_path / "truth"
    shutil.move(tmp_path / "ground_truth" / "dcase2022_task2_evaluator", folder)
    clips = index_root(tmp_path, years)
    with pytest.raises(BenchmarkError, match=r"the year of .* must stand in the name of a folder above it"):
        add_ground_truth(clips, folder, years)
    told = add_ground_truth(clips[clips["dataset"] == "dcase2022"], folder, years)
    assert told["condition"].notna().all()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "holds none of them"),
        (("ground_truth_data/ground_truth_fan_section_00_test.csv", "section_00_0000.wav,2\n"), "<0 or 1>"),
        (("eval_data_list_2023.csv", "fan\nsection_00_0000.wav,a.wav\n"), "cannot be read: names must follow"),
    ],
)
def test_files_that_are_not_official(
    file: tuple[str, str] | None, words: str, load_dataset: Load, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    """A folder without official files, or with one of another form, is an error."""
    write_clip("dcase2023t2/eval_data/raw/Vacuum/test/section_00_0000.wav")
    if file is not None:
        path = tmp_path / "truth" / file[0]
        path.parent.mkdir(parents=True)
        path.write_text(file[1])
    dataset = load_dataset("dcase2023")
    with pytest.raises(BenchmarkError, match=words):
        add_ground_truth(index_root(tmp_path, [dataset]), tmp_path / "truth", [dataset])


@pytest.mark.parametrize("turned", [False, True])
def test_withheld_attributes_are_read_in_either_order(turned: bool, load_dataset: Load, tmp_path: Path) -> None:
    """Whichever column has the published name, its clip id leads to the true attribute."""
    dataset = load_dataset("dcase2025")
    generate(tmp_path, dataset, machines=["bearing", "AutoTrash"], parts=("dev", "additional"), **SMALL)
    if turned:
        for table in (tmp_path / "ground_truth_attributes").rglob("*.csv"):
            rows = list(csv.reader(table.open()))
            with table.open("w", newline="") as out:
                csv.writer(out).writerows([rows[0], *([second, first] for first, second in rows[1:])])
    truth = read_truth(tmp_path / "ground_truth_attributes")
    clips = index_root(tmp_path, [dataset])
    assert set(truth) == set(clips["clip_id"])
    for part in ("dev", "additional"):
        for clip in plan_clips(dataset, part, ["bearing"] if part == "dev" else ["AutoTrash"], counts=COUNTS):
            clip_id = f"dcase2025/{part}/{clip.machine}/{clip.truth.split}/{clip.stem}"
            assert truth[clip_id] == clip.truth.attribute


def test_tables_that_tell_nothing(tmp_path: Path) -> None:
    """No tables, tables in an unknown place, and pairs without exactly one attribute are errors."""
    with pytest.raises(BenchmarkError, match="but holds none"):
        read_truth(tmp_path)
    name = "attributes_00_train_correspondence.csv"
    lost, placed = tmp_path / "a" / name, tmp_path / "b" / "dcase2025t2" / "dev_data" / "fan" / name
    for path in (lost, placed):
        path.parent.mkdir(parents=True)
        path.write_text("source_file_name,target_file_name\nsection_00_0000.wav,section_00_0001.wav\n")
    with pytest.raises(BenchmarkError, match="cannot be told from its path"):
        read_truth(tmp_path / "a")
    with pytest.raises(BenchmarkError, match="must pair a name that says an attribute with one that does not"):
        read_truth(tmp_path / "b")


def test_released_attributes_reach_neither_the_index_nor_the_ground_truth(load_dataset: Load, tmp_path: Path) -> None:
    """With all released tables in the root and given as ground truth, withheld attributes stay NA."""
    dataset = make(load_dataset, tmp_path, "dcase2025", "bearing")
    generate(tmp_path / "eval", dataset, machines=["AutoTrash"], parts=("additional", "eval"), **SMALL)
    for root in (tmp_path, tmp_path / "eval"):
        clips = index_root(root, [dataset])
        assert read_truth(root)
        assert clips["attribute"].isna().all()
    told = add_ground_truth(clips, tmp_path / "eval", [dataset])
    assert told["attribute"].isna().all()
    assert told["condition"].notna().all()


def test_nothing_that_labels_or_trains_can_read_the_truth() -> None:
    """No function that indexes, labels, trains or scores knows the one that reads what was withheld.

    The one that brings it beside the recordings, to judge labels by, is named here.
    """
    project = Path(__file__).parents[3]
    rooms = ("backbones", "labeling", "benchmarks", "harness/scorers", "harness/scoring", "harness/trials")
    files = [path for room in rooms for path in (project / room).rglob("*.py") if path.name != "truth.py"]
    knowing = [
        (path.stem, function.name)
        for path in files
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(node, ast.Name) and node.id == "read_truth" for node in ast.walk(function))
    ]
    assert knowing == [("recordings", "with_released")]
