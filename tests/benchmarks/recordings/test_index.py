from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clips import count_clips
from benchmarks.contract import BenchmarkError, Dataset
from benchmarks.recordings.index import ClipName, format_name, index_root, parse_name

Load = Callable[[str], Dataset]
Write = Callable[..., Path]

NAMES = {
    # names as they stand in the official lists and archives
    "section_00_source_train_normal_0001_car_B1_spd_31V_mic_1": ("source", "train", "normal", "car_B1_spd_31V_mic_1"),
    "section_00_source_train_normal_0000_strength_1_ambient": ("source", "train", "normal", "strength_1_ambient"),
    "section_02_target_test_anomaly_0012_vel_6_f-n_B": ("target", "test", "anomaly", "vel_6_f-n_B"),
    "section_01_source_train_normal_0003_ac_0.03_": ("source", "train", "normal", "ac_0.03"),
    "section_02_source_test_normal_0000_v1pat_04_v2pat_05": ("source", "test", "normal", "v1pat_04_v2pat_05"),
    "section_00_source_train_normal_0001_noAttribute": ("source", "train", "normal", None),
    "section_00_source_normal_0035_weight15_BckgF": ("source", None, "normal", "weight15_BckgF"),
    "section_00_source_test_anomaly_0001_pro_A_wt_200_damage1": ("source", "test", "anomaly", "pro_A_wt_200_damage1"),
    "section_03_source_test_0000": ("source", "test", None, None),
    "section_00_0001": (None, None, None, None),
    "section_00_source_train_normal_0007_target_1_normal_2": ("source", "train", "normal", "target_1_normal_2"),
}


@pytest.mark.parametrize("stem", NAMES)
def test_official_names_are_read(stem: str) -> None:
    """Domain, split, condition and attribute are read by their words, wherever the name is silent None."""
    name = parse_name(stem)
    assert (name.domain, name.split, name.condition, name.attribute) == NAMES[stem]


@pytest.mark.parametrize(
    ("stem", "condition"),
    [("normal_id_01_00000000", "normal"), ("anomaly_id_06_00000013", "anomaly"), ("id_05_00000000", None)],
)
def test_names_of_2020_are_read(stem: str, condition: str | None) -> None:
    """A name of 2020 has a machine ID for a section, and its condition in front if at all."""
    name = parse_name(stem, with_ids=True)
    assert (name.section, name.condition, name.domain) == (stem.split("_")[-2], condition, None)


words = st.text(alphabet="abcXYZ0123456789.-", min_size=1, max_size=6)
attributes = st.lists(words, min_size=1, max_size=6).map("_".join).filter(lambda text: text != "noAttribute")
clip_names = st.builds(
    ClipName,
    section=st.from_regex("[0-9]{2}", fullmatch=True).filter(str.isascii),
    index=st.from_regex("[0-9]{4}", fullmatch=True).filter(str.isascii),
    split=st.sampled_from(["train", "test", None]),
    domain=st.sampled_from(["source", "target", None]),
    condition=st.sampled_from(["normal", "anomaly", None]),
    attribute=st.none() | attributes,
)


@given(clip_names)
def test_names_survive_writing_and_reading(name: ClipName) -> None:
    """Any name that can be written is read back as it was."""
    assert parse_name(format_name(name)) == name


@given(clip_names)
def test_names_of_2020_survive_writing_and_reading(name: ClipName) -> None:
    """Any name of 2020 that can be written is read back as it was."""
    old = ClipName(name.section, name.index, condition=name.condition)
    assert parse_name(format_name(old, with_ids=True), with_ids=True) == old


@pytest.mark.parametrize(
    "stem",
    ["", "section_00", "section_0_0001", "noise_00_0001", "section_00_machine_0001", "section_00_source_source_0001",
     "normal_id_01_00000000", "section_00_source_train_normal"],
)  # fmt: skip
def test_other_names_are_refused(stem: str) -> None:
    """A name with a strange word, a word twice, or without an index is an error that says the rule."""
    with pytest.raises(BenchmarkError, match="names must follow section_NN"):
        parse_name(stem)


