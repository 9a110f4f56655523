from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from benchmarks.contract import BenchmarkError, Dataset
from benchmarks.protocols import find_protocol, heard, parse_protocol, says_no_labels, split_clips
from benchmarks.recordings.audio import Samples, decode
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.index import index_root, scan_root
from benchmarks.recordings.packing import pack

Load = Callable[[str], Dataset]
Write = Callable[..., Path]
HEADER = ("file", "machine", "split", "domain", "condition", "attribute")
KNOWN = ["machine", "section", "split", "domain", "condition", "attribute"]


def write_csv(folder: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    """Write the csv that lists recordings."""
    table = folder / "recordings.csv"
    with table.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([header, *rows])
    return table


def test_a_folder_and_a_csv_are_a_dataset(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Listed recordings are clips of own/dev with what the csv says, below the root or below own/."""
    for place in (tmp_path / "a", tmp_path / "b" / "own"):
        for name in ("x/1.wav", "x/2.wav", "3.flac"):
            write_clip(str(place.relative_to(tmp_path) / name), kind="FLAC" if name.endswith("flac") else "WAV")
        rows = [
            ("x/2.wav", "press", "test", "target", "anomaly", ""),
            ("x/1.wav", "press", "train", "", "", "speed_3"),
            ("3.wav", "", "test", "", "", ""),  # a .flac on disk; its ending in a csv need not follow
        ]
        write_csv(place, rows)
        root = tmp_path / place.relative_to(tmp_path).parts[0]
        clips = index_root(root, [load_dataset("own")])
        assert clips["clip_id"].tolist() == [
            f"own/dev/{place.name}/test/3", "own/dev/press/train/x/1", "own/dev/press/test/x/2",
        ]  # fmt: skip
        values = clips[KNOWN].astype(object).where(clips[KNOWN].notna(), None).values.tolist()
        assert values == [
            [place.name, "00", "test", "source", None, None],
            ["press", "00", "train", "source", "normal", "speed_3"],
            ["press", "00", "test", "target", "anomaly", None],
        ]


def test_file_and_split_are_enough(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Two columns suffice; without a condition test clips are scored, and a sentence says what to fill in."""
    for name in ("1.wav", "2.wav"):
        write_clip(name)
    write_csv(tmp_path, [("1.wav", "train"), ("2.wav", "test")], ("file", "split"))
    clips = index_root(tmp_path, [load_dataset("own")])
    assert clips["machine"].tolist() == [tmp_path.name] * 2
    train, test = split_clips(clips, find_protocol("own"))
    assert (len(train), len(test)) == (1, 1)
    assert "fill the csv's column condition" in says_no_labels(test)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("1.wav", "", "training", "", "", ""), "split must be one of train, test, but is 'training' for 1.wav."),
        (("1.wav", "", "", "", "", ""), "split must be one of train, test, but is ''"),
        (("1.wav", "", "test", "sorce", "", ""), "domain must be one of .* Did you mean source"),
        (("1.wav", "", "test", "", "abnormal", ""), "condition must be one of .* Did you mean anomaly"),
        (("1.wav", "", "test", "", "OK", ""), "condition must be one of .* Did you mean normal"),
        (("1.wav", "", "training", "", "", ""), "split must be one of .* Did you mean train"),
        (("1.wav", "", "train", "", "anomaly", ""), "training clips must be normal, but 1.wav is an anomaly"),
        (("9.wav", "", "train", "", "", ""), ".*9.wav must be a recording, but there is no such file"),
        (("../1.wav", "", "train", "", "", ""), "file must be a path below"),
        (("/1.wav", "", "train", "", "", ""), "file must be a path below"),
        (("", "", "train", "", "", ""), "file must be a path below"),
    ],
)
def test_bad_lines_are_named(
    row: tuple[str, ...], words: str, load_dataset: Load, write_clip: Write, tmp_path: Path
) -> None:
    """A line that is no recording is bad, named by its number, and can be skipped."""
    write_clip("1.wav")
    write_clip("2.wav")
    write_csv(tmp_path, [("2.wav", "", "train", "", "", ""), row])
    with pytest.raises(BenchmarkError, match=f"recordings.csv:3: {words}"):
        index_root(tmp_path, [load_dataset("own")])
    assert len(index_root(tmp_path, [load_dataset("own")], skip_bad=True)) == 1


