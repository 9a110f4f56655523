"""Archives, servers, records and disks that are not as they should be: one row an input, and what is answered."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.archives import connection
from benchmarks.archives import download as room
from benchmarks.archives.download import STORE, download
from benchmarks.archives.unpack import BrokenArchiveError, RefusedArchiveError, clear_leftovers, unpack
from benchmarks.contract import Archive, BenchmarkError, Dataset
from benchmarks.datasets import dcase2025
from benchmarks.synthetic.generator import generate
from tests.hostile.fuzz_archives import fuzz_zip
from tests.hostile.zips import (
    CHAR,
    DEVICE,
    FIFO,
    GOOD,
    LINK,
    NOISE,
    SOCKET,
    central,
    damaged,
    overlapping,
    patched,
    special,
    zip_by,
    zip_of,
)

ZIP = zip_of()
NAME = "dev_fan.zip"
STORED, DEFLATED, BZIP2, LZMA = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA


def beside(name: str) -> bytes:
    """Return a good archive with one more member."""
    return zip_of({**GOOD, name: b"x"})


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "up": (beside("../x"), "must stay in their folder"),
    "up inside": (beside("fan/../../x"), "must stay in their folder"),
    "up at the end": (beside("fan/.."), "must stay in their folder"),
    "absolute": (beside("/tmp/x"), "must stay in their folder"),
    "two slashes": (beside("//tmp/x"), "must stay in their folder"),
    "backslash": (beside("fan\\..\\..\\x"), "must stay in their folder"),
    "drive": (beside("C:/x"), "must stay in their folder"),
    "stream": (beside("fan/a.wav:x"), "must stay in their folder"),
    "NUL in a name": (beside("fan/aXb").replace(b"aXb", b"a\0b"), "must stay in their folder"),
    "another machine": (beside("valve/a.wav"), "must unpack to fan/"),
    "other capitals": (beside("Fan/a.wav"), "must unpack to fan/"),
    "escape": (beside("fan/\x1b[31m.wav"), "no control characters, but .*x1b"),
    "line break": (beside("fan/a\nb.wav"), "no control characters, but"),
    "right to left": (beside("fan/\u202evaw.wav"), "no control characters, but"),
    "link": (special(LINK), "a link or device"),
    "device": (special(DEVICE), "a link or device"),
    "character device": (special(CHAR), "a link or device"),
    "fifo": (special(FIFO), "a link or device"),
    "socket": (special(SOCKET), "a link or device"),
    "link as a folder": (special(LINK, "fan/train/"), "a link or device"),
    "twice": (zip_by(lambda z: [z.writestr("fan/a", each) for each in "xy"]), "must stand in fan/ once"),
    "twice by a dot": (zip_of({"fan/a": b"x", "fan/./a": b"y"}), "must stand in fan/ once"),
    "twice by a slash": (zip_of({"fan/a": b"x", "fan//a": b"y"}), "must stand in fan/ once"),
    "machine as a file": (zip_of({"fan": b"x"}), "must stand in fan/ once"),
    "file then folder": (zip_of({"fan/train": b"x", "fan/train/a": b"y"}), "'fan/train' as both"),
    "folder then file": (zip_of({"fan/train/a": b"x", "fan/train": b"y"}), "'fan/train' as both"),
    "empty folder and file": (zip_of({"fan/train/": b"", "fan/train": b"y"}), "'fan/train' as both"),
    "file deep below": (zip_of({"fan/a": b"x", "fan/a/b/c/d": b"y"}), "'fan/a' as both"),
    "name of 256 bytes": (beside("fan/" + "a" * 256), "at most 255 bytes, and 4,096 with their folders"),
    "name of 86 signs": (beside("fan/" + "é" * 128), "at most 255 bytes"),
    "path of 5,000 bytes": (beside("fan/" + "/".join(["a" * 99] * 50)), "at most 255 bytes, and 4,096"),
    "encrypted": (central(8, b"\1\0"), "must not be encrypted"),
    "unknown method": (central(10, b"\x63\0"), "must be whole zip files"),
    "newer than zipfile": (central(6, b"\xff\0"), "must be whole zip files"),
    "broken deflate": (damaged(DEFLATED), "must be whole zip files"),
    "broken bzip2": (damaged(BZIP2), "must be whole zip files"),
    "broken lzma": (damaged(LZMA), "must be whole zip files"),
    "wrong sum": (ZIP.replace(b"aaaa", b"aaba", 1), "must be whole zip files, but .*Bad CRC-32"),
    "name in front differs": (ZIP.replace(b"a.wav", b"c.wav", 1), "must be whole zip files"),
    "half": (ZIP[: len(ZIP) // 2], "must be whole zip files"),
    "end lost": (ZIP[:-30], "must be whole zip files"),
    "page of an error": (b"<html>busy</html>" * 50, "must be whole zip files"),
    "nothing": (b"", "must be whole zip files"),
    "end alone with lies": (patched(ZIP, b"PK\5\6", 12, b"\xff\xff\xff\x7f"), "must be whole zip files"),
    "directory elsewhere": (patched(ZIP, b"PK\5\6", 16, b"\xff\xff\xff\x7f"), "must be whole zip files"),
    "member elsewhere": (central(42, b"\xff\xff\xff\x0f"), "must be whole zip files|overlap"),
    "bad field": (central(30, b"\x09\0"), "must be whole zip files"),
    "bomb": (zip_of({"fan/a.wav": bytes(3_000_000)}, DEFLATED), "must unpack to at most"),
    "size of 4 GB": (central(24, b"\xfe\xff\xff\xff"), "must unpack to at most"),
    "bomb that lies": (
        central(24, struct.pack("<I", 9), zip_of({"fan/a.wav": bytes(500_000)}, DEFLATED)), "must be whole zip files",
    ),
    "shorter than said": (central(24, struct.pack("<I", 61)), "must be whole zip files|shorter than it announces"),
    "overlapping": (overlapping(), "have bytes of their own, but those of .* overlap"),
    "no members": (zip_of({}), "must hold files of fan"),
    "Mac's alone": (zip_of({"__MACOSX/fan/._a.wav": b"x"}), "must hold files of fan"),
    "folders alone": (zip_of({"fan/": b"", "fan/train/": b""}), "must hold files of fan"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(case: str, tmp_path: Path) -> None:
    """Each is refused in a sentence, and nothing of it stands anywhere."""
    data, said = ARCHIVES[case]
    archive = tmp_path / "x.zip"
    archive.write_bytes(data)
    with pytest.raises(RefusedArchiveError, match=said) as error:
        unpack(archive, tmp_path / "deep" / "raw", machine="fan")
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [archive]


def test_a_bound_on_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of more files than any official one is refused by their number."""
    monkeypatch.setattr("benchmarks.archives.members.MOST_MEMBERS", 1)
    (tmp_path / "x.zip").write_bytes(ZIP)
    with pytest.raises(RefusedArchiveError, match=r"at most 1 files, but .* has 2 members"):
        unpack(tmp_path / "x.zip", tmp_path / "raw", machine="fan")


