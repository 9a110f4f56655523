"""`attributes_NN.csv`, the tables beside the recordings: what they list, against what the names say."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.contract import BenchmarkError, Dataset, Problem
from benchmarks.files import printable, read_table
from benchmarks.recordings.layout import CLIP_FOLDERS, ENDINGS
from benchmarks.recordings.names import NO_ATTRIBUTE


def check_tables(folder: Path, dataset: Dataset, attributes: Mapping[str, str | None]) -> Iterator[Problem]:
    """Yield what the tables of a machine type and its recordings say differently; the names win.

    Separators are left out of the comparison, since some names run parameter and value together (`weight15`), and a
    comma in a value is a decimal point: spreadsheets of some countries write `0,03` for the name's `0.03`.

    Args:
        folder: of the machine type.
        dataset: year.
        attributes: "train/<stem>" -> the attribute in the name, None where it says none.
    """
    names = {_plain(name): attribute for name, attribute in attributes.items()}
    differing: list[str] = []
    missing: list[str] = []
    present = {name for name in CLIP_FOLDERS if (folder / name).is_dir()}
    for table in sorted(folder.glob("attributes_[0-9][0-9].csv")):
        try:
            rows = _rows(table)
        except BenchmarkError as error:
            yield Problem("unreadable", str(table), f"{error} Or fetch it again.", bad=False, dataset=dataset.name)
            continue
        for key, cells in rows:
            if key not in names:
                if key.split("/")[0] in present:
                    missing.append(f"{key} ({table.name})")
                continue
            joined = _compared("".join(cells))
            listed = None if joined in {"", NO_ATTRIBUTE} else joined
            named = names[key]
            if listed != (None if named is None else _compared(named)):
                differing.append(f"{key} ({printable(','.join(cells)) or 'nothing'} in {table.name})")
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


def _rows(table: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Read a table: ("train/<stem>", its cells) a row."""
    rows = [cells for _, cells in read_table(table).rows]
    if rows and not rows[0][0].lower().endswith(ENDINGS):  # the heading
        del rows[0]
    paths = (cells[0].replace("\\", "/") for cells in rows)
    names = ["/".join(path.split("/")[-2:]).rsplit(".", 1)[0] for path in paths]
    return [(_plain(name), cells[1:]) for name, cells in zip(names, rows, strict=True)]


def _plain(text: str) -> str:
    """Return a text in the form in which equal ones are equal: file systems and tables write accents differently."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _compared(attribute: str) -> str:
    """Return an attribute as it is compared."""
    return _plain(attribute.replace("_", "").replace(",", "."))
