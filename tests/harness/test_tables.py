"""What of a table fits a terminal: names first and whole, then numbers, and a word about what is left out."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.tables import (
    NOTHING,
    Column,
    View,
    answering,
    count,
    fitting,
    named_columns,
    naming,
    percent,
    plain,
    text_table,
)

ROWS = [
    {
        "backbone": "audiomae-small",
        "scorer": "knn",
        "note": "a sentence of several words " * 4,
        "auc": 0.5,
        "score": 0.6,
    },
    {"backbone": "beats", "scorer": "knn", "note": "short", "auc": 0.7, "score": None},
]
COLUMNS = [*naming(plain("backbone"), plain("scorer")), plain("note"), percent("auc"), *answering(percent("score"))]


def headings(width: int) -> list[str]:
    """Return the headings that a terminal of a width shows."""
    return [column.heading for column in fitting(COLUMNS, ROWS, width).columns]


DIFFERING = [{**row, "scorer": f"knn{at}"} for at, row in enumerate(ROWS)]


def test_names_are_kept_and_the_answer_first() -> None:
    """Names stand first; then the answer finds room, then the others in their order; what is left out is told."""
    assert headings(200) == ["backbone", "scorer", "note", "auc", "score"]
    assert headings(42) == ["backbone", "auc", "score"]
    assert headings(24) == ["backbone", "score"]
    assert fitting(COLUMNS, ROWS, 24).left_out == ["note", "auc"]


def test_what_tells_no_rows_apart_gives_way() -> None:
    """As soon as a column has no room, those that every row shares are told below, but never results, rank and M."""
    assert fitting(COLUMNS, ROWS, 200).same == {}
    assert fitting(COLUMNS, ROWS, 42).same == {"scorer": "knn"}
    rows = [{**row, "score": 0.5, "M": 3, "auc": None, "trials": 2} for row in ROWS]
    columns = [*COLUMNS, *naming(plain("M")), plain("trials")]
    view = fitting(columns, rows, 42)
    assert [column.heading for column in view.columns] == ["backbone", "M", "score"]
    assert view.same == {"scorer": "knn", "auc": NOTHING, "trials": "2"}
    assert headings_of(fitting(COLUMNS, ROWS[:1], 42))[0] == "backbone"  # a single row keeps its first name


@pytest.mark.parametrize("width", [48, 60, 80, 99, 100, 120])
def test_names_are_never_broken(width: int) -> None:
    """Names too wide for a terminal share one column, each of them whole, and no line is wider than the terminal."""
    names = ["audiomae-small", "cross_entropy", "subcluster_adacos", "mahalanobis", "composite", "7/15"]
    headed = ["backbone", "loss", "projection", "scorer", "fusion", "K1/K2"]
    rows = [{**dict(zip(headed, names, strict=True)), "M": 3, "score": 0.7423}]
    rows.append({**dict.fromkeys(headed, "x"), "M": 1, "score": 0.5})
    columns = [*naming(*map(plain, headed)), *naming(count("M")), *answering(percent("score"))]
    lines = drawn(columns, rows, width)
    assert all(len(line.rstrip()) <= width for line in lines), lines
    for name in [*names, *headed, "74.23", "score"]:
        assert name in " ".join(lines), (name, lines)


def test_a_name_wider_than_the_terminal_breaks_behind_its_signs() -> None:
    """Where even one name has no room it is broken behind `_` and `-`, and the answer still stands beside it."""
    long = "BEATs_iter3_plus_AS20K_finetuned_on_AS2M_cpt1"
    rows = [{"name": long, "score": 0.7423}, {"name": "beats", "score": 0.5}]
    lines = drawn([*naming(plain("name")), *answering(percent("score"))], rows, 40)
    pieces = [line.split()[0] for line in lines[2:] if line.split()]
    assert pieces == ["BEATs_iter3_plus_AS20K_", "finetuned_on_AS2M_cpt1", "beats"]
    assert "74.23" in lines[2]


def drawn(columns: list[Column], rows: list[dict[str, Any]], width: int) -> list[str]:
    """Return the lines of a table in a terminal of a width."""
    console = Console(file=io.StringIO(), width=width)
    console.print(text_table("", fitting(columns, rows, width).columns, rows, width=width))
    return console.file.getvalue().splitlines()


def headings_of(view: View) -> list[str]:
    """Return the headings of what is shown, one for each column of the whole table."""
    return [heading for column in view.columns for heading in column.heading.split(", ")]


@pytest.mark.parametrize("rows", [ROWS, DIFFERING])
def test_every_column_fits_or_is_left_out(rows: list[dict[str, Any]]) -> None:
    """At any width each column is shown, left out or told; none is lost, and the widest terminal shows all."""
    for width in range(1, 300):
        view = fitting(COLUMNS, rows, width)
        told = headings_of(view) + view.left_out + list(view.same)
        assert sorted(told) == sorted(column.heading for column in COLUMNS), width
    assert not fitting(COLUMNS, rows, 300).left_out


def test_columns_by_heading() -> None:
    """Asked for by heading, whatever its capitals; names stay; an unknown one is refused with those there are."""
    columns = [*naming(plain("backbone")), percent("delta", "M − 1, points"), percent("auc", "AUC")]
    assert [column.heading for column in named_columns(columns, "auc")] == ["backbone", "AUC"]
    assert [column.heading for column in named_columns(columns, "AUC, m − 1")] == ["backbone", "AUC", "M − 1, points"]
    with pytest.raises(HarnessError, match=r"\(backbone, M − 1, points, AUC\), but got 'f1'"):
        named_columns(columns, "auc,f1")
