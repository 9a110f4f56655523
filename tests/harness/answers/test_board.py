"""A field of the leaderboard and an axis of a study are declared once, and then stand wherever rows do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.answers import board
from harness.answers.board import BoardRow, Field, axis_columns, fields, leaderboard_columns, row_name
from harness.answers.columns import compare_columns, machine_choice_columns, regress_columns, select_columns
from harness.answers.compare import compare
from harness.answers.leaderboard import leaderboard
from harness.answers.question import Question
from harness.answers.references import with_references
from harness.answers.selection import select
from harness.gate.baseline_file import read_baseline, write_baseline
from harness.gate.baselines import find_arm
from harness.gate.regression import regress
from harness.report.evidence import gather
from harness.report.page import render
from harness.stores.results import Results
from harness.tables import count
from harness.trials.axes import AXES, Axis, study_axes
from tests.harness.answers.test_leaderboard import paper_specs, put
from tests.harness.made_up import make_spec, open_tables, record

QUICK = Question(resamples=100)


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[list[BoardRow]]:
    """A board with a row of every kind."""
    tables = open_tables(tmp_path)
    for spec, numbers in paper_specs():
        put(tables, spec, numbers)
    spec, numbers = next(paper_specs())
    shared = {"protocol": spec.protocol, "m": None, "k1": None, "k2": None}
    put(tables, make_spec(kind="frozen", **shared), numbers)
    put(tables, make_spec(kind="level", backbone=None, **shared), numbers)
    put(tables, make_spec(kind="external", **shared), numbers)
    yield with_references(leaderboard(tables), tables)
    tables.close()


def test_rows_of_every_kind_have_every_field(rows: list[BoardRow]) -> None:
    """Trial, frozen, level, external, chance and published rows have the same keys in the same order."""
    assert {row["kind"] for row in rows} == {"trial", "frozen", "level", "external", "chance", "published"}
    names = [field.name for field in fields() if not field.by_machine]
    assert all(list(row) == names for row in rows)


def test_the_type_of_a_row_has_every_field() -> None:
    """What type checkers know of a row are its fields, no more and no fewer; further axes they need not know."""
    axes = {axis.name for axis in AXES}
    declared = [field.name for field in fields()]
    assert len(declared) == len(set(declared))
    assert set(BoardRow.__annotations__) - axes == set(declared) - axes


def test_a_new_field_is_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry puts a field into rows of every kind, and its column into the table."""
    known = fields()
    fresh = Field("luck", lambda ranked: [7] * len(ranked.shown), 0, lambda _: [count("luck", "Luck")])
    monkeypatch.setattr(board, "fields", lambda: [*known, fresh])
    tables = open_tables(tmp_path)
    for spec, numbers in paper_specs():
        put(tables, spec, numbers)
    found: list[Any] = list(with_references(leaderboard(tables), tables))
    tables.close()
    assert {(row["kind"], row["luck"]) for row in found} == {("trial", 7), ("chance", 0), ("published", 0)}
    assert leaderboard_columns(found)[-1].heading == "Luck"


def test_axes_are_shown_where_they_say_something() -> None:
    """A word that is the paper's in every row has no column; K1 and K2 share one; a label source never hides."""
    paper = {axis.name: axis.default for axis in AXES}
    headings = [column.heading for axis in AXES for column in axis_columns(axis, [paper])]
    assert headings == ["backbone", "M", "K1/K2"]
    truth = {**paper, "labels": "truth"}
    (column,) = [column for axis in AXES for column in axis_columns(axis, [truth]) if axis.name == "labels"]
    assert column.fill(truth) == "truth (upper bound)"


LAYERS = Axis("layers", "layers", default=12, number=True)
NOISE = Axis("noise", "noise", default="none")


