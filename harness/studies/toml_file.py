"""Reads a TOML file that may come from anybody: it must be a small regular file in UTF-8 without deep nesting."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bounds import shortened
from harness.errors import HarnessError
from harness.files import read_bytes

MOST_BYTES = 256 * 1024  # the longest study that ships has 2 KB; TOML is parsed at some 400 KB a second
DEEPEST = 16  # tables in tables; a study has four
LONGEST = 1_000  # characters of one text, so that an error sentence that quotes it stays readable
# byte order marks of encodings other than UTF-8 that editors write
OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# a key of more names than tables may be nested, in all the ways of writing one; TOML's parser takes minutes for 50,000
NAME = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
DEEP_KEY = re.compile(rf"(?<![\w-]){NAME}(?:[ \t]*+\.[ \t]*+{NAME}){{{DEEPEST + 1}}}")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        HarnessError: it is not there, no regular file, too large, not UTF-8, or not TOML.
    """
    text = _decoded(read_bytes(path, what="A study file", most=MOST_BYTES), path)
    if DEEP_KEY.search(text):
        raise HarnessError(f"{_called(path)} must not be nested deeper than {DEEPEST} tables, but has a key that is.")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise HarnessError(f"{_called(path)} must not be nested deeper than {DEEPEST} tables, but is.") from error
    except ValueError as error:  # TOML's own, and Python's about numbers of thousands of digits
        raise HarnessError(f"{_called(path)} must be TOML, but: {shortened(str(error))}.") from error


def check_content(table: Mapping[str, Any], *, source: str) -> None:
    """Refuse a table that an error could not quote: nested too deeply, with huge texts, or with control characters.

    Args:
        table: as TOML gives it.
        source: name of the file, for the error.

    Raises:
        HarnessError: it is so; the sentence names the key.
    """
    left: list[tuple[str, Any, int]] = [("", table, 0)]
    while left:  # no recursion: what is checked may be nested too deeply for it
        place, value, depth = left.pop()
        if depth > DEEPEST:
            raise HarnessError(
                f"The study {shortened(source)} must not be nested deeper than {DEEPEST} tables, but {place} is."
            )
        if isinstance(value, Mapping):
            for name, inner in value.items():
                _check_text(str(name), place=place or "its top", source=source)
                left.append((shortened(f"{place}.{name}".strip(".")), inner, depth + 1))
        elif isinstance(value, list):
            left += [(place, inner, depth + 1) for inner in value]
        elif isinstance(value, str):
            _check_text(value, place=place, source=source)


def _check_text(text: str, *, place: str, source: str) -> None:
    if len(text) > LONGEST:
        raise HarnessError(
            f"Texts of the study {shortened(source)} must have at most {LONGEST:,} characters, but one at {place} has "
            f"{len(text):,}."
        )
    unprintable = next((each for each in text if ord(each) < ord(" ") and each not in "\n\t"), None)
    if unprintable is not None:
        raise HarnessError(
            f"Texts of the study {shortened(source)} must have no control characters, but one at {place} has "
            f"{unprintable!r}."
        )


def _decoded(content: bytes, path: Path) -> str:
    for mark, encoding in OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise HarnessError(f"{_called(path)} must be in UTF-8, but is in {encoding}; save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")  # with or without the mark that Windows' editors put in front
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise HarnessError(
            f"{_called(path)} must be in UTF-8, but line {line} has the byte 0x{content[error.start]:02x}, as Latin-1 "
            "and other older encodings have it; save it as UTF-8."
        ) from error
    if "\0" in text:
        raise HarnessError(
            f"{_called(path)} must be a text in UTF-8, but holds zero bytes, as UTF-16 without its mark and files that "
            "are no text do."
        )
    return text


def _called(path: Path) -> str:
    return f"The study file {shortened(str(path))}"
