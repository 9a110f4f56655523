"""The official archives: fetched with resumption, verified, unpacked; what is there is not fetched again."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock

from benchmarks.archives.connection import MOST_BYTES, Connection, Told
from benchmarks.archives.record import Entry, Record, read_record, write_record
from benchmarks.archives.unpack import BrokenArchiveError, RefusedArchiveError, clear_leftovers, unpack
from benchmarks.contract import PARTS, Archive, BenchmarkError, Dataset, Part
from benchmarks.files import open_regular, printable
from benchmarks.folders import FolderError, folder_of, writing
from benchmarks.suggestions import did_you_mean

logger = logging.getLogger(__name__)

ZENODO = "https://zenodo.org/records"
STORE = ".archives"  # in the year's folder: the lock, the manifest, archives on their way
TIMEOUT_SECONDS = (15, 60)  # to connect; between two blocks
REFUSED = ".refused"  # behind the name of an archive that was set aside; a later one takes its place
MOST_NAMED = 10  # archives in a sentence
WRONG_COPIES = 2  # that many whole copies with wrong bytes are one too many
SPACE_RATIO = 1.5  # unpacked to packed; noise in 16-bit wav packs to two thirds or worse
PART_FOLDERS: dict[Part, str] = {"dev": "dev_data", "additional": "eval_data", "eval": "eval_data"}


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

    Where an archive fails, those after it are brought all the same, and the failed ones are named at the end; only
    where the folder takes no more does all of it stop at once. An archive that is refused is set aside as
    `<name>.refused`, so that the next call downloads it again. No more is taken than the server announced, or, where it
    announces no size, than the record or the disk allows.

    Raises:
        BenchmarkError: if a machine type or part does not exist, the folder cannot be written to or the disk is too
            small, the server does not have an archive, stays silent or sends wrong bytes, or an archive is not safe
            to unpack.
    """
    archives = choose_archives(dataset, machines=machines, parts=parts)
    year = folder_of(root) / dataset.folder
    store = year / STORE
    done: list[Fetched] = []
    failed: dict[str, BenchmarkError] = {}

    def go_on(name: str, error: BenchmarkError) -> None:
        if isinstance(error, FolderError):
            raise error
        failed[name] = error
        if len(archives) > 1:  # one alone is said as it is
            logger.warning("%s Going on with the other archives.", error)

    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        with FileLock(store / "download.lock"), requests.Session() as session:
            for folder in sorted(set(PART_FOLDERS.values())):
                clear_leftovers(year / folder / "raw", {archive.name for archive in dataset.archives})
            line = Connection(session, tries=tries, pause=pause, timeout=TIMEOUT_SECONDS, progress=progress)
            record = read_record(store)
            wanted = [archive for archive in archives if not _is_there(archive, year, record)]
            urls = {archive.name: f"{base_url}/{archive.record}/files/{archive.name}" for archive in wanted}
            sizes: dict[str, int | None] = {}
            for name, url in urls.items():
                try:
                    sizes[name] = line.size(url)
                except BenchmarkError as error:
                    go_on(name, error)
            _check_space(store, sizes, keep=keep)
            for archive in archives:
                name, fetched = archive.name, archive in wanted
                if name in failed:
                    continue
                try:
                    if fetched:
                        _bring(archive, year, line=line, url=urls[name], size=sizes[name], record=record)
                        if not keep:
                            (store / name).unlink()
                except BenchmarkError as error:
                    go_on(name, error)
                else:
                    entry = record[name]
                    done.append(Fetched(name, archive.part, archive.machine, entry.bytes, entry.sha256, fetched))
    if failed:
        raise _failure(failed, len(archives))
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


def _bring(archive: Archive, year: Path, *, line: Connection, url: str, size: int | None, record: Record) -> None:
    """Fetch, verify and unpack one archive, and record it.

    An archive that is refused for what it is does not stay in its place, where it would be refused for ever.
    """
    path = year / STORE / archive.name
    partial = path.with_name(f"{archive.name}.part")
    for place in (path, partial):
        _refuse_no_file(place)
    known = record.get(archive.name)
    for copy in range(1, WRONG_COPIES + 1):
        if not path.exists():
            most = known.bytes if known else min(MOST_BYTES, int(shutil.disk_usage(path.parent).free / SPACE_RATIO))
            line.fetch(url, partial, size=size, most=most, name=archive.name)
            partial.rename(path)
        sums = _sums(path)
        try:
            _check_sums(archive, sums, known.sha256 if known else None)
            names = unpack(path, year / PART_FOLDERS[archive.part] / "raw", machine=archive.machine)
        except RefusedArchiveError as error:
            aside = path.rename(path.with_name(f"{archive.name}{REFUSED}"))
            if isinstance(error, BrokenArchiveError) and copy < WRONG_COPIES:
                logger.warning("%s Fetching it again.", error)
                continue
            raise type(error)(f"{error} It was set aside as {aside.name}; the next call downloads it again.") from error
        record[archive.name] = Entry(
            archive.record, path.stat().st_size, md5=sums["md5"], sha256=sums["sha256"], unpacked=names
        )
        write_record(year / STORE, record)
        return


def _failure(failed: Mapping[str, BenchmarkError], asked: int) -> BenchmarkError:
    """Return the error of a download some of whose archives failed: their names, and why the first one did."""
    (_, first), *_ = failed.items()
    if asked == 1:
        return first
    names = ", ".join(list(failed)[:MOST_NAMED]) + (", ..." if len(failed) > MOST_NAMED else "")
    return BenchmarkError(
        f"All of {asked} archives must come and be sound, but {len(failed)} failed: {names}; the others stand in their "
        f"place, so run the same again for these. The first one: {printable(str(first))}"
    )


def _refuse_no_file(path: Path) -> None:
    """Raise BenchmarkError where something stands in an archive's place that no download put there."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "no regular file"
        raise BenchmarkError(f"{path} must be a file of its own, or not be there, but it is {kind}; move it away.")


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
    with open_regular(path) as file:
        while block := file.read(2**20):
            md5.update(block)
            sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def _is_there(archive: Archive, year: Path, record: Record) -> bool:
    """Tell whether an archive was unpacked here and still stands where it was."""
    folder = year / PART_FOLDERS[archive.part] / "raw" / archive.machine
    names = record[archive.name].unpacked if archive.name in record else ()
    return bool(names) and all((folder / name).exists() for name in names)


def _check_space(store: Path, announced: dict[str, int | None], *, keep: bool) -> None:
    """Raise BenchmarkError where the disk cannot hold what is to come, as far as it was announced."""
    sizes = {name: size or 0 for name, size in announced.items()}
    have = sum(path.lstat().st_size for path in store.iterdir() if path.name.removesuffix(".part") in sizes)
    packed = sum(sizes.values()) if keep else max(sizes.values(), default=0)
    need = int(max(0, packed - have) + SPACE_RATIO * sum(sizes.values()))
    free = shutil.disk_usage(store).free
    if need > free:
        raise BenchmarkError(
            f"the archives need about {need / 1e9:.1f} GB with what they unpack to, but {store} has "
            f"{free / 1e9:.1f} GB left; make room, or name fewer machine types with --machines."
        )
