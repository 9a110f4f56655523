"""Filters on recorded trials, settings of the bootstrap, and how recorded trials are grouped.

A board is one leaderboard: all trials of one protocol on the same recordings. A family is the part of a board in which
everything agrees (backbone, labels, scorer, recipe) but the axes that a comparison or a selection looks at. A cell is
one combination of these axes, such as M = 3, K1 = 15, K2 = 15, composite; its trials differ in their seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.trials.axes import Axis, axis_names, study_axes


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


def called(row: Mapping[str, Any]) -> str:
    """Name a row's backbone, and its labels where they are not the paper's."""
    return str(row["backbone"]) if row["labels"] == "paper" else f"{row['backbone']} with {row['labels']} labels"


def axes_listed() -> str:
    """Return the headings of the axes that a selection chooses: "M, K1, K2 and fusion"."""
    *first, last = (axis.heading for axis in chosen_axes())
    return f"{', '.join(first)} and {last}"
