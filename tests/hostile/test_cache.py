"""Nothing in a cache is trusted: what is damaged, forged or of another kind is made anew, and nothing of it runs."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import random
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.cache import Cache
from harness.errors import HarnessError
from harness.files import make_private_folder, open_regular, read_bytes, read_text, write_whole
from labeling.clusters import Clusters
from tests.hostile.sockets import listening

RAN = Path("ran")


class Evil:
    """A pickle that leaves a file behind when it is opened."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(RAN),)


@dataclass(frozen=True)
class Kept:
    """A value as strategies and stages keep them."""

    rows: NDArray[np.float64]
    names: NDArray[np.str_]
    why: str
    seconds: Mapping[str, float]


VALUE = Kept(np.arange(6.0).reshape(2, 3), np.array(["a", "b\u00e9"]), "because", {"rank": 0.1})


def entry(folder: Path) -> Path:
    """The one entry of a cache."""
    (path,) = folder.rglob("*.npz")
    return path


def ask(folder: Path, fits: Callable[[Any], object] | None = None) -> tuple[Any, bool]:
    """Ask for the value: (what came, whether it was made anew)."""
    made: list[int] = []

    def make() -> Kept:
        made.append(1)
        return VALUE

    return Cache(folder).get("ranking", "abcd", make, of=(Kept,), fits=fits), bool(made)


