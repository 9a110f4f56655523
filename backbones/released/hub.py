"""The Hugging Face hub, or whatever server HF_ENDPOINT names: a file brought whole and resumed, a model's folder."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from backbones.contract import BackboneError
from backbones.released.place import HubPlace, endpoint, hub_cache, is_offline, is_place, server
from backbones.released.refusals import library, sentences, transport_errors

SUM = re.compile(r"[0-9a-f]{64}")
# What a model's folder needs: weights and configuration, never code and no pickles. No folder inside it.
ALLOWED = (
    "*.safetensors", "model.safetensors.index.json", "config.json", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
IGNORED = ("*/*",)
KEPT = "hub"  # the folder, within that of weights, of models that were brought
TRIES = 5  # in a row that may fail without bringing a byte
PAUSE = 1.0  # seconds before the second of them; doubled before each further one
SECONDS = 30.0  # without a sign from the server
MOST_BYTES = 16 * 2**30  # of a file whose size nobody has published
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Told: TypeAlias = Callable[[int, int], None]
"""Told how many bytes are there, and how many there will be."""


@dataclass(frozen=True)
class Offered:
    """What the hub says of a file before it is fetched.

    Attributes:
        url: of the file at `commit`.
        commit: that the revision stands for, "" where the server does not say.
        bytes: its size; None where the server does not say.
        sha256: its sum; None where the server does not say.
    """

    url: str
    commit: str
    bytes: int | None
    sha256: str | None


def ask(place: HubPlace, path: str) -> Offered:
    """Ask the hub about a file.

    Raises:
        NotThereError: it has no such file, or not for everybody.
        BackboneError: the network is forbidden or cannot be reached, or what answers is no hub.
    """
    what = f"{path} of {place}"
    with sentences(what, place):
        hub = library()
        url = hub.hf_hub_url(place.repository, path, repo_type=place.kind, revision=place.revision, endpoint=endpoint())
        said = hub.get_hf_file_metadata(url, endpoint=endpoint(), timeout=SECONDS)
    if said.commit_hash is None:
        raise BackboneError(
            f"{server()} does not answer as the hub does when it is asked for {what}; perhaps HF_ENDPOINT names "
            "another server, or a page of this network stands in between."
        )
    return Offered(url, said.commit_hash, said.size, said.etag if said.etag and SUM.fullmatch(said.etag) else None)


def fetch(offered: Offered, part: Path, *, place: HubPlace, size: int | None, told: Told | None = None) -> str:
    """Fetch a file, from where an earlier call stopped; what came stays beside, whatever happens.

    Args:
        offered: what `ask` said.
        part: the file that grows; what it holds already is not fetched again.
        place: for what is said.
        size: of the whole file, which no server may exceed; None where it is not known.
        told: progress.

    Returns:
        The sum of the whole file.

    Raises:
        NotThereError: the hub does not have it any more.
        BackboneError: the network is forbidden, or breaks again and again; the disk is full, or cannot be written.
    """
    wanted = size or offered.bytes
    most = wanted or MOST_BYTES
    with sentences(str(place), place), _writing(part), part.open("ab") as file:
        failed = 0
        while wanted is None or file.tell() < wanted:
            before = file.tell()
            try:
                _stream(offered.url, file, most=most, told=lambda there: told(there, most) if told else None)
            except transport_errors():
                failed = 0 if file.tell() > before else failed + 1
                if failed == TRIES:
                    raise
                time.sleep(PAUSE * 2 ** max(0, failed - 1))
                continue
            if file.tell() > before and (wanted is None or file.tell() >= wanted):
                break
            failed += 1  # the server ended too early without a broken connection, or has no such place in the file
            if failed == TRIES:
                raise BackboneError(
                    f"{server()} ends after {file.tell():,} of {most:,} bytes of {offered.url}; run the same command "
                    "again, which goes on where this one stopped."
                )
        file.flush()
        os.fsync(file.fileno())
    with part.open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def fetch_model(place: HubPlace, folder: Path) -> Path:
    """Bring a saved model's weights and configuration, and give them a folder of their own.

    The hub's own cache (HF_HOME) keeps the files, so that what another program brought is not fetched again. It may
    hold more of a repository than is read here; the folder links to nothing else, so that its sum is the same wherever
    it was made.

    Args:
        place: of the model.
        folder: of weights; its folder `hub` gets the model's, named `ORG--NAME@COMMIT`.

    Returns:
        The model's folder.

    Raises:
        NotThereError: the hub has no such model, or not for everybody.
        BackboneError: it is not here and the network is forbidden or cannot be reached, or the disk is full.
    """
    if place.kind != "model":
        raise BackboneError(f"A model must lie in a model repository of the hub, but got {place}.")
    with sentences(str(place), place, kept=True), _writing(folder):
        snapshot = Path(
            library().snapshot_download(
                place.repository, revision=place.revision, allow_patterns=list(ALLOWED), ignore_patterns=list(IGNORED),
                endpoint=endpoint(), cache_dir=hub_cache(), local_files_only=is_offline(),
                tqdm_class=_silent_bar(), max_workers=2,
            )
        )  # fmt: skip
        view = folder / KEPT / f"{place.repository.replace('/', '--')}@{snapshot.name}"
        _link(snapshot, view)
    return view


def source_of(path: Path) -> str:
    """Return where `fetch_model` brought a model's folder from, or a file in it, ORG/NAME@COMMIT; "" for any other."""
    for folder in (path, path.parent):
        name, _, commit = folder.name.partition("@")
        place = f"{name.replace('--', '/', 1)}@{commit}"
        if folder.parent.name == KEPT and is_place(place):
            return place
    return ""


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _link(snapshot: Path, view: Path) -> None:
    """Fill a folder with links to the files of a snapshot that may be read, and to nothing else."""
    make_folder(view)
    names = {path.name for pattern in ALLOWED for path in snapshot.glob(pattern)}
    for path in view.iterdir():
        if path.name not in names:
            path.unlink()
    for name in names:
        target, link = (snapshot / name).resolve(), view / name
        if link.is_symlink() and link.readlink() == target:
            continue
        beside = view / f".{name}.{os.getpid()}"
        beside.symlink_to(target)
        beside.replace(link)