@pytest.mark.parametrize("method", [STORED, DEFLATED, BZIP2, LZMA])
def test_good_archives(method: int, tmp_path: Path) -> None:
    """What is whole is unpacked, however it is packed; names of other alphabets stay as they are."""
    (tmp_path / "x.zip").write_bytes(zip_of({"fan/train/é.wav": NOISE, "fan/b": b""}, method))
    assert unpack(tmp_path / "x.zip", tmp_path / "raw", machine="fan") == ("b", "train")
    assert (tmp_path / "raw/fan/train/é.wav").read_bytes() == NOISE


@pytest.mark.parametrize("kind", ["file", "link", "broken link", "file inside", "link inside", "folder inside"])
def test_things_in_the_way(kind: str, tmp_path: Path) -> None:
    """Recordings are not written through links of others, and nothing that stands there is lost."""
    (tmp_path / "x.zip").write_bytes(ZIP)
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    raw.mkdir()
    elsewhere.mkdir()
    place = raw / "fan" / "train" if kind.endswith("inside") else raw / "fan"
    place.parent.mkdir(exist_ok=True)
    if kind.startswith("file"):
        place.write_text("mine")
    elif kind.startswith("folder"):
        (place / "a.wav").mkdir(parents=True)
    else:
        place.symlink_to("/nowhere" if kind.startswith("broken") else elsewhere)
    with pytest.raises(BenchmarkError, match=r"must be a folder or not be there|must not be there before") as error:
        unpack(tmp_path / "x.zip", raw, machine="fan")
    assert not isinstance(error.value, RefusedArchiveError)
    assert not list(elsewhere.iterdir())
    assert not list(raw.glob(".unpacking*"))
    assert place.read_text() == "mine" if kind.startswith("file") else os.path.lexists(place)


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "/dev/zero"])
def test_archives_that_are_no_files(kind: str, tmp_path: Path) -> None:
    """A fifo is not waited for, a device not read."""
    path = tmp_path / "x.zip"
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "missing": lambda: None}.get(
        kind, lambda: path.symlink_to(kind)
    )()
    with pytest.raises(BenchmarkError, match=r"must be a regular file|must be a readable file"):
        unpack(path, tmp_path / "raw", machine="fan")


