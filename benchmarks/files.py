"""Files that users hand over: only regular files are opened, and text and tables are read without guessing."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmarks.contract import BenchmarkError

MOST_TABLE_BYTES = 64 * 2**20  # of a csv; the largest official one has 1.5 MB
MOST_SHOWN = 300  # characters of a name in a sentence
SEPARATORS = ("\t", ";", ",")  # of cells; a comma beside another separator is a decimal comma
# What a path can be instead of a file with bytes in it: opening a fifo waits for ever, and /dev/zero never ends.
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a fifo"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MARKS = (  # the longer ones first: a UTF-32 mark starts as a UTF-16 one
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
ASIAN = (("euc_jp", "EUC-JP"), ("cp932", "Shift-JIS"), ("gbk", "GBK"))
ASIAN_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff00-\uff60]{2}|[\u3040-\u30ff]")


@dataclass(frozen=True)
class Table:
    """A csv as it was read.

    Attributes:
        separator: of its cells: a comma, a semicolon or a tab.
        rows: (number of the line, its cells without spaces around them); empty lines are left out.
    """

    separator: str
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading its bytes, if it is a regular one (or a link to one); never wait for anything else.

    Raises:
        BenchmarkError: if it is not there, may not be read, or is a folder, fifo, socket or device.
    """
    # O_NONBLOCK: what was a file a moment ago may be a fifo now, whose opening would wait for a writer
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if "\0" in os.fspath(path):
        raise BenchmarkError(f"{printable(path)} must be a readable file, but no name can hold a NUL.")
    try:
        _refuse_others(path, os.stat(path).st_mode)  # noqa: PTH116 - some callers have 200,000 paths
        descriptor = os.open(path, flags)
    except UnicodeEncodeError as error:
        raise BenchmarkError(f"{printable(path)} must be a readable file, but its name is no text.") from error
    except OSError as error:
        raise BenchmarkError(f"{printable(path)} must be a readable file, but is not: {error.strerror}.") from error
    opened = os.fdopen(descriptor, "rb")
    try:
        _refuse_others(path, os.fstat(descriptor).st_mode)
    except BenchmarkError:
        opened.close()
        raise
    return opened


def read_bytes(path: Path, *, most: int | None = None) -> bytes:
    """Read a regular file whole.

    Args:
        path: of the file.
        most: bytes that it may have; any number where nothing is said.

    Raises:
        BenchmarkError: as `open_regular`, or if the file is larger.
    """
    with open_regular(path) as opened:
        try:
            # None where there is nothing yet, as in /proc/kmsg
            data = (opened.read() if most is None else opened.read(most + 1)) or b""
            size = os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise BenchmarkError(f"{printable(path)} must be a readable file, but is not: {error.strerror}.") from error
    if most is not None and len(data) > most:
        raise BenchmarkError(
            f"{printable(path)} must have at most {most} bytes, the bound for files of its kind, but has "
            f"{max(size, len(data))}."
        )
    return data


def read_text(path: Path, *, most: int | None = None) -> str:
    """Read a text: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        BenchmarkError: as `read_bytes`, or if it is another encoding or no text.
    """
    data = read_bytes(path, most=most)
    mark, encoding = next((pair for pair in MARKS if data.startswith(pair[0])), (b"", "utf-8"))
    if encoding != "UTF-32":
        try:
            text = data[len(mark) :].decode(encoding)
        except UnicodeDecodeError:
            pass
        else:
            if "\0" not in text:
                return text
    raise BenchmarkError(
        f"{printable(path)} must be text in UTF-8, or in UTF-16 with a byte order mark, but {_seems(data)}; save it as "
        "UTF-8."
    )


def read_table(path: Path, *, most: int = MOST_TABLE_BYTES) -> Table:
    """Read a csv, whose cells a comma, a semicolon or a tab separates.

    The separator is the one in the first line that has any (`sep=;`, which spreadsheets write, says it outright). Where
    that line has several, it is the tab before the semicolon before the comma: `a.wav;0,5` has a decimal comma.

    Raises:
        BenchmarkError: as `read_text`, or if quotes are not closed or a cell has over 131,072 characters.
    """
    text = read_text(path, most=most)
    told = re.match(r'\s*"?sep=([,;|\t])"?[^\S\n\r]*(?=[\n\r]|$)', text, re.IGNORECASE)
    separator = told[1] if told else _separator(text)
    rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for cells in reader:
            stripped = tuple(cell.strip() for cell in cells)
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        raise BenchmarkError(f"{printable(path)} must be a readable csv, but is not: {error}.") from error
    return Table(separator, tuple(rows[1:] if told else rows))


def printable(name: Path | str, *, most: int = MOST_SHOWN) -> str:
    r"""Return a name as it can stand in a sentence: `\x1b` for a control character, `\xff` for what is no UTF-8.

    Args:
        name: a path or a text of the user's.
        most: characters; the middle of a longer one is left out.
    """
    text = os.fspath(name)
    if not text.isascii():
        try:
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a half of a pair, which no file system gives
            text = text.encode("utf-8", "backslashreplace").decode()
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    if len(text) > most:
        text = f"{text[: most // 2]}[...]{text[-(most // 2) :]}"
    return text


def _refuse_others(path: Path, mode: int) -> None:
    """Raise unless a file's mode says that it is a regular file."""
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in KINDS if test(mode)), "something else")
        raise BenchmarkError(f"{printable(path)} must be a regular file, but is {kind}.")


def _separator(text: str) -> str:
    """Return what separates a csv's cells."""
    for line in io.StringIO(text):
        bare = re.sub(r'"[^"]*"', "", line)
        found = next((mark for mark in SEPARATORS if mark in bare), None)
        if found is not None:
            return found
    return ","


def _seems(data: bytes) -> str:
    """Say what bytes that are not UTF-8 look like, for a sentence that names the file."""
    marked = next((name for mark, name in MARKS if data.startswith(mark)), "")
    if marked == "UTF-32":
        return "seems to be UTF-32"
    if marked:
        return f"seems to be {marked[:6].upper().rstrip('-')} that is damaged or cut short"
    zeros = data.count(0)
    if zeros:
        return "seems to be UTF-16 without one" if zeros > len(data) / 4 else f"holds {zeros} NUL bytes, so is no text"
    for encoding, name in ASIAN:
        try:
            if ASIAN_WORD.search(data.decode(encoding)):
                return f"seems to be {name}"
        except UnicodeDecodeError:
            continue
    return "seems to be Latin-1 or Windows-1252"
