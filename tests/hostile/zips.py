"""Zip files as nobody should make them."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping

NOISE = bytes((i * 73 + i * i // 7) % 256 for i in range(3000))
GOOD = {"fan/train/a.wav": b"a" * 50, "fan/train/b.wav": b"b" * 60}


def zip_of(members: Mapping[str, bytes | str] = GOOD, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of members."""
    return zip_by(lambda archive: [archive.writestr(name, data) for name, data in members.items()], method)


def zip_by(write: Callable[[zipfile.ZipFile], object], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file that a function writes."""
    held = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)  # a name twice is the point
        write(archive)
    return held.getvalue()


def special(kind: int, name: str = "fan/train/x.wav") -> bytes:
    """Return a zip file with a link, a device or the like."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return zip_by(lambda archive: archive.writestr(member, "/etc"))


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """Return bytes with others at an offset from each place where a mark stands."""
    changed, at = bytearray(data), data.find(mark)
    while at >= 0:
        changed[at + offset : at + offset + len(new)] = new
        at = data.find(mark, at + 4)
    return bytes(changed)


def damaged(method: int) -> bytes:
    """Return a zip file whose packed bytes are nonsense in the middle."""
    data = zip_of({"fan/train/a.wav": NOISE}, method)
    at = data.find(b"a.wav") + 5 + (9 if method == zipfile.ZIP_LZMA else 0)
    return data[: at + 8] + bytes(255 - each for each in data[at + 8 : at + 90]) + data[at + 90 :]


def central(offset: int, new: bytes, data: bytes | None = None) -> bytes:
    """Return a zip file whose central directory says something else."""
    return patched(zip_of() if data is None else data, b"PK\1\2", offset, new)


def overlapping() -> bytes:
    """Return a zip file of two members that share their bytes, names included."""
    data = zip_of({"fan/train/a.wav": b"x" * 900, "fan/train/b.wav": b"x" * 900})
    second = data.rfind(b"PK\1\2")
    changed = bytearray(data)
    changed[second + 42 : second + 46] = struct.pack("<I", 0)  # where the first begins
    return bytes(changed)


LINK, DEVICE, CHAR, FIFO, SOCKET = stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK
