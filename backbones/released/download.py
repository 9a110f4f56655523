"""A released file brought by its name: asked for, resumed, summed, and under its name only once it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from backbones.contract import BackboneError
from backbones.files import open_file, sha256_of_file, what_is
from backbones.released.catalogue import Released, expanded, find_released, own_folder
from backbones.released.hub import Offered, ask, fetch, make_folder
from backbones.released.identity import stand_in
from backbones.released.place import HubPlace, is_offline, parse_place
from backbones.released.refusals import NotThereError


@dataclass(frozen=True)
class Brought:
    """A released file that is here.

    Attributes:
        name: of the released file.
        path: where it is.
        bytes: its size.
        sha256: its sum.
        source: where it came from, `ORG/NAME@COMMIT`; "" where it was here before.
        fetched: False where it was here before.
    """

    name: str
    path: Path
    bytes: int
    sha256: str
    source: str
    fetched: bool


def bring(
    name: str, to: Path | None = None, source: str | None = None, *, told: Callable[[int, int], None] | None = None
) -> Brought:
    """Download a released file, unless it is there already, and check its sum.

    Stopped at any moment, the next call goes on where this one was. Under the file's name there is nothing, or the
    whole file with the right sum.

    Args:
        name: of the released file.
        to: folder that gets it; None is ASDBENCH_WEIGHTS, or `weights` of the cache.
        source: where the hub has it, ORG/NAME@REVISION; None asks the known mirrors in turn.
        told: bytes that are there, and bytes that there will be.

    Raises:
        BackboneError: there is no such file in the catalogue or on the hub, the network is forbidden or broken, the
            disk is full, or what came is not the released file.
    """
    released = find_released(name)
    folder = expanded(to) if to is not None else own_folder()
    path = folder / released.file
    if (kind := what_is(folder)) not in ("is a folder", "does not exist"):
        raise BackboneError(f"The folder {folder} must be one that can be written to, but it {kind}.")
    if (there := _there(released, path)) is not None:
        return there
    places = [parse_place(each) for each in ((source,) if source else released.sources)]
    if not places:
        raise BackboneError(
            f"The hub does not have {released.name}: {released.elsewhere}; save it as {path}, or say where the hub has "
            "a copy with --from ORG/NAME@REVISION."
        )
    if is_offline():
        raise BackboneError(
            f"HF_HUB_OFFLINE forbids the network, so {released.name} cannot be downloaded; unset it, or copy the file "
            f"from another machine to {path}."
        )
    try:
        make_folder(folder)
        lock = FileLock(folder / f".{released.file}.lock", mode=0o600)
        lock.acquire()
    except OSError as error:
        raise BackboneError(
            f"The folder {folder} must be one that can be written to, but: {error.strerror}; name another with --to."
        ) from error
    try:
        return _there(released, path) or _first_that_has_it(released, places, path, told)
    finally:
        lock.release()


def _first_that_has_it(
    released: Released, places: list[HubPlace], path: Path, told: Callable[[int, int], None] | None
) -> Brought:
    missed = []
    for place in places:
        try:
            return _from(released, place, path, told)
        except NotThereError as error:
            missed.append(error)
    if len(missed) == 1:
        raise missed[0]
    raise BackboneError(
        f"None of the known mirrors has {released.file}: {' '.join(map(str, missed))} Name another one with --from "
        "ORG/NAME@REVISION."
    )


def _from(released: Released, place: HubPlace, path: Path, told: Callable[[int, int], None] | None) -> Brought:
    offered = ask(place, released.path)
    _must_be_it(released, place, offered)
    part = path.with_name(f".{path.name}.part")
    wanted, size = released.sha256 or offered.sha256, released.bytes or offered.bytes
    resumed = what_is(part) == "is a file" and part.stat().st_size > 0
    if resumed and size is not None and part.stat().st_size > size:
        part.unlink()
        resumed = False
    _must_have_room(path, part, size)
    sha256 = fetch(offered, part, place=place, size=size, told=told)
    if resumed and wanted is not None and sha256 != wanted:  # what was there may have come from elsewhere
        part.unlink()
        sha256 = fetch(offered, part, place=place, size=size, told=told)
    _must_be_whole(released, place, part, wanted=wanted, found=sha256)
    length = part.stat().st_size
    part.replace(path)
    source = str(HubPlace(place.repository, offered.commit or place.revision, place.kind))
    return Brought(released.name, path, length, sha256, source, fetched=True)


def _there(released: Released, path: Path) -> Brought | None:
    """Return the file that is there already, if it is the released one.

    Raises:
        BackboneError: something else stands under its name.
    """
    found = what_is(path)
    if found == "does not exist":
        return None
    if found != "is a file":
        raise BackboneError(f"{path} must be a file, or not be there, but it {found}; move it away.")
    sha256, length = sha256_of_file(path), path.stat().st_size
    if sha256 == released.sha256 or (released.sha256 is None and _what(path) is None):
        return Brought(released.name, path, length, sha256, "", fetched=False)
    what = _what(path) or f"a file of {length:,} bytes with the sum {sha256[:12]}..."
    raise BackboneError(f"{path} is not the released {released.name}, but {what}; move it away.")


def _must_be_it(released: Released, place: HubPlace, offered: Offered) -> None:
    """Refuse a file that is another one by what the hub says of it, before it is fetched."""
    if released.sha256 and offered.sha256 and offered.sha256 != released.sha256:
        raise BackboneError(
            f"{released.path} of {place} is not the released {released.name}: its sum must be {released.sha256}, but "
            f"the hub says {offered.sha256}; nothing was downloaded."
        )
    if released.bytes and offered.bytes and offered.bytes != released.bytes:
        raise BackboneError(
            f"{released.path} of {place} is not the released {released.name}: it must have {released.bytes:,} bytes, "
            f"but has {offered.bytes:,}; nothing was downloaded."
        )


def _must_have_room(path: Path, part: Path, size: int | None) -> None:
    there = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(path.parent).free
    if size is not None and size - there > free:
        raise BackboneError(
            f"{path.name} needs {(size - there) / 1e6:,.0f} MB more, but {path.parent} has {free / 1e6:,.0f} MB left; "
            "make room, or name another folder with --to."
        )


def _must_be_whole(released: Released, place: HubPlace, part: Path, *, wanted: str | None, found: str) -> None:
    what = _what(part)
    if found == wanted or (wanted is None and what is None):
        return
    length = part.stat().st_size
    part.unlink()
    came = what or f"{length:,} bytes with the sum {found}"
    must = f"its sum must be {wanted}" if wanted else "it must be a file of weights"
    raise BackboneError(
        f"What {place} sent is not the released {released.name}: {must}, but it sent {came}. It was thrown away; name "
        "another mirror with --from ORG/NAME@REVISION."
    )


def _what(path: Path) -> str | None:
    with open_file(path) as file:
        return stand_in(file.read(512) or b"")
