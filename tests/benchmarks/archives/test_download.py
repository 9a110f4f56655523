from __future__ import annotations

import hashlib
import io
import json
import logging
import multiprocessing
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.archives import download as room
from benchmarks.archives.download import STORE, download
from benchmarks.contract import Archive, BenchmarkError, Dataset
from benchmarks.recordings.index import index_root

Load = Callable[[str], Dataset]
RECORD = 42
FAST = {"pause": 0.001}
KILLS = 10


@dataclass
class Server:
    """A local archive server: what it has, what goes wrong, what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # of the next GETs: drop, wrong, 503, whole, 404, range
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # GETs: name, range
    paths: list[str] = field(default_factory=list)  # GETs: the whole path
    block_seconds: float = 0.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        data = self.state.files.get(self.path.rsplit("/", 1)[1])
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        name, asked = self.path.rsplit("/", 1)[1], self.headers.get("Range")
        self.state.asked.append((name, asked))
        self.state.paths.append(self.path)
        fault = self.state.faults.pop(0) if self.state.faults else ""
        if fault in ("503", "404"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = self.state.files[name]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "whole" else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start - (fault == 'range')}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if fault == "wrong":
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 255]) + body[len(body) // 2 + 1 :]
        if fault == "drop":
            body = body[: len(body) // 2]
        for place in range(0, len(body), 8192):
            self.wfile.write(body[place : place + 8192])
            time.sleep(self.state.block_seconds)
        if fault == "drop":
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    @property
    def state(self) -> Server:
        return self.server.state  # type: ignore[attr-defined]  # set by the fixture


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed is no news
    state = Server(url=f"http://127.0.0.1:{served.server_port}")
    served.state = state  # type: ignore[attr-defined]  # read by the handler
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield state
    served.shutdown()
    served.server_close()


def make_archive(server: Server, folder: Path, *, part: str = "dev", published: bool = True) -> Archive:
    """Put an archive of fan clips on the server."""
    name = {"dev": "dev_fan.zip", "additional": "eval_data_fan_train.zip", "eval": "eval_data_fan_test.zip"}[part]
    path = folder / name
    rng = np.random.default_rng(len(name))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(12):
            split = "test" if part == "eval" or (part == "dev" and number > 7) else "train"
            archive.writestr(f"fan/{split}/{number}.wav", rng.bytes(20_000))
    server.files[name] = path.read_bytes()
    path.unlink()
    md5 = hashlib.md5(server.files[name]).hexdigest() if published else None
    return Archive(RECORD, name, "fan", part, md5)  # type: ignore[arg-type]  # a Part


@pytest.fixture
def dataset(load_dataset: Load, server: Server, tmp_path: Path) -> Dataset:
    """A year with three archives on the server, of which two have a published sum."""
    archives = tuple(
        make_archive(server, tmp_path, part=p, published=p != "eval") for p in ("dev", "additional", "eval")
    )
    return replace(load_dataset("dcase2022"), archives=archives)


def contents(root: Path) -> dict[str, bytes]:
    """Return every recording below a root."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.wav")}


def expected(server: Server) -> dict[str, bytes]:
    """Return what an undisturbed download ends with."""
    found = {}
    for name, data in server.files.items():
        place = "dcase2022t2/" + ("dev_data" if name.startswith("dev") else "eval_data") + "/raw"
        path = Path(f"/tmp/{hashlib.md5(data).hexdigest()}.zip")
        path.write_bytes(data)
        with zipfile.ZipFile(path) as archive:
            found |= {f"{place}/{member}": archive.read(member) for member in archive.namelist()}
        path.unlink()
    return found


