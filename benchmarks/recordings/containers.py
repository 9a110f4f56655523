"""What the header of an audio file announces, against the bytes that are there: libsndfile passes over the difference.

Read are WAV (RIFF and RIFX, extensible too), RF64 and BW64, W64, AIFF and AIFC, AU, CAF, FLAC, Ogg, NIST SPHERE, and
MP3 with the Xing header that tells its length.

A writer into a pipe cannot go back to its header and leaves a placeholder there for the length: 0, or one within
`PLACEHOLDERS` (sox 0x7ffff000, arecord 0x80000000 and 0x7fffffdb, ffmpeg 0xffffffff). Such a recording is taken for
whole: its samples run to the end of the file. A header that announces a true length, but less than the file holds, is
believed, since what stands behind may be anything; how much that is, is told.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

# Sizes that writers leave who could not go back to their header, first and last; no clip of 2 GB says its true one.
PLACEHOLDERS = ((0x7F000000, 0x80010000), (0xFFFF0000, 0xFFFFFFFF))
ENDLESS = 2**63 - 2**16  # the same where sizes have 64 bits; ffmpeg leaves 2^63 - 1, CAF allows 2^64 - 1
MOST_CHUNKS = 65_536  # before the samples
SAMPLES = (b"riff", b"data")  # behind the samples: more of them, unread
PCM_TAGS = (1, 3, 0xFFFE)  # of a fmt chunk: integers, floats, and the extensible form of both
PCM_TYPES = (b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32")  # of AIFC
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
OGG_END = 4  # flag of an Ogg stream's last page
MOST_PAGE_BYTES = 65_536  # of Ogg
MOST_FRAME_BYTES = 2**20  # of FLAC, 65,535 samples in 8 channels of 16 bits, uncompressed
MOST_TRIES = 64  # places that look like a frame's start; beside true ones, one in 2^22 bytes does
TAG_BYTES = 128  # of an ID3v1 tag, which some programs append

Order = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a header says of its samples; None where it says nothing, or nothing that can be true.

    Attributes:
        container: for sentences.
        start: the first byte of the samples.
        size: their bytes; None where a placeholder stands.
        frames: their number in each channel.
        frame_bytes: of uncompressed samples of all channels at one moment, else 0.
        places: (position, bytes, order, unit) of numbers that a placeholder stands in, so that they can be set right:
            unit 0 counts from the number's end to the file's, another counts units from `start`.
        flac: the sum and the bits of FLAC's samples.
        fault: what else shows that the end is missing.
        behind: bytes after the samples that belong to no other part of the file.
    """

    container: str
    start: int = 0
    size: int | None = 0
    frames: int | None = None
    frame_bytes: int = 0
    places: tuple[tuple[int, int, Order, int], ...] = ()
    flac: tuple[bytes, int] | None = None
    fault: str = ""
    behind: int = 0

    def missing(self, there: int) -> str:
        """Say what a file of so many bytes lacks of what was announced; "" where it is whole."""
        if self.fault:
            return self.fault
        held = max(0, there - self.start)
        if self.size is not None:
            lacks = self.size > held
            return f"its header announces {self.size} bytes of samples and {held} are there" if lacks else ""
        rest = held % self.frame_bytes if self.frame_bytes else 0
        padded = rest == 1 and held % 2 == 0  # chunks of odd length are followed by a byte
        if rest and not padded:
            return f"its header announces no length, and its last frame has {rest} of {self.frame_bytes} bytes"
        return ""

    def completed(self, data: bytes) -> bytes:
        """Return a file's bytes with its true length in place of placeholders."""
        fixed = bytearray(data)
        for position, width, order, unit in self.places:
            value = len(data) - position - width if unit == 0 else (len(data) - self.start) // unit
            fixed[position : position + width] = min(max(0, value), 256**width - 1).to_bytes(width, order)
        return bytes(fixed)


def read_announced(file: BinaryIO) -> Announced | None:
    """Read what a file announces; None where it is no container that is known here."""
    there = os.fstat(file.fileno()).st_size
    magic = _at(file, 0, 16)
    readers: tuple[tuple[bool, Callable[[], Announced | None]], ...] = (
        (
            magic[:4] in {b"RIFF", b"RIFX", b"RF64", b"BW64"} and magic[8:12] == b"WAVE",
            lambda: _riff(file, there, magic[:4]),
        ),
        (magic == W64_RIFF, lambda: _w64(file, there)),
        (magic[:4] == b"FORM" and magic[8:12] in {b"AIFF", b"AIFC"}, lambda: _aiff(file, there)),
        (magic[:4] == b".snd", lambda: _au(file, there, "big")),
        (magic[:4] == b"dns.", lambda: _au(file, there, "little")),
        (magic[:4] == b"caff", lambda: _caf(file, there)),
        (magic[:4] == b"fLaC", lambda: _flac(file)),
        (magic[:3] == b"ID3", lambda: _flac(file) or _mp3(file, there)),
        (magic[:1] == b"\xff", lambda: _mp3(file, there)),
        (magic[:4] == b"OggS", lambda: _ogg(file, there)),
        (magic[:7] == b"NIST_1A", lambda: _nist(file, there)),
    )
    return next((read() for told, read in readers if told), None)


def last_flac_frame(file: BinaryIO) -> int | None:
    """Return how many samples a channel a FLAC has, told by its last frame; None where that one is not whole.

    For FLACs whose header does not tell it: a writer into a pipe leaves 0 there.
    """
    there = file.seek(0, os.SEEK_END)  # from the end: libsndfile has moved the file under Python's buffer
    stream = _flac(file)
    if stream is None:
        return None
    block = int.from_bytes(_at(file, stream.start + 10, 2), "big")  # the largest, and the size of all but the last
    tail = _at(file, max(0, there - MOST_FRAME_BYTES), MOST_FRAME_BYTES)
    if tail[-TAG_BYTES:].startswith(b"TAG"):
        tail = tail[:-TAG_BYTES]
    position = len(tail)
    table = _crc16_table()
    for _ in range(MOST_TRIES):
        position = max(tail.rfind(b"\xff\xf8", 0, position), tail.rfind(b"\xff\xf9", 0, position))  # a frame's start
        if position < 0:
            return None
        if _crc16(tail[position:], table) == 0:  # the sum stands at the frame's end, so that the whole gives 0
            return _frame_end(tail[position:], block)
    return None


def with_flac_total(data: bytes, start: int, total: int) -> bytes:
    """Return a FLAC's bytes with its number of samples in the header; `start` is where its stream does."""
    fixed = bytearray(data)
    packed = int.from_bytes(data[start + 18 : start + 26], "big")
    fixed[start + 18 : start + 26] = (packed - packed % 2**36 + total).to_bytes(8, "big")
    return bytes(fixed)


def _riff(file: BinaryIO, there: int, magic: bytes) -> Announced | None:
    order: Order = "big" if magic == b"RIFX" else "little"
    name = magic.decode() if magic in {b"RF64", b"BW64"} else "WAV"
    frame_bytes, long_place = 0, 0
    for position, chunk, length in _chunks(file, there, order):
        if chunk == b"ds64":
            long_place = position + 16  # behind the size of all
        elif chunk == b"fmt ":
            tag, block = (int.from_bytes(_at(file, position + at, 2), order) for at in (8, 20))
            frame_bytes = block if tag in PCM_TAGS else 0
        elif chunk == b"data":
            start = position + 8
            if long_place and length == 0xFFFFFFFF:
                long = int.from_bytes(_at(file, long_place, 8), "little")
                if long >= ENDLESS or (long == 0 and there > start):
                    return Announced(name, start, None, None, frame_bytes, ((long_place, 8, "little", 1),))
                return Announced(name, start, long, behind=_behind(file, start + long, there))
            if _is_placeholder(file, length, start, there, order):
                places: tuple[tuple[int, int, Order, int], ...] = ((4, 4, order, 0), (position + 4, 4, order, 1))
                return Announced(name, start, None, None, frame_bytes, places)
            return Announced(name, start, length, behind=_behind(file, start + length, there, order))
    return None


def _w64(file: BinaryIO, there: int) -> Announced | None:
    position = 40  # riff, its size, wave
    for _ in range(MOST_CHUNKS):
        header = _at(file, position, 24)
        if len(header) < 24:
            return None
        length = int.from_bytes(header[16:], "little")  # of its own header too
        if header[:4] == b"data":
            start = position + 24
            if length >= ENDLESS or (length in {0, 24} and there > start + 24):
                return Announced("W64", start, None, places=((16, 8, "little", 0), (position + 16, 8, "little", 0)))
            behind = _behind(file, position + length, there, sizes=(16, 8, 8), inclusive=True)
            return Announced("W64", start, max(0, length - 24), behind=behind)
        position += max(24, length + -length % 8)
    return None