def test_a_wrong_csv_is_an_error(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """An unknown column, text that is no UTF-8, two tables, and a line twice are errors."""
    write_clip("1.wav")
    row = ("1.wav", "", "train", "", "", "")
    write_csv(tmp_path, [(*row, "x")], (*HEADER, "conditon"))
    with pytest.raises(BenchmarkError, match=r"one is 'conditon'\. Did you mean condition"):
        index_root(tmp_path, [load_dataset("own")])
    table = write_csv(tmp_path, [row, row])
    with pytest.raises(BenchmarkError, match="clip ids must be unique"):
        index_root(tmp_path, [load_dataset("own")])
    shutil.copy(table, tmp_path / "copy.csv")
    with pytest.raises(BenchmarkError, match=r"copy\.csv and .*recordings\.csv both have the columns"):
        index_root(tmp_path, [load_dataset("own")])
    (tmp_path / "copy.csv").unlink()
    table.write_bytes(b"file,split\n" + b"a" * 9000 + b"caf\xe9.wav,train\n")
    with pytest.raises(BenchmarkError, match=r"recordings\.csv must be text in UTF-8.*seems to be Latin-1"):
        index_root(tmp_path, [load_dataset("own")])


def test_other_csv_files_are_nobodys(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """A csv without the columns file and split lists nothing, and years beside own recordings are read as ever."""
    write_clip("dcase2023t2/dev_data/raw/fan/train/section_00_source_train_normal_0000_m-n_W.wav")
    (tmp_path / "results.csv").write_text("machine,auc\nfan,0.5\n")
    years = [load_dataset("dcase2023"), load_dataset("own")]
    assert index_root(tmp_path, years)["dataset"].tolist() == ["dcase2023"]
    write_clip("own/1.wav")
    write_csv(tmp_path / "own", [("1.wav", "", "train", "", "", "")])
    assert index_root(tmp_path, years)["dataset"].tolist() == ["dcase2023", "own"]


def test_the_doctor_knows_own_recordings(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Own recordings are examined like any; those that the csv does not list are found."""
    for number in (1, 2, 3):
        write_clip(f"{number}.wav", seed_samples(number))
    write_csv(tmp_path, [("1.wav", "m", "train", "", "", ""), ("2.wav", "m", "test", "", "normal", "")])
    found = examine(tmp_path, [load_dataset("own")], protocol=find_protocol("own"))
    assert [(problem.kind, problem.path) for problem in found.problems] == [("extra", str(tmp_path / "3.wav"))]
    assert found.verdict is not None
    assert found.verdict.runs
    (report,) = found.parts
    assert (report.layout, report.clips, report.machines) == ("csv", 2, ("m",))


def test_a_line_with_a_bad_value_still_lists_its_recording(
    load_dataset: Load, write_clip: Write, tmp_path: Path
) -> None:
    """Of a bad line the doctor says what is bad, and not that its recording is listed nowhere; so of one too long."""
    for number in range(1, 6):
        write_clip(f"{number}.wav", seed_samples(number))
    write_csv(
        tmp_path,
        [
            ("1.wav", "m", "train", "", "", ""),
            ("2.wav", "m", "test", "sorce", "normal", ""),
            ("3.WAV", "m", "test", "", "abnormal", ""),
            ("4.wav", "m", "test", "", "normal", "", "more"),
        ],
    )
    found = examine(tmp_path, [load_dataset("own")])
    assert [problem.kind for problem in found.problems] == ["misnamed"] * 3 + ["extra"]
    assert found.problems[-1].path == str(tmp_path / "5.wav")


def test_one_round_of_mending_suffices(load_dataset: Load, write_clip: Write, tmp_path: Path) -> None:
    """Every wrong cell of a line is a problem of its own, told from others by its value; the line is one bad line."""
    for number in range(1, 4):
        write_clip(f"{number}.wav", seed_samples(number))
    write_csv(
        tmp_path,
        [
            ("1.wav", "m", "train", "sorce", "", ""),
            ("2.wav", "m", "trian", "sorce", "abnormal", ""),
            ("3.wav", "m", "train", "", "anomaly", ""),
            ("4.wav", "m", "train", "taget", "", ""),
        ],
    )
    scan = scan_root(tmp_path, [load_dataset("own")])
    assert Counter(problem.value for problem in scan.bad) == {
        "domain sorce": 2, "split trian": 1, "condition abnormal": 1, "an anomaly in training": 1, "": 1,
        "domain taget": 1,
    }  # fmt: skip
    assert scan.left_out == 4
    write_csv(tmp_path, [("1.wav", "train", "source")], header=("file", "splt", "domian"))
    with pytest.raises(BenchmarkError, match=r"lacks the column split"):
        index_root(tmp_path, [load_dataset("own")])
    write_csv(tmp_path, [("1.wav", "train", "", "")], header=("file", "split", "domian", "conditon"))
    with pytest.raises(BenchmarkError, match=r"some are 'domian', 'conditon'\. Did you mean domain\? Did you mean con"):
        index_root(tmp_path, [load_dataset("own")])


@pytest.mark.parametrize(
    ("channels", "used"),
    [(None, "the first one is used"), ("far", "the second one is used"), ("mean", "their mean is used")],
)
def test_the_doctor_says_which_channel_is_heard(
    channels: str | None, used: str, load_dataset: Load, tmp_path: Path
) -> None:
    """Of own recordings with two channels the first is heard, as what is read shows, or the protocol's choice."""
    stereo = np.stack([seed_samples(1), seed_samples(2)], axis=1)
    soundfile.write(tmp_path / "1.wav", stereo, 16_000, subtype="PCM_16")
    write_csv(tmp_path, [("1.wav", "m", "train", "", "", "")])
    protocol = parse_protocol(
        {"name": "p", "train": ["own/dev"], "score": ["own/dev"]} | ({"channels": channels} if channels else {})
    )
    found = examine(tmp_path, [load_dataset("own")], protocol=protocol)
    assert [problem.sentence.partition("; ")[2] for problem in found.problems if problem.kind == "channels"] == [
        f"{used}."
    ]
    if channels is None:
        assert np.array_equal(decode(str(tmp_path / "1.wav"), heard(load_dataset("own"), protocol)), stereo[:, 0])


def seed_samples(seed: int) -> Samples:
    """Return other samples for each seed."""
    return np.random.default_rng(seed).integers(-9000, 9000, 800).astype(np.int16)


def flat_copy(official: pd.DataFrame, folder: Path) -> Path:
    """Copy clips flat into one folder with a csv that says of them what their names did."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in official.itertuples():
        path = Path(str(clip.path))
        shutil.copy(path, folder / path.name)
        attribute = "" if pd.isna(clip.attribute) else clip.attribute
        rows.append((path.name, clip.machine, clip.split, clip.domain, clip.condition, attribute))
    write_csv(folder, rows)
    return folder


@pytest.mark.slow
@pytest.mark.real
def test_real_clips_in_one_folder_are_the_same_clips(shared: Path, load_dataset: Load, tmp_path: Path) -> None:
    """The real valve clips, flat with a csv, give the table and the samples of the official layout."""
    official = index_root(shared / "data", [load_dataset("dcase2023")])
    official = official[official["machine"] == "valve"].reset_index(drop=True)
    own = index_root(flat_copy(official, tmp_path / "flat"), [load_dataset("own")])
    assert own[KNOWN].equals(official[KNOWN])
    packs = [pack(clips, tmp_path / name) for name, clips in (("one", official), ("two", own))]
    assert packs[0].hashes.tolist() == packs[1].hashes.tolist()
    assert scan_root(tmp_path / "flat", [load_dataset("own")]).problems == ()
