from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.contract import BenchmarkError, Dataset
from benchmarks.recordings.index import index_root, scan_root

Load = Callable[[str], Dataset]
Write = Callable[..., Path]
TRAIN = "section_00_source_train_normal_0000_x_1.wav"


@pytest.mark.parametrize("base", ["", "raw/", "dcase2022/", "formatted/dcase2022/raw/", "original/dcase2022/raw/"])
def test_sections_tell_the_part_where_folders_do_not(
    base: str, load_dataset: Load, write_clip: Write, tmp_path: Path
) -> None:
    """Unzipped side by side, or as ASDKit formats them, clips belong to the part that has their section."""
    write_clip(f"{base}fan/train/section_03_source_train_normal_0000_x_1.wav")
    write_clip(f"{base}fan/train/section_00_source_train_normal_0000_x_1.wav")
    write_clip(f"{base}fan/test/section_03_0000.wav")
    clips = index_root(tmp_path, [load_dataset("dcase2022")])
    assert clips[["part", "split", "section"]].values.tolist() == [
        ["dev", "train", "00"], ["additional", "train", "03"], ["eval", "test", "03"],
    ]  # fmt: skip


def test_formatted_evaluation_clips_say_their_condition(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """ASDKit's evaluation clips have full names, RoboticArm's without the word test; they are read by their words."""
    write_clip("formatted/dcase2024/raw/RoboticArm/test/section_00_source_normal_0035_weight15_BckgF.wav")
    write_clip("formatted/dcase2024/raw/RoboticArm/test/section_00_target_anomaly_0059_weight25_BckgE.wav")
    clips = index_root(tmp_path, [load_dataset("dcase2024")])
    assert clips[["part", "domain", "condition"]].values.tolist() == [
        ["eval", "source", "normal"], ["eval", "target", "anomaly"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "part"),
    [("dev_fan", "dev"), ("eval_data_RoboticArm_train_r2", "additional"), ("eval_data_RoboticArm_test", "eval")],
)
def test_folders_may_have_the_name_of_an_archive(
    folder: str, part: str, load_dataset: Load, write_clip: Write, tmp_path: Path
) -> None:
    """A folder called as an archive, a second revision too, holds the archive's part."""
    machine = "fan" if part == "dev" else "RoboticArm"
    write_clip(f"{folder}/{machine}/{'test/section_00_0000.wav' if part == 'eval' else f'train/{TRAIN}'}")
    assert index_root(tmp_path, [load_dataset("dcase2024")])["part"].tolist() == [part]


def test_a_root_of_another_year_is_not_taken(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A folder with the name of one year is not read as another, alone or below the root."""
    write_clip(f"dcase2023t2/fan/train/{TRAIN}")
    for root in (tmp_path, tmp_path / "dcase2023t2"):
        with pytest.raises(BenchmarkError, match="none was found"):
            index_root(root, [load_dataset("dcase2024")])


def test_a_year_that_stands_twice_is_an_error(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Two folders of one year below a root, or two folders of one machine type, are named in one sentence."""
    write_clip(f"a/dcase2023t2/dev_data/raw/fan/train/{TRAIN}")
    write_clip(f"a/formatted/dcase2023/raw/fan/train/{TRAIN}")
    with pytest.raises(BenchmarkError, match=r"must hold dcase2023 once, but .*dcase2023t2 and .*formatted/dcase2023"):
        index_root(tmp_path / "a", [load_dataset("dcase2023")])
    write_clip(f"b/dcase2023t2/dev_data/raw/fan/train/{TRAIN}")
    write_clip(f"b/dcase2023t2/dev_data/fan/train/{TRAIN}")
    with pytest.raises(BenchmarkError, match=r"raw/fan and .*dev_data/fan both hold train clips of fan; move one"):
        index_root(tmp_path / "b", [load_dataset("dcase2023")])


def test_a_link_to_the_same_folder_counts_once(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A folder that is a link to one beside or above it is the same folder, not a second one."""
    write_clip(f"dcase2023t2/dev_data/fan/train/{TRAIN}")
    (tmp_path / "dcase2023t2/dev_data/raw").symlink_to(".")
    (tmp_path / "dcase2023").symlink_to("dcase2023t2")
    assert len(index_root(tmp_path, [load_dataset("dcase2023")])) == 1


def test_a_link_to_itself_is_named(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A folder that is a link to itself is bad, named by its path, and can be skipped."""
    write_clip(f"dcase2023t2/dev_data/raw/fan/train/{TRAIN}")
    loops = ["dcase2023t2/dev_data/raw/valve", "dcase2023t2/dev_data/raw/fan/test"]
    for loop in loops:
        (tmp_path / loop).symlink_to(tmp_path / loop)
    scan = scan_root(tmp_path, [load_dataset("dcase2023")])
    assert {problem.path for problem in scan.bad} == {str(tmp_path / loop) for loop in loops}
    with pytest.raises(BenchmarkError, match=r"folders must be readable, but .*Too many levels of symbolic links"):
        index_root(tmp_path, [load_dataset("dcase2023")])
    assert len(index_root(tmp_path, [load_dataset("dcase2023")], skip_bad=True)) == 1


def test_a_name_that_is_no_text_is_named(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A name that is not UTF-8 is bad; the message shows its bytes."""
    good = write_clip(f"dcase2023t2/dev_data/raw/fan/train/{TRAIN}")
    other = os.fsencode(good.parent) + b"/section_00_source_train_normal_0001_caf\xe9.wav"
    Path(os.fsdecode(other)).write_bytes(good.read_bytes())
    with pytest.raises(BenchmarkError, match=r"names must be UTF-8, but .*caf\\xe9\.wav is not; rename it"):
        index_root(tmp_path, [load_dataset("dcase2023")])
    assert len(index_root(tmp_path, [load_dataset("dcase2023")], skip_bad=True)) == 1


def test_a_folder_that_may_not_be_read_is_named(
    load_dataset: Load, write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without permission is bad, not empty."""
    path = write_clip(f"dcase2023t2/dev_data/raw/fan/train/{TRAIN}")
    scandir = os.scandir

    def guarded(folder: Path) -> object:  # root may read everything, so permissions alone would test nothing
        if Path(folder) == path.parent:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("benchmarks.recordings.layout.os.scandir", guarded)
    with pytest.raises(BenchmarkError, match=r"folders must be readable, but .*fan/train is not: Permission denied"):
        index_root(tmp_path, [load_dataset("dcase2023")])


def test_bad_names_are_counted_and_left_out(
    load_dataset: Load, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Several bad files are one error that counts them; skipped, they are one warning."""
    raw = "dcase2023t2/dev_data/raw/fan/train"
    write_clip(f"{raw}/{TRAIN}")
    for name in ("a.wav", "b.wav", "section_00_source_train_anomaly_0000.wav", TRAIN.replace(".wav", ".flac")):
        write_clip(f"{raw}/{name}", kind="FLAC" if name.endswith("flac") else "WAV")
    with pytest.raises(BenchmarkError, match="3 more are bad; `asdbench data doctor` lists them"):
        index_root(tmp_path, [load_dataset("dcase2023")])
    assert len(index_root(tmp_path, [load_dataset("dcase2023")], skip_bad=True)) == 1
    assert "4 bad files are left out" in caplog.text


@pytest.mark.parametrize("said", [(1, "", "One bad file is"), (2, "1 more is bad;", "2 bad files are")])
def test_one_is_said_as_one(
    said: tuple[int, str, str], load_dataset: Load, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A count of one has its verb and noun in the singular."""
    bad, rest, left = said
    raw = "dcase2023t2/dev_data/raw/fan/train"
    for name in (TRAIN, *("a.wav", "b.wav")[:bad]):
        write_clip(f"{raw}/{name}")
    with pytest.raises(BenchmarkError) as error:
        index_root(tmp_path, [load_dataset("dcase2023")])
    assert rest in str(error.value)
    assert "more are" not in str(error.value)
    assert len(index_root(tmp_path, [load_dataset("dcase2023")], skip_bad=True)) == 1
    assert f"{left} left out" in caplog.text


def test_what_a_year_withholds_stays_withheld(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Clips that were renamed to their released attributes are as unlabeled as before."""
    write_clip("dcase2025t2/dev_data/raw/bearing/train/section_00_source_train_normal_0000_vel_6_loc_A.wav")
    assert index_root(tmp_path, [load_dataset("dcase2025")])["attribute"].isna().all()


def test_recordings_elsewhere_are_said_to_be_passed_over(
    load_dataset: Load, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of recordings beside train/ and test/ that means nothing is warned of; supplemental/ is not."""
    for folder in ("train", "supplemental", "test_rename"):
        write_clip(f"dcase2025t2/dev_data/raw/fan/{folder}/{TRAIN}")
    assert len(index_root(tmp_path, [load_dataset("dcase2025")])) == 1
    assert "fan/test_rename is none of train" in caplog.text
    assert "supplemental" not in caplog.text
