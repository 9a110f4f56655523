"""The official archives: fetched with resumption, verified, unpacked; what is there is not fetched again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import requests
from filelock import FileLock

from benchmarks.archives.unpack import BrokenArchiveError, unpack
from benchmarks.clips import did_you_mean
from benchmarks.contract import PARTS, Archive, BenchmarkError, Dataset, Part

logger = logging.getLogger(__name__)

ZENODO = "https://zenodo.org/records"
STORE = ".archives"  # in the year's folder: the lock, the manifest, archives on their way
TIMEOUT_SECONDS = (15, 60)  # to connect; between two blocks
BLOCK_BYTES = 2**15  # a connection that breaks loses the block that was on its way
WRONG_COPIES = 2  # that many whole copies with wrong bytes are one too many
SPACE_RATIO = 1.5  # unpacked to packed; noise in 16-bit wav packs to two thirds or worse
GONE = (401, 403, 404, 410)
PART_FOLDERS: dict[Part, str] = {"dev": "dev_data", "additional": "eval_data", "eval": "eval_data"}

T = TypeVar("T")
Told: TypeAlias = Callable[[str, int, int], None]
"""Told while an archive comes in: (its name, bytes that are there, bytes in all)."""


@dataclass(frozen=True)
class Fetched:
    """An archive whose recordings are in their place.

    Attributes:
        name: of the zip file.
        part: of the year.
        machine: machine type.
        bytes: of the zip file.
        sha256: of the zip file, as in the manifest.
        fetched: False where it was there before.
    """

    name: str
    part: Part
    machine: str
    bytes: int
    sha256: str
    fetched: bool


def download(
    dataset: Dataset,
    root: Path | str,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[Part] | None = None,
    base_url: str = ZENODO,
    keep: bool = False,
    tries: int = 8,
    pause: float = 1.0,
    progress: Told | None = None,
) -> list[Fetched]:
    """Fetch, verify and unpack official archives into the baseline's layout.

    An archive is checked against its published md5 where there is one and against the sha256 of the manifest
    (`<year>/.archives/manifest.json`) where it was fetched before; its members' sums are checked as it is unpacked.
    Killed at any moment, the next call goes on where this one was and ends with the same bytes.

    Args:
        dataset: year.
        root: folder that gets `<dataset.folder>/{dev_data,eval_data}/raw/<machine>/`.
        machines: machine types; None fetches all.
        parts: of the year; None fetches all.
        base_url: archives are at `<base_url>/<record>/files/<name>`.
        keep: keep the zip files after they were unpacked.
        tries: requests in a row that may fail without bringing anything.
        pause: seconds before the second try; doubled before each further one, a minute at most.
        progress: told while an archive comes in.

    Raises:
        BenchmarkError: if a machine type or part does not exist, the disk is too small, the server does not have an
            archive, stays silent or sends wrong bytes, or an archive is not safe to unpack.
    """
    archives = choose_archives(dataset, machines=machines, parts=parts)
    year = Path(root).expanduser().absolute() / dataset.folder
    store = year / STORE
    store.mkdir(parents=True, exist_ok=True)
    done = []
    with FileLock(store / "download.lock"), requests.Session() as session:
        line = _Line(session, tries=tries, pause=pause, progress=progress)
        manifest = _read_manifest(store)
        wanted = [archive for archive in archives if not _is_there(archive, year, manifest)]
        urls = {archive.name: f"{base_url}/{archive.record}/files/{archive.name}" for archive in wanted}
        sizes = {archive.name: line.size(urls[archive.name]) for archive in wanted}
        _check_space(store, sizes, keep=keep)
        for archive in archives:
            if archive in wanted:
                name = archive.name
                _bring(archive, year, line=line, url=urls[name], size=sizes[name], manifest=manifest)
                if not keep:
                    (store / archive.name).unlink()
            entry = manifest[archive.name]
            done.append(
                Fetched(archive.name, archive.part, archive.machine, entry["bytes"], entry["sha256"], archive in wanted)
            )
    return done


def choose_archives(
    dataset: Dataset, *, machines: Sequence[str] | None = None, parts: Sequence[Part] | None = None
) -> list[Archive]:
    """Return a year's archives of some machine types and parts, in the year's order.

    Raises:
        BenchmarkError: if the year has no archives, or one of the names means nothing.
    """
    if not dataset.archives:
        raise BenchmarkError(f"{dataset.name} has no official archives to download.")
    for part in parts or ():
        if part not in PARTS:
            raise BenchmarkError(f"parts must be among {', '.join(PARTS)}, but got {part}.{did_you_mean(part, PARTS)}")
    inside = [archive for archive in dataset.archives if not parts or archive.part in parts]
    known = {archive.machine for archive in inside}
    for machine in machines or ():
        if machine not in known:
            raise BenchmarkError(
                f"machines must be among {', '.join(sorted(known))}, those of {dataset.name}'s archives, but got "
                f"{machine}.{did_you_mean(machine, known)}"
            )
    return [archive for archive in inside if not machines or archive.machine in machines]


class _Line:
    """A connection that tries again."""

    def __init__(self, session: requests.Session, *, tries: int, pause: float, progress: Told | None) -> None:
        self._session = session
        self._tries = tries
        self._pause = pause
        self._progress = progress
        session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes of the file itself

    def size(self, url: str) -> int:
        """Return an archive's size in bytes."""

        def ask() -> int:
            with self._session.head(url, allow_redirects=True, timeout=TIMEOUT_SECONDS) as response:
                _check_status(response, url)
                return int(response.headers["Content-Length"])

        return self._insist(ask, url, lambda: 0)

    def fetch(self, url: str, path: Path, size: int, name: str) -> None:
        """Fetch what a file lacks; it grows at its end alone, so that it can be gone on with whenever this stops."""

        def go_on() -> None:
            there = path.stat().st_size if path.exists() else 0
            if there > size:
                path.unlink()
                there = 0
            if there == size:
                return
            headers = {"Range": f"bytes={there}-"} if there else {}
            with self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
                _check_status(response, url)
                resumed = response.status_code == requests.codes.partial_content
                if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                    raise requests.RequestException(f"asked from byte {there}, got another range")
                with path.open("ab" if resumed else "wb") as out:
                    for block in response.iter_content(BLOCK_BYTES):
                        out.write(block)
                        if self._progress is not None:
                            self._progress(name, out.tell(), size)
            if path.stat().st_size < size:
                raise requests.RequestException(f"only {path.stat().st_size} of {size} bytes came")

        self._insist(go_on, url, lambda: path.stat().st_size if path.exists() else 0)

    def _insist(self, attempt: Callable[[], T], url: str, gained: Callable[[], int]) -> T:
        """Try until it works, or until nothing was gained too many times in a row."""
        failures, before = 0, gained()
        while True:
            try:
                return attempt()
            except (requests.RequestException, KeyError) as error:
                now = gained()
                failures = 1 if now > before else failures + 1
                before = now
                if failures >= self._tries:
                    raise BenchmarkError(
                        f"{url} must answer, but failed {failures} times in a row ({error}); try again later, "
                        "what came is kept."
                    ) from error
                seconds = min(60.0, self._pause * 2 ** (failures - 1))
                logger.warning("%s: %s; trying again in %.0f s.", url, error, seconds)
                time.sleep(seconds)


