"""Prints tables as text, markdown, CSV and JSON, and chooses the columns that fit a terminal.

Everywhere else scores are fractions; only tables for people show percent.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from harness.errors import HarnessError

Form: TypeAlias = Literal["text", "json", "csv", "markdown"]
Row: TypeAlias = Mapping[str, Any]

NOTHING = "–"
# control characters, Unicode line separators, characters that change the text direction, surrogates and non-characters
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
BRIEF = 120  # most characters of a value that is quoted in a sentence
CUT = " […] "
NARROW = 100  # columns of a terminal below which a table has no frame
WRAPPED = 24  # least width of a column whose text may be wrapped
SLIM = 12  # least width of such a column beside a long name
JOINED = 40  # width of the names of a row that are joined in one column, where there is room
SPEAKING = ("#",)  # headings that say nothing which their numbers do not


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Attributes:
        heading: text above it.
        fill: function that returns the text of its cell in a row.
        right: whether it is aligned to the right, as numbers are; such cells are never wrapped.
        names: whether it identifies a row, as backbone and M do. A narrow terminal shows these columns first.
        answers: whether it holds the main result, as the official score does. These columns come second.
        least: fewest characters it is printed in, for text that is wrapped at its spaces; None is its whole width.
    """

    heading: str
    fill: Callable[[Row], str]
    right: bool = False
    names: bool = False
    answers: bool = False
    least: int | None = None


@dataclass(frozen=True)
class View:
    """The part of a table that fits a terminal.

    Attributes:
        columns: the columns to show, in this order.
        left_out: headings of columns for which there is no room.
        same: heading -> value of columns that have the same value in every row and are shown below the table instead.
    """

    columns: list[Column]
    left_out: list[str]
    same: dict[str, str]


def naming(*columns: Column) -> list[Column]:
    """Mark columns as identifying a row (`Column.names`)."""
    return [replace(column, names=True) for column in columns]


def answering(*columns: Column) -> list[Column]:
    """Mark columns as the main result (`Column.answers`)."""
    return [replace(column, answers=True) for column in columns]


def plain(name: str, heading: str | None = None) -> Column:
    """Make a column that prints a value as it is; of what holds or does not, yes or no."""

    def fill(row: Row) -> str:
        value = row.get(name)
        if value is None:
            return NOTHING
        return ("no", "yes")[value] if isinstance(value, bool) else str(value)

    return Column(heading or name, fill)


def count(name: str, heading: str | None = None) -> Column:
    """Make a column that prints a whole number."""
    return Column(heading or name, lambda row: NOTHING if row.get(name) is None else f"{row[name]:,.0f}", right=True)


def times(name: str, heading: str) -> Column:
    """Make a column of moments in UTC, to the minute; its heading says that they are UTC."""
    return Column(heading, lambda row: NOTHING if row.get(name) is None else moment(row[name]).removesuffix(" UTC"))


def number(name: str, heading: str | None = None) -> Column:
    """Make a column that prints a number with two decimals."""
    return Column(heading or name, lambda row: NOTHING if row.get(name) is None else f"{row[name]:,.2f}", right=True)


def percent(name: str, heading: str | None = None, *, signed: bool = False) -> Column:
    """Make a column that prints a fraction in percent with two decimals."""
    return Column(heading or name, lambda row: in_percent(row.get(name), signed=signed), right=True)


