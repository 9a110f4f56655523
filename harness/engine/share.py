"""Prepared recordings in a share: the driver puts them there once, and each node fetches them once into its own cache.

A share is a shared folder or an object store, named by an address of fsspec: `/nfs/asdbench`, `s3://bucket/asdbench`.
Its files are named after the SHA-256 of their content, and one listing a set of recordings says which files it needs.
A node believes nothing that it fetches: names must be those of prepared recordings, sizes and sums those of the
listing, and a worker that opens them compares their content with the fingerprints of the trials.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from benchmarks.folders import clear_folders, file_beside, held_folder
from harness.cache import Cache
from harness.credentials import scrubbed
from harness.errors import HarnessError
from harness.files import make_private_folder, making_private, open_regular, private_lock, private_umask
from harness.trials.recordings import AUDIO, AUDIO_FILE, SILENT, SILENT_FILE, audio_of, silent_key

UNFINISHED = "fetched-"  # begins the names of folders that become prepared recordings once they are whole
CHUNK_BYTES = 2**20
MOST_LISTING_BYTES = 2**26  # some 300,000 files
MOST_FILE_BYTES = 2**40
NAMES = re.compile(  # of files of prepared recordings, so that a listing cannot name a place elsewhere
    r"tables/(train\.parquet|test\.parquet|truth\.json|audio\.txt|silent\.txt)"
    r"|audio/segment-[0-9]{6,12}\.(i16|json)|silent/[0-9a-f]{8,64}\.npz"
)
SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listed:
    """A file of a share.

    Attributes:
        bytes: how many it has.
        sha256: of its content, by which it is named.
    """

    bytes: int
    sha256: str


def check_share(share: str) -> None:
    """Refuse an address of which fsspec knows no store.

    Raises:
        HarnessError: it is none, or what reads it is not installed.
    """
    _store(share)


def publish(place: Path, share: str) -> None:
    """Put prepared recordings into a share, unless they are there.

    Files take their names when they are whole, and the listing is written last, so that nobody fetches half of them.

    Args:
        place: folder of the prepared recordings (`Recordings.place`).
        share: address of the share.

    Raises:
        HarnessError: the share takes no files.
    """
    store, root = _store(share)
    with _answering(share, "take the prepared recordings"):
        listing = _listing_of(root, place)
        if _is_whole(store, root, listing, share):
            return
        listed: dict[str, dict[str, Any]] = {}
        for name, path in files_of(place).items():
            with open_regular(path) as file:
                found = _measured(file)
                listed[name] = {"bytes": found.bytes, "sha256": found.sha256}
                target = _file_of(root, found)
                if not _has(store, target, found):
                    file.seek(0)
                    with _beside(store, target) as there:
                        shutil.copyfileobj(file, there, CHUNK_BYTES)
        with _beside(store, listing) as there:
            there.write(json.dumps(listed, indent=0, sort_keys=False).encode())


def fetch(place: Path, share: str) -> bool:
    """Fetch prepared recordings from a share into this node's cache, unless they are there; return whether it did.

    Of several workers of a node one fetches, and the others wait for it. The packed audio goes into a folder of its
    own in the cache, so that what this machine packed itself is not touched.

    Args:
        place: where they shall be, under the same path as on the driver.
        share: address of the share.

    Raises:
        HarnessError: the share has other files than its listing says, or no such recordings.
        OSError: the share does not answer, or the disk takes no more.
    """
    if place.is_dir():
        return False
    make_private_folder(place.parent)
    with private_lock(place.with_name(f"{place.name}.fetched.lock")):
        if place.is_dir():
            return False
        store, root = _store(share)
        listed = _read_listing(store, _listing_of(root, place), share)
        cache = Cache(place.parent.parent)
        audio = cache.folder / AUDIO / f"fetched-{place.name}"
        clear_folders(place.parent, lambda name: name.startswith(UNFINISHED))  # of workers that were killed
        # the folder that says that all is there takes its name at the end
        with held_folder(place.parent, UNFINISHED) as folder:
            tables = make_private_folder(folder / "tables")
            for name, each in listed.items():
                part, _, file = name.partition("/")
                target = {"tables": tables, "audio": audio}.get(part, Path()) / file
                if part == "silent":
                    target = cache.path(SILENT, file.partition(".")[0])
                make_private_folder(target.parent)
                _fetch_file(store, _file_of(root, each), target, each, share)
            if (tables / AUDIO_FILE).exists():
                (tables / AUDIO_FILE).write_bytes(os.fsencode(audio))  # instead of where it is on the driver
            tables.rename(place)
    return True


def files_of(place: Path) -> dict[str, Path]:
    """Return the files that prepared recordings consist of, wherever in the cache they are: name -> path.

    Names are "tables/..." of the folder itself, "audio/..." of the packed audio, and "silent/..." of embeddings. A
    segment's samples stand before its table: without the table nobody reads them.
    """
    found = {f"tables/{path.name}": path for path in sorted(place.iterdir()) if path.is_file()}
    if (place / SILENT_FILE).exists():
        path = Cache(place.parent.parent).path(SILENT, silent_key(place))
        return {**found, f"silent/{path.name}": path}
    segments = [path for ending in ("i16", "json") for path in sorted(audio_of(place).glob(f"segment-*.{ending}"))]
    return {**found, **{f"audio/{path.name}": path for path in segments}}


def _fetch_file(store: Any, source: str, target: Path, listed: Listed, share: str) -> None:
    """Copy a file of the share beside its name, and give it its name if its size and sum are as listed."""
    found, left = hashlib.sha256(), listed.bytes
    with file_beside(target, mode=0o666 & ~private_umask(target.parent)) as file:
        try:
            with _answering(share, "answer", again=True), store.open(source, "rb") as there:
                while left >= 0 and (part := there.read(min(CHUNK_BYTES, left + 1))):
                    left -= len(part)
                    found.update(part)
                    file.write(part)
        except FileNotFoundError:
            raise HarnessError(
                f"The share {scrubbed(share)} must hold {target.name} of the prepared recordings, but has no {source}; "
                "start the study again, which puts it there anew."
            ) from None
        if left or found.hexdigest() != listed.sha256:
            raise HarnessError(
                f"A file that is fetched must be the one that was put there, but {target.name} of {scrubbed(share)} "
                f"has another size or sum; remove {source} there and start again, which puts it there anew."
            )


def _is_whole(store: Any, root: str, listing: str, share: str) -> bool:
    """Tell whether a share has a listing, and all its files in their sizes."""
    try:
        listed = _read_listing(store, listing, share)
    except HarnessError:  # there is none, or it is no listing
        return False
    return all(_has(store, _file_of(root, each), each) for each in listed.values())


def _has(store: Any, target: str, listed: Listed) -> bool:
    return bool(store.exists(target)) and store.size(target) == listed.bytes


def _read_listing(store: Any, listing: str, share: str) -> dict[str, Listed]:
    """Read which files a set of recordings needs."""
    try:
        with _answering(share, "answer", again=True), store.open(listing, "rb") as file:
            content = file.read(MOST_LISTING_BYTES + 1)
    except FileNotFoundError:
        raise HarnessError(
            f"The share {scrubbed(share)} must hold the prepared recordings, but has no {listing}; start the study "
            "again with --share, which puts them there."
        ) from None
    try:
        if len(content) > MOST_LISTING_BYTES:
            raise ValueError(listing)
        return {name: _listed(name, each) for name, each in json.loads(content).items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise HarnessError(
            f"A listing of a share must be one that asdbench wrote, but {listing} of {scrubbed(share)} is not; remove "
            "it there and start again, which writes it anew."
        ) from None


def _listed(name: str, content: Mapping[str, Any]) -> Listed:
    size, found = content["bytes"], content["sha256"]
    if (
        not NAMES.fullmatch(name)
        or type(size) is not int
        or not 0 <= size <= MOST_FILE_BYTES
        or not SUM.fullmatch(found)
    ):
        raise ValueError(name)
    return Listed(size, found)


def _measured(file: BinaryIO) -> Listed:
    found, size = hashlib.sha256(), 0
    while part := file.read(CHUNK_BYTES):
        found.update(part)
        size += len(part)
    return Listed(size, found.hexdigest())


def _listing_of(root: str, place: Path) -> str:
    return f"{root}/recordings/{place.name}.json"


def _file_of(root: str, listed: Listed) -> str:
    return f"{root}/files/{listed.sha256[:2]}/{listed.sha256}"


@contextmanager
def _beside(store: Any, target: str) -> Iterator[BinaryIO]:
    """Write a file of a store beside its name, which it takes at the end."""
    folder, beside = PurePosixPath(target).parent, f"{target}.part-{secrets.token_hex(8)}"
    try:
        with making_private(Path(folder)) if isinstance(store, LocalFileSystem) else nullcontext():
            store.makedirs(str(folder), exist_ok=True)
            file = store.open(beside, "wb")
        with file:
            yield file
        store.mv(beside, target)
    except BaseException:
        with suppress(Exception):
            store.rm(beside)
        raise


def _store(share: str) -> tuple[Any, str]:
    """Return a share's store and the path in it."""
    try:
        store, root = url_to_fs(share)
    except Exception as error:  # every store has errors of its own
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az") if name in fsspec.available_protocols())
        raise HarnessError(
            f"--share must name a folder, or an address that fsspec can open ({known} with its package), but got "
            f"{scrubbed(share)}: {scrubbed(str(error)).strip().rstrip('.')}."
        ) from error
    return store, str(root).rstrip("/")


@contextmanager
def _answering(share: str, what: str, *, again: bool = False) -> Iterator[None]:
    """Turn what a store raises into one sentence: if `again`, an `OSError`, which another try may mend.

    What is not there stays a `FileNotFoundError` then, as whoever reads knows best what to say of it.
    """
    try:
        yield
    except Exception as error:  # every store has errors of its own
        if isinstance(error, HarnessError) or (again and isinstance(error, FileNotFoundError)):
            raise
        said = f"The share {scrubbed(share)} must {what}, but: {scrubbed(str(error)) or type(error).__name__}."
        raise (OSError(said) if again else HarnessError(said)) from error