def _aiff(file: BinaryIO, there: int) -> Announced | None:
    frames: int | None = None
    places: list[tuple[int, int, Order, int]] = [(4, 4, "big", 0)]
    frame_bytes = 0
    found: Announced | None = None
    for position, chunk, length in _chunks(file, there, "big"):
        if chunk == b"COMM":
            channels, count, bits = struct.unpack(">HIH", _at(file, position + 8, 8).ljust(8, b"\0"))
            form = _at(file, position + 26, 4) if length >= 22 else b"NONE"
            if form in PCM_TYPES:
                frames, frame_bytes = count, channels * -(-bits // 8)
                places += [(position + 10, 4, "big", frame_bytes)] if frame_bytes else []
        elif chunk == b"SSND":
            start = position + 16 + int.from_bytes(_at(file, position + 8, 4), "big")
            if _is_placeholder(file, length, start, there, "big"):
                found = Announced("AIFF", start, None, None, 0, ((position + 4, 4, "big", 0),))
            else:
                end = position + 8 + length
                found = Announced("AIFF", start, max(0, end - start), behind=_behind(file, end, there, "big"))
        if found is not None and frame_bytes:  # COMM may stand behind the samples
            break
    if found is None or found.size is not None:
        return found and replace(found, frames=frames)
    return Announced("AIFF", found.start, None, None, frame_bytes, (*places, *found.places))


def _au(file: BinaryIO, there: int, order: Order) -> Announced:
    start, size = (int.from_bytes(_at(file, at, 4), order) for at in (4, 8))
    if _is_placeholder(file, size, start, there, order, chunked=False):
        return Announced("AU", start, None, places=((8, 4, order, 1),))
    return Announced("AU", start, size, behind=max(0, there - start - size))


def _caf(file: BinaryIO, there: int) -> Announced | None:
    position = 8
    for _ in range(MOST_CHUNKS):
        header = _at(file, position, 12)
        if len(header) < 12:
            return None
        length = int.from_bytes(header[4:], "big")
        if header[:4] == b"data":
            start = position + 16  # a count of edits comes first
            if length >= ENDLESS or (length == 0 and there > start):
                return Announced("CAF", start, None, places=((position + 4, 8, "big", 0),))
            behind = _behind(file, position + 12 + length, there, "big", sizes=(4, 8, 1))
            return Announced("CAF", start, max(0, length - 4), behind=behind)
        position += 12 + length
    return None


def _flac(file: BinaryIO) -> Announced | None:
    head = _at(file, 0, 10)
    start = 0
    if head[:3] == b"ID3":  # tags before the stream; their size has 7 bits a byte
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    info = _at(file, start, 42)
    if info[:4] != b"fLaC" or len(info) < 42:
        return None
    packed = int.from_bytes(info[18:26], "big")
    total, bits = packed % 2**36, (packed >> 36) % 32 + 1
    return Announced("FLAC", start, frames=total or None, flac=(info[26:42], bits))


def _ogg(file: BinaryIO, there: int) -> Announced:
    tail = _at(file, max(0, there - MOST_PAGE_BYTES), MOST_PAGE_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    table = page[27 : 27 + page[26]] if len(page) > 27 else b""
    needed = 27 + len(table) + sum(table)
    if not table or needed > len(page):
        return Announced("Ogg", fault=f"its last page announces {needed} bytes and {len(page)} are there")
    if not page[5] & OGG_END:
        number = int.from_bytes(page[18:22], "little")
        return Announced("Ogg", fault=f"its last page, number {number}, announces another one and none is there")
    return Announced("Ogg")


def _nist(file: BinaryIO, there: int) -> Announced | None:
    lines = _at(file, 0, 4096).decode("latin-1").split("\n")
    words = [line.split(None, 2) for line in lines]  # name, type, value
    fields = {parts[0]: parts[2] for parts in words if len(parts) == 3}
    try:
        start, frames = int(lines[1]), int(fields["sample_count"])
        size = frames * int(fields.get("channel_count", "1")) * int(fields["sample_n_bytes"])
    except (KeyError, ValueError, IndexError):
        return None
    pcm = fields.get("sample_coding", "pcm").strip() in {"pcm", "ulaw", "alaw"}
    behind = max(0, there - start - size) if pcm else 0
    return Announced("NIST", start, size if pcm else 0, frames, behind=behind)


def _chunks(file: BinaryIO, there: int, order: Order) -> list[tuple[int, bytes, int]]:
    """List the chunks of a file, (position, name, length): up to `data`, or all where there is none."""
    found: list[tuple[int, bytes, int]] = []
    position = 12  # name, size, form
    while position + 8 <= there and len(found) < MOST_CHUNKS:
        header = _at(file, position, 8)
        length = int.from_bytes(header[4:], order)
        found.append((position, header[:4], length))
        if header[:4] == b"data":
            break
        position += 8 + length + length % 2  # chunks stand at even places
    return found


def _is_placeholder(file: BinaryIO, size: int, start: int, there: int, order: Order, *, chunked: bool = True) -> bool:
    """Tell whether a size of 32 bits is none: beyond the file and one that writers leave, or 0 with samples behind."""
    if size == 0:  # an empty recording may be followed by other chunks
        return there > start and not (chunked and _behind(file, start, there, order) == 0)
    return start + size > there and any(first <= size <= last for first, last in PLACEHOLDERS)


def _behind(
    file: BinaryIO,
    position: int,
    there: int,
    order: Order = "little",
    *,
    sizes: tuple[int, int, int] = (4, 4, 2),
    inclusive: bool = False,
) -> int:
    """Count the bytes from the end of the samples that belong to no whole chunk.

    Args:
        file: that is read.
        position: behind the samples.
        there: bytes of the file.
        order: of the chunks' lengths.
        sizes: bytes of a chunk's name and of its length, and what places of chunks are multiples of.
        inclusive: whether the length counts the chunk's name and itself.
    """
    name, width, step = sizes
    for _ in range(MOST_CHUNKS):
        position += -position % step
        if position >= there - 1:
            break
        header = _at(file, position, name + width)
        length = int.from_bytes(header[name:], order) + (0 if inclusive else name + width)
        whole = len(header) == name + width <= length <= there + 1 - position
        if not whole or header[:4] in SAMPLES or not (header[:4].isascii() and header[:4].decode().isprintable()):
            return there - position
        position += length
    return 0


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    """Read bytes at a place; fewer where the file ends."""
    try:
        file.seek(position)
    except (OSError, OverflowError, ValueError):  # a place that no file can have, after a chunk of 2^63 bytes
        return b""
    return file.read(count)


def _mp3(file: BinaryIO, there: int) -> Announced | None:
    head = _at(file, 0, 10)
    start = 0
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    frame = _at(file, start, 256)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or place < 0 or len(frame) < place + 16:
        return None
    told = int.from_bytes(frame[place + 4 : place + 8], "big")
    if told & 3 != 3:  # the number of frames, then that of bytes
        return None
    size = int.from_bytes(frame[place + 12 : place + 16], "big")
    return Announced("MP3", start, size)


def _frame_end(frame: bytes, block: int) -> int | None:
    """Return the number of the sample behind a FLAC frame (RFC 9639, section 9.1)."""
    code = frame[2] >> 4
    lead = frame[4]
    more = 0 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length() - 1  # the number is written as UTF-8 would write it
    number = lead if lead < 0x80 else lead & (0x3F >> more)
    for byte in frame[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    behind = 5 + more
    if code == 1:
        size = 192
    elif code <= 5:
        size = 576 << (code - 2)
    elif code == 6:
        size = frame[behind] + 1
    elif code == 7:
        size = int.from_bytes(frame[behind : behind + 2], "big") + 1
    else:
        size = 256 << (code - 8)
    return number + size if frame[1] & 1 else number * block + size


@functools.cache
def _crc16_table() -> tuple[int, ...]:
    """Return the remainders of all bytes for the check sum of FLAC's frames (RFC 9639, section 9.3)."""
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x8005 if value & 0x8000 else 0)
            value &= 0xFFFF
        table.append(value)
    return tuple(table)


def _crc16(data: bytes, table: tuple[int, ...]) -> int:
    """Return the check sum of some bytes; 0 where their own stands at their end."""
    value = 0
    for byte in data:
        value = ((value << 8) & 0xFFFF) ^ table[(value >> 8) ^ byte]
    return value
