"""A share hands prepared recordings to nodes whole or not at all, and nothing in it is believed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from backbones.features.embedding_file import packed_embeddings
from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.protocols import find_protocol
from benchmarks.synthetic.generator import generate
from harness import verbs
from harness.cache import Cache
from harness.engine import share
from harness.engine.worker import Desk, fetch_recordings
from harness.errors import HarnessError
from harness.trials.contract import Failure
from harness.trials.recordings import Recordings, open_recordings, prepare_recordings

PROTOCOL = find_protocol("dcase2023")
STORES = ("{}/share", "file://{}/share", "memory://share")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recordings, Recordings]:
    """A folder with a driver's cache, and in it recordings with and without sound."""
    folder = tmp_path_factory.mktemp("share")
    few = {"machines": ("fan",), "train_source": 4, "train_target": 2, "test_per_cell": 2, "seconds": 0.5}
    generate(folder / "root", DATASET, **few)
    cache = Cache(folder / "cache")
    heard = prepare_recordings(folder / "root", PROTOCOL, cache)
    paths = [str(Path(each).relative_to(folder / "root")) for table in (heard.train, heard.test) for each in table.path]
    vectors = np.random.default_rng(0).standard_normal((len(paths), 3), dtype=np.float32)
    (folder / "embeddings.npz").write_bytes(packed_embeddings(paths, vectors))
    return folder, heard, prepare_recordings(folder / "embeddings.npz", PROTOCOL, cache)


