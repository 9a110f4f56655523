"""What of a table fits a terminal: names first and whole, then numbers, and a word about what is left out."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.tables import answering, fitting, named_columns, naming, percent, plain

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


def test_names_are_kept_and_the_answer_first() -> None:
    """Names stand first; then the answer finds room, then the others in their order; what is left out is told."""
    assert headings(200) == ["backbone", "scorer", "note", "auc", "score"]
    assert headings(42) == ["backbone", "scorer", "auc", "score"]
    assert headings(34) == ["backbone", "scorer", "score"]
    assert fitting(COLUMNS, ROWS, 34).left_out == ["note", "auc"]


def test_a_name_that_tells_no_rows_apart_gives_way() -> None:
    """Where names alone are too wide, one that every row shares is told below; those that differ always stand."""
    view = fitting(COLUMNS, ROWS, 20)
    assert [column.heading for column in view.columns] == ["backbone", "score"]
    assert view.same == {"scorer": "knn"}
    differing = [{**row, "scorer": f"knn{at}"} for at, row in enumerate(ROWS)]
    assert [column.heading for column in fitting(COLUMNS, differing, 20).columns] == ["backbone", "scorer", "score"]


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
