"""Names of recordings as file managers, Macs and spreadsheets write them: one row a name with what must be answered."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings

from benchmarks.contract import BenchmarkError
from benchmarks.datasets.dcase2025 import DATASET
from benchmarks.recordings.index import index_root, scan_root
from benchmarks.recordings.names import parse_name
from benchmarks.recordings.truth import read_truth
from tests.hostile.fuzz_recordings import fuzz_name, names

GOOD = "section_00_source_train_normal_0000_m-n_X"
READ = {
    GOOD: "m-n_X",
    "section_00_source_train_normal_0000_": None,
    "section_00_source_train_normal_0000_noAttribute": None,
    "section_00_source_train_normal_0000_ac_0.03_": "ac_0.03",
    "section_00_source_train_normal_0000_v1pat_04": "v1pat_04",
    "section_00_source_train_normal_0000_photocopy": "photocopy",
    "section_00_source_train_normal_0000_copying_1": "copying_1",
    "section_00_source_train_normal_0000_copy_m": "copy_m",
    unicodedata.normalize("NFD", "section_00_source_train_normal_0000_lüfter"): "lüfter",
    unicodedata.normalize("NFC", "section_00_source_train_normal_0000_lüfter"): "lüfter",
}
REFUSED = (
    f"{GOOD} (1)", f"{GOOD}(1)", f"{GOOD} (23)", f"{GOOD} - Copy", f"{GOOD} - Copy (2)", f"{GOOD} - Kopie",
    f"{GOOD} copy", f"{GOOD} copy 2", f"{GOOD}_copy", f"{GOOD}_copy2", f"{GOOD}-copy", f"{GOOD}_Copy_1", f"{GOOD}.copy",
    f"{GOOD}_kopie", f"{GOOD} - コピー", f"{GOOD}_コピー", f"{GOOD}_副本", f"{GOOD}~", f"{GOOD}.wav", f"{GOOD}.WAV (1)",
    f"{GOOD}[1]", f"{GOOD} ", f" {GOOD}", f"Copy of {GOOD}", f"{GOOD}\u3000", f"{GOOD}\u00a0(1)", f"{GOOD}\t",
    f"{GOOD}\x1b[31m", f"{GOOD}\0", f"{GOOD}\u202e", "section_００_source_train_normal_0000", "section_0０_source_0000",
    "section_00_source_train_normal_００００", "section_00_source_train_normal_٠٠٠١", "section_00", "", "a" * 5000,
    "section_00_" + "source_" * 5000, f"section_00_source_train_normal_{'9' * 21}",
    f"section_00_source_train_normal_{'0' * 5000}_m-n_X",
)  # fmt: skip


@pytest.mark.parametrize("stem", READ)
def test_names_that_are_read(stem: str) -> None:
    """Attributes come out as written, accents in one form, whatever file system they come from."""
    assert parse_name(stem).attribute == READ[stem]


@pytest.mark.parametrize("stem", REFUSED)
def test_names_that_are_refused(stem: str) -> None:
    """A copy's name is no clip with an attribute of its own, digits are ASCII, and the sentence can be printed."""
    with pytest.raises(BenchmarkError) as raised:
        parse_name(stem)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize(
    "stem",
    ["normal_id_00_00000000 (1)", "normal_id_00_00000000_copy", "normal_id_００_00000000", f"normal_id_00_{'0' * 21}"],
)
def test_names_of_2020_that_are_refused(stem: str) -> None:
    """The names of 2020 have no attribute that a copy could hide in."""
    with pytest.raises(BenchmarkError, match="names must follow"):
        parse_name(stem, with_ids=True)


def root_with(folder: Path, *more: str) -> Path:
    """Make a root with a good recording and others beside it; nobody reads their content here."""
    machine = folder / "dcase2025t2/dev_data/raw/fan"
    for name in (f"train/{GOOD}.wav", *more):
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).touch()
    return folder


@pytest.mark.parametrize("ending", [" (1).wav", " - Copy.wav", "_copy.wav", " copy.flac", ".wav.wav", "~.wav"])
def test_copies_beside_recordings_are_misnamed(ending: str, tmp_path: Path) -> None:
    """A copy is a bad file that is named, and no second clip."""
    scan = scan_root(root_with(tmp_path, f"train/{GOOD}{ending}"), [DATASET])
    assert scan.clips["attribute"].tolist() == ["m-n_X"]
    assert [(problem.kind, problem.path.endswith(ending)) for problem in scan.bad] == [("misnamed", True)]