@pytest.fixture
def node(prepared: tuple[Path, Recordings, Recordings]) -> Iterator[tuple[Path, Recordings, Recordings]]:
    """The same, with nothing in a node's cache under the driver's path, while `publish` sees the driver's."""
    yield prepared
    folder = prepared[0]
    if (folder / "driver").exists():
        leave(folder)
    for leftover in ("share", "outside"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    fsspec.filesystem("memory").store.clear()


def enter(folder: Path) -> None:
    """Let the cache be a node's, which is empty."""
    (folder / "cache").rename(folder / "driver")
    open_recordings.cache_clear()


def leave(folder: Path) -> None:
    """Let it be the driver's again."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "driver").rename(folder / "cache")
    open_recordings.cache_clear()


@pytest.mark.parametrize("address", STORES)
@pytest.mark.parametrize("silent", [False, True], ids=["sound", "embeddings"])
def test_a_node_opens_what_the_driver_prepared(
    node: tuple[Path, Recordings, Recordings], address: str, silent: bool
) -> None:
    """What was fetched is opened as the same recordings, clip by clip; a second worker fetches nothing."""
    folder, known = node[0], node[1 + silent]
    address = address.format(folder)
    share.publish(known.place, address)
    enter(folder)
    assert share.fetch(known.place, address)
    found = open_recordings(known.place)
    assert (found.train_data, found.test_data) == (known.train_data, known.test_data)
    ids = found.train["clip_id"].to_numpy(dtype=str)
    if silent:
        np.testing.assert_array_equal(found.packed.of(ids), known.packed.of(ids))
    else:
        sound = found.packed.read(ids, 100)
        leave(folder)
        np.testing.assert_array_equal(sound, known.packed.read(ids, 100))
        enter(folder)
        share.fetch(known.place, address)
    assert not share.fetch(known.place, address)
    assert not list(folder.glob("cache/recordings/fetched-*"))


@pytest.mark.parametrize("address", ["/proc/nowhere/share", "{}/root/file/share"])
def test_a_share_that_takes_nothing_is_said(node: tuple[Path, Recordings, Recordings], address: str) -> None:
    """A folder that cannot be made, and one below a file, are one sentence each."""
    folder, known, _ = node
    (folder / "root" / "file").touch()
    with pytest.raises(HarnessError, match="must take the prepared recordings, but"):
        share.publish(known.place, address.format(folder))


def test_what_a_killed_worker_left_goes(node: tuple[Path, Recordings, Recordings]) -> None:
    """The folder of a fetch that was killed is removed by the next one."""
    folder, known, _ = node
    share.publish(known.place, str(folder / "share"))
    enter(folder)
    left = known.place.parent / "fetched-of-a-killed-worker"
    (left / "tables").mkdir(parents=True)
    assert share.fetch(known.place, str(folder / "share"))
    assert not left.exists()


def test_publishing_again_writes_nothing_and_mends_what_lacks(node: tuple[Path, Recordings, Recordings]) -> None:
    """A second driver leaves whole files as they are, and puts there anew what is gone or cut."""
    folder, known, _ = node
    address = str(folder / "share")
    share.publish(known.place, address)

    def files() -> dict[str, tuple[int, bytes]]:
        found = [path for path in Path(address).rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    before = files()
    assert not [path for path in Path(address).rglob("*") if path.stat().st_mode & 0o077]  # nobody else reads them
    assert not [name for name in before if ".part-" in name]
    share.publish(known.place, address)
    assert files() == before
    gone, cut = (Path(name) for name in list(before)[:2])
    gone.unlink()
    cut.write_bytes(before[str(cut)][1][:-1])
    share.publish(known.place, address)
    assert {name: content for name, (_, content) in files().items()} == {n: c for n, (_, c) in before.items()}


def change(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change what the listing says of a file."""

    def forge(folder: Path) -> None:
        (listing,) = folder.glob("recordings/*.json")
        listed = json.loads(listing.read_text())
        listed[name] = {**listed[name], **changes}
        listing.write_text(json.dumps(listed))

    return forge


def rename(to: str) -> Callable[[Path], None]:
    """Let the listing name a file otherwise."""

    def forge(folder: Path) -> None:
        (listing,) = folder.glob("recordings/*.json")
        listed = json.loads(listing.read_text())
        listed[to] = listed.pop("tables/truth.json")
        listing.write_text(json.dumps(listed))

    return forge


def every_file(change_bytes: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    """Change all files of the share, or remove them."""

    def forge(folder: Path) -> None:
        for path in list(folder.glob("files/*/*")):
            content = change_bytes(path.read_bytes())
            path.unlink() if content is None else path.write_bytes(content)

    return forge


def listing(content: bytes) -> Callable[[Path], None]:
    """Replace the listing."""
    return lambda folder: [path.write_bytes(content) for path in folder.glob("recordings/*.json")] and None


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no share": (shutil.rmtree, "must hold the prepared recordings, but has no"),
    "no listing": (lambda folder: shutil.rmtree(folder / "recordings"), "must hold the prepared recordings"),
    "a listing of anything": (listing(b"\0\xff"), "A listing of a share must be one that asdbench wrote"),
    "a listing that nests": (listing(b"[" * 100_000), "A listing of a share must be one"),
    "a listing that is a list": (listing(b"[1, 2]"), "A listing of a share must be one"),
    "a listing of numbers": (listing(b'{"tables/truth.json": 3}'), "A listing of a share must be one"),
    "a place outside": (rename("audio/../../../../outside/x.i16"), "A listing of a share must be one"),
    "an absolute place": (rename("/tmp/x"), "A listing of a share must be one"),
    "another folder": (rename("kept/x.json"), "A listing of a share must be one"),
    "a drive": (rename("tables/C:x"), "A listing of a share must be one"),
    "a negative size": (change("tables/truth.json", bytes=-1), "A listing of a share must be one"),
    "a size that is none": (change("tables/truth.json", bytes=True), "A listing of a share must be one"),
    "an endless size": (change("tables/truth.json", bytes=1 << 60), "A listing of a share must be one"),
    "a sum that leads away": (change("tables/truth.json", sha256="../../x"), "A listing of a share must be one"),
    "a sum of nothing there": (change("tables/truth.json", sha256="0" * 64), "must hold truth.json"),
    "a larger size": (change("tables/truth.json", bytes=10**9), "has another size or sum"),
    "a smaller size": (change("tables/truth.json", bytes=1), "has another size or sum"),
    "no files": (every_file(lambda _content: None), "of the prepared recordings, but has no"),
    "changed files": (every_file(lambda content: bytes([content[0] ^ 1]) + content[1:]), "has another size or sum"),
    "cut files": (every_file(lambda content: content[:-1]), "has another size or sum"),
    "longer files": (every_file(lambda content: content + b"x"), "has another size or sum"),
    "empty files": (every_file(lambda _content: b""), "has another size or sum"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_wrong_in_a_share_is_not_taken(node: tuple[Path, Recordings, Recordings], name: str) -> None:
    """One sentence says what is wrong; the node's cache holds no recordings then, and nothing lies outside of it."""
    folder, known, _ = node
    forge, said = FORGED[name]
    address = str(folder / "share")
    share.publish(known.place, address)
    forge(Path(address))
    enter(folder)
    with pytest.raises(HarnessError, match=said):
        share.fetch(known.place, address)
    assert not known.place.exists()
    assert not list((folder / "cache").rglob("*.i16")) or name in {"a sum of nothing there", "a larger size",
                                                                  "a smaller size"}  # fmt: skip
    assert not (folder / "outside").exists()
    failure = fetch_recordings(Desk({}, known.place, folder / "cache", folder, threads=1, share=address))
    assert isinstance(failure, Failure) and said in failure.reason and not failure.again
    leave(folder)
    share.publish(known.place, address)  # which mends all but what has the right size
    if name != "changed files":
        enter(folder)
        assert share.fetch(known.place, address)


def fetch_in_a_process(place: Path, address: str, wait: Any, answers: Any) -> None:
    """Fetch at the same moment as others."""
    wait.wait(60)
    answers.put(share.fetch(place, address))


def test_of_many_workers_one_fetches(node: tuple[Path, Recordings, Recordings]) -> None:
    """Four processes of a node that need the same recordings fetch them once."""
    folder, known, _ = node
    address = str(folder / "share")
    share.publish(known.place, address)
    enter(folder)
    fork = multiprocessing.get_context("fork")
    wait, answers = fork.Barrier(4), fork.Queue()
    workers = [fork.Process(target=fetch_in_a_process, args=(known.place, address, wait, answers)) for _ in range(4)]
    for each in workers:
        each.start()
    assert sorted(answers.get(timeout=60) for _ in workers) == [False, False, False, True]
    for each in workers:
        each.join()
    assert len(open_recordings(known.place).train) == len(known.train)


def test_a_store_that_does_not_answer_is_tried_again(
    node: tuple[Path, Recordings, Recordings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network does may go away, so a trial that met it is begun again."""
    folder, known, _ = node
    share.publish(known.place, "memory://share")
    enter(folder)

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("the network is away")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "open", fail)
    failure = fetch_recordings(Desk({}, known.place, folder / "cache", folder, threads=1, share="memory://share"))
    assert isinstance(failure, Failure) and failure.again
    assert "must answer, but: the network is away" in failure.reason


def test_a_killed_fetch_leaves_nothing_that_counts(
    node: tuple[Path, Recordings, Recordings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at each file in turn, a fetch leaves no folder of recordings, and the next one gets them whole."""
    folder, known, _ = node
    share.publish(known.place, "memory://share")
    files = 1 + len(share.files_of(known.place))  # the listing is one, too
    enter(folder)
    store = type(fsspec.filesystem("memory"))
    whole, left = store.open, [0]

    def stop(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(store, "open", stop)
    for number in range(files):
        left[0] = number
        with pytest.raises(KeyboardInterrupt):
            share.fetch(known.place, "memory://share")
        assert not known.place.exists()
    left[0] = files
    assert share.fetch(known.place, "memory://share")
    assert len(open_recordings(known.place).train) == len(known.train)


@pytest.mark.parametrize(
    ("address", "named", "said"),
    [
        (None, "/somewhere", "--share is for the nodes of a cluster"),
        ("10.0.0.1:6379", "nowhere://bucket/x", "--share must name a folder, or an address that fsspec can open"),
    ],
)
def test_what_is_no_share_is_said_before_anything(address: str | None, named: str, said: str, tmp_path: Path) -> None:
    """A share without a cluster, and an address that nothing opens, are refused before recordings are read."""
    with pytest.raises(HarnessError, match=said):
        verbs.study_run("demo", data=tmp_path / "none", address=address, share=named)