def in_percent(value: float | None, *, signed: bool = False) -> str:
    """Print a fraction in percent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    shown = round(100 * value, 2) + 0.0  # no "-0.00"
    return f"{shown:+.2f}" if signed else f"{shown:.2f}"


def how_many(number: int, what: str, several: str | None = None) -> str:
    """Say a number of things: "1 trial", "1,200 trials", "2 classes", where `several` is "classes"."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def lasting(seconds: float) -> str:
    """Say about how long something takes, as one says it: "40 seconds", "15 minutes", "2.5 hours"."""
    if seconds < 1:
        return "under a second"
    if seconds < 60:
        return how_many(round(seconds), "second")
    if seconds < 90 * 60:
        return how_many(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 9.95 else f"{hours:,.0f} hours"


def moment(value: object) -> str:
    """Say when something was, to the minute: "2026-11-28 11:03 UTC".

    Args:
        value: a time in UTC, or its text as `str` and `isoformat` write it.
    """
    return f"{str(value)[:16].replace('T', ' ')} UTC"


def text_table(columns: Sequence[Column], rows: Sequence[Row], *, width: int | None = None) -> Table:
    """Return a table for a terminal, without a frame where that is narrow.

    Args:
        columns: of the table; `fitting` chooses those for which there is room.
        rows: of the table.
        width: of the terminal; None is any.
    """
    table = Table(header_style="bold")
    if _is_narrow(width):
        table.box, table.show_edge, table.pad_edge, table.padding = SIMPLE_HEAD, False, False, (0, 1, 0, 0)
    # text beside a name is wrapped more before the name is: somebody will type it
    taken = [_least(c, rows, width) if c.names or c.right else min(_least(c, rows, width), SLIM) for c in columns]
    whole = width is None or sum(taken) <= width
    for column in columns:
        table.add_column(
            _literal(column.heading), justify="right" if column.right else "left", overflow="fold",
            no_wrap=column.right or (column.names and whole and column.least is None),
            min_width=column.least,
        )  # fmt: skip
    for row, following in zip_longest(rows, rows[1:]):
        cells = (_literal(column.fill(row)) for column in columns)
        table.add_row(*cells, style=_style(row), end_section=_ends(row, following))
    return table


def fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> View:
    """Choose the columns that fit a terminal: first those that identify a row, then the main result, then the others.

    Where not all fit, identifying columns with the same value in every row move below the table, the last first, so
    that the result has their room. Where the others are too wide even so, they become one column of names that are
    whole, wrapped between them: "beats-small, M 3, composite, subcluster_adacos".

    Args:
        columns: of the whole table, with distinct headings; if none has `names`, the first one identifies a row.
        rows: of the table.
        width: of the terminal.
    """
    if not any(column.names for column in columns):
        columns = [*naming(*columns[:1]), *columns[1:]]
    least = {column.heading: _least(column, rows, width) for column in columns}
    names, others = ([column for column in columns if column.names is named] for named in (True, False))
    wanted = sorted(others, key=lambda column: not column.answers)
    first = least[wanted[0].heading] if wanted else 0
    same: dict[str, str] = {}
    for column in reversed(names):
        # one row differs in nothing: its names go only if the result would have no room
        needed = first if len(rows) == 1 else sum(least[each.heading] for each in others)
        if sum(least[each.heading] for each in names) + needed <= width or len(names) == 1:
            break
        said = {column.fill(row) for row in rows} - {NOTHING}
        if len(said) <= 1 and column.heading not in ("#", "M"):
            same = {**(dict.fromkeys([column.heading], *said) if said else {}), **same}
            names = [each for each in names if each is not column]
    if len(names) > 1 and sum(least[each.heading] for each in names) + first > width:
        names = [_joined(names, rows)]
        least[names[0].heading] = max(_least(names[0], rows, width), min(width - first, JOINED))
    shown, room = set[str](), width - sum(least[each.heading] for each in names)
    for column in wanted:
        if least[column.heading] <= room or (not shown and column is wanted[0]):
            shown.add(column.heading)
            room -= least[column.heading]
    left_out = [column.heading for column in others if column.heading not in shown]
    return View([*names, *(column for column in others if column.heading in shown)], left_out, same)


def _joined(names: Sequence[Column], rows: Sequence[Row]) -> Column:
    """Return one column that says what all of these say, a number with its heading, what there is not left out."""

    def fill(row: Row) -> str:
        said = [_told(column.heading, text) for column in names if (text := column.fill(row)) != NOTHING]
        return ", ".join(dict.fromkeys(said))  # a row of kind level has the scorer level, too

    longest = max((cell_len(word) for row in rows for word in fill(row).split(" ")), default=0)
    return Column("row", fill, names=True, least=longest)


def _told(heading: str, text: str) -> str:
    """Return a value that says what it is: words do, a number takes its heading, and both stay on one line."""
    told = f"{heading} {text}" if text[:1].isdigit() and heading not in SPEAKING else text
    return told.replace(" ", "\N{NO-BREAK SPACE}")


def named_columns(columns: Sequence[Column], wanted: str) -> list[Column]:
    """Return the columns that the user asked for, after those that identify a row.

    Args:
        columns: of the whole table.
        wanted: headings joined by commas, in any case; of a heading with a comma, only the part before it.

    Raises:
        HarnessError: the table has no such heading.
    """
    by_heading = {column.heading.casefold(): column for column in columns}
    by_heading |= {heading.split(",")[0]: column for heading, column in by_heading.items()}  # "optimism, points"
    asked = [heading.strip().casefold() for heading in wanted.split(",") if heading.strip()]
    for heading in asked:
        if heading not in by_heading:
            there = ", ".join(column.heading for column in columns)
            raise HarnessError(f"--columns must name columns of the table ({there}), but got {brief(heading)!r}.")
    names = [column for column in columns if column.names] or list(columns[:1])
    return [*names, *(by_heading[heading] for heading in asked if by_heading[heading] not in names)]


def _least(column: Column, rows: Sequence[Row], width: int | None) -> int:
    """Return the least width of a table's column in characters, including the space between columns."""
    natural = max(cell_len(printable(text)) for text in (column.heading, *(column.fill(row) for row in rows)))
    apart = 2 if _is_narrow(width) else 3
    if column.least is not None:
        return apart + column.least
    return apart + (natural if column.right or column.names else min(natural, WRAPPED))


def _is_narrow(width: int | None) -> bool:
    return width is not None and width < NARROW


def printable(text: str, *, longest: int | None = None) -> str:
    """Return text as one line without control characters, since names may come from anybody's files.

    An escape sequence in the name of a folder could otherwise clear the screen or fake output.

    Args:
        text: line ends become spaces, other control characters become U+FFFD.
        longest: number of characters; the middle of a longer text is left out. None keeps any length.
    """
    if longest is not None and len(text) > longest:
        kept = (longest - len(CUT)) // 2
        text = text[:kept] + CUT + text[-kept:]
    return without_controls(text.replace("\r\n", " ").replace("\n", " "))


def without_controls(text: str) -> str:
    """Return text of several lines in which every other control character is replaced."""
    return "\n".join(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", line) for line in text.split("\n"))


def brief(value: str) -> str:
    """Return a value as it is quoted in a sentence: printable, and shortened to `BRIEF` characters."""
    return printable(value, longest=BRIEF)


def _literal(text: str) -> Text:
    """Return text for rich that is not interpreted as markup, without control characters."""
    return Text(printable(text))


def written(form: Form, columns: Sequence[Column], rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Return a table as JSON (fractions, all fields), CSV (the same fields, flat) or markdown (as printed)."""
    if form == "json":
        whole = json.dumps(finite(document), indent=1, ensure_ascii=False)
        # escape control characters inside JSON's strings; line ends are part of its layout
        return "\n".join(CONTROLS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line) for line in whole.split("\n"))
    if form == "csv":
        return without_controls(csv_table(rows))
    lines = [
        "| " + " | ".join(_cell(column.heading) for column in columns) + " |",
        "| " + " | ".join("---:" if column.right else "---" for column in columns) + " |",
        *("| " + " | ".join(_cell(column.fill(row)) for column in columns) + " |" for row in rows),
    ]
    return "\n".join(lines)


def csv_table(rows: Sequence[Row]) -> str:
    """Return rows as CSV; a field that is a mapping becomes several columns, such as `machines.ToyCar`."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    held = io.StringIO()
    writer = csv.DictWriter(held, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return held.getvalue().rstrip("\n")


def finite(value: Any) -> Any:
    """Return a value ready for JSON: NaN becomes None, NumPy numbers become Python's, keys become text."""
    if isinstance(value, Mapping):
        return {str(name): finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _style(row: Row) -> str:
    if row.get("kind") in ("frozen", "level", "chance", "published"):
        return "dim"
    return "green" if row.get("tier") == 1 else ""


def _ends(row: Row, following: Row | None) -> bool:
    """Tell whether a tier ends with this row, so that a line is drawn below it."""
    tiers = [each.get("tier") for each in (row, following) if each is not None]
    return len(tiers) == 2 and None not in tiers and tiers[0] != tiers[1]


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        elif isinstance(value, list | tuple) and value and all(_of_machine(each) for each in value):
            for each in value:
                flat |= {f"{name}.{each['machine']}.{inner}": one for inner, one in each.items() if inner != "machine"}
        elif isinstance(value, list | tuple):
            flat[name] = "; ".join(map(str, value))
        else:
            flat[name] = value
    return finite(flat)  # type: ignore[no-any-return]  # a mapping stays a mapping


def _of_machine(value: object) -> bool:
    return isinstance(value, Mapping) and "machine" in value
