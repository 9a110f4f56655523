"""Lists of own recordings in every spelling: one row a csv with what must be answered."""

from __future__ import annotations

import os
import re
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.contract import BenchmarkError
from benchmarks.datasets.own import DATASET
from benchmarks.recordings.doctor import examine
from benchmarks.recordings.index import index_root
from tests.hostile.fuzz_recordings import fuzz_csv, spoiled_tables

HEADING = "file,machine,split,domain,condition,attribute\n"
LINES = "a/0.wav,press,train,source,normal,s1\na/1.wav,press,test,target,anomaly,\n"
LIST = HEADING + LINES
WAV = b"RIFF" + struct.pack("<I", 40) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
WAV += b"data" + struct.pack("<I", 4) + b"\1\0\2\0"


def root_with(folder: Path, content: bytes, *names: str) -> Path:
    """Make a root with recordings and the csv that lists them."""
    for name in ("a/0.wav", "a/1.wav", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(WAV)
    (folder / "list.csv").write_bytes(content)
    return folder


READ: dict[str, bytes] = {
    "plain": LIST.encode(),
    "a mark": LIST.encode("utf-8-sig"),
    "UTF-16, little": LIST.encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + LIST.encode("utf-16-be"),
    "semicolons": LIST.replace(",", ";").encode(),
    "tabs": LIST.replace(",", "\t").encode(),
    "sep=;": ("sep=;\n" + LIST.replace(",", ";")).encode(),
    "tabs in UTF-16": LIST.replace(",", "\t").encode("utf-16"),
    "capitals in the heading": (HEADING.upper() + LINES).encode(),
    "a capital each": (HEADING.title() + LINES).encode(),
    "spaces in the heading": (HEADING.replace(",", " , ") + LINES).encode(),
    "capitals in the words": LIST.replace("train", "TRAIN").replace("normal", "Normal").encode(),
    "empty columns": LIST.replace("\n", ",,,\n").encode(),
    "empty columns, semicolons": LIST.replace("\n", ",,\n").replace(",", ";").encode(),
    "Windows lines": LIST.replace("\n", "\r\n").encode(),
    "old Mac lines": LIST.replace("\n", "\r").encode(),
    "empty lines": LIST.replace("\n", "\n\n").encode(),
    "no last line end": LIST.rstrip("\n").encode(),
    "quotes": ("".join('"' + line.replace(",", '","') + '"\n' for line in LIST.splitlines())).encode(),
    "backslashes": LIST.replace("/", "\\").encode(),
    "./ in front": LIST.replace("a/", "./a/").encode(),
    "other endings": LIST.replace(".wav", ".flac").encode(),
}


@pytest.mark.parametrize("name", READ)
def test_lists_that_are_read(name: str, tmp_path: Path) -> None:
    """A list gives the same clips however it is separated, encoded and spelt."""
    clips = index_root(root_with(tmp_path, READ[name]), [DATASET])
    assert clips[["clip_id", "split", "domain", "condition"]].values.tolist() == [
        ["own/dev/press/train/a/0", "train", "source", "normal"],
        ["own/dev/press/test/a/1", "test", "target", "anomaly"],
    ]
    assert clips["attribute"].fillna("").tolist() == ["s1", ""]


def line(text: str) -> bytes:
    return (LIST + text + "\n").encode()


BAD: dict[str, tuple[bytes, str]] = {
    "Latin-1": (LIST.replace("press", "prés").encode("latin-1"), "list.csv must be text in UTF-8.*seems to be Latin-1"),
    "Shift-JIS": (LIST.replace("press", "プレス").encode("cp932"), "list.csv .*seems to be Shift-JIS"),
    "EUC-JP": (LIST.replace("press", "プレス").encode("euc_jp"), "list.csv .*seems to be EUC-JP"),
    "UTF-16 without a mark": (LIST.encode("utf-16-le"), "list.csv .*seems to be UTF-16 without one"),
    "UTF-16, cut": (LIST.encode("utf-16")[:-1], "list.csv .*seems to be UTF-16 that is damaged"),
    "UTF-32": (LIST.encode("utf-32"), "list.csv .*seems to be UTF-32"),
    "NULs": (LIST.encode() + b"a\0b", "list.csv .*holds 1 NUL bytes"),
    "no heading": (LINES.encode(), "list.csv does not count, since it lacks the column file"),
    "another heading": (LIST.replace("file", "path").encode(), "lacks the column file and has path, machine"),
    "no split": (b"file\na/0.wav\n", "lacks the column split"),
    "bars": (LIST.replace(",", "|").encode(), "lacks the column file"),
    "empty": (b"", "lacks the column file and has nothing"),
    "an open quote": (line('"a/0.wav,press'), "list.csv must be a readable csv"),
    "a huge cell": (line("a" * 200_000), "list.csv must be a readable csv"),
    "a column twice": (b"file,split,split\na/0.wav,train,train\n", "each once, but one is 'split'"),
    "a wrong column": (b"file,split,conditon\n", "one is 'conditon'. Did you mean condition"),
    "a comma too many": (line("a/0.wav,press,test,source,normal,speed 0,5"), "csv:4: lines must have at most 6 cells"),
    "above": (line("../x.wav,press,train,,,"), "csv:4: file must be a path below"),
    "above, backslashes": (line("..\\x.wav,press,train,,,"), "csv:4: file must be a path below"),
    "from the root": (line("/etc/passwd,press,train,,,"), "csv:4: file must be a path below"),
    "a drive": (line("C:\\x.wav,press,train,,,"), "csv:4: file must be a path below"),
    "a server": (line("\\\\server\\x.wav,press,train,,,"), "csv:4: file must be a path below"),
    "the folder itself": (line(".,press,train,,,"), "csv:4: file must be a path below"),
    "no file": (line(",press,train,,,"), "csv:4: file must be a path below"),
    "a folder": (line("a,press,train,,,"), "csv:4: .*/a must be a recording, but is no regular file"),
    "a name too long": (line("a" * 5000 + ".wav,press,train,,,"), r"csv:4: .*\[\.\.\.\].*File name too long"),
    "full-width digits": (line("a/０.wav,press,train,,,"), "csv:4: .* there is no such file"),
    "the same recording twice": (line("a\\0.wav,drill,train,,,"), "csv:4: recordings must be listed once.*line 2"),
    "in both splits": (line("a/0.wav,press,test,,,"), "csv:4: recordings must be listed once.*line 2"),
    "a line twice": (line("a/0.wav,press,train,,,"), "clip ids must be unique"),
    "a long machine": (line("a/2.wav," + "p" * 300 + ",train,,,"), "csv:4: machine must have at most 255"),
    "an escape": (line("a/2.wav,\x1b[31mred,train,,,"), r"csv:4: machine must have .*\\x1b"),
    "an escape in an attribute": (line("a/2.wav,m,train,,,\x07"), r"csv:4: attribute must have .*\\x07"),
    "a line break": (line('a/2.wav,"a\nb",train,,,'), r"csv:5: machine must have .*\\n"),
    "a wrong word": (line("a/2.wav,m,trian,,,"), "csv:4: split must be one of train, test.*Did you mean train"),
    "a long wrong word": (line("a/2.wav,m," + "x" * 100_000 + ",,,"), r"csv:4: split must be one of .*\[\.\.\.\]"),
    "an anomaly in training": (line("a/2.wav,m,Train,,ANOMALY,"), "csv:4: training clips must be normal"),
}


@pytest.mark.parametrize("name", BAD)
def test_lists_that_are_refused(name: str, tmp_path: Path) -> None:
    """What cannot be read without a guess is named with the file, the line and the reason, in one sentence."""
    content, words = BAD[name]
    root = root_with(tmp_path, content, "a/2.wav")
    with pytest.raises(BenchmarkError) as raised:
        index_root(root, [DATASET])
    assert re.search(words, str(raised.value)), str(raised.value)
    assert len(str(raised.value)) < 1200
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_accents_in_either_form(listed: str, stored: str, tmp_path: Path) -> None:
    """A Mac stores accents in one form of Unicode and a spreadsheet writes the other: both mean one file."""
    name = "lüfter/prüfung é.wav"
    root = root_with(tmp_path, b"", unicodedata.normalize(stored, name))
    (root / "list.csv").write_text(f"file,split\n{unicodedata.normalize(listed, name)},train\n", encoding="utf-8")
    (path,) = index_root(root, [DATASET])["path"]
    assert Path(path).is_file()


def test_a_backslash_may_be_a_letter(tmp_path: Path) -> None:
    """A name that has a backslash on disk is taken as it stands."""
    root = root_with(tmp_path, b"file,split\nx\\y.wav,train\n", "x\\y.wav", "x/y.wav")
    assert index_root(root, [DATASET])["path"].tolist() == [str(root / "x\\y.wav")]


OTHERS: dict[str, Callable[[Path], object]] = {
    "a fifo": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "Latin-1": lambda path: path.write_bytes(b"caf\xe9,1\n"),
    "of results": lambda path: path.write_bytes(b"machine,auc\n"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_csv_beside_the_list(name: str, tmp_path: Path) -> None:
    """Whatever else is called csv neither hangs nor counts."""
    root = root_with(tmp_path, LIST.encode())
    OTHERS[name](root / "aa.csv")
    assert len(index_root(root, [DATASET])) == 2


@pytest.mark.parametrize("name", OTHERS)
def test_no_list_but_another_csv(name: str, tmp_path: Path) -> None:
    """Where nothing lists the recordings, what is called csv is named with why it does not count."""
    root = root_with(tmp_path, LIST.encode())
    (root / "list.csv").unlink()
    OTHERS[name](root / "aa.csv")
    with pytest.raises(BenchmarkError, match=r"none was found\. .*aa\.csv"):
        index_root(root, [DATASET])


def test_two_lists(tmp_path: Path) -> None:
    """Two lists are an error that names both, whatever their capitals."""
    root = root_with(tmp_path, LIST.encode())
    (root / "Z.CSV").write_text(LIST.upper().replace(",", ";"))
    with pytest.raises(BenchmarkError, match=r"Z\.CSV and .*list\.csv both"):
        index_root(root, [DATASET])


@pytest.mark.parametrize("name", [".x/2.wav", "a/._0.wav", "__MACOSX/a/0.wav", "a/.ipynb_checkpoints/0.wav"])
def test_hidden_files_are_not_told_as_unlisted(name: str, tmp_path: Path) -> None:
    """What programs leave beside recordings is nobody's; a copy that the list lacks is told."""
    root = root_with(tmp_path, LIST.encode(), name, "a/0 (1).wav")
    found = [problem.path for problem in examine(root, [DATASET]).problems if problem.kind == "extra"]
    assert found == [str(root / "a/0 (1).wav")]


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled_tables())
def test_no_csv_is_another_exception(data: bytes) -> None:
    """Whatever stands in a csv, only our own errors are raised."""
    fuzz_csv(data)
