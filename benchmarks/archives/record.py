"""What an earlier download noted of each archive: its size, its sums and what it unpacked to."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable
from benchmarks.manifests import read_manifest, write_manifest

FILE = "manifest.json"
MOST_NAME_BYTES = 255


@dataclass(frozen=True)
class Entry:
    """One archive that was unpacked.

    Attributes:
        record: Zenodo record id.
        bytes: of the zip file.
        md5: of the zip file.
        sha256: of the zip file.
        unpacked: names below the machine type's folder that came from it.
    """

    record: int
    bytes: int
    md5: str
    sha256: str
    unpacked: tuple[str, ...]


Record: TypeAlias = dict[str, Entry]
"""Entries by the names of archives."""


def read_record(store: Path) -> Record:
    """Return what earlier downloads noted in a folder; nothing where there was none.

    Raises:
        BenchmarkError: if the file is none that a download wrote.
    """
    path = store / FILE
    return {name: _entry(name, found, path) for name, found in (read_manifest(path) or {}).items()}


def write_record(store: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_manifest(store / FILE, {name: asdict(entry) for name, entry in sorted(record.items())})


def _entry(name: str, found: Any, path: Path) -> Entry:
    """Return an entry of the file once each of its values is of its kind."""
    if isinstance(found, dict):
        record, size = found.get("record"), found.get("bytes")
        md5, sha256, unpacked = found.get("md5"), found.get("sha256"), found.get("unpacked")
        if (
            type(record) is int
            and type(size) is int
            and size > 0
            and _is_sum(md5, 32)
            and _is_sum(sha256, 64)
            and isinstance(unpacked, list)
            and all(_is_name(each) for each in unpacked)
        ):
            return Entry(record, size, str(md5), str(sha256), tuple(unpacked))
    raise BenchmarkError(
        f"{path} must say record, bytes, md5, sha256 and unpacked of each archive, as an earlier download wrote them, "
        f"but does not of {printable(name)}; remove that entry, and the archive is fetched and checked anew."
    )


def _is_sum(value: Any, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _is_name(value: Any) -> bool:
    """Tell whether a value is the name of one file or folder, not a path to elsewhere."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and not set(value) & set("/\0")
        and len(value.encode(errors="replace")) <= MOST_NAME_BYTES
    )
