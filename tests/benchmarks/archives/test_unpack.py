from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks.archives import unpack as room
from benchmarks.archives.unpack import BrokenArchiveError, unpack
from benchmarks.contract import BenchmarkError

GOOD = {"fan/train/a.wav": b"a" * 50, "fan/train/b.wav": b"b" * 60, "fan/attributes_00.csv": b"file_name\n"}


def make_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_unpacked_stands_in_its_place(tmp_path: Path) -> None:
    """The members stand below the folder, nothing else does, and what a Mac adds is passed over."""
    archive = make_zip(tmp_path / "x.zip", {**GOOD, "__MACOSX/fan/._a.wav": b"x", "fan/.DS_Store": b"y"})
    assert unpack(archive, tmp_path / "raw", machine="fan") == ("attributes_00.csv", "train")
    assert contents(tmp_path / "raw") == GOOD


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../escaped.wav", "must stay in their folder"),
        ("fan/../../escaped.wav", "must stay in their folder"),
        ("/etc/escaped.wav", "must stay in their folder"),
        ("fan\\..\\escaped.wav", "must stay in their folder"),
        ("C:/escaped.wav", "must stay in their folder"),
        ("valve/train/escaped.wav", "must unpack to fan/"),
        ("fan", "must stand in fan/ once"),
    ],
)
def test_members_that_leave_their_folder_are_refused(name: str, words: str, tmp_path: Path) -> None:
    """An archive with a path to elsewhere is refused, and nothing of it is written anywhere."""
    archive = make_zip(tmp_path / "x.zip", {**GOOD, name: b"x"})
    with pytest.raises(BenchmarkError, match=words):
        unpack(archive, tmp_path / "deep" / "raw", machine="fan")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]


def with_link(path: Path) -> Path:
    member = zipfile.ZipInfo("fan/train/link.wav")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return path


def with_doubles(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for data in (b"one", b"two"):
            archive.writestr("fan/train/a.wav", data)
    return path


def bomb(path: Path) -> Path:
    return make_zip(path, {"fan/train/a.wav": bytes(30_000_000)})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_link, "link or device"),
        (with_doubles, "must stand in fan/ once"),
        (bomb, "must unpack to at most"),
        (lambda path: make_zip(path, {}), "must hold files of fan"),
    ],
    ids=["link", "doubles", "bomb", "empty"],
)
def test_other_unsafe_archives_are_refused(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    """Links, a name twice, a zip bomb and an archive without recordings are refused."""
    archive = make(tmp_path / "x.zip")
    with pytest.raises(BenchmarkError, match=words):
        unpack(archive, tmp_path / "raw", machine="fan")
    assert contents(tmp_path / "raw") == {}


def test_damaged_archives_are_refused_whole(tmp_path: Path) -> None:
    """Of an archive with a wrong byte, or with its end missing, nothing is left behind."""
    good = make_zip(tmp_path / "x.zip", {name: data * 40 for name, data in GOOD.items()}).read_bytes()
    for number, data in enumerate((good[:60] + bytes([good[60] ^ 255]) + good[61:], good[:-30], b"not a zip")):
        archive = tmp_path / f"{number}.zip"
        archive.write_bytes(data)
        with pytest.raises(BrokenArchiveError):
            unpack(archive, tmp_path / "raw", machine="fan")
        assert contents(tmp_path / "raw") == {}


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for what would be unpacked nothing is."""
    archive = make_zip(tmp_path / "x.zip", GOOD)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(BenchmarkError, match=r"needs 120 bytes to unpack, but .* has 10 left"):
        unpack(archive, tmp_path / "raw", machine="fan")


def test_what_stands_there_must_be_the_same(tmp_path: Path) -> None:
    """After a kill between two moves the rest is moved; other files are never overwritten."""
    archive = make_zip(tmp_path / "x.zip", GOOD)
    unpack(archive, tmp_path / "raw", machine="fan")
    (tmp_path / "raw" / "fan" / "attributes_00.csv").unlink()
    unpack(archive, tmp_path / "raw", machine="fan")
    assert contents(tmp_path / "raw") == GOOD
    (tmp_path / "raw" / "fan" / "train" / "a.wav").write_bytes(b"mine")
    with pytest.raises(BenchmarkError, match="fan/train must not be there before it is unpacked"):
        unpack(archive, tmp_path / "raw", machine="fan")
    assert (tmp_path / "raw" / "fan" / "train" / "a.wav").read_bytes() == b"mine"
