"""`attributes_NN.csv`, the tables beside the recordings: what they list, against what the names say."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.contract import BenchmarkError, Dataset, Problem
from benchmarks.files import printable, read_table
from benchmarks.recordings.layout import CLIP_FOLDERS, ENDINGS
from benchmarks.recordings.names import NO_ATTRIBUTE

MANY = 10  # clips of an attribute that are all of one condition: by chance in one of 500, where half are normal
_WORDS = {"normal": "normal", "anomaly": "anomalies"}


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


def check_names(clips: pd.DataFrame) -> Iterator[Problem]:
    """Yield what attributes in names say that a reader may trip over: keys that stand twice, and given-away labels.

    Attributes are whole texts here, so a key that stands twice loses nothing; who reads them key by key loses a value.
    A test clip's attribute is read by no label and no scorer; who reads it may read the label with it.

    Args:
        clips: a clip table.
    """
    for (dataset, part, machine), own in clips.groupby(["dataset", "part", "machine"], observed=True, sort=False):
        attributes = own["attribute"].dropna()
        for name in attributes.unique():
            twice = _repeated_key(str(name))
            if twice is not None:
                path = str(own.loc[own["attribute"] == name, "path"].iloc[0])
                yield Problem(
                    "attributes", path,
                    f"Attributes of {dataset}/{part} {machine} hold the key {twice} twice, as in {printable(str(name))}; "
                    "they are used as whole texts, so read them so, not into a table with a column a key.",
                    bad=False, dataset=str(dataset), part=part,
                )  # fmt: skip
                break
        yield from _given_away(own, f"{dataset}/{part} {machine}")


def _repeated_key(attribute: str) -> str | None:
    """Return the first key that stands twice in an attribute, key and value in turn: `mic` in `mic_2_mic_1`."""
    keys = Counter(token for token in attribute.split("_")[::2] if not token[:1].isdigit())
    return next((key for key, count in keys.items() if key and count > 1), None)


def _given_away(clips: pd.DataFrame, name: str) -> Iterator[Problem]:
    """Yield the attributes of a machine type's test clips that only one condition has, though there are many of each.

    One spelling for normal clips and another for anomalies is one way in which that comes about.
    """
    tests = clips[(clips["split"] == "test") & clips["condition"].notna()]
    for (section, domain), own in tests.groupby(["section", "domain"], observed=True, dropna=False, sort=False):
        counts = Counter(zip(own["attribute"].fillna(""), own["condition"], strict=True))
        of = {condition: int((own["condition"] == condition).sum()) for condition in ("normal", "anomaly")}
        if min(of.values()) < MANY:
            continue
        told = {a: c for (a, c), n in counts.items() if a and n >= MANY and len({o for b, o in counts if b == a}) == 1}
        if not told:
            continue
        shown = ", ".join(f"all {counts[a, c]} of {printable(a)} are {_WORDS[c]}" for a, c in sorted(told.items()))
        spelled = [sorted(names) for names in _spellings(counts).values() if len(names) > 1]
        ways = f" ({' and '.join(spelled[0])} are one attribute, spelled in two ways)" if spelled else ""
        place = f"section {section}" + ("" if pd.isna(domain) else f", {domain}")
        yield Problem(
            "attributes", str(own.loc[own["attribute"].isin(list(told)), "path"].iloc[0]),
            f"Attributes in the names of {name}'s test clips ({place}) give the label away: {shown}{ways}; no label and "
            "no scorer here reads them, so read them in none of yours.",
            bad=False, dataset=str(own["dataset"].iloc[0]), part=own["part"].iloc[0],
        )  # fmt: skip


def _spellings(counts: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Return the spellings of each attribute, told apart by capitals alone."""
    found: dict[str, set[str]] = defaultdict(set)
    for attribute, _ in counts:
        found[attribute.casefold()].add(attribute)
    return found


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
