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
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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


def machine_columns(rows: Sequence[Row]) -> list[Column]:
    """Make a column a machine type."""
    names = sorted({name for row in rows for name in row["machines"]})

    def column(name: str) -> Column:
        return Column(name, lambda row: in_percent(row["machines"].get(name)), right=True)

    return [column(name) for name in names]


def place_columns() -> list[Column]:
    """Return the columns that say where a row stands and what it is."""
    return [count("rank", "#"), count("tier"), plain("kind"), Column("backbone", _named), count("m", "M")]


def leaderboard_columns(rows: Sequence[Row], *, machines: bool = True) -> list[Column]:
    """Return the columns of a leaderboard, with one a machine type unless these are left out."""
    measured = [name for name in ("auc", "s_auc", "t_auc", "p_auc") if any(row.get(name) is not None for row in rows)]
    headings = {"auc": "AUC", "s_auc": "sAUC", "t_auc": "tAUC", "p_auc": "pAUC"}
    ranked_by = next((row["machine"] for row in rows if "machine" in row), None)
    return [
        *place_columns(),
        Column("K1/K2", _neighbours_and_clusters),
        *([plain("fusion")] if len({row["fusion"] for row in rows if row["fusion"]}) > 1 else []),
        *([Column("labels", _label_source)] if {row.get("labels") for row in rows} - {None, "paper"} else []),
        plain("scorer"),
        count("trials"),
        *([Column(f"{ranked_by} %", _machine_with_spread, right=True)] if ranked_by is not None else []),
        Column("official %", _with_spread, right=True),
        *(percent(name, headings[name]) for name in measured),
        *(machine_columns(rows) if machines else []),
        count("classes"),
        count("singletons", "single"),
        Column("s/trial", lambda row: NOTHING if row["seconds"] is None else f"{row['seconds']:.1f}", right=True),
        count("peak_mb", "MiB"),
        *([plain("source")] if any(row.get("source") for row in rows if row["kind"] == "published") else []),
    ]


def reference_lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return published numbers with the machine types side by side: a line a system, setting and metric."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    names = ("table", "system", "backbone", "m", "dataset", "part", "metric")
    by_machine = {tuple(row[name] for name in names[:-1]) for row in rows if row["metric"] == "h_mean"}
    for row in rows:
        setting = tuple(row[name] for name in names[:-1])
        # over all machine types the harmonic mean is the official score from 2021 on; where that is all, it says so
        metric = "h_mean" if row["metric"] == "official_score" and setting in by_machine else row["metric"]
        key = (*setting, metric)
        line = lines.setdefault(key, {name: row[name] for name in names} | {"metric": metric, "machines": {}})
        line["machines"][row["machine"]] = (row["published"], row["difference"])
    return list(lines.values())


def reference_columns(lines: Sequence[Row]) -> list[Column]:
    """Return the columns of a published table: its machine types, the mean over all last."""
    names = sorted({name for line in lines for name in line["machines"]} - {"all"})

    def column(name: str, heading: str) -> Column:
        return Column(heading, lambda line: _beside(line["machines"].get(name)), right=True)

    return [
        *(plain(name) for name in ("system", "dataset", "part")),
        *([plain("backbone"), count("m", "M")] if any(line["m"] is not None for line in lines) else []),
        plain("metric"),
        *(column(name, name) for name in names),
        column("all", "all"),
    ]


def _beside(numbers: tuple[float, float | None] | None) -> str:
    if numbers is None:
        return NOTHING
    published, difference = numbers
    if difference is None:
        return in_percent(published)
    return f"{in_percent(published)} ({in_percent(difference, signed=True)})"


def _named(row: Row) -> str:
    """Print a backbone, with a star where its cell was chosen on the test set that it reports."""
    return (row["backbone"] or NOTHING) + ("*" if row.get("chosen_on_test") else "")


def compare_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a comparison of Top-M with Top-1, with the year where there are several."""
    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        Column("K1/K2", _neighbours_and_clusters),
        plain("fusion"),
        plain("labels"),
        plain("scorer"),
        count("m", "M"),
        count("pairs"),
        percent("delta", "M − 1, points", signed=True),
        Column(
            "95 % interval",
            lambda row: f"{in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}",
            right=True,
        ),
        Column("p", lambda row: _p(row["p_value"]), right=True),
        Column("p corrected", lambda row: _p(row["p_corrected"]), right=True),
        Column(
            "machines won/tied/lost",
            lambda row: f"{row['machines_won']}/{row['machines_tied']}/{row['machines_lost']}",
            right=True,
        ),
    ]


def quality_columns() -> list[Column]:
    """Return the columns that judge pseudo-labels by the truth."""

    def number(name: str, heading: str) -> Column:
        return Column(heading, lambda row: NOTHING if row[name] is None else f"{row[name]:.3f}", right=True)

    return [
        count("judged"),
        percent("judged_left_out", "of them left out %"),
        percent("purity", "purity %"),
        number("nmi", "NMI"),
        number("ari", "ARI"),
        percent("recall_at_m", "recall at M %"),
        number("entropy", "entropy, bits"),
    ]


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


def _literal(text: str) -> Text:
    """Return text that a terminal shows as it is: names are neither markup nor control sequences."""
    return Text(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " ")))


def written(form: Form, columns: Sequence[Column], rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """Return a table as JSON (fractions, all fields), CSV (the same fields, flat) or markdown (as printed)."""
    if form == "json":
        return json.dumps(finite(document), indent=1, ensure_ascii=False)
    if form == "csv":
        return csv_table(rows)
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


def _neighbours_and_clusters(row: Row) -> str:
    numbers = [row["k1"], row["k2"]]
    return NOTHING if numbers == [None, None] else "/".join(NOTHING if each is None else str(each) for each in numbers)


def _label_source(row: Row) -> str:
    """Print what labeled the training clips; who trained on the truth is never shown without saying so."""
    source = row.get("labels") or NOTHING
    return "truth (upper bound)" if source == "truth" else str(source)


def _with_spread(row: Row) -> str:
    return _spread(row["official_score"], row["official_score_std"])


def _machine_with_spread(row: Row) -> str:
    return _spread(row["machine_score"], row["machine_score_std"])


def _spread(mean: float | None, deviation: float | None) -> str:
    return f"{in_percent(mean)} ± {100 * deviation:.2f}" if deviation is not None else in_percent(mean)


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def _style(row: Row) -> str:
    if row.get("kind") in ("frozen", "level", "chance", "published"):
        return "dim"
    return "green" if row.get("tier") == 1 else ""


def _ends(row: Row, following: Row | None) -> bool:
    """Tell whether a tier ends with this row, so that a line is drawn below it."""
    tiers = [each.get("tier") for each in (row, following) if each is not None]
    return len(tiers) == 2 and None not in tiers and tiers[0] != tiers[1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


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
