"""Which trials belong together: on one board, in one family, in one cell; and how these are called in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.trials.axes import Axis, axis_names, study_axes

# rows of one board compare like with like: the same protocol on the same recordings
BOARD = ("protocol", "train_data", "test_data")
# of one family everything is the same but what a comparison or a selection looks at
TRAINED = ("scorer", "recipe")
GIVEN = ("backbone", "labels")  # what a selection takes as it is; all other axes are chosen


def row_columns() -> list[str]:
    """Return what the trials of one leaderboard row share: they differ in their seed alone."""
    return [*BOARD, "kind", *axis_names(), *TRAINED]


def curve_columns() -> list[str]:
    """Return what the rows of one M-curve share: everything but M."""
    return [*axis_names(but=["m"]), *TRAINED]


def chosen_axes() -> list[Axis]:
    """Return the axes of a cell: M, K1, K2, fusion, and whatever else a selection chooses."""
    return study_axes(but=GIVEN)


def called(row: Mapping[str, Any]) -> str:
    """Name a row's backbone, and its labels where they are not the paper's."""
    return str(row["backbone"]) if row["labels"] == "paper" else f"{row['backbone']} with {row['labels']} labels"


def axes_listed() -> str:
    """List what a selection chooses: "M, K1, K2 and fusion"."""
    *first, last = (axis.heading for axis in chosen_axes())
    return f"{', '.join(first)} and {last}"