def test_a_clip_id_has_no_ending(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A FLAC file, a WAV file and one with an ending in capitals give ids of one form."""
    stem = "section_00_source_train_normal_000{}_car_B1_spd_31V_mic_1"
    for number, ending, kind in ((1, "wav", "WAV"), (2, "flac", "FLAC"), (3, "WAV", "WAV")):
        write_clip(f"dcase2023t2/dev_data/raw/ToyCar/train/{stem.format(number)}.{ending}", kind=kind)
    clips = index_root(tmp_path, [load_dataset("dcase2023")])
    assert clips["clip_id"].tolist() == [f"dcase2023/dev/ToyCar/train/{stem.format(number)}" for number in (1, 2, 3)]


def test_test_folders_of_2021_are_test(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """2021's source_test and target_test are the split test, each of its domain; evaluation clips have no condition."""
    raw = "dcase2021t2/eval_data/raw/pump"
    write_clip(f"{raw}/source_test/section_03_source_test_0000.wav")
    write_clip(f"{raw}/target_test/section_03_target_test_0000.wav")
    clips = index_root(tmp_path, [load_dataset("dcase2021")])
    assert clips["clip_id"].tolist() == [
        f"dcase2021/eval/pump/test/section_03_{d}_test_0000" for d in ("source", "target")
    ]
    assert clips["domain"].tolist() == ["source", "target"]
    assert clips["condition"].isna().all()


def test_parts_of_the_evaluation_folder(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Training clips of eval_data are the part additional, its test clips the part eval."""
    raw = "dcase2025t2/eval_data/raw/AutoTrash"
    write_clip(f"{raw}/train/section_00_source_train_normal_0000_noAttribute.wav")
    write_clip(f"{raw}/test/section_00_0000.wav")
    clips = index_root(tmp_path, [load_dataset("dcase2025")])
    assert clips[["part", "split"]].values.tolist() == [["additional", "train"], ["eval", "test"]]
    assert clips["attribute"].isna().all()


@pytest.mark.parametrize("place", ["dcase2025t2/dev_data/raw", "dcase2025t2/dev_data", "dev_data/raw", "dev_data"])
def test_layouts(place: str, load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """The root may be the year's folder, and `raw` may be missing; where several years are wanted, names decide."""
    write_clip(f"{place}/fan/train/section_00_source_train_normal_0000_n_B.wav")
    assert len(index_root(tmp_path, [load_dataset("dcase2025")])) == 1
    years = [load_dataset("dcase2024"), load_dataset("dcase2025")]
    if place.startswith("dcase2025t2"):
        assert index_root(tmp_path, years)["dataset"].tolist() == ["dcase2025"]
        assert index_root(tmp_path / "dcase2025t2", years)["dataset"].tolist() == ["dcase2025"]
    else:
        with pytest.raises(BenchmarkError, match="none was found"):
            index_root(tmp_path, years)


def test_what_is_passed_over(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Supplemental recordings, files that start with a dot and files that are no recordings are not clips."""
    raw = "dcase2025t2/dev_data/raw/fan"
    write_clip(f"{raw}/train/section_00_source_train_normal_0000_n_B.wav")
    write_clip(f"{raw}/train/._section_00_source_train_normal_0000_n_B.wav")
    write_clip(f"{raw}/supplemental/section_00_noise_0000.wav")
    (tmp_path / raw / "train" / "readme.txt").write_text("hello")
    assert len(index_root(tmp_path, [load_dataset("dcase2025")])) == 1


def test_an_unknown_machine_is_warned_of(
    load_dataset: Load, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine type that the year does not have is passed over, with the nearest right name."""
    write_clip("dcase2023t2/dev_data/raw/fan/train/section_00_source_train_normal_0000_m-n_W.wav")
    write_clip("dcase2023t2/dev_data/raw/Toycar/train/section_00_source_train_normal_0000_x_1.wav")
    assert index_root(tmp_path, [load_dataset("dcase2023")])["machine"].tolist() == ["fan"]
    assert "Did you mean ToyCar?" in caplog.text


def test_a_bad_name_is_an_error_with_its_path(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A file whose name does not follow the rule is named, with the rule."""
    path = write_clip("dcase2023t2/dev_data/raw/fan/train/recording1.wav")
    with pytest.raises(BenchmarkError, match=f"{path} is not a train clip of dcase2023: names must follow section_NN"):
        index_root(tmp_path, [load_dataset("dcase2023")])


@pytest.mark.parametrize(
    ("folder", "stem"),
    [
        ("train", "section_00_source_test_normal_0000"),
        ("train", "section_00_source_train_anomaly_0000"),
        ("source_test", "section_00_target_test_normal_0000"),
    ],
)
def test_a_clip_in_the_wrong_folder_is_an_error(
    folder: str, stem: str, load_dataset: Load, write_clip: Write, tmp_path: Path
) -> None:
    """A name that contradicts its folder is an error, not a guess."""
    write_clip(f"dcase2021t2/dev_data/raw/fan/{folder}/{stem}.wav")
    with pytest.raises(BenchmarkError, match="but this one says"):
        index_root(tmp_path, [load_dataset("dcase2021")])


def test_roots_without_recordings(load_dataset: Load, tmp_path: Path) -> None:
    """A root that does not exist or holds nothing is an error that says which layout is expected."""
    years = [load_dataset("dcase2023")]
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BenchmarkError, match=r"dcase2023t2/dev_data/raw/<machine>/train/\*\.wav"):
            index_root(root, years)


def test_tables_that_disagree_are_counted(
    load_dataset: Load, write_clip: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where attributes_00.csv and a name disagree the name wins, and one warning counts them and shows the first."""
    raw = "dcase2024t2/dev_data/raw/fan"
    for number in range(3):
        write_clip(f"{raw}/train/section_00_source_train_normal_000{number}_weight15_BckgF.wav")
    rows = ["weight,15,Bckg,F", "weight,10,Bckg,F", ",,,"]  # the first agrees, though the name runs them together
    (tmp_path / raw / "attributes_00.csv").write_text(
        "file_name,d1p,d1v,d2p,d2v\n"
        + "".join(
            f"fan/train/section_00_source_train_normal_000{n}_weight15_BckgF.wav,{row}\n" for n, row in enumerate(rows)
        )
    )
    with caplog.at_level(logging.WARNING):
        clips = index_root(tmp_path, [load_dataset("dcase2024")])
    assert set(clips["attribute"]) == {"weight15_BckgF"}
    assert "attributes in names and tables differ for 2 clips" in caplog.text
    assert "normal_0001_weight15_BckgF (weight,10,Bckg,F in attributes_00.csv)" in caplog.text


@pytest.mark.real
def test_real_recordings(shared: Path, load_dataset: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Of the real recordings, all clips of 2023 are labeled and none of 2020's, and tables that say .wav fit .flac."""
    clips = index_root(shared / "data", [load_dataset("dcase2020"), load_dataset("dcase2023")])
    counts = count_clips(clips).groupby(["dataset", "machine", "split"])[["clips", "labeled"]].sum()
    assert counts.loc[("dcase2023", "ToyCar", "train")].tolist() == [203, 203]
    assert counts.loc[("dcase2023", "ToyCar", "test")].tolist() == [200, 200]
    assert counts.loc[("dcase2023", "valve", "train")].tolist() == [70, 70]
    assert counts.loc[("dcase2023", "valve", "test")].tolist() == [130, 130]
    assert counts.loc["dcase2020"]["labeled"].sum() == 0
    assert clips.loc[clips["dataset"] == "dcase2020", "machine"].nunique() == 6
    assert clips.loc[clips["dataset"] == "dcase2020", "domain"].isna().all()
    assert not caplog.records


@pytest.mark.real
def test_real_samples(shared: Path, load_dataset: Load) -> None:
    """The samples are four clips of each of the seven machine types of 2023."""
    clips = index_root(shared / "samples", [load_dataset("dcase2023")])
    assert clips["machine"].value_counts().to_dict() == dict.fromkeys(load_dataset("dcase2023").machines["dev"], 4)


@pytest.mark.real
def test_a_relocated_copy_has_the_same_ids(shared: Path, load_dataset: Load, tmp_path: Path) -> None:
    """Clip ids do not depend on where the recordings stand."""
    source = shared / "samples" / "dcase2023t2" / "dev_data" / "raw" / "fan"
    shutil.copytree(source, tmp_path / "dcase2023t2" / "dev_data" / "fan")
    here = index_root(tmp_path, [load_dataset("dcase2023")])
    there = index_root(shared / "samples", [load_dataset("dcase2023")])
    assert set(here["clip_id"]) == set(there.loc[there["machine"] == "fan", "clip_id"])