def test_archives_are_fetched_verified_and_unpacked(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """Every part stands in the baseline's layout, its sums are recorded, and a second call fetches nothing."""
    told: list[tuple[str, int, int]] = []
    done = download(dataset, tmp_path, base_url=server.url, progress=lambda *now: told.append(now))
    assert contents(tmp_path) == expected(server)
    assert [archive.fetched for archive in done] == [True] * 3
    manifest = json.loads((tmp_path / "dcase2022t2" / STORE / "manifest.json").read_text())
    for archive in done:
        data = server.files[archive.name]
        assert archive.sha256 == manifest[archive.name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert (archive.name, len(data), len(data)) in told
        assert not (tmp_path / "dcase2022t2" / STORE / archive.name).exists()
    server.asked.clear()
    assert [archive.fetched for archive in download(dataset, tmp_path, base_url=server.url)] == [False] * 3
    assert not server.asked


def test_every_archive_of_2026_is_fetched_and_indexed(server: Server, load_dataset: Load, tmp_path: Path) -> None:
    """Each comes from its own record, the revised ToyCar too, and what is unpacked is indexed by machine type."""
    year = load_dataset("dcase2026")
    served = []
    for archive in year.archives:
        made, name = io.BytesIO(), "section_00_source_train_normal_0000_noAttribute.wav"
        split = "test" if archive.part == "eval" else "train"
        with zipfile.ZipFile(made, "w") as file:
            file.writestr(
                f"{archive.machine}/{split}/{'section_00_0000.wav' if split == 'test' else name}", archive.name
            )
        server.files[archive.name] = made.getvalue()
        served.append(replace(archive, md5=hashlib.md5(made.getvalue()).hexdigest() if archive.md5 else None))
    done = download(replace(year, archives=tuple(served)), tmp_path, base_url=server.url)
    assert sorted(each.name for each in done) == sorted(server.files)
    assert len(done) == 7 + 5 + 5  # one a machine type; those of evaluation types apart for training and test
    records = {"dev": "19336329", "additional": "20151556", "eval": "20437238"}
    paths = {path.rsplit("/", 1)[1]: path for path in server.paths}
    assert all(records[archive.part] in paths[archive.name] for archive in year.archives)
    assert "dev_ToyCar_r2.zip" in paths and "dev_ToyCar.zip" not in paths
    found = index_root(tmp_path, [year])
    assert len(found) == 17
    assert dict(found.groupby("part")["machine"].nunique()) == {"additional": 5, "dev": 7, "eval": 5}
    server.asked.clear()
    assert not any(
        each.fetched for each in download(replace(year, archives=tuple(served)), tmp_path, base_url=server.url)
    )
    assert not server.asked


def test_parts_and_machines_are_chosen(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """Only the named parts and machine types are fetched; names that mean nothing are refused; archives can be kept."""
    done = download(dataset, tmp_path, base_url=server.url, parts=["eval"], machines=["fan"], keep=True)
    assert [archive.part for archive in done] == ["eval"]
    assert (tmp_path / "dcase2022t2" / STORE / "eval_data_fan_test.zip").exists()
    assert [name for name, _ in server.asked] == ["eval_data_fan_test.zip"]
    with pytest.raises(BenchmarkError, match=r"but got fna\. Did you mean fan"):
        download(dataset, tmp_path, base_url=server.url, machines=["fna"])
    with pytest.raises(BenchmarkError, match="parts must be among dev, additional, eval, but got test"):
        download(dataset, tmp_path, base_url=server.url, parts=["test"])  # type: ignore[list-item]  # the point


@pytest.mark.parametrize(
    "faults",
    [["drop"], ["drop", "drop", "drop"], ["503", "drop", "503"], ["drop", "whole"], ["drop", "range"]],
    ids=["drop", "drops", "busy", "no ranges", "another range"],
)
def test_a_broken_line_is_gone_on_with(
    faults: list[str], server: Server, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropped connections, a busy server, and one that knows no ranges: the rest is fetched, the bytes are right."""
    server.faults = list(faults)
    with caplog.at_level(logging.WARNING):
        download(dataset, tmp_path, base_url=server.url, parts=["dev"], **FAST)
    assert contents(tmp_path) == {name: data for name, data in expected(server).items() if "dev_data" in name}
    assert "trying again" in caplog.text
    if "drop" in faults:
        assert any(asked for _, asked in server.asked)


@pytest.mark.parametrize("part", ["dev", "eval"])
def test_wrong_bytes_are_fetched_again(part: str, server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """A wrong byte shows in the published sum, or without one in the archive's own, and is fetched anew."""
    server.faults = ["wrong"]
    download(dataset, tmp_path, base_url=server.url, parts=[part], **FAST)  # type: ignore[list-item]  # a Part
    assert len(contents(tmp_path)) == 12
    assert contents(tmp_path).items() <= expected(server).items()
    other = tmp_path / "other"
    server.faults = ["wrong", "wrong"]
    with pytest.raises(BenchmarkError, match=r"must have the md5|must be whole zip files"):
        download(dataset, other, base_url=server.url, parts=[part], **FAST)  # type: ignore[list-item]  # a Part
    assert contents(other) == {}


def test_a_changed_archive_is_refused(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """An archive without a published sum must be the one that was recorded on the first read."""
    download(dataset, tmp_path, base_url=server.url, parts=["eval"])
    make_archive(server, tmp_path, part="dev")
    server.files["eval_data_fan_test.zip"] = server.files["dev_fan.zip"]
    for path in (tmp_path / "dcase2022t2" / "eval_data" / "raw" / "fan").iterdir():
        path.rename(tmp_path / "away")
    with pytest.raises(BenchmarkError, match=r"must have the sha256 .* that was recorded before"):
        download(dataset, tmp_path, base_url=server.url, parts=["eval"], **FAST)


def test_a_server_that_cannot_help_ends_the_try(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """What does not exist is said at once; a silent server is given up after some tries, with what came kept."""
    server.faults = ["drop"] + ["503"] * 20
    with pytest.raises(BenchmarkError, match=r"failed 3 times in a row .* what came is kept"):
        download(dataset, tmp_path, base_url=server.url, parts=["dev"], tries=3, **FAST)
    assert (tmp_path / "dcase2022t2" / STORE / "dev_fan.zip.part").stat().st_size > 0
    server.faults = []
    download(dataset, tmp_path, base_url=server.url, parts=["dev"])
    assert server.asked[-1][1] is not None
    gone = replace(dataset, archives=(Archive(RECORD, "dev_pump.zip", "pump", "dev"),))
    with pytest.raises(BenchmarkError, match=r"dev_pump\.zip must exist, but the server answers 404"):
        download(gone, tmp_path, base_url=server.url)
    with pytest.raises(BenchmarkError, match="must answer, but failed 2 times"):
        download(gone, tmp_path, base_url="http://127.0.0.1:9", tries=2, **FAST)


def test_room_is_asked_for_first(
    server: Server, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room on the disk nothing is fetched."""
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(BenchmarkError, match=r"GB with what they unpack to, but .* GB left; make room"):
        download(dataset, tmp_path, base_url=server.url)
    assert not server.asked


def test_two_at_once_fetch_each_archive_once(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """Two calls at once for one root share the work."""
    threads = [
        threading.Thread(target=download, args=(dataset, tmp_path), kwargs={"base_url": server.url}) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(tmp_path) == expected(server)
    assert len(server.asked) == 3


def test_killed_ten_times_the_bytes_are_the_same(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    """Killed with SIGKILL at ten random moments, the next run ends with the bytes of an undisturbed one."""
    server.block_seconds = 0.002
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(KILLS):
        process = context.Process(target=download, args=(dataset, tmp_path), kwargs={"base_url": server.url})
        process.start()
        time.sleep(rng.uniform(0.02, 0.12))
        process.kill()
        process.join()
        killed += process.exitcode == -9
        good = expected(server)
        assert all(good[name] == data for name, data in contents(tmp_path).items() if "/.unpacking" not in name)
    download(dataset, tmp_path, base_url=server.url)
    assert killed >= 3  # a busy machine can let late kills find the work done
    assert contents(tmp_path) == expected(server)
    assert not list(tmp_path.rglob(".unpacking*"))
