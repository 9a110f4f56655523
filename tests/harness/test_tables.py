"""What of a table fits a terminal: names first and whole, then numbers, and a word about what is left out."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.tables import (
    answering,
    fitting,
    how_many,
    lasting,
    moment,
    named_columns,
    naming,
    percent,
    plain,
    text_table,
    times,
)

ROWS: list[dict[str, Any]] = [
    {
        "backbone": "audiomae-small",
        "scorer": "knn",
        "note": "a sentence of several words " * 4,
        "auc": 0.5,
        "score": 0.6,
    },
    {"backbone": "beats", "scorer": "knn", "note": "short", "auc": 0.7, "score": None},
]
DIFFERING = [{**row, "scorer": f"knn{at}"} for at, row in enumerate(ROWS)]
COLUMNS = [*naming(plain("backbone"), plain("scorer")), plain("note"), percent("auc"), *answering(percent("score"))]


def headings(width: int, rows: list[dict[str, Any]] = ROWS) -> list[str]:
    """Return the headings that a terminal of a width shows."""
    return [column.heading for column in fitting(COLUMNS, rows, width).columns]


def test_names_are_kept_and_the_answer_first() -> None:
    """Names stand first; then the answer finds room, then the others in their order; what is left out is told."""
    assert headings(200) == ["backbone", "scorer", "note", "auc", "score"]
    assert [column.heading for column in fitting(COLUMNS, DIFFERING, 42).columns] == [
        "backbone",
        "scorer",
        "auc",
        "score",
    ]
    assert [column.heading for column in fitting(COLUMNS, DIFFERING, 34).columns] == ["backbone", "scorer", "score"]
    assert fitting(COLUMNS, DIFFERING, 34).left_out == ["note", "auc"]


def test_a_name_that_tells_no_rows_apart_gives_way() -> None:
    """As soon as a column would be left out, names that every row shares are told below, so that it has their room."""
    view = fitting(COLUMNS, ROWS, 42)
    assert [column.heading for column in view.columns] == ["backbone", "auc", "score"]
    assert view.same == {"scorer": "knn"}
    assert fitting(COLUMNS, ROWS[:1], 42).same == {}  # one row differs in nothing, and keeps its names


def test_names_that_are_too_wide_stand_in_one_column_and_stay_whole() -> None:
    """Numbers take their headings with them, what is not there is left out, and lines end between names alone."""
    columns = [*naming(plain("kind"), plain("backbone"), plain("m", "M"), plain("loss")), *answering(percent("score"))]
    rows = [
        {"kind": "trial", "backbone": "audiomae-small", "m": 3, "loss": "subcluster_adacos", "score": 0.5},
        {"kind": "trial", "backbone": "beats", "m": 1, "loss": "adacos", "score": 0.5},
        {"kind": "level", "backbone": None, "m": None, "loss": "level", "score": 0.4},
    ]
    view = fitting(columns, rows, 36)
    assert [column.heading for column in view.columns] == ["row", "score"]
    assert [view.columns[0].fill(row) for row in rows] == [
        "trial, audiomae-small, M\N{NO-BREAK SPACE}3, subcluster_adacos",
        "trial, beats, M\N{NO-BREAK SPACE}1, adacos",
        "level",
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=36)
    console.print(text_table(view.columns, rows, width=36))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "audiomae-small" in printed and "subcluster_adacos" in printed and "50.00" in printed
    assert max(len(line) for line in printed.splitlines()) <= 36


def test_an_empty_table_fits_everywhere() -> None:
    """Without a row nothing is too wide, in the narrowest terminal either."""
    columns = [*naming(plain("m", "M"), plain("#"), plain("backbone")), *answering(percent("score"))]
    assert all(fitting(columns, [], width).columns for width in range(1, 40))


def test_the_first_column_names_where_none_does() -> None:
    """A name of a listing, which somebody will type, is never broken; text beside it is."""
    rows = [{"name": "n" * 40, "note": "word " * 20}]
    console = Console(file=io.StringIO(), width=60)
    console.print(text_table(fitting([plain("name"), plain("note")], rows, 60).columns, rows, width=60))
    assert "n" * 40 in console.file.getvalue()  # type: ignore[attr-defined]


def test_every_column_fits_or_is_left_out() -> None:
    """At any width each column is shown, left out or told; none is lost, and the widest terminal shows all."""
    for width in range(1, 300):
        view = fitting(COLUMNS, ROWS, width)
        told = [column.heading for column in view.columns] + view.left_out + list(view.same)
        assert sorted(told) == sorted(column.heading for column in COLUMNS), width
    assert not fitting(COLUMNS, ROWS, 300).left_out


def test_columns_by_heading() -> None:
    """Asked for by heading, whatever its capitals; names stay; an unknown one is refused with those there are."""
    columns = [*naming(plain("backbone")), percent("delta", "M − 1, points"), percent("auc", "AUC")]
    assert [column.heading for column in named_columns(columns, "auc")] == ["backbone", "AUC"]
    assert [column.heading for column in named_columns(columns, "AUC, m − 1")] == ["backbone", "AUC", "M − 1, points"]
    with pytest.raises(HarnessError, match=r"\(backbone, M − 1, points, AUC\), but got 'f1'"):
        named_columns(columns, "auc,f1")


def test_numbers_of_things_have_their_noun() -> None:
    """One is said in the singular, none and several in the plural, large numbers with commas."""
    assert [how_many(number, "trial") for number in (0, 1, 1200)] == ["0 trials", "1 trial", "1,200 trials"]
    assert [how_many(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "under a second"), (1, "1 second"), (40, "40 seconds"), (61, "1 minute"), (15 * 60, "15 minutes"),
        (80 * 60, "80 minutes"), (2.5 * 3600, "2.5 hours"), (40 * 3600, "40 hours"),
    ],
)  # fmt: skip
def test_durations_are_said_in_their_unit(seconds: float, said: str) -> None:
    """Nobody says a quarter of an hour as 0.25 hours."""
    assert lasting(seconds) == said


def test_times_are_utc_to_the_minute() -> None:
    """A time is shown as stores give it and as files write it, without microseconds, and says that it is UTC."""
    whens = [datetime(2026, 11, 28, 11, 3, 15, 842495), "2026-11-28 11:03:15.842495", "2026-11-28T11:03:15+00:00"]
    assert {moment(when) for when in whens} == {"2026-11-28 11:03 UTC"}
    assert times("created", "created (UTC)").fill({"created": str(whens[0])}) == "2026-11-28 11:03"


def test_what_holds_or_does_not_is_yes_or_no() -> None:
    """A table for people has no True and False."""
    assert [plain("fetched").fill({"fetched": value}) for value in (True, False, None, 0)] == ["yes", "no", "–", "0"]
