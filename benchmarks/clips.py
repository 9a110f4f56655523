"""The clip table: one row a recording, checked once where it enters."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from benchmarks.contract import PARTS, BenchmarkError

COLUMNS = (
    "clip_id",
    "path",
    "dataset",
    "part",
    "machine",
    "section",
    "split",
    "domain",
    "condition",
    "attribute",
)
REQUIRED = ("clip_id", "path", "dataset", "part", "machine", "section", "split")  # the others may be unknown: NA
ALLOWED = {
    "part": PARTS,
    "split": ("train", "test"),
    "domain": ("source", "target"),
    "condition": ("normal", "anomaly"),
}
COUNTED = ("dataset", "machine", "part", "section", "split", "domain", "condition")


def make_clips(rows: Iterable[tuple[str | None, ...]]) -> pd.DataFrame:
    """Build a checked clip table from rows in the order of `COLUMNS`, None where unknown.

    Raises:
        BenchmarkError: as `check_clips`.
    """
    return check_clips(pd.DataFrame.from_records(list(rows), columns=list(COLUMNS)).astype("string"))


def check_clips(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the clips as they are, once every rule of the table holds.

    Args:
        clips: columns `COLUMNS`, all of pandas' string type with NA where a value is unknown: `domain` in 2020,
            `condition` of unlabeled evaluation clips, `attribute` where withheld or never given.

    Raises:
        BenchmarkError: if a column is missing or of another type, a required value is NA, a value is not one of those
            allowed, or a clip id stands twice.
    """
    missing = [column for column in COLUMNS if column not in clips.columns]
    if missing:
        raise BenchmarkError(f"clips must have the columns {', '.join(COLUMNS)}, but lack {', '.join(missing)}.")
    for column in COLUMNS:
        if not isinstance(clips[column].dtype, pd.StringDtype):
            raise BenchmarkError(
                f"clips' column {column} must be of pandas' string type, but is {clips[column].dtype}; "
                'convert it with .astype("string").'
            )
    for column in REQUIRED:
        if clips[column].isna().any():
            row = clips.index[clips[column].isna()][0]
            raise BenchmarkError(f"clips' column {column} must always be known, but is NA in row {row}.")
    for column, allowed in ALLOWED.items():
        wrong = clips[column].notna() & ~clips[column].isin(allowed)
        if wrong.any():
            first = clips.loc[wrong].iloc[0]
            raise BenchmarkError(
                f"{column} must be one of {', '.join(allowed)}, but is {first[column]} for clip {first['clip_id']}."
            )
    repeated = clips["clip_id"].duplicated()
    if repeated.any():
        clip_id = clips.loc[repeated, "clip_id"].iloc[0]
        paths = clips.loc[clips["clip_id"] == clip_id, "path"]
        raise BenchmarkError(f"clip ids must be unique, but {clip_id} is that of {' and of '.join(paths)}; remove one.")
    return clips


def count_clips(clips: pd.DataFrame) -> pd.DataFrame:
    """Count clips, and those with an attribute, by year, machine type, part, section, split, domain and condition.

    Args:
        clips: a checked clip table.

    Returns:
        One row a group that occurs, sorted: the columns `COUNTED`, then `clips` and `labeled`, both counts.
        Unknown domains and conditions are groups of their own, as NA.
    """
    counted = clips.assign(labeled=clips["attribute"].notna().astype("int64"), clips=1)
    groups = counted.groupby(list(COUNTED), dropna=False, sort=True)[["clips", "labeled"]].sum()
    return groups.reset_index()