def _check_status(response: requests.Response, url: str) -> None:
    """Raise BenchmarkError where asking again is no use, RequestException where it may be."""
    if response.status_code in GONE:
        raise BenchmarkError(
            f"{url} must exist, but the server answers {response.status_code} {response.reason}; "
            "fetch the archive by hand and unzip it."
        )
    response.raise_for_status()


def _bring(
    archive: Archive, year: Path, *, line: _Line, url: str, size: int, manifest: dict[str, dict[str, Any]]
) -> None:
    """Fetch, verify and unpack one archive, and note it in the manifest."""
    path = year / STORE / archive.name
    partial = path.with_name(f"{archive.name}.part")
    recorded = manifest.get(archive.name, {}).get("sha256")
    for copy in range(1, WRONG_COPIES + 1):
        if not path.exists():
            line.fetch(url, partial, size, archive.name)
            partial.rename(path)
        sums = _sums(path)
        try:
            _check_sums(archive, sums, recorded)
            names = unpack(path, year / PART_FOLDERS[archive.part] / "raw", machine=archive.machine)
        except BrokenArchiveError as error:
            path.unlink()
            if copy == WRONG_COPIES:
                raise
            logger.warning("%s Fetching it again.", error)
            continue
        manifest[archive.name] = {
            "record": archive.record, "bytes": path.stat().st_size, **sums, "unpacked": list(names),
        }  # fmt: skip
        _write_manifest(year / STORE, manifest)
        return


def _check_sums(archive: Archive, sums: dict[str, str], recorded: str | None) -> None:
    """Raise BrokenArchiveError where an archive is not the one that was published or recorded."""
    if archive.md5 is not None and sums["md5"] != archive.md5:
        raise BrokenArchiveError(f"{archive.name} must have the md5 {archive.md5}, but {sums['md5']} came.")
    if recorded is not None and sums["sha256"] != recorded:
        raise BrokenArchiveError(
            f"{archive.name} must have the sha256 {recorded} that was recorded before, but {sums['sha256']} came."
        )


def _sums(path: Path) -> dict[str, str]:
    """Return a file's md5 and sha256."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            md5.update(block)
            sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def _is_there(archive: Archive, year: Path, manifest: dict[str, dict[str, Any]]) -> bool:
    """Tell whether an archive was unpacked here and still stands where it was."""
    folder = year / PART_FOLDERS[archive.part] / "raw" / archive.machine
    names = manifest.get(archive.name, {}).get("unpacked", [])
    return bool(names) and all((folder / name).exists() for name in names)


def _check_space(store: Path, sizes: dict[str, int], *, keep: bool) -> None:
    """Raise BenchmarkError where the disk cannot hold what is to come."""
    have = sum(path.stat().st_size for path in store.iterdir() if path.name.removesuffix(".part") in sizes)
    packed = sum(sizes.values()) if keep else max(sizes.values(), default=0)
    need = int(max(0, packed - have) + SPACE_RATIO * sum(sizes.values()))
    free = shutil.disk_usage(store).free
    if need > free:
        raise BenchmarkError(
            f"the archives need about {need / 1e9:.1f} GB with what they unpack to, but {store} has "
            f"{free / 1e9:.1f} GB left; make room, or name fewer machine types with --machines."
        )


def _read_manifest(store: Path) -> dict[str, dict[str, Any]]:
    path = store / "manifest.json"
    if not path.exists():
        return {}
    manifest: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def _write_manifest(store: Path, manifest: dict[str, dict[str, Any]]) -> None:
    beside = store / f".manifest.{os.getpid()}.tmp"
    with beside.open("w", encoding="utf-8") as out:
        json.dump(dict(sorted(manifest.items())), out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(store / "manifest.json")
