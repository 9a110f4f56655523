"""Filters on recorded trials, settings of the bootstrap, and how recorded trials are grouped.

A board is one leaderboard: all trials of one protocol on the same recordings. A family is the part of a board in which
everything agrees (backbone, labels, scorer, recipe) but the axes that a comparison or a selection looks at. A cell is
one combination of these axes, such as M = 3, K1 = 15, K2 = 15, composite; its trials differ in their seed alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.protocols import ALIASES
from harness.trials.axes import Axis, axis_names, shown_cell, study_axes


@dataclass(frozen=True)
class Question:
    """Which recorded trials an answer is about, and how its bootstrap draws. A filter that is None keeps all trials.

    Attributes:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, in canonical form (`harness.scoring.choice`), such as `knn:k=5`.
        keys: only the trials with these keys; replaces `study`.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap's draws.
    """

    study: str | None = None
    protocol: str | None = None
    backbone: str | None = None
    scorer: str | None = None
    keys: tuple[str, ...] | None = None
    resamples: int = 1000
    seed: int = 0

    def names(self) -> dict[str, str | None]:
        """Return what was asked for by name: study, protocol, backbone, scorer."""
        return {name: getattr(self, name) for name in ("study", "protocol", "backbone", "scorer")}


EVERYTHING = Question()  # no filter


# columns in which the trials of one board agree
BOARD = ("protocol", "train_data", "test_data")
# columns in which the trials of one family agree, besides those of its board and the axes that are held fixed
TRAINED = ("scorer", "recipe")
GIVEN = ("backbone", "labels")  # axes that a selection holds fixed; it chooses all others


def row_columns() -> list[str]:
    """Return the columns in which the trials of one leaderboard row agree: all but the seed."""
    return [*BOARD, "kind", *axis_names(), *TRAINED]


def curve_columns() -> list[str]:
    """Return the columns in which the rows of one M-curve agree: all but M."""
    return [*axis_names(but=["m"]), *TRAINED]


def chosen_axes() -> list[Axis]:
    """Return the axes of a cell: M, K1, K2, fusion, and whatever else a selection chooses."""
    return study_axes(but=GIVEN)


def differing(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the columns besides backbone and M in which the rows of an answer differ: what must be said to name one.

    Rows without a backbone (loudness alone, chance) have a name of their own and are not looked at, nor is what a row
    does not have, such as the fusion of a frozen encoder. "recipe" is among the names only if rows differ in nothing
    else, since its digest also covers backbone and axes.

    Args:
        rows: of a leaderboard, a comparison or the table of trials.
    """
    named = [row for row in rows if row.get("backbone") is not None]
    columns = [*axis_names(but=["backbone", "m"]), "scorer", "protocol", "dataset"]
    values = {name: {row[name] for row in named if _is_known(row.get(name))} for name in columns}
    found = [name for name in columns if len(values[name]) > 1]
    recipes: dict[tuple[object, ...], set[object]] = {}
    for row in named:
        same = tuple(str(row.get(name)) for name in ("kind", "backbone", *columns))
        recipes.setdefault(same, set()).add(row.get("recipe"))
    return [*found, *(["recipe"] if any(len(of_one) > 1 for of_one in recipes.values()) else [])]


def details(row: Mapping[str, Any], named: Collection[str]) -> str:
    """Say a row's values of some columns, such as those that `differing` returns: "K1 = 5, soft, loss adacos, knn"."""
    cell = {name: row[name] for name in axis_names() if name in named and _is_known(row.get(name))}
    said = [shown_cell(cell, whole=True)]
    if "scorer" in named and row.get("backbone") is not None:
        said.append(str(row["scorer"] or ""))
    said += [f"{name} {row[name]}" for name in ("protocol", "recipe") if name in named and row.get(name)]
    said += [str(row["dataset"])] if "dataset" in named and row.get("dataset") else []
    return ", ".join(filter(None, said))


def shown_choice(row: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """Say a chosen cell by the axes in which the cells of its row differ, and by no more: "M = 3, soft"."""
    return shown_cell({name: cell.get(name) for name in row["varied"]}, whole=True)


def choices_said(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what was there to choose in these rows: "M", "M, K1 and K2"."""
    varied = {name for row in rows for name in row["varied"]}
    *first, last = [axis.heading for axis in study_axes() if axis.name in varied]
    return f"{', '.join(first)} and {last}" if first else last


def called(row: Mapping[str, Any], named: Collection[str] = ()) -> str:
    """Name a row's backbone, its labels where they are not the paper's, and its values of the columns in `named`.

    Example: "beats (K1 = 5, soft, knn)". The year is left out, since sentences name it themselves.
    """
    labels = "" if row["labels"] == "paper" or "labels" in named else f" with {row['labels']} labels"
    said = details(row, [name for name in named if name != "dataset"])
    return f"{row['backbone']}{labels}" + (f" ({said})" if said else "")


def _is_known(value: object) -> bool:
    return value is not None and value == value  # noqa: PLR0124 - NaN is the gap in a column of numbers


def recorded_protocol(name: str | None, there: Collection[str]) -> str | None:
    """Return the protocol that a name means among recorded ones: the one called so, else the one it is an alias of."""
    return name if name is None or name in there else ALIASES.get(name, name)


def axes_listed() -> str:
    """Return the headings of the axes that a selection chooses: "M, K1, K2 and fusion"."""
    *first, last = (axis.heading for axis in chosen_axes())
    return f"{', '.join(first)} and {last}"
