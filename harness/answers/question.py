"""What is asked of recorded results, which trials belong together, and how these are called in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.trials.axes import Axis, axis_names, study_axes


@dataclass(frozen=True)
class Question:
    """Which recorded trials are asked about, and the draws of the bootstrap. Made once, by the verb; None is all.

    Attributes:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, written as results carry it.
        keys: only the trials with these keys, instead of a study's.
        resamples: how many of the bootstrap.
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


EVERYTHING = Question()  # that is recorded


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
