"""The script that holds the pages' tables against recorded studies notices what it should."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = """
| row | official |
| --- | ---: |
| level alone | 50.00 |
| tiny, frozen | 51.00 ± 0.10 |

> nothing differs
"""
FOUND = (["row", "AUC", "official"], [["level alone", "0.5", "50.00"], ["tiny, frozen", "0.6", "51.00 ± 0.10"]])


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_that_is_right(tables: ModuleType) -> None:
    """A table of some of the columns with all rows, and a sentence of the comparison."""
    assert tables.differences(PAGE, [FOUND], ["nothing differs"]) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "51.00", "51.01",
            ["not recorded so: | tiny, frozen | 51.01 ± 0.10 |", "left out: | tiny, frozen | 51.00 ± 0.10 |"],
        ),
        ("| level alone | 50.00 |\n", "", ["left out: | level alone | 50.00 |"]),
        ("official |", "chance |", ["nothing has the columns row, chance"]),
        ("> nothing", "> all", ['no comparison says "all differs"']),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong(tables: ModuleType, before: str, after: str, said: list[str]) -> None:
    """Another number, a row too few, a column of no table, a sentence that nobody said."""
    assert tables.differences(PAGE.replace(before, after), [FOUND], ["nothing differs"]) == said


@pytest.mark.parametrize(
    ("shown", "found", "expected"),
    [
        ("| 3 | 56.15 ± 1.21 | -6.53 to +2.35 | 0.407 |", "| 3 | 56.14 ± 1.22 | -6.41 to +2.36 | 0.421 |", True),
        ("M = 3: -0.01 points; about 75 seeds", "M = 3: +0.01 points; about 77 seeds", True),
        ("56.15", "56.35", True),
        ("56.15", "56.36", False),
        ("0.407", "0.428", False),
        ("M = 3: 56.15", "M = 5: 56.15", False),  # a whole number is no measurement
        ("tiny, 56.15", "small, 56.15", False),
        ("56.15", "56.15 | 50.00", False),
        ("about 75 seeds", "about 96 seeds", False),
    ],
)
def test_numbers_of_another_processor(tables: ModuleType, shown: str, found: str, expected: bool) -> None:
    """Measured numbers may differ by some units of their last digit where that is asked for, and nothing else may."""
    assert tables.same(shown, found, tables.NEAR) == expected
    assert not tables.same(shown, found, 0)
    assert tables.same(shown, shown, 0) and tables.same(shown, shown, tables.NEAR)


def test_every_page_has_its_marks(tables: ModuleType) -> None:
    """The pages that the script names have parts for their studies, with a table in each."""
    for study, page in tables.PAGES.items():
        assert tables.shown_tables(tables.block_of(ROOT / page, study)), study


def test_a_summary_joins_what_is_the_same(tables: ModuleType) -> None:
    """Values of M whose labels make the same classes are one row; the others, references and labels have their own."""
    row = {
        "kind": "trial",
        "backbone": "tiny",
        "train": "all",
        "labels": "paper",
        "machines": {"fan": 0.5},
        "trials": 2,
    }
    rows = [
        {**row, "m": m, "official_score": score, "official_score_std": 0.01}
        for m, score in ((7, 0.52), (1, 0.51), (3, 0.52))
    ]
    rows.append({**row, "m": None, "labels": "truth", "official_score": 0.6, "official_score_std": 0.0})
    rows.append({**row, "m": None, "kind": "level", "official_score": 0.4, "official_score_std": None})
    assert tables.summary(rows) == (
        ["row", "official", "fan"],
        [
            ["tiny, fine-tuned, M = 1", "51.00 ± 1.00", "50.00"],
            ["tiny, fine-tuned, M = 3 to 7", "52.00 ± 1.00", "50.00"],
            ["tiny, fine-tuned, the hidden attributes (upper bound)", "60.00", "50.00"],
            ["level alone", "40.00", "50.00"],
        ],
    )