def _stream(url: str, file: BinaryIO, *, most: int, told: Callable[[int], None]) -> None:
    """Append to a file what a server has of it beyond what is there; begin anew where it sends all of it again."""
    hub = library()
    there = file.tell()
    headers = {**hub.utils.build_hf_headers(), "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    # another host than the hub's gets no token: httpx leaves it out where a redirect leads elsewhere
    with hub.get_session().stream("GET", url, headers=headers, timeout=SECONDS, follow_redirects=True) as response:
        beyond = there and response.status_code == 416  # what is there is no beginning of the file
        if not beyond:
            hub.utils.hf_raise_for_status(response)
        if there and response.status_code != 206:
            file.seek(0)
            file.truncate()
        if beyond:
            return
        for block in response.iter_bytes():  # as they arrive: a buffer would be lost with the connection
            file.write(block)
            told(file.tell())
            if file.tell() > most:
                raise BackboneError(f"{server()} sends more than the {most:,} bytes that {url} should have.")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        make_folder(path.parent)
        yield
    except OSError as error:
        if error.errno in FULL:
            raise BackboneError(
                f"The disk of {path.parent} is full ({error.strerror}); make room and run the same command again, "
                "which goes on where this one stopped, or name another folder."
            ) from error
        if error.errno is None:  # of the hub's library, whose errors are said elsewhere
            raise
        raise BackboneError(f"{path} must be one that can be written to, but: {error.strerror}.") from error


def _silent_bar() -> Any:
    """Return a progress bar that shows nothing: the command line has its own, and a notebook none."""
    tqdm = importlib.import_module("tqdm.auto").tqdm

    class Silent(tqdm):  # type: ignore[misc, valid-type]  # tqdm has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return Silent
