"""Tables as text, markdown, csv and json; percent exists only here."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from rich.table import Table
from rich.text import Text

Form: TypeAlias = Literal["text", "json", "csv", "markdown"]
Row: TypeAlias = Mapping[str, Any]

NOTHING = "–"
# control characters, separators that end a line, signs that turn the direction of what follows, and what is no sign
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
BRIEF = 120  # characters of a value that a sentence quotes
CUT = " […] "


@dataclass(frozen=True)
class Column:
    """A column of a printed table: its heading and how a row fills it."""

    heading: str
    fill: Callable[[Row], str]
    right: bool = False


def plain(name: str, heading: str | None = None) -> Column:
    """Make a column that prints a value as it is."""
    return Column(heading or name, lambda row: NOTHING if row.get(name) is None else str(row[name]))


def count(name: str, heading: str | None = None) -> Column:
    """Make a column that prints a whole number."""
    return Column(heading or name, lambda row: NOTHING if row.get(name) is None else f"{row[name]:,.0f}", right=True)


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


def text_table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Return a table for a terminal."""
    table = Table(title=_literal(title), title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(
            _literal(column.heading), justify="right" if column.right else "left", no_wrap=column.right, overflow="fold"
        )
    for row, following in zip_longest(rows, rows[1:]):
        cells = (_literal(column.fill(row)) for column in columns)
        table.add_row(*cells, style=_style(row), end_section=_ends(row, following))
    return table


def printable(text: str, *, longest: int | None = None) -> str:
    """Return text that a terminal shows as it is, in one line: names come from files, and files from anybody.

    An escape in the name of a folder could otherwise clear the screen, colour it, or write what was never said.

    Args:
        text: what is shown; line ends become spaces, what else controls a terminal the replacement character.
        longest: characters; of a longer text the middle is left out. None is any length.
    """
    if longest is not None and len(text) > longest:
        kept = (longest - len(CUT)) // 2
        text = text[:kept] + CUT + text[-kept:]
    return without_controls(text.replace("\r\n", " ").replace("\n", " "))


def without_controls(text: str) -> str:
    """Return text of several lines in which every other control character is replaced."""
    return "\n".join(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", line) for line in text.split("\n"))


def brief(value: str) -> str:
    """Return a value as a sentence quotes it: printable, and short however long it is."""
    return printable(value, longest=BRIEF)


def _literal(text: str) -> Text:
    """Return text that is no markup and no control sequence."""
    return Text(printable(text))


def written(form: Form, columns: Sequence[Column], rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Return a table as JSON (fractions, all fields), CSV (the same fields, flat) or markdown (as printed)."""
    if form == "json":
        whole = json.dumps(finite(document), indent=1, ensure_ascii=False)
        # as JSON may write any sign; the line ends are its own
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
    """Return rows as CSV; a field that holds several becomes several columns, `machines.ToyCar`."""
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    held = io.StringIO()
    writer = csv.DictWriter(held, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return held.getvalue().rstrip("\n")


def finite(value: Any) -> Any:
    """Return a value for JSON: no NaN, no numpy, keys as text."""
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