@pytest.mark.parametrize(
    "name",
    [
        f"train/._{GOOD}.wav", f"train/.{GOOD}.wav", f"train/.ipynb_checkpoints/{GOOD}.wav", f".train/{GOOD}.wav",
        f"__MACOSX/train/._{GOOD}.wav", f"__MACOSX/{GOOD}.wav", f"../__MACOSX/fan/train/{GOOD}.wav",
        f"../.ipynb_checkpoints/train/{GOOD}.wav", f"train/{GOOD}.wav.part", f"train/{GOOD}.wav.crdownload",
    ],
)  # fmt: skip
def test_what_programs_leave_is_passed_over(name: str, tmp_path: Path) -> None:
    """Hidden files and folders, a Mac's resource files and unfinished downloads are no recordings."""
    assert len(index_root(root_with(tmp_path, name), [DATASET])) == 1
    assert scan_root(tmp_path, [DATASET]).problems == ()


HEADING = "file_name,d1p,d1v\n"
LINE = f"fan/train/{GOOD}.wav,m-n,X\n"
TABLES = {
    "as delivered": ((HEADING + LINE).encode(), None),
    "a mark": ((HEADING + LINE).encode("utf-8-sig"), None),
    "UTF-16": ((HEADING + LINE).encode("utf-16"), None),
    "semicolons": ((HEADING + LINE).replace(",", ";").encode(), None),
    "tabs": ((HEADING + LINE).replace(",", "\t").encode(), None),
    "sep=": (("sep=;\n" + (HEADING + LINE).replace(",", ";")).encode(), None),
    "empty columns": ((HEADING + LINE).replace("\n", ",,,\n").encode(), None),
    "no heading": (LINE.encode(), None),
    "backslashes": ((HEADING + LINE).replace("/", "\\").encode(), None),
    "capitals": ((HEADING.upper() + LINE).encode(), None),
    "Windows lines": ((HEADING + LINE).replace("\n", "\r\n").encode(), None),
    "another attribute": ((HEADING + LINE).replace(",X", ",Y").encode(), "attributes"),
    "another, semicolons": ((HEADING + LINE).replace(",X", ",Y").replace(",", ";").encode(), "attributes"),
    "a clip that is not there": ((HEADING + LINE.replace("0000", "0001")).encode(), "missing"),
    "Latin-1": ((HEADING + LINE + "é,1,2\n").encode("latin-1"), "unreadable"),
    "Shift-JIS": ((HEADING + LINE + "ファン,1,2\n").encode("cp932"), "unreadable"),
    "UTF-16 without a mark": ((HEADING + LINE).encode("utf-16-le"), "unreadable"),
    "NULs": ((HEADING + LINE).encode() + b"\0,1\n", "unreadable"),
    "an open quote": ((HEADING + LINE).encode() + b'"a,1\n', "unreadable"),
    "a huge cell": ((HEADING + LINE).encode() + b"a" * 200_000 + b",1\n", "unreadable"),
}


@pytest.mark.parametrize("name", TABLES)
def test_attribute_tables(name: str, tmp_path: Path) -> None:
    """A table is read in every spelling that needs no guess; else it is named, and the names of the clips hold."""
    content, kind = TABLES[name]
    table = root_with(tmp_path) / "dcase2025t2/dev_data/raw/fan/attributes_00.csv"
    table.write_bytes(content)
    scan = scan_root(tmp_path, [DATASET])
    assert [problem.kind for problem in scan.problems] == ([] if kind is None else [kind])
    assert scan.clips["attribute"].tolist() == ["m-n_X"]
    assert kind != "unreadable" or str(table) in scan.problems[0].sentence


def test_a_decimal_comma_is_a_point(tmp_path: Path) -> None:
    """A spreadsheet's `0,03` is the name's `0.03`."""
    stem = "section_00_source_train_normal_0001_ac_0.03"
    table = root_with(tmp_path, f"train/{stem}.wav") / "dcase2025t2/dev_data/raw/fan/attributes_00.csv"
    table.write_text(f"file_name;d1p;d1v\nfan/train/{stem}.wav;ac;0,03\n")
    assert scan_root(tmp_path, [DATASET]).problems == ()


def test_copies_of_the_truth_in_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    """A notebook's checkpoints hold no official files."""
    folder = tmp_path / "dcase2025t2/dev_data/bearing/.ipynb_checkpoints"
    folder.mkdir(parents=True)
    (folder / "attributes_00_train_correspondence.csv").write_text(f"{GOOD}.wav,{GOOD[:-6]}.wav\n")
    with pytest.raises(BenchmarkError, match="holds none"):
        read_truth(tmp_path)


@settings(max_examples=150, deadline=None, database=None)
@given(names)
def test_no_name_is_another_exception(text: str) -> None:
    """Whatever a name is, only our own errors are raised."""
    fuzz_name(text)
