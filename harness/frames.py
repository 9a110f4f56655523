"""Answers as data frames, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def leaderboard_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a leaderboard as a frame, a row a row; machine types become columns `machines.<name>`.

    Args:
        rows: of `harness.verbs.leaderboard`.

    Returns:
        Fractions throughout; M, K1, K2, rank and tier are nullable whole numbers, NA where a row has none.
    """
    flat = [
        {name: value for name, value in row.items() if name != "machines"}
        | {f"machines.{name}": value for name, value in row["machines"].items()}
        for row in rows
    ]
    frame = pd.DataFrame(flat)
    whole = [name for name in ("rank", "tier", "m", "k1", "k2", "trials", "cells") if name in frame]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def reference_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return published numbers as a frame, a row a number; `recorded` is NaN where nothing is recorded here.

    Args:
        rows: of `harness.verbs.reference`.
    """
    return pd.DataFrame(list(rows)).astype({"m": "Int64", "recorded": float, "difference": float})