class Wider(Results):
    """Results tables with two more axes, whose values follow from a trial's seed: 10 and above is another cell."""

    def trial_scores(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        trials = super().trial_scores(keys)
        later = trials["seed"] >= 10
        values = {"layers": np.where(later, 6, 12), "noise": np.where(later, "pink", "none")}
        return trials.assign(**values, seed=trials["seed"] % 10)

    def trial_columns(self, study_key: str | None = None) -> dict[str, tuple[Any, ...]]:
        columns = super().trial_columns(study_key)
        later = [seed >= 10 for seed in columns["seed"]]
        values = {
            "layers": [6 if each else 12 for each in later],
            "noise": ["pink" if each else "none" for each in later],
        }
        return {**columns, **values, "seed": tuple(seed % 10 for seed in columns["seed"])}


@pytest.fixture
def wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wider]:
    """A study over M and, as its seeds tell, two axes that nothing but the table of axes names."""
    tables = open_tables(tmp_path)
    for m in (1, 3):
        record(tables, m=m, seeds=[0, 1, 10, 11], apart=0.5 + 0.2 * m, luck=10 * m, study=f"of-{m}")
    tables.close()
    monkeypatch.setattr(
        "harness.trials.axes.AXES", (*AXES, LAYERS, NOISE)
    )  # specs of made-up trials have no such field
    opened = Wider(f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield opened
    opened.close()


class TestANewAxis:
    """An axis that is in the table of axes and in no other line of the harness."""

    def test_boards_tell_its_values_apart(self, wider: Wider) -> None:
        """Its values are rows of their own, with the value, a column, and a name that says it."""
        found: list[Any] = list(with_references(leaderboard(wider), wider))
        trials = [row for row in found if row["kind"] == "trial"]
        assert {(row["m"], row["layers"], row["noise"], row["trials"]) for row in trials} == {
            (1, 12, "none", 2), (1, 6, "pink", 2), (3, 12, "none", 2), (3, 6, "pink", 2),
        }  # fmt: skip
        assert next(row["layers"] for row in found if row["kind"] == "chance") is None
        headings = [column.heading for column in leaderboard_columns(found)]
        assert {"layers", "noise"} <= set(headings)
        assert any(row_name(row) == f"{row['backbone']}, M = 3, layers = 6, noise pink" for row in trials)

    def test_comparisons_never_cross_it(self, wider: Wider) -> None:
        """M = 3 is compared with M = 1 of the same value, family by family."""
        found: list[Any] = list(compare(wider, QUICK))
        assert {(row["m"], row["layers"], row["noise"], row["pairs"]) for row in found} == {
            (3, 12, "none", 10), (3, 6, "pink", 10),
        }  # fmt: skip
        assert {"layers", "noise"} <= {column.heading for column in compare_columns(found)}

    def test_selections_choose_it(self, wider: Wider) -> None:
        """It is part of the cell that is chosen, in rows, columns and sentences."""
        (row,) = select(wider, QUICK)
        chosen: dict[str, Any] = dict(row["machines"][0])
        assert row["cells"] == 4
        assert list(row["best"]) == ["m", "k1", "k2", "fusion", "train", "loss", "layers", "noise"]
        assert "layers = " in row["sentence"]
        assert chosen["layers"] in (6, 12)
        assert "layers = " in machine_choice_columns([{**row, **chosen}])[3].fill(chosen)
        assert select_columns([row])

    def test_verdicts_judge_each_value(self, wider: Wider, tmp_path: Path) -> None:
        """It tells settings apart, and a baseline's file keeps it; a file that is older than it means its default."""
        arm = find_arm(wider, "of-3")
        found = regress(arm, arm, resamples=100)
        assert {row["setting"] for row in found["rows"]} == {
            "M = 3, K1 = 15, K2 = 15, layers = 12, knn", "M = 3, K1 = 15, K2 = 15, layers = 6, noise pink, knn",
        }  # fmt: skip
        assert regress_columns(found["rows"])
        path = tmp_path / "b.json"
        write_baseline(arm, path, code="c")
        assert set(read_baseline(path).scores) == set(arm.scores)

    def test_the_report_names_it(self, wider: Wider) -> None:
        """Tables, figures and sentences of the page say it."""
        page = render(gather(wider, QUICK))
        assert "layers = 6" in page
        assert "noise pink" in page
        assert ">layers<" in page


def test_axes_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps a copy of the table of axes."""
    monkeypatch.setattr("harness.trials.axes.AXES", (*AXES, NOISE))
    assert study_axes()[-1] is NOISE