def npy(array: NDArray[Any]) -> bytes:
    """An array as numpy writes it, objects too."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    """An array's file with any header."""
    line = (text + " " * (-(len(text) + 11) % 64) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + body


def members(content: bytes) -> dict[str, bytes]:
    """The files of an entry."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(files: Mapping[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", how) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content.getvalue()


def changed(**files: bytes) -> Callable[[bytes], bytes]:
    """The entry with other files in it."""
    return lambda content: zipped(members(content) | {name.replace("_", "."): body for name, body in files.items()})


def worded(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """The entry with other words."""

    def forge(content: bytes) -> bytes:
        files = members(content)
        words = json.loads(files["value.json"])
        words = change(words) or words
        return zipped(files | {"value.json": json.dumps(words).encode()})

    return forge


def fields(**values: Any) -> Callable[[bytes], bytes]:
    """The entry with other fields of its dataclass."""
    return worded(lambda words: words["value"]["fields"].update(values))


def without(name: str) -> Callable[[bytes], bytes]:
    """The entry without a file."""
    return lambda content: zipped({key: body for key, body in members(content).items() if key != name})


HUGE = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**60},), }}"
FORGED: dict[str, Callable[[bytes], bytes]] = {
    "a pickle": lambda _: pickle.dumps(Evil()),
    "a pickle after a sum": lambda _: bytes(16) + pickle.dumps(Evil()),
    "an array of objects": changed(**{"0_npy": npy(np.array([Evil()], dtype=object))}),
    "an array that is a pickle": changed(**{"0_npy": pickle.dumps(Evil())}),
    "words that are a pickle": changed(value_json=pickle.dumps(Evil())),
    "a compressed bomb": lambda content: zipped(members(content) | {"0.npy": bytes(10**8)}, zipfile.ZIP_DEFLATED),
    "an lzma bomb": lambda content: zipped(members(content) | {"0.npy": bytes(10**7)}, zipfile.ZIP_LZMA),
    "2^60 numbers announced": changed(**{"0_npy": header(HUGE, bytes(48))}),
    "fewer numbers than announced": changed(**{"0_npy": npy(VALUE.rows)[:-8]}),
    "more numbers than announced": changed(**{"0_npy": npy(VALUE.rows) + bytes(8)}),
    "a negative size": changed(**{"0_npy": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-6,), }")}),
    "sizes whose product is another": changed(
        **{"0_npy": header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62}), }}")}
    ),
    "a header that calls": changed(**{"0_npy": header("__import__('os').mkdir('ran')")}),
    "a header of nothing but brackets": changed(**{"0_npy": header("[" * 9000)}),
    "a header of objects": changed(**{"0_npy": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")}),
    "a record array": changed(**{"0_npy": npy(np.zeros(2, dtype=[("a", "f8")]))}),
    "an unknown version": changed(**{"0_npy": b"\x93NUMPY\x09\x00" + bytes(100)}),
    "texts for numbers": changed(**{"0_npy": npy(np.array(["a"]))}),
    "whole numbers for fractions": changed(**{"0_npy": npy(np.arange(6).reshape(2, 3))}),
    "a number for words": fields(why=7),
    "a list for words": fields(why={"list": []}),
    "words for an array": fields(rows="rows"),
    "an array that is not there": fields(rows={"array": 9}),
    "an array by a word": fields(rows={"array": "0"}),
    "a word in a table of numbers": fields(seconds={"dict": [["rank", "long"]]}),
    "a table of half pairs": fields(seconds={"dict": [["rank"]]}),
    "a field too many": fields(more=1),
    "another class": worded(lambda words: words["value"].update(of="Evil")),
    "a class of Python's": worded(lambda words: words["value"].update(of="Path")),
    "no class": worded(lambda words: words["value"].pop("of")),
    "an unknown word": worded(lambda words: words.update(value={"call": ["os.mkdir", "ran"]})),
    "two words": worded(lambda words: words.update(value={"list": [], "tuple": []})),
    "an empty word": worded(lambda words: words.update(value={})),
    "a bare list": worded(lambda words: words.update(value=[1])),
    "another format": worded(lambda words: words.update(format=99)),
    "another key": worded(lambda words: words.update(key="dcba")),
    "another kind": worded(lambda words: words.update(kind="latent")),
    "no words": without("value.json"),
    "no array": without("1.npy"),
    "words that are a list": worded(lambda _: [1, 2]),
    "words without end": changed(value_json=b'{"format":' + b"[" * 100_000),
    "words of 5,000 digits": changed(value_json=b'{"format":' + b"9" * 5000 + b"}"),
    "words that are no text": changed(value_json=b"\xff\xfe\x00"),
    "a name that climbs": changed(**{"../../ran": b"x"}),
    "nothing": lambda _: b"",
    "a zip's end alone": lambda content: content[-22:],
    "half": lambda content: content[: len(content) // 2],
    "all but the last byte": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "an empty archive": lambda _: zipped({}),
}


@pytest.mark.parametrize("how", FORGED)
def test_forged_entry_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """An entry that is not the value of its key is made anew, and nothing of it runs."""
    monkeypatch.chdir(tmp_path)
    ask(tmp_path / "cache")
    path = entry(tmp_path / "cache")
    good = path.read_bytes()
    path.write_bytes(FORGED[how](good))
    value, anew = ask(tmp_path / "cache")
    assert (anew, RAN.exists()) == (True, False)
    assert (value.why, path.read_bytes()) == ("because", good)
    assert ask(tmp_path / "cache")[1] is False


THINGS: dict[str, Callable[[Path], None]] = {
    "named pipe": os.mkfifo,
    "socket": listening,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: str) -> None:
    """What is no regular file is refused at once, whoever reads it, and none of it is replaced as if it were one."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have a hundred signs
    path = Path("x.json")
    THINGS[thing](path)
    for read in (read_bytes, read_text):
        with pytest.raises(HarnessError, match="A baseline must be"):
            read(path, what="A baseline")
    if "link" not in thing:
        with pytest.raises(HarnessError, match=thing.rsplit(maxsplit=1)[-1]):
            open_regular(path)
        with pytest.raises(HarnessError, match="must be a regular file"):
            write_whole(path, b"new")


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("m\u00fcll".encode("latin-1"), "0xfc at 1"),
        ("wide".encode("utf-16"), "0xff at 0"),
        (b"x" * 101, "at most 100 bytes"),
    ],
)
def test_texts_are_read_or_refused(tmp_path: Path, content: bytes, answer: str) -> None:
    """UTF-8 is read, with or without a mark; another encoding, or too much, is one sentence with the place."""
    path = tmp_path / "text"
    path.write_bytes(content)
    try:
        said = read_text(path, most=100)
    except HarnessError as error:
        said = str(error)
    assert answer in said


