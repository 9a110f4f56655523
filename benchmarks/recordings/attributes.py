"""`attributes_NN.csv`, the tables beside the recordings: what they list, against what the names say."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.contract import Dataset, Problem
from benchmarks.recordings.layout import CLIP_FOLDERS, printable
from benchmarks.recordings.names import NO_ATTRIBUTE


def check_tables(folder: Path, dataset: Dataset, attributes: Mapping[str, str | None]) -> Iterator[Problem]:
    """Yield what the tables of a machine type and its recordings say differently; the names win.

    Separators are left out of the comparison, since some names run parameter and value together (`weight15`).

    Args:
        folder: of the machine type.
        dataset: year.
        attributes: "train/<stem>" -> the attribute in the name, None where it says none.
    """
    differing: list[str] = []
    missing: list[str] = []
    present = {name for name in CLIP_FOLDERS if (folder / name).is_dir()}
    for table in sorted(folder.glob("attributes_[0-9][0-9].csv")):
        try:
            rows = _rows(table)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            yield Problem(
                "unreadable", str(table),
                f"attribute tables must be UTF-8 csv files, but {table} cannot be read ({error}); fetch it again.",
                bad=False, dataset=dataset.name,
            )  # fmt: skip
            continue
        for key, cells in rows:
            if key not in attributes:
                if key.split("/")[0] in present:
                    missing.append(f"{key} ({table.name})")
                continue
            joined = "".join(cells).replace("_", "")
            listed = None if joined in {"", NO_ATTRIBUTE} else joined
            named = attributes[key]
            if listed != (None if named is None else named.replace("_", "")):
                differing.append(f"{key} ({','.join(cells) or 'nothing'} in {table.name})")
    if differing:
        yield Problem(
            "attributes", str(folder),
            f"{folder}: {len(differing)} clips have other attributes in their names than in the tables; the names win. "
            f"First: {differing[0]}.",
            bad=False, dataset=dataset.name,
        )  # fmt: skip
    if missing:
        yield Problem(
            "missing", str(folder),
            f"{folder}: {len(missing)} clips that the tables list are not there; fetch the archive again. "
            f"First: {printable(missing[0])}.",
            bad=False, dataset=dataset.name,
        )  # fmt: skip


def _rows(table: Path) -> list[tuple[str, list[str]]]:
    """Read a table: ("train/<stem>", its cells) a row."""
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        next(reader, None)
        return [("/".join(row[0].split("/")[-2:]).rsplit(".", 1)[0], row[1:]) for row in reader if row]
