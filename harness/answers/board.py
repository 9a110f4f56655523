"""The fields of a leaderboard row, each declared once: how to compute it, how to show it, its value in reference rows.

To add a field, add an entry to `fields` and, for type checkers, a line to `BoardRow`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any, NotRequired, TypeAlias, TypedDict

import numpy as np

from harness.answers.question import details, differing
from harness.answers.standings import METRICS, Cells, Floats, Places, Standings
from harness.tables import NOTHING, Column, Row, answering, count, in_percent, naming, percent, plain
from harness.trials.axes import Axis, shown_cell, study_axes

UNNAMED = ("k1", "k2", "fusion")  # axes whose columns are not part of a row's name, which would become too long


class BoardRow(TypedDict):
    """One row of a leaderboard; scores are fractions. Any further axis of a study is a field, too.

    `kind` is "trial" (fine-tuned), "frozen" (no fine-tuning), "level" (no network) or "external" (score files of
    another system) for results recorded here, and "chance" or "published" for reference rows.
    """

    rank: int | None
    of: int | None
    tier: int | None
    kind: str
    backbone: str | None
    m: int | None
    k1: int | None
    k2: int | None
    fusion: str | None
    labels: str | None
    scorer: str | None
    recipe: str | None
    protocol: str
    data: str
    trials: int
    official_score: float | None
    official_score_std: float | None
    ci_low: float | None
    ci_high: float | None
    auc: float | None
    s_auc: float | None
    t_auc: float | None
    p_auc: float | None
    machines: dict[str, float]
    classes: float | None
    singletons: float | None
    left_out: float | None
    seconds: float | None
    peak_mb: float | None
    seeds: list[int]
    keys: list[str]
    libraries: list[str]
    source: str
    dataset: str
    cells: int | None
    chosen_on_test: bool
    searched: str
    # only if the leaderboard is ranked by one machine type
    machine: NotRequired[str]
    machine_score: NotRequired[float | None]
    machine_score_std: NotRequired[float | None]


@dataclass(frozen=True)
class Ranked:
    """One ranked board, from which the fields of its rows are computed.

    Attributes:
        board: the n trials of the board.
        cells: the c cells: groups of trials that differ in their seed alone.
        shown: (r,) indices of the cells that have a row, best first.
        ranks: (r,) rank of each row, from 1.
        tiers: (r,) tier of each row; None without a score.
        rivals: (r,) number of fine-tuned cells of the row's backbone on the board; None for a row without fine-tuning.
        best: (r,) whether the row is the best of several such cells.
        machine: the machine type that the board is ranked by; None if it is ranked by the official score.
    """

    board: Standings
    cells: Cells
    shown: Places
    ranks: Sequence[int]
    tiers: Sequence[int | None]
    rivals: Sequence[int | None]
    best: Sequence[bool]
    machine: str | None = None

    @cached_property
    def official(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return mean, deviation and interval of every cell's official score: four of (c,)."""
        return self.cells.spread(self.board.official)

    @cached_property
    def of_machine(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return mean, deviation and interval of the ranking machine's harmonic mean in every cell: four of (c,)."""
        return self.cells.spread(self.board.machine(self.machine or ""))

    def first(self, name: str) -> list[Any]:
        """Return a column of each row's first trial: (r,)."""
        column = self.board[name]
        return [column[self.cells.places[at][0]] for at in self.shown.tolist()]

    def all(self, name: str) -> list[list[Any]]:
        """Return a column of all of each row's trials: (r,)."""
        return [self.cells.values(at, name) for at in self.shown.tolist()]

    def known(self, values: Floats) -> list[float | None]:
        """Pick the rows' values from those of all cells, with None for NaN: (c,) -> (r,)."""
        return [None if isnan(value) else value for value in values[self.shown].tolist()]

    def mean(self, values: Floats) -> list[float | None]:
        """Return each row's mean over its trials: (n,) -> (r,)."""
        return self.known(self.cells.mean(values))


Computed: TypeAlias = Callable[[Ranked], Sequence[Any]]  # (r,) a value a row
Columns: TypeAlias = Callable[[Sequence[Row]], list[Column]]  # of a table of these rows; none where none is needed


@dataclass(frozen=True)
class Field:
    """One field of every row of a leaderboard.

    Attributes:
        name: its key.
        compute: its values in the rows of what was run here.
        reference: its value in reference rows (chance, published), unless `reference_row` is given another.
        columns: the columns that show it in a table; None if it is only in JSON and CSV.
        by_machine: whether it exists only on leaderboards that are ranked by one machine type.
    """

    name: str
    compute: Computed
    reference: Any = None
    columns: Columns | None = None
    by_machine: bool = False


def fields() -> list[Field]:
    """Return the fields of a row, in the order in which JSON and tables have them."""
    return [
        Field("rank", lambda ranked: ranked.ranks, columns=_always(*naming(count("rank", "#")))),
        Field("of", lambda ranked: [len(ranked.cells.places)] * len(ranked.shown)),  # rows of the whole board
        Field("tier", lambda ranked: ranked.tiers, columns=_always(count("tier"))),
        Field("kind", _first("kind"), "published", _always(*naming(plain("kind")))),
        *(Field(axis.name, _of_axis(axis), columns=_axis_columns(axis)) for axis in study_axes()),
        Field("scorer", _first("scorer"), columns=_always(*naming(plain("scorer")))),
        Field("recipe", _first("recipe")),
        Field("protocol", _first("protocol")),
        Field("data", _data),
        Field("trials", lambda ranked: [len(keys) for keys in ranked.all("key")], 0, _always(count("trials"))),
        Field("official_score", _official(0), columns=_score_columns),
        Field("official_score_std", _official(1)),
        Field("ci_low", _official(2)),
        Field("ci_high", _official(3)),
        *(Field(name, _metric(name), columns=_metric_columns(name)) for name in METRICS),
        Field("machine_score", _of_machine(0), by_machine=True),
        Field("machine_score_std", _of_machine(1), by_machine=True),
        Field("machines", _machines, {}, machine_columns),
        Field("classes", _mean("classes"), columns=_always(count("classes"))),
        Field("singletons", _mean("singletons"), columns=_always(count("singletons", "single"))),
        Field("left_out", _mean("left_out")),
        Field("seconds", _mean("seconds"), columns=_always(Column("s/trial", _seconds, right=True))),
        Field("peak_mb", _mean("peak_mb"), columns=_always(count("peak_mb", "MiB"))),
        Field("seeds", lambda ranked: ranked.all("seed"), []),
        Field("keys", lambda ranked: ranked.all("key"), []),
        Field("libraries", lambda ranked: [sorted(set(each)) for each in ranked.all("libraries")], []),
        Field("source", lambda ranked: [""] * len(ranked.shown), "", _source_columns),
        Field("dataset", lambda ranked: ["+".join(ranked.board.datasets)] * len(ranked.shown)),
        Field("machine", lambda ranked: [ranked.machine] * len(ranked.shown), by_machine=True),
        Field("cells", lambda ranked: ranked.rivals),
        Field("chosen_on_test", lambda ranked: ranked.best, reference=False),
        Field("searched", lambda ranked: [""] * len(ranked.shown), ""),  # `leaderboard` says it of a search's cells
    ]


def computed_rows(ranked: Ranked) -> list[dict[str, Any]]:
    """Return the rows of a board, best first, each with every field."""
    own = [field for field in fields() if ranked.machine is not None or not field.by_machine]
    columns = {field.name: field.compute(ranked) for field in own}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def reference_row(**said: Any) -> dict[str, Any]:
    """Return a reference row (chance, published): the fields given as arguments, and defaults for all others."""
    return {field.name: copy(field.reference) for field in fields() if not field.by_machine} | said


def leaderboard_columns(rows: Sequence[Row], *, machines: bool = True) -> list[Column]:
    """Return the columns of a leaderboard, with one a machine type unless these are left out."""
    return [
        column
        for field in fields()
        if field.columns is not None and (machines or field.name != "machines")
        for column in field.columns(rows)
    ]


def place_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that say where a row stands and what it is."""
    return [column for column in leaderboard_columns(rows, machines=False) if column.names]


def machine_columns(rows: Sequence[Row]) -> list[Column]:
    """Make a column a machine type."""
    names = sorted({name for row in rows for name in row["machines"]})

    def column(name: str) -> Column:
        return Column(name, lambda row: in_percent(row["machines"].get(name)), right=True)

    return [column(name) for name in names]


def _neighbours_and_clusters(row: Row) -> str:
    """Print K1 and K2 in one column: 15/15."""
    numbers = [row["k1"], row["k2"]]
    return NOTHING if numbers == [None, None] else "/".join(NOTHING if each is None else str(each) for each in numbers)


def axis_columns(axis: Axis, rows: Sequence[Row], *, always: bool = False) -> list[Column]:
    """Return the columns of an axis; none if every row has the paper's value. Backbone, M, K1 and K2 always have one.

    Args:
        axis: of the study.
        rows: of the table.
        always: show it even if every row has the paper's value.
    """
    if axis.name == "k2":
        return []
    special = {
        "backbone": Column("backbone", _named),
        "m": count("m", "M"),
        "k1": Column("K1/K2", _neighbours_and_clusters),
    }
    if axis.name in special:
        return naming(special[axis.name])
    if not always and {row.get(axis.name) for row in rows} <= {None, axis.default}:
        return []
    if axis.name == "labels":
        return naming(Column(axis.heading, _label_source))
    return naming(count(axis.name, axis.heading) if axis.number else plain(axis.name, axis.heading))


def row_name(row: Mapping[str, Any], named: Collection[str] | None = None) -> str:
    """Return how a row of the leaderboard is called in words.

    Args:
        row: of the leaderboard.
        named: columns that the name says besides backbone and M, such as those in which the rows of a table differ
            (`harness.answers.question.differing`); None is every axis but K1, K2 and fusion.
    """
    name = row["kind"] if row["backbone"] is None else str(row["backbone"])
    if named is None:
        said = shown_cell({axis.name: row.get(axis.name) for axis in study_axes(but=UNNAMED)})
    else:
        said = ", ".join(filter(None, [shown_cell({"m": row.get("m")}), details(row, named)]))
    kind = "" if row["kind"] in ("trial", name) else str(row["kind"])
    source = f" ({row['source']})" if row["kind"] in ("published", "external") and row.get("source") else ""
    return ", ".join(filter(None, [name, said, kind])) + source


def row_namer(rows: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that names each of these rows by what it differs in from the others, and by no more."""
    named = [name for name in differing(rows) if name not in ("protocol", "dataset")]  # a board has one of each
    return lambda row: row_name(row, named)


def _always(*columns: Column) -> Columns:
    return lambda _rows: list(columns)


def _first(name: str) -> Computed:
    return lambda ranked: ranked.first(name)


def _mean(name: str) -> Computed:
    return lambda ranked: ranked.mean(ranked.board.numeric(name))


def _metric(name: str) -> Computed:
    return lambda ranked: ranked.mean(ranked.board.metrics[name])


def _official(part: int) -> Computed:
    return lambda ranked: ranked.known(ranked.official[part])


def _of_machine(part: int) -> Computed:
    return lambda ranked: ranked.known(ranked.of_machine[part])


def _of_axis(axis: Axis) -> Computed:
    """Return an axis's values. Words such as the fusion are None in rows without fine-tuning."""
    if axis.number or axis.name == "backbone":
        return _first(axis.name)
    return lambda ranked: [
        value if kind == "trial" else None
        for value, kind in zip(ranked.first(axis.name), ranked.first("kind"), strict=True)
    ]


def _data(ranked: Ranked) -> list[str]:
    pairs = zip(ranked.first("train_data"), ranked.first("test_data"), strict=True)
    return [f"{train}-{test}" for train, test in pairs]


def _machines(ranked: Ranked) -> list[dict[str, float]]:
    names = ranked.board.machines
    return [
        {name: value for name, value in zip(names, values, strict=True) if not isnan(value)}
        for values in np.asarray(ranked.cells.mean(ranked.board.h_means))[ranked.shown].tolist()
    ]


def _axis_columns(axis: Axis) -> Columns:
    return lambda rows: axis_columns(axis, rows)


def _score_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the official score's column, behind that of the machine type where one ranks the board."""
    machine = next((row["machine"] for row in rows if "machine" in row), None)
    of_machine = [] if machine is None else [_with_spread("machine_score", f"{machine} %")]
    return answering(*of_machine, _with_spread("official_score", "official %"))


def _metric_columns(name: str) -> Columns:
    heading = {"auc": "AUC", "s_auc": "sAUC", "t_auc": "tAUC", "p_auc": "pAUC"}[name]
    return lambda rows: [percent(name, heading)] if any(row.get(name) is not None for row in rows) else []


def _source_columns(rows: Sequence[Row]) -> list[Column]:
    return naming(plain("source")) if any(row.get("source") for row in rows if row["kind"] == "published") else []


def _with_spread(name: str, heading: str) -> Column:
    def fill(row: Row) -> str:
        mean, deviation = row[name], row[f"{name}_std"]
        return f"{in_percent(mean)} ± {100 * deviation:.2f}" if deviation is not None else in_percent(mean)

    return Column(heading, fill, right=True)


def _named(row: Row) -> str:
    """Print a backbone, with a star if its cell was chosen by the same test set on which its score is reported."""
    return (row["backbone"] or NOTHING) + ("*" if row.get("chosen_on_test") else "")


def _label_source(row: Row) -> str:
    """Print the labels of a row, so that results of training on withheld attributes are always recognisable."""
    source = row.get("labels") or NOTHING
    return "truth (upper bound)" if source == "truth" else str(source)


def _seconds(row: Row) -> str:
    return NOTHING if row["seconds"] is None else f"{row['seconds']:.1f}"
