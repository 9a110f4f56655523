"""Folders of score files and official files as people have them: one row a spelling, and what is answered."""

from __future__ import annotations

import os
import socket
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.contract import BenchmarkError
from benchmarks.datasets import dcase2025
from benchmarks.metrics.measures import measure, official_score
from benchmarks.metrics.numbers import read_column
from benchmarks.metrics.score_files import ScoredFolder, read_scores
from harness.errors import HarnessError
from harness.scorefiles.external import record_external
from harness.scorefiles.measured import MeasuredFolder
from tests.hostile.fuzz_tables import fuzz_score_csv

YEAR = dcase2025.DATASET
FAN = "anomaly_score_fan_section_00_test.csv"
CLIPS = [
    f"section_00_{domain}_test_{condition}_{number:04d}_m-n_W.wav"
    for domain in ("source", "target")
    for condition in ("normal", "anomaly")
    for number in range(2)
]
SCORES = [0.5, 1.5, 1.0, 2.25, 0.75, 3.5, 12.5, 0.125]
ROWS = "".join(f"{clip},{score}\n" for clip, score in zip(CLIPS, SCORES, strict=True))
SEMICOLONS = ROWS.replace(",", ";")
FIRST = CLIPS[0]


def write(folder: Path, data: str | bytes, name: str = FAN) -> Path:
    """Write a file and return its folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def scores_of(found: ScoredFolder) -> dict[str, float]:
    """Return the scores that were read, by clip."""
    names = found.clips["clip_id"].str.rsplit("/", n=1).str[-1] + ".wav"
    return dict(zip(names, found.clips["score"], strict=True))


READ: dict[str, str | bytes] = {
    "plain": ROWS,
    "semicolons": SEMICOLONS,
    "tabs": ROWS.replace(",", "\t"),
    "told separator": "sep=;\n" + SEMICOLONS,
    "semicolons and decimal commas": SEMICOLONS.replace(".wav", "").replace(".", ","),
    "tabs and decimal commas": ROWS.replace(",", "\t").replace(".wav", "").replace(".", ","),
    "quoted decimal commas": "".join(
        f'{clip},"{str(score).replace(".", ",")}"\n' for clip, score in zip(CLIPS, SCORES, strict=True)
    ),
    "byte order mark": "\ufeff" + ROWS,
    "UTF-16": ROWS.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + ROWS.encode("utf-16-be"),
    "UTF-16 with semicolons": SEMICOLONS.encode("utf-16"),
    "headings": "file_name,anomaly_score\n" + ROWS,
    "headings in capitals": "FILE_NAME,ANOMALY SCORE\n" + ROWS,
    "headings of semicolons": "File;Score\n" + SEMICOLONS,
    "pandas' headings": "0,1\n" + ROWS,
    "trailing column": ROWS.replace("\n", ",\n"),
    "trailing columns": ROWS.replace("\n", ",,,\n"),
    "trailing columns below headings": "file,score,,\n" + ROWS.replace("\n", ",,\n"),
    "one trailing column": ROWS.replace("\n", ",\n", 1),
    "carriage returns": ROWS.replace("\n", "\r"),
    "Windows' lines": ROWS.replace("\n", "\r\n"),
    "empty lines": "\n\n" + ROWS.replace("\n", "\n\n"),
    "rows of commas": ROWS + ",\n,,\n",
    "no last line break": ROWS.rstrip(),
    "quotes": "".join(f'"{clip}","{score}"\n' for clip, score in zip(CLIPS, SCORES, strict=True)),
    "blanks": ROWS.replace(",", " , "),
    "folders": "".join(f"fan/test/{row}\n" for row in ROWS.split()),
    "backslashes": "".join(f"raw\\fan\\test\\{row}\n" for row in ROWS.split()),
    "mixed slashes": "".join(f"raw\\fan/test\\{row}\n" for row in ROWS.split()),
    "a drive": "".join(f"C:\\data\\fan\\test\\{row}\n" for row in ROWS.split()),
    "capital ending": ROWS.replace(".wav", ".WAV"),
    "no ending": ROWS.replace(".wav", ""),
    "full-width digits": ROWS.replace(",12.5", ",１２．５"),
    "true minus": ROWS.replace(",0.5\n", ",\u22120.5\n"),
    "plus": ROWS.replace(",1.5", ",+1.5"),
    "exponents": ROWS.replace(",12.5", ",1.25E1"),
    "no leading zero": ROWS.replace(",0.75", ",.75"),
}


@pytest.mark.parametrize("case", READ)
def test_spellings_that_are_read(case: str, tmp_path: Path) -> None:
    """The same scores come out, whichever program wrote them."""
    wanted = dict(zip(CLIPS, SCORES, strict=True))
    if case == "true minus":
        wanted[FIRST] = -0.5
    assert scores_of(read_scores(write(tmp_path, READ[case]), YEAR)) == wanted


NUMBER = "scores must be finite numbers, but"
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "latin-1": (ROWS.encode() + "caf\xe9,1\n".encode("latin-1"), "Latin-1"),
    "Shift-JIS": (ROWS.encode() + "異常音,1\n".encode("cp932"), "Shift-JIS"),
    "UTF-16 without a mark": (ROWS.encode("utf-16-le"), "UTF-16 without one"),
    "UTF-32": (ROWS.encode("utf-32"), "UTF-32"),
    "half of UTF-16": (ROWS.encode("utf-16")[:-1], "UTF-16"),
    "NUL": (ROWS.encode() + b"\0,1\n", "NUL"),
    "workbook": (b"PK\3\4" + bytes(200), "must be text in UTF-8"),
    "decimal commas between commas": (SEMICOLONS.replace(".wav", "").replace(".", ",").replace(";", ","), "semicolons"),
    "spaces": (ROWS.replace(",", " "), "must have two columns"),
    "bars": (ROWS.replace(",", "|"), "must have two columns"),
    "three columns": (ROWS.replace("\n", ",x\n"), "must have two columns, .* line 1 has 3"),
    "a million columns": (",".join("1" * 1_000_000), "must have two columns"),
    "a long cell": (ROWS + "a" * 200_000 + ",1\n", "readable csv"),
    "an open quote": (ROWS + '"a,1\n', "readable csv"),
    "empty": ("", "it is empty"),
    "blank": (" \n\n", "it is empty"),
    "headings alone": ("file;score\n", "row of headings alone"),
    "nan": (ROWS.replace(",0.5\n", ",nan\n"), NUMBER),
    "NaN in front": (f"{FIRST},NaN\n", NUMBER),
    "inf": (ROWS.replace(",0.5\n", ",-inf\n"), NUMBER),
    "too large": (ROWS.replace(",0.5\n", ",1e400\n"), f"{NUMBER} .* larger than any float"),
    "too small": (ROWS.replace(",0.5\n", ",1e-400\n"), f"{NUMBER} .* nearer to zero than any float"),
    "5,000 digits": (ROWS.replace(",0.5\n", f",{'9' * 5000}\n"), NUMBER),
    "no score": (ROWS.replace(",0.5\n", ",\n"), f"{NUMBER} .*nothing"),
    "None": (ROWS.replace(",1.5\n", ",None\n"), NUMBER),
    "hexadecimal": (ROWS.replace(",0.5\n", ",0x10\n"), NUMBER),
    "underscore": (ROWS.replace(",0.5\n", ",1_000\n"), NUMBER),
    "thousands": (SEMICOLONS.replace(";0.5\n", ";1,000\n"), f"{NUMBER} .* decimals or thousands"),
    "thousands alone": ("".join(f"{clip};1,{n + 100}\n" for n, clip in enumerate(CLIPS)), "decimals or thousands"),
    "commas and points": (SEMICOLONS.replace(";0.5\n", ";0,5\n"), f"{NUMBER} .* decimals or thousands"),
    "thousands by a blank": (ROWS.replace(",0.5\n", ",1 000\n"), NUMBER),
    "other digits": (ROWS.replace(",0.5\n", ",\u0663\n"), NUMBER),
    "superscript": (ROWS.replace(",0.5\n", ",10\u00b2\n"), NUMBER),
    "formula": (ROWS.replace(",0.5\n", ",=1+1\n"), NUMBER),
    "percent": (ROWS.replace(",0.5\n", ",50%\n"), NUMBER),
    "twice": (ROWS + f"{FIRST},3\n", "each clip must be scored once"),
    "twice by folders": (ROWS + f"fan\\test\\{FIRST},3\n", "each clip must be scored once"),
    "twice by accents": (
        ROWS + "".join(f"{unicodedata.normalize(form, FIRST.replace('W', 'é'))},3\n" for form in ("NFC", "NFD")),
        "each clip must be scored once",
    ),
    "escapes": (ROWS + "\x1b[31mevil\x07,1\n", "holds what is no clip"),
    "a long name": (ROWS + "a" * 5000 + ",1\n", "holds what is no clip"),
    "full-width section": (ROWS + FIRST.replace("00_", "００_", 1) + ",1\n", "holds what is no clip"),
    "another machine's folder": (f"valve/test/{FIRST},1\n", "own machine type"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_spellings_that_would_be_guesses(case: str, tmp_path: Path) -> None:
    """Each is refused in one short sentence that names the file by its path, or the clip."""
    data, said = REFUSED[case]
    with pytest.raises(BenchmarkError, match=said) as error:
        read_scores(write(tmp_path, data), YEAR)
    assert str(tmp_path / FAN) in str(error.value)
    assert len(str(error.value)) < 1500
    assert str(error.value).isprintable()


PASSED_OVER = {
    "notebook's copy": ".ipynb_checkpoints/anomaly_score_fan_section_00_test-checkpoint.csv",
    "hidden folder": ".old/" + FAN,
    "hidden below": "a/.git/b/" + FAN,
    "Mac's archive": "__MACOSX/" + FAN,
    "Mac's other half": "._" + FAN,
    "office's lock": "~$" + FAN,
    "browser's copy": FAN.replace(".csv", " (1).csv"),
    "second copy": FAN.replace(".csv", " (12).csv"),
    "Windows' copy": FAN.replace(".csv", " - Copy.csv"),
    "Windows' second copy": FAN.replace(".csv", " - Copy (2).csv"),
    "German copy": FAN.replace(".csv", " - Kopie.csv"),
    "Mac's copy": FAN.replace(".csv", " copy.csv"),
    "checkpoint beside": FAN.replace(".csv", "-checkpoint.csv"),
    "packed": FAN + ".gz",
    "text": FAN.replace(".csv", ".txt"),
    "backup": FAN + "~",
    "another front": "old_" + FAN,
    "copy in front": "Copy of " + FAN,
}


@pytest.mark.parametrize("case", PASSED_OVER)
def test_files_that_do_not_count(case: str, tmp_path: Path) -> None:
    """Beside the file that counts they are passed over with a note; alone they are named with the reason."""
    name = PASSED_OVER[case]
    found = read_scores(write(write(tmp_path / "both", ROWS), ROWS, name), YEAR)
    assert len(found.clips) == len(CLIPS)
    assert found.notes[0].startswith("1 file was passed over: ")
    assert str(tmp_path / "both" / name) in found.notes[0]
    with pytest.raises(BenchmarkError, match=r"but it holds none that counts: |is one, and there is no") as error:
        read_scores(write(tmp_path / "alone", ROWS, name), YEAR)
    assert str(tmp_path / "alone" / name) in str(error.value)


@pytest.mark.parametrize("name", [each for case, each in PASSED_OVER.items() if "copy" in case and " " in each])
def test_copies_that_differ(name: str, tmp_path: Path) -> None:
    """Which of two files counts would be a guess; a copy in front of its name is another file."""
    folder = write(write(tmp_path, ROWS), ROWS + "\n", name)
    if name.startswith("Copy of"):
        assert read_scores(folder, YEAR).notes[0].startswith("1 file was passed over")
    else:
        with pytest.raises(BenchmarkError, match=r"and their copies must hold the same, but .* differs from"):
            read_scores(folder, YEAR)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("decision_result_fan_section_00_test.csv", r"decision_result_fan_section_00_test\.csv \(its name"),
        ("scores.xlsx", r"scores\.xlsx \(its name"),
        ("a/b/fan.CSV", r"fan\.CSV \(its name"),
        ("anomaly_score_fan.csv", "names of score files must follow .* but got .*/anomaly_score_fan"),
        ("anomaly_score_fan_section_00_test\n.csv", r"names of score files must follow .*_test\\n\.csv"),
        ("anomaly_score_\x1b[31m_section_00_test.csv", r"names of score files must follow .*x1b"),
        ("anomaly_score_fan_section_００_test.csv", "names of score files must follow"),
        ("anomaly_score_FAN_section_00_test.csv", "machine types of dcase2025 are"),
    ],
)
def test_names_of_files(name: str, said: str, tmp_path: Path) -> None:
    """What is there instead of score files is named; nothing says that there was nothing."""
    with pytest.raises(BenchmarkError, match=said) as error:
        read_scores(write(tmp_path, ROWS, name), YEAR)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [FAN.replace(".csv", ".CSV"), FAN.replace("anomaly_score", "Anomaly_Score")])
def test_capitals_in_names_of_files(name: str, tmp_path: Path) -> None:
    """The front and the ending of a name may be in capitals."""
    assert len(read_scores(write(tmp_path, ROWS, name), YEAR).clips) == len(CLIPS)


def socket_at(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # paths of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


THINGS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "socket": socket_at,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "broken link": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a folder": lambda path: path.symlink_to(path.parent),
}
NO_FILE = r"must be a regular file, but is|must be a readable file, but is not"


@pytest.mark.parametrize("thing", THINGS)
def test_things_that_are_no_files(thing: str, tmp_path: Path) -> None:
    """Under the name of a score file nothing else is read, waited for, or passed over in silence."""
    THINGS[thing](tmp_path / FAN)
    write(tmp_path, ROWS.replace("m-n_W", "x"), FAN.replace("fan", "valve"))
    with pytest.raises(BenchmarkError, match=NO_FILE) as error:
        read_scores(tmp_path, YEAR)
    assert str(tmp_path / FAN) in str(error.value)


@pytest.mark.parametrize("thing", THINGS)
def test_copies_that_are_no_files(thing: str, tmp_path: Path) -> None:
    """A copy is compared with what it is a copy of; nothing is waited for there either."""
    THINGS[thing](write(tmp_path, ROWS) / FAN.replace(".csv", " (1).csv"))
    with pytest.raises(BenchmarkError, match=NO_FILE):
        read_scores(tmp_path, YEAR)


def test_a_folder_in_a_circle_is_walked_once(tmp_path: Path) -> None:
    """Links to folders are not followed, so that a circle has an end."""
    (write(tmp_path, ROWS) / "again").symlink_to(tmp_path)
    assert len(read_scores(tmp_path, YEAR).clips) == len(CLIPS)


EVAL = [f"section_00_{number:04d}.wav" for number in range(8)]
TRUTH = "".join(f"{clip},{number % 2}\n" for number, clip in enumerate(EVAL))
TRUTH_FILE = "ground_truth_AutoTrash_section_00_test.csv"


def with_truth(folder: Path, data: str | bytes, name: str = TRUTH_FILE) -> Path:
    """Write evaluation scores, a file of conditions, and one of domains."""
    write(folder, "".join(f"{clip},{n}\n" for n, clip in enumerate(EVAL)), "s/" + FAN.replace("fan", "AutoTrash"))
    domains = "".join(f"{clip},{number // 2 % 2}\n" for number, clip in enumerate(EVAL))
    write(folder, domains, f"truth/dcase2025/ground_truth_domain/{TRUTH_FILE}")
    return write(folder, data, f"truth/dcase2025/ground_truth_data/{name}")


def conditions(folder: Path) -> list[str]:
    """Return the conditions that are read."""
    found = read_scores(folder / "s", YEAR, ground_truth=folder / "truth")
    return list(found.clips["condition"])


TRUTHS: dict[str, tuple[str | bytes, str, str]] = {
    "plain": (TRUTH, TRUTH_FILE, ""),
    "semicolons": (TRUTH.replace(",", ";"), TRUTH_FILE, ""),
    "tabs": (TRUTH.replace(",", "\t"), TRUTH_FILE, ""),
    "UTF-16": (TRUTH.encode("utf-16"), TRUTH_FILE, ""),
    "byte order mark": ("\ufeff" + TRUTH, TRUTH_FILE, ""),
    "headings": ("File,Label\n" + TRUTH, TRUTH_FILE, ""),
    "trailing columns": (TRUTH.replace("\n", ",,\n"), TRUTH_FILE, ""),
    "points": (TRUTH.replace(",1", ",1.0").replace(",0\n", ",0.0\n"), TRUTH_FILE, ""),
    "backslashes": ("".join(f"AutoTrash\\test\\{row}\n" for row in TRUTH.split()), TRUTH_FILE, ""),
    "capital ending": (TRUTH, TRUTH_FILE.replace(".csv", ".CSV"), ""),
    "latin-1": ((TRUTH + "é,1\n").encode("latin-1"), TRUTH_FILE, "Latin-1"),
    "NUL": (TRUTH + "\0,1\n", TRUTH_FILE, "NUL"),
    "another label": (TRUTH.replace(",1", ",2", 1), TRUTH_FILE, "must be <name>,<0 or 1>"),
    "half": (TRUTH.replace(",1", ",0.5", 1), TRUTH_FILE, "must be <name>,<0 or 1>"),
    "one column": ("a.wav\n", TRUTH_FILE, "must be <name>,<0 or 1>"),
    "three columns": (TRUTH.replace("\n", ",x\n"), TRUTH_FILE, "must be <name>,<0 or 1>"),
    "a million columns": (",".join("0" * 1_000_000), TRUTH_FILE, "must be <name>,<0 or 1>"),
    "two truths": (TRUTH + f"{EVAL[0]},1\n", TRUTH_FILE, "stands twice with two truths"),
    "a copy alone": (TRUTH, TRUTH_FILE.replace(".csv", " (1).csv"), "must not be copies by their names"),
}


@pytest.mark.parametrize("case", TRUTHS)
def test_official_files(case: str, tmp_path: Path) -> None:
    """The official files are read in the same spellings, and refused by their paths."""
    data, name, said = TRUTHS[case]
    folder = with_truth(tmp_path, data, name)
    if not said:
        assert conditions(folder) == ["normal", "anomaly"] * 4
        return
    with pytest.raises(BenchmarkError, match=said) as error:
        conditions(folder)
    assert str(folder / "truth") in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize("name", [".ipynb_checkpoints/" + TRUTH_FILE, TRUTH_FILE.replace(".csv", " - Copy.csv")])
def test_official_files_that_do_not_count(name: str, tmp_path: Path) -> None:
    """A hidden copy, and one that holds the same, change nothing."""
    write(with_truth(tmp_path, TRUTH), TRUTH, f"truth/dcase2025/ground_truth_data/{name}")
    assert conditions(tmp_path) == ["normal", "anomaly"] * 4


@pytest.mark.parametrize("thing", THINGS)
def test_official_files_that_are_no_files(thing: str, tmp_path: Path) -> None:
    """A fifo under the name of an official file is not waited for."""
    path = with_truth(tmp_path, TRUTH) / "truth/dcase2025/ground_truth_data" / TRUTH_FILE
    path.unlink()
    THINGS[thing](path)
    with pytest.raises(BenchmarkError, match=NO_FILE):
        conditions(tmp_path)


def test_other_files_instead_of_official_ones_are_named(tmp_path: Path) -> None:
    """Where no official file is found, what is there is said."""
    write(with_truth(tmp_path, TRUTH), TRUTH, "other/labels.csv")
    with pytest.raises(BenchmarkError, match=r"holds none of them: .*labels\.csv"):
        read_scores(tmp_path / "s", YEAR, ground_truth=tmp_path / "other")


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["0,5", "12,25"], [0.5, 12.25]),
        (["1,234", "0,5"], [1.234, 0.5]),
        (["3", "0,5"], [3.0, 0.5]),
        (["-1,5e-3"], [-0.0015]),
        (["1,234"], None),
        (["1,234,567", "0,5"], None),
        (["0,5", "0.5"], None),
        (["1.234,5"], None),
    ],
)
def test_decimal_commas(texts: list[str], numbers: list[float] | None) -> None:
    """Commas are decimals where the whole column says so, and a guess otherwise."""
    found, wrong = read_column(texts)
    assert bool(wrong) == (numbers is None)
    assert numbers in (None, found)


@pytest.mark.parametrize("name", ["", " ", "\x1b[31m", "a\nb", "x" * 201])
def test_names_of_systems(name: str, tmp_path: Path) -> None:
    """A system's name goes into tables and databases; it is short and printable."""
    found = read_scores(write(tmp_path, ROWS), YEAR)
    measured = MeasuredFolder(YEAR, found, tuple(measure(found.clips, YEAR.rule)), None)  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match="--record must"):
        record_external(name, measured, places=None)  # type: ignore[arg-type]  # not reached


def test_spellings_change_no_metric(tmp_path: Path) -> None:
    """Every spelling gives the same official score, to the last bit."""
    spelled = [READ[case] for case in READ if case != "true minus"]
    scores = {
        official_score(measure(read_scores(write(tmp_path / str(n), data), YEAR).clips, YEAR.rule), YEAR.rule)
        for n, data in enumerate(spelled)
    }
    assert len(scores) == 1


def test_a_far_index_takes_no_memory(tmp_path: Path) -> None:
    """What lacks between the first and the last clip is told where it is little, and not counted where it is much."""
    far = FIRST.replace("_0000_", "_20000000_")
    assert far != FIRST
    tracemalloc.start()
    try:
        found = read_scores(write(tmp_path, ROWS + f"{far},1\n"), YEAR)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert "there is no" not in " ".join(found.notes)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_answered(data: st.DataObject) -> None:
    """Score files with some bytes changed, and any bytes at all, raise no error but ours."""
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
    whole = bytearray(data.draw(st.sampled_from([ROWS, SEMICOLONS, "a,b\n" + ROWS])).encode(encoding))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    fuzz_score_csv(data.draw(st.one_of(st.just(bytes(whole)), st.binary(max_size=200))))