def test_leftovers_of_the_dead_are_cleared(tmp_path: Path) -> None:
    """Folders of killed unpackings go; those that a process holds, links, files and other names stay."""
    for name in (f".unpacking-{NAME}", f".unpacking-{NAME}-abc", f".unpacking-{NAME}-live", ".unpacking-notes"):
        (tmp_path / name / "fan").mkdir(parents=True)
    (tmp_path / f".unpacking-{NAME}-link").symlink_to(tmp_path / ".unpacking-notes")
    (tmp_path / f".unpacking-{NAME}-file").write_text("mine")
    handle = os.open(tmp_path / f".unpacking-{NAME}-live", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    clear_leftovers(tmp_path, [NAME])
    os.close(handle)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f".unpacking-{NAME}-{end}" for end in ("live", "link", "file")} | {".unpacking-notes"}
    clear_leftovers(tmp_path, [NAME])
    assert not (tmp_path / f".unpacking-{NAME}-live").exists()


Answer = Callable[[BaseHTTPRequestHandler], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the row of a table says."""

    protocol_version = "HTTP/1.1"
    answer: Answer

    def do_GET(self) -> None:
        type(self).answer(self)

    do_HEAD = do_GET  # noqa: N815 - the name that the standard library looks for

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The address of a server on this machine."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are no news
    served.daemon_threads = True
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TIMEOUT_SECONDS", (1.0, 1.0))


def send(body: bytes = ZIP, *, status: int = 200, length: str | None = "", more: bytes = b"", **headers: str) -> Answer:
    """Return an answer with a body; `length` is announced instead of its own, None announces none."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if length is not None:
            request.send_header("Content-Length", length or str(len(body)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        if request.command == "GET":
            request.wfile.write(body + more)

    return answer


def on_get(get: Answer, head: Answer | None = None) -> Answer:
    """Return an answer that is another one to HEAD."""
    return lambda request: (get if request.command == "GET" else head or send())(request)


def raw(data: bytes, *, times: int = 1, pause: float = 0.0) -> Answer:
    """Return an answer of any bytes."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        for _ in range(times):
            request.wfile.write(data)
            request.wfile.flush()
            time.sleep(pause)

    return answer


def to(address: str) -> Answer:
    """Return a redirection."""
    return send(b"", status=302, Location=address)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ZIP)
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH, ADDRESS = "must announce its size as one number", "no address that can be asked"

SERVERS: dict[str, tuple[Answer, str]] = {
    "length no number": (send(length="abc"), LENGTH),
    "length negative": (send(length="-5"), LENGTH),
    "length zero": (send(length="0"), LENGTH),
    "length huge": (send(length="9" * 30), LENGTH),
    "length of 5,000 digits": (send(length="9" * 5000), LENGTH),
    "length a fraction": (send(length="1.5"), LENGTH),
    "length hexadecimal": (send(length="0x10"), LENGTH),
    "length over the bound": (send(length=str(connection.MOST_BYTES + 1)), LENGTH),
    "length two": (send(length="100, 200"), f"{LENGTH}|must answer"),
    "length twice": (send(length="100", Content_Length="200"), f"{LENGTH}|must answer|{ADDRESS}"),
    "length escapes": (send(length="\x1b[31m"), LENGTH),
    "to a file": (to("file:///etc/passwd"), ADDRESS),
    "to ftp": (to("ftp://127.0.0.1/x"), ADDRESS),
    "to data": (to("data:,x"), ADDRESS),
    "to a bracket": (to("http://[::bad"), ADDRESS),
    "to no host": (to("http://"), ADDRESS),
    "to a port over 65,535": (to("http://127.0.0.1:99999/"), ADDRESS),
    "to a port of letters": (to("http://127.0.0.1:x/"), ADDRESS),
    "to a label of 70": (to(f"http://{'a' * 70}.invalid/"), f"{ADDRESS}|must answer"),
    "to itself": (to("/x"), ADDRESS),
    "to nowhere": (send(b"", status=302, length="5"), "must answer"),
    "not there": (send(b"", status=404), "must exist"),
    "gone": (send(b"", status=410), "must exist"),
    "busy": (send(b"", status=503), "must answer"),
    "no content": (raw(b"HTTP/1.1 204 No\r\n\r\n"), "must answer"),
    "reason with escapes": (raw(b"HTTP/1.1 404 \x1b[31mred\r\nContent-Length: 0\r\n\r\n"), "must exist"),
    "packed once more": (send(Content_Encoding="gzip"), "packs it once more"),
    "more than announced": (on_get(send(length=None, more=b"x")), "at most the [0-9,]+ bytes that it announced"),
    "less than announced": (on_get(send(ZIP[:50], length=None)), "must answer"),
    "cut short": (on_get(send(ZIP[:50], length=str(len(ZIP)))), "must answer"),
    "part unasked for": (on_get(send(status=206, Content_Range="bytes 5-9/10")), "got another range"),
    "part without a range": (on_get(send(status=206)), "got another range"),
    "no such range": (on_get(send(b"", status=416)), "must answer"),
    "garbage": (raw(b"garbage\r\n\r\n"), "must answer"),
    "hangs up": (raw(b""), "must answer"),
    "long header": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"), "must answer"),
    "many headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n"), "must answer"),
    "continue for ever": (raw(b"HTTP/1.1 100 Continue\r\n\r\n", times=400, pause=0.005), "must answer"),
    "head by drops": (raw(b"X", times=100, pause=0.05), "must answer"),
    "silence": (lambda _: time.sleep(0.6), "must answer"),
    "body by drops": (on_get(lambda r: (raw(HEAD)(r), raw(b"x", times=60, pause=0.05)(r))), "must answer"),
    "chunks by drops": (on_get(lambda r: (raw(CHUNKS)(r), raw(b"1\r\nx\r\n", times=60, pause=0.05)(r))), "must answer"),
    "chunk size by drops": (on_get(lambda r: (raw(CHUNKS)(r), raw(b"0", times=60, pause=0.05)(r))), "must answer"),
    "bad chunk": (on_get(raw(CHUNKS + b"zz\r\nx\r\n")), "must answer"),
    "page instead": (send(b"<html>" * 9), "must be whole zip files, but .* set aside as dev_fan.zip.refused"),
    "unsafe": (send(beside("../x")), "must stay .* set aside as dev_fan.zip.refused; the next call downloads it"),
}


def year(md5: str | None = None) -> Dataset:
    """Return a year of one archive."""
    return replace(dcase2025.DATASET, archives=(Archive(1, NAME, "fan", "dev", md5),))


def fetch(root: Path, base: str, answer: Answer, *, md5: str | None = None) -> bool:
    """Download from the server; tell whether the archive was fetched."""
    Handler.answer = staticmethod(answer)  # type: ignore[assignment]  # not bound: a row of the table
    return download(year(md5), root, base_url=base, tries=2, pause=0.001)[0].fetched


SLOW_ONES = ("head by drops", "continue for ever")  # they wait until the reader has had enough


@pytest.mark.parametrize(
    "case", [pytest.param(each, marks=pytest.mark.slow) if each in SLOW_ONES else each for each in SERVERS]
)
def test_servers(case: str, base: str, tmp_path: Path) -> None:
    """Each is answered in a sentence, nothing is unpacked, and the next call succeeds when the server is well again."""
    answer, said = SERVERS[case]
    with pytest.raises(BenchmarkError, match=said) as error:
        fetch(tmp_path, base, answer)
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()
    assert not list(tmp_path.rglob("*.wav"))
    store = tmp_path / "dcase2025t2" / STORE
    assert sum(path.stat().st_size for path in store.iterdir()) < 10_000
    assert not (store / NAME).exists()
    if NAME + ".part" in os.listdir(store):  # noqa: PTH208 - a name is looked for
        (store / f"{NAME}.part").unlink()  # a wrong server's bytes cost a copy, which other tests cover
    assert fetch(tmp_path, base, send(), md5=hashlib.md5(ZIP).hexdigest())


@pytest.mark.parametrize(
    "answer",
    [
        send(),
        send(length=None),
        on_get(send(), send(b"", status=405)),
        on_get(raw(CHUNKS + b"%x\r\n" % len(ZIP) + ZIP + b"\r\n0\r\n\r\n"), raw(CHUNKS)),
        send(Content_Encoding="identity"),
        send(length=f"{len(ZIP)}, {len(ZIP)}"),
    ],
    ids=["plain", "no length", "no HEAD", "chunks", "identity", "length said twice alike"],
)
def test_servers_that_are_only_odd(answer: Answer, base: str, tmp_path: Path) -> None:
    """What can be read without guessing is."""
    assert fetch(tmp_path, base, answer)
    assert not fetch(tmp_path, base, answer)


MACHINES = ("fan", "gearbox", "valve")


def several(failing: dict[str, Answer], asked: list[str] | None = None) -> Answer:
    """Return an answer that is each machine type's own archive, but for some."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        machine = request.path.rpartition("/")[2].removeprefix("dev_").removesuffix(".zip")
        if asked is not None:
            asked.append(machine)
        mine = zip_of({name.replace("fan/", f"{machine}/"): data for name, data in GOOD.items()})
        failing.get(machine, send(mine))(request)

    return answer


def fetch_several(root: Path, base: str, answer: Answer, **options: Any) -> list[str]:
    """Download three archives; return the machine types that were fetched."""
    Handler.answer = staticmethod(answer)  # type: ignore[assignment]  # not bound: a row of the table
    archives = tuple(Archive(1, f"dev_{machine}.zip", machine, "dev", None) for machine in MACHINES)
    dataset = replace(dcase2025.DATASET, archives=archives)
    done = download(dataset, root, base_url=base, pause=0.001, **{"tries": 2, **options})
    return [each.machine for each in done if each.fetched]


BAD: dict[str, Answer] = {
    "not there": send(b"", status=404),
    "there by HEAD alone": on_get(send(b"", status=404)),
    "busy": send(b"", status=503),
    "a page": send(b"<html>busy</html>" * 9),
    "unsafe": send(beside("../x")),
    "another machine's": send(ZIP),
    "of no size": send(length="0"),
    "leads nowhere": to("http://[::bad"),
    "more than announced": on_get(send(length=None, more=b"x")),
    "hangs up": raw(b""),
}


@pytest.mark.parametrize("which", [("fan",), ("gearbox",), ("valve",), ("gearbox", "valve")])
@pytest.mark.parametrize("case", BAD)
def test_one_archive_that_fails_keeps_no_other_away(
    case: str, which: tuple[str, ...], base: str, tmp_path: Path
) -> None:
    """The others are brought, the failed ones named at the end, and the next call brings these alone."""
    if case == "another machine's" and "fan" in which:
        pytest.skip("of the fan it is the right one")
    with pytest.raises(BenchmarkError, match=f"All of 3 archives must come .* {len(which)} failed: ") as error:
        fetch_several(tmp_path, base, several(dict.fromkeys(which, BAD[case])))
    assert len(str(error.value)) < 600
    raw_folder = tmp_path / dcase2025.DATASET.folder / "dev_data" / "raw"
    for machine in MACHINES:
        assert (f"dev_{machine}.zip" in str(error.value).partition(";")[0]) is (machine in which)
        assert (raw_folder / machine).is_dir() is (machine not in which)
    assert fetch_several(tmp_path, base, several({})) == sorted(which)


def test_a_full_disk_ends_a_download_at_once(base: str, tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    """Where the folder takes no more, no further archive is asked for."""
    asked: list[str] = []
    full_disk(100)
    with pytest.raises(BenchmarkError, match="must have room"):
        fetch_several(tmp_path, base, several({}, asked))
    assert asked == [*MACHINES, "fan"]  # their sizes, and the first one


def test_a_server_that_is_down_is_waited_for_once(base: str, tmp_path: Path) -> None:
    """Tries with growing pauses are spent on the first archive; of the others each is asked for once."""
    asked: list[str] = []
    with pytest.raises(BenchmarkError, match=r"3 failed: dev_fan\.zip, dev_gearbox\.zip, dev_valve\.zip"):
        fetch_several(tmp_path, base, several(dict.fromkeys(MACHINES, raw(b"")), asked), tries=5)
    assert asked == [*["fan"] * 5, "gearbox", "valve"]


def test_without_an_announcement_the_record_bounds_a_download(base: str, tmp_path: Path) -> None:
    """A server that announces nothing and sends without end is cut off at the size that was recorded, or the bound."""
    assert fetch(tmp_path, base, send())
    (tmp_path / "dcase2025t2/dev_data/raw/fan/train").rename(tmp_path / "away")
    with pytest.raises(BenchmarkError, match=f"at most the {len(ZIP):,} bytes .* announced no size, but sends more"):
        fetch(tmp_path, base, send(ZIP + bytes(500_000), length=None))
    assert not list(tmp_path.rglob("*.part"))


def test_a_part_that_nobody_goes_on_with_is_fetched_anew(base: str, tmp_path: Path) -> None:
    """A server that answers every range wrongly is asked for the whole archive."""
    store = tmp_path / "dcase2025t2" / STORE
    store.mkdir(parents=True)
    (store / f"{NAME}.part").write_bytes(ZIP[:50])

    def answer(request: BaseHTTPRequestHandler) -> None:
        (send(b"x", status=206, Content_Range="bytes 0-0/9") if request.headers.get("Range") else send())(request)

    assert fetch(tmp_path, base, answer)


@pytest.mark.parametrize("name", [NAME, f"{NAME}.part"])
@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_things_in_the_place_of_a_download(name: str, kind: str, base: str, tmp_path: Path) -> None:
    """Nothing is written through a link, a fifo is not waited for, and what stands there stays."""
    place = tmp_path / "dcase2025t2" / STORE / name
    place.parent.mkdir(parents=True)
    {"folder": place.mkdir, "link": lambda: place.symlink_to(tmp_path / "x"), "fifo": lambda: os.mkfifo(place)}[kind]()
    with pytest.raises(BenchmarkError, match=f"{name} must be a file of its own, or not be there, but it is"):
        fetch(tmp_path, base, send())
    assert os.path.lexists(place)
    assert not (tmp_path / "x").exists()


SUMS = {"md5": "0" * 32, "sha256": "0" * 64}
ENTRY = {"record": 1, "bytes": 5, **SUMS, "unpacked": ["train"]}
ENTRY_RULE = "must say record, bytes, md5, sha256 and unpacked"
RECORDS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{bad", "but it is damaged"),
    "empty": (b"", "but it is damaged"),
    "list": (b"[1]", "must be a JSON object .* holds a list"),
    "number": (b"5", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "number of 5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "but it is damaged"),
    "nested": (b"[" * 100_000, "but it is damaged"),
    "latin-1": (b'{"\xe9": 1}', "must be text in UTF-8"),
    "entry a number": (json.dumps({NAME: 5}).encode(), ENTRY_RULE),
    "entry empty": (json.dumps({NAME: {}}).encode(), ENTRY_RULE),
    "size a text": (json.dumps({NAME: {**ENTRY, "bytes": "5"}}).encode(), ENTRY_RULE),
    "size negative": (json.dumps({NAME: {**ENTRY, "bytes": -5}}).encode(), ENTRY_RULE),
    "size NaN": (json.dumps({NAME: {**ENTRY, "bytes": float("nan")}}).encode(), ENTRY_RULE),
    "size true": (json.dumps({NAME: {**ENTRY, "bytes": True}}).encode(), ENTRY_RULE),
    "record a text": (json.dumps({NAME: {**ENTRY, "record": "1"}}).encode(), ENTRY_RULE),
    "sum too short": (json.dumps({NAME: {**ENTRY, "sha256": "abc"}}).encode(), ENTRY_RULE),
    "sum a number": (json.dumps({NAME: {**ENTRY, "md5": 1}}).encode(), ENTRY_RULE),
    "names a text": (json.dumps({NAME: {**ENTRY, "unpacked": "train"}}).encode(), ENTRY_RULE),
    "name elsewhere": (json.dumps({NAME: {**ENTRY, "unpacked": ["../../etc"]}}).encode(), ENTRY_RULE),
    "name too long": (json.dumps({NAME: {**ENTRY, "unpacked": ["a" * 300]}}).encode(), ENTRY_RULE),
    "name with NUL": (json.dumps({NAME: {**ENTRY, "unpacked": ["a\0"]}}).encode(), ENTRY_RULE),
    "escape in a name": (json.dumps({"\x1b[31m": 5}).encode(), ENTRY_RULE),
}


@pytest.mark.parametrize("case", RECORDS)
def test_records(case: str, base: str, tmp_path: Path) -> None:
    """A record that no download wrote is refused by its path, not forgotten; it stays as it was."""
    data, said = RECORDS[case]
    path = tmp_path / "dcase2025t2" / STORE / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(BenchmarkError, match=f"manifest.json .*{said}") as error:
        fetch(tmp_path, base, send())
    assert str(error.value).isprintable()
    assert path.read_bytes() == data


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero", "/nowhere"])
def test_records_that_are_no_files(kind: str, base: str, tmp_path: Path) -> None:
    """A fifo is not waited for, a device not read, a broken link not taken for no record."""
    path = tmp_path / "dcase2025t2" / STORE / "manifest.json"
    path.parent.mkdir(parents=True)
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir}.get(kind, lambda: path.symlink_to(kind))()
    with pytest.raises(BenchmarkError, match=r"must be a regular file|must be a readable file"):
        fetch(tmp_path, base, send())


def in_the_way(root: Path, place: str) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    return root


PLACES: dict[str, Callable[[Path], Path]] = {
    "a file as the root": lambda root: in_the_way(root, "x") / "x",
    "a file above the root": lambda root: in_the_way(root, "x") / "x" / "y",
    "a file as the year": lambda root: in_the_way(root, "dcase2025t2"),
    "a file as the part": lambda root: in_the_way(root, "dcase2025t2/dev_data/raw"),
    "proc": lambda _: Path("/proc/nowhere"),
    "a name of 300": lambda root: root / ("a" * 300),
    "a path of 5,000": lambda root: root / "/".join(["a" * 200] * 25),
    "links in a circle": lambda root: ((root / "a").symlink_to(root / "a"), root / "a")[1],
    "no such user": lambda _: Path("~nobody-of-this-name/x"),
    "NUL": lambda root: root / "a\0b",
    "escapes": lambda root: in_the_way(root, "\x1b[31m") / "\x1b[31m",
}


@pytest.mark.parametrize("verb", ["download", "generate"])
@pytest.mark.parametrize("place", PLACES)
def test_places_that_cannot_be_written(place: str, verb: str, base: str, tmp_path: Path) -> None:
    """One sentence names the place, and what stands in the way is not lost."""
    root = PLACES[place](tmp_path)
    with pytest.raises(BenchmarkError, match=r"folder|must be empty or generated") as error:
        if verb == "download":
            fetch(root, base, send())
        else:
            generate(root, dcase2025.DATASET, machines=["fan"], train_source=1, train_target=0, test_per_cell=1)
    assert str(error.value).isprintable()
    assert all(path.read_text() == "mine" for path in tmp_path.rglob("*") if path.is_file() and path.suffix == "")


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Bound how large a file may grow, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing(base: str, tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    """A download and a generation that run out of room say so, and the next call ends them."""
    small = {"machines": ["fan"], "train_source": 1, "train_target": 0, "test_per_cell": 1, "seconds": 0.5}
    full_disk(100)
    with pytest.raises(BenchmarkError, match=r"must have room for what is written, but: .*; what is there is whole"):
        fetch(tmp_path, base, send())
    full_disk(5_000)
    with pytest.raises(BenchmarkError, match=r"must have room"):
        generate(tmp_path / "made", dcase2025.DATASET, **small)  # type: ignore[arg-type]  # sizes
    assert not list(tmp_path.rglob("*.wav"))
    full_disk(resource.RLIM_INFINITY)
    assert fetch(tmp_path, base, send())
    generate(tmp_path / "made", dcase2025.DATASET, **small)  # type: ignore[arg-type]  # sizes
    assert len(list((tmp_path / "made").rglob("*.wav"))) == 5
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("text", ["{bad", "[1]", "", "5", '{"dataset": 5}', "[" * 100_000])
def test_records_of_generated_sets(text: str, tmp_path: Path) -> None:
    """A record beside generated recordings that is none is refused, and nothing is written."""
    path = tmp_path / "dcase2025t2" / "synthetic.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"must be|but dataset was 5"):
        generate(tmp_path, dcase2025.DATASET, machines=["fan"])
    assert list(tmp_path.rglob("*.wav")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", float("nan")),
        ("seconds", float("inf")),
        ("seconds", 1e9),
        ("seconds", -1.0),
        ("train_source", 10**9),
    ],
)
def test_sizes_of_generated_sets(name: str, value: Any, tmp_path: Path) -> None:
    """Sizes have bounds, which the sentence says."""
    with pytest.raises(BenchmarkError, match=f"{name} must be at (least|most) "):
        generate(tmp_path, dcase2025.DATASET, machines=["fan"], **{name: value})
    assert not list(tmp_path.iterdir())


def test_broken_is_refused_too() -> None:
    """A damaged archive is a refused one: it never stays in its place."""
    assert issubclass(BrokenArchiveError, RefusedArchiveError)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_answered(data: st.DataObject) -> None:
    """Archives with some bytes changed, and any bytes at all, raise no error but ours."""
    whole = bytearray(zip_of(GOOD, data.draw(st.sampled_from([STORED, DEFLATED, BZIP2, LZMA]))))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    fuzz_zip(data.draw(st.one_of(st.just(bytes(whole)), st.binary(max_size=200))))
