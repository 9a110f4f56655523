"""Answers as data frames, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.trials.axes import axis_names

WHOLE = ("rank", "of", "tier", "m", "k1", "k2", "trials", "cells", "seeds_needed")  # nullable whole numbers
NAMED = ("rank", "kind", "setting", "backbone", "labels", "scorer", "fusion", "k1", "k2", "m", "chosen_on", "dataset")


def leaderboard_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a leaderboard as a frame, a row a row; machine types become columns `machines.<name>`.

    Args:
        rows: of `harness.verbs.answers.leaderboard`.

    Returns:
        Fractions throughout; M, K1, K2, rank and tier are nullable whole numbers, NA where a row has none.
    """
    return _frame(
        [
            {name: value for name, value in row.items() if name != "machines"}
            | {f"machines.{name}": value for name, value in row["machines"].items()}
            for row in rows
        ]
    )


def answer_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return comparisons, selections or a verdict's rows as a frame, a row a row, without their machine types.

    Args:
        rows: of `harness.verbs.answers.compare` or `select`, or "rows" of `regress`.

    Returns:
        Fractions throughout; what holds several values, as `best`, becomes columns `best.<name>`.
    """
    flat = []
    for row in rows:
        held = {name: value for name, value in row.items() if name != "machines"}
        several = [name for name, value in held.items() if isinstance(value, Mapping)]
        inner = {f"{name}.{each}": value for name in several for each, value in held[name].items()}
        flat.append({name: value for name, value in held.items() if name not in several} | inner)
    return _frame(flat)


def machines_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return what an answer says of each machine type as a frame, a row a machine type.

    Args:
        rows: of `harness.verbs.answers.leaderboard`, `compare` or `select`.

    Returns:
        What names the row, and the machine type's numbers: of a leaderboard its `h_mean`, of the others all they have.
    """
    return _frame(
        [
            {name: row[name] for name in (*NAMED, *axis_names()) if name in row and name not in each} | dict(each)
            for row in rows
            for each in _of_machines(row["machines"])
        ]
    )


def _of_machines(machines: Mapping[str, float] | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return a row's machine types, a mapping each; a leaderboard's row has one number of each."""
    if isinstance(machines, Mapping):
        return [{"machine": name, "h_mean": value} for name, value in machines.items()]
    return machines


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    whole = [name for name in frame.columns if name.rpartition(".")[2] in WHOLE and not name.startswith("machines.")]
    return frame.astype(dict.fromkeys(whole, "Int64"))
