"""Attributes in names: against what `attributes_NN.csv` beside the recordings lists, and what they should not tell."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pandas as pd

from benchmarks.contract import BenchmarkError, Dataset, Part, Problem
from benchmarks.files import printable, read_table
from benchmarks.recordings.layout import CLIP_FOLDERS, ENDINGS
from benchmarks.recordings.names import NO_ATTRIBUTE

MANY = 10  # clips of an attribute that are all of one condition: by chance in one of 500, where half are normal


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
            f"{folder}: attributes in names and tables differ for {len(differing)} clip{'s' * (len(differing) > 1)}; "
            "the names win. "
            f"First: {differing[0]}.",
            bad=False, dataset=dataset.name,
        )  # fmt: skip
    if missing:
        yield Problem(
            "missing", str(folder),
            f"{folder}: clips that the tables list and that are not there: {len(missing)}; fetch the archive again. "
            f"First: {printable(missing[0])}.",
            bad=False, dataset=dataset.name,
        )  # fmt: skip


def name_traps(clips: pd.DataFrame) -> Iterator[Problem]:
    """Yield what attributes in names mislead to: keys that occur twice, and spellings that tell the condition.

    In 2026 names such as `car_B1_spd_2_mic_2_mic_1` have a key twice, so that a reader of keys and values loses one of
    them; here the whole text is the attribute. And in gearboxEmu's target test clips all normal ones say `pro_y`, all
    anomalies `pro_Y`: whoever reads attributes of test clips reads the answer. No scorer here does.

    Args:
        clips: a clip table.
    """
    named = clips[clips["attribute"].notna()]
    for (dataset, part, machine), group in named.groupby(["dataset", "part", "machine"], observed=True):
        repeated = {text: key for text in group["attribute"].unique() if (key := _repeated_key(text)) is not None}
        if repeated:
            text, key = next(iter(repeated.items()))
            yield Problem(
                "repeated key", str(Path(group["path"].iloc[0]).parent),
                f"{dataset}/{part} {machine}: the key {printable(key)} occurs twice in {len(repeated)} attributes, "
                f"such as {printable(text)}; the whole text is the attribute, no key is read from it.",
                bad=False, dataset=str(dataset), part=cast("Part", part),
            )  # fmt: skip
        test = group[group["split"] == "test"]
        telling = _telling(zip(test["attribute"], test["condition"], strict=True)) or next(
            (said for _, cell in test.groupby(["section", "domain"], observed=True, dropna=False)
             if (said := _one_sided(cell["attribute"], cell["condition"]))), None,
        )  # fmt: skip
        if telling is not None:
            yield Problem(
                "telling name", str(Path(test["path"].iloc[0]).parent),
                f"{dataset}/{part} {machine}: {telling}, so that these names give the condition away; attributes of "
                "test clips are not read by any scorer, and must not be by yours.",
                bad=False, dataset=str(dataset), part=cast("Part", part),
            )  # fmt: skip


def _repeated_key(attribute: str) -> str | None:
    """Return the first key that an attribute has twice: `mic` of `spd_2_mic_2_mic_1`, None where all differ."""
    keys = Counter(word for word in attribute.split("_")[::2])
    return next((key for key, count in keys.items() if count > 1 and not key.isdigit()), None)


def _telling(clips: Iterable[tuple[str, str | None]]) -> str | None:
    """Say in words which attributes differ in capitals alone and have one condition each; None where none do.

    Args:
        clips: (attribute, condition) of test clips.
    """
    spellings: dict[str, dict[str, Counter[str]]] = {}
    for attribute, condition in clips:
        if isinstance(condition, str):
            spelling = spellings.setdefault(attribute.casefold(), {})
            spelling.setdefault(attribute, Counter())[condition] += 1
    for ways in spellings.values():
        if len(ways) > 1 and all(len(conditions) == 1 for conditions in ways.values()):
            said = [f"{printable(way)} ({count} {condition})" for way, counts in sorted(ways.items(), reverse=True)
                    for condition, count in counts.items()]  # fmt: skip
            if len({condition for counts in ways.values() for condition in counts}) > 1:
                return f"attributes of test clips differ in capitals alone, {' and '.join(said)}"
    return None


def _one_sided(attributes: Iterable[str], conditions: Iterable[str | None]) -> str | None:
    """Say in words which attributes of a section's domain stand in names of one condition alone; None where none do.

    Args:
        attributes: of test clips.
        conditions: of the same clips.
    """
    counts: dict[str, Counter[str]] = {}
    for attribute, condition in zip(attributes, conditions, strict=True):
        if isinstance(condition, str):
            counts.setdefault(attribute, Counter())[condition] += 1
    of = sum(counts.values(), Counter[str]())
    if len(of) < 2 or min(of.values()) < MANY:
        return None
    alone = [(name, *one.most_common(1)[0]) for name, one in sorted(counts.items()) if len(one) == 1]
    said = [f"{printable(name)} ({count} {condition})" for name, condition, count in alone if count >= MANY]
    return f"attributes of test clips have one condition each, {' and '.join(said)}" if said else None


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