def test_random_damage_is_noticed(tmp_path: Path) -> None:
    """A thousand entries with a few bytes changed give the value, never an error and never another value."""
    ask(tmp_path)
    path, draw = entry(tmp_path), random.Random(0)
    good = path.read_bytes()
    for _ in range(1000):
        content = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((len(content), draw.randrange(len(content))))])
        value, _ = ask(tmp_path)
        assert dataclasses.asdict(value).keys() == dataclasses.asdict(VALUE).keys()
        assert (value.rows == VALUE.rows).all() and (value.names == VALUE.names).all()
        assert (value.why, value.seconds) == (VALUE.why, VALUE.seconds)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 2), dtype=np.float32),
        np.array([], dtype=np.str_),
        np.array(["", "\u540d", "x" * 300]),
        np.array([True, False]),
        np.array([np.nan, np.inf, -0.0]),
        np.float64(0.1),
        np.int64(2**62),
        (np.arange(3, dtype=np.int32), np.zeros(3)),
        {"a.png": b"\x89PNG\x00", "b": b""},
        [1, 0.1, True, None, "w\u00f6rd", {"deep": (1, [2])}],
        Clusters(np.zeros(2, dtype=np.int64), np.zeros((2, 1)), np.zeros((1, 1))),
    ],
)
def test_value_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    """What is kept comes back with its types, its order in memory and its last bit, and may be written to."""
    cache = Cache(tmp_path)
    cache.put("kind", "abcd", value, of=(Clusters,))
    found = cache.find("kind", "abcd", of=(Clusters,))
    assert repr(found) == repr(value)
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        assert (found.dtype, found.strides, found.flags.writeable) == (value.dtype, value.strides, True)
        assert found.tobytes("A") == value.tobytes("A")


def test_what_cannot_be_kept_is_made_each_time(tmp_path: Path) -> None:
    """A value of a class that nobody named, or with objects in it, is given back and leaves no entry."""
    cache = Cache(tmp_path)
    for number, value in enumerate((VALUE, np.array([None]), {1: 2}, Path("x"))):
        assert cache.get("kind", f"{number}bcd", lambda value=value: value) is value
    assert not list(tmp_path.rglob("*.npz"))


def test_value_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    """A kept value that is not what was asked for, or fails when it is looked at, is made anew."""
    ask(tmp_path)
    assert ask(tmp_path, lambda kept: len(kept.rows) == 2)[1] is False
    assert ask(tmp_path, lambda kept: len(kept.rows) == 3)[1] is True
    assert ask(tmp_path, lambda kept: kept.nothing)[1] is True


def test_pickles_of_earlier_versions_stay_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of an earlier version is neither read nor run; it makes room like any other."""
    monkeypatch.chdir(tmp_path)
    cache = Cache(tmp_path)
    (tmp_path / "ranking" / "ab").mkdir(parents=True)
    old = tmp_path / "ranking" / "ab" / "abcd.pkl"
    old.write_bytes(pickle.dumps(Evil()) + bytes(5000))
    os.utime(old, (0, 0))
    assert ask(tmp_path)[1] is True
    cache.put("ranking", "abce", np.zeros(10), most_bytes=4000)
    assert (old.exists(), RAN.exists()) == (False, False)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o002])
def test_ours_is_private(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, what a cache makes is its owner's alone; a folder that was there keeps its rights."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(0o755)
    before = os.umask(umask)
    try:
        ask(tmp_path / "wide" / "new" / "cache")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "wide").rglob("*")}
    assert modes == {0o700, 0o600}
    assert stat.S_IMODE((tmp_path / "wide").stat().st_mode) == 0o755


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_shared_folder_stays_the_groups(tmp_path: Path, umask: int) -> None:
    """In a folder that somebody made its group's, what is made is the group's too, and nobody else's."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    before = os.umask(umask)
    try:
        ask(shared / "cache")
    finally:
        os.umask(before)
    modes = {(each.is_dir(), stat.S_IMODE(each.stat().st_mode)) for each in shared.rglob("*")}
    assert modes == {(True, 0o2770), (False, 0o660)}


def test_file_that_was_asked_for_has_the_umasks_rights(tmp_path: Path) -> None:
    """A report or table that somebody names has the rights that the umask leaves, so that it can be handed on."""
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "report.html", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o644
    assert make_private_folder(tmp_path) == tmp_path
