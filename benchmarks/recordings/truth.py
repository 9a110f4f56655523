"""Ground truth of evaluation clips, and attributes that were withheld: from the user's copy of the official files."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from benchmarks.contract import BenchmarkError, Condition, Dataset, Domain, Part
from benchmarks.files import printable, read_table
from benchmarks.folders import folder_of
from benchmarks.found import Found, find_csvs, list_reasons, other_csvs
from benchmarks.recordings.names import ClipName, parse_name

logger = logging.getLogger(__name__)

# The evaluators' files: ground_truth_<machine>_section_NN[_<domain>]_test.csv, each `<name>,<0|1>`.
EVALUATOR_FILE = re.compile(r"ground_truth_(.+)_(?:section|id)_([0-9]{2})(?:_(?:source|target))?(?:_test)?(?i:\.csv)")
LIST_FILE = re.compile(r"eval_data_list(?:_(20[0-9]{2}))?(?i:\.csv)")
YEAR = re.compile(r"dcase(20[0-9]{2})", re.IGNORECASE)
LABELS = {"0": False, "1": True, "0.0": False, "1.0": True}  # pandas writes numbers beside a gap with a point
FIRST_LIST = "2020"  # whose list is published as eval_data_list.csv
# Known defect: the baseline's list of these contradicts the evaluator of 2022, whose files ranked the challenge.
CONTRADICTED = {"dcase2022": ("ToyCar", "ToyTrain")}
PART_OF: Mapping[tuple[str, str], Part] = {
    ("dev_data", "train"): "dev",
    ("dev_data", "test"): "dev",
    ("eval_data", "train"): "additional",
    ("eval_data", "test"): "eval",
}

Source: TypeAlias = Literal["ground_truth_data", "ground_truth_domain"]
Key: TypeAlias = tuple[str, str]  # machine type, stem of the delivered name


@dataclass
class _Official:
    """What the official files say of one year's evaluation clips, by (machine type, delivered stem)."""

    conditions: dict[Key, Condition] = field(default_factory=dict)
    domains: dict[Key, Domain] = field(default_factory=dict)
    listed: dict[Key, ClipName] = field(default_factory=dict)
    delivered: dict[Key, str] = field(default_factory=dict)  # (machine type, full stem of the list) -> delivered stem


def add_ground_truth(clips: pd.DataFrame, folder: Path | str, datasets: Sequence[Dataset]) -> pd.DataFrame:
    """Return the clips with what the official files say of evaluation clips: condition and domain.

    Read are the evaluators' `ground_truth_data/` and `ground_truth_domain/` and the baseline's
    `eval_data_list_<year>.csv`, anywhere below the folder. Where they contradict one another the evaluator's hold, with
    a warning that counts (known of 2022's ToyCar and ToyTrain, in 608 labels and 592 domains of 1,200). The files of an
    evaluator belong to the year in the nearest folder's name, or, where none has one, to the only year that has
    evaluation clips. Attributes are never taken from here.

    Args:
        clips: a checked clip table.
        folder: the user's copy of the files.
        datasets: the years that the clips are of.

    Raises:
        BenchmarkError: if the folder holds none of these files, one cannot be read, or its year is not told.
    """
    folder = folder_of(folder)
    there = set(clips.loc[clips["part"] == "eval", "dataset"])
    years = {dataset.name: dataset for dataset in datasets if dataset.name in there}
    officials = _read_official(folder, years)
    told = clips.copy()
    for name, official in officials.items():
        _warn_of_contradictions(name, official)
        rows = told.index[(told["dataset"] == name) & (told["part"] == "eval")]
        conditions, domains = [], []
        for machine, clip_id, condition, domain in told.loc[
            rows, ["machine", "clip_id", "condition", "domain"]
        ].itertuples(index=False):
            key = (machine, clip_id.rsplit("/", 1)[1])
            key = (machine, official.delivered.get(key, key[1]))
            listed = official.listed.get(key)
            conditions.append(official.conditions.get(key) or (listed.condition if listed else None) or condition)
            domains.append(official.domains.get(key) or (listed.domain if listed else None) or domain)
        told.loc[rows, "condition"] = pd.array(conditions, dtype="string")
        if years[name].has_domains:
            told.loc[rows, "domain"] = pd.array(domains, dtype="string")
        unknown = int(told.loc[rows, "condition"].isna().sum())
        if unknown:
            logger.warning("%s: the official files say nothing of %d evaluation clips.", name, unknown)
    return told


def listed_clips(folder: Path | str, dataset: Dataset) -> set[Key]:
    """Return the evaluation clips of a year that the official files tell the condition of.

    Args:
        folder: as in `add_ground_truth`.
        dataset: the year.

    Returns:
        (machine type, stem of the delivered name), by the evaluator's files for machine types that it has, else by the
        baseline's list.

    Raises:
        BenchmarkError: as `add_ground_truth`.
    """
    official = _read_official(folder_of(folder), {dataset.name: dataset})[dataset.name]
    evaluated = {machine for machine, _ in official.conditions}
    return set(official.conditions) | {key for key in official.listed if key[0] not in evaluated}


def delivered_names(folder: Path | str, dataset: Dataset) -> dict[Key, str]:
    """Return (machine type, stem of the full name) -> stem of the delivered name, by the baseline's list of a year."""
    return _read_official(folder_of(folder), {dataset.name: dataset})[dataset.name].delivered


def read_truth(folder: Path | str) -> dict[str, str]:
    """Read the attributes that were withheld and released later: clip id -> true attribute.

    For judging pseudo-labels only: the index takes nothing from here, so that no strategy and no training ever sees it.
    Read are `dcase2025t2/{dev_data,eval_data}/<machine>/attributes_NN_{train,test}_correspondence.csv` anywhere below
    the folder; each pairs the name with the attribute and the name that was published, in either order. (Clip ids of
    evaluation clips are those of the published full names, not of the numbered names as first delivered.)

    Raises:
        BenchmarkError: if the folder holds none of these files, or one does not tell its year, part and split, or pairs
            names of which not exactly one says an attribute.
    """
    folder = folder_of(folder)
    found = find_csvs(folder, named=_is_correspondence, kind="official files") if folder.is_dir() else None
    if found is None or not found.files:
        raise BenchmarkError(
            f"{printable(folder)} must hold the official *_correspondence.csv files, but holds "
            f"none{_instead(folder, found, _is_correspondence)}."
        )
    truth = {}
    for table in found.files:
        prefix = _place_of(table)
        for row in _rows(table):
            if [cell.casefold() for cell in row] == ["source_file_name", "target_file_name"]:
                continue
            names = [_stem(cell) for cell in row[:2]]
            attributes = [parse_name(name).attribute for name in names]
            known = [attribute for attribute in attributes if attribute is not None]
            if len(names) != 2 or len(known) != 1:
                raise BenchmarkError(
                    f"{table} must pair a name that says an attribute with one that does not, but has "
                    f"{printable(','.join(row))}."
                )
            truth[f"{prefix}/{names[attributes.index(None)]}"] = known[0]
    return truth


def _read_official(folder: Path, years: Mapping[str, Dataset]) -> dict[str, _Official]:
    """Read all official files below a folder, by the name of their year."""
    officials = {name: _Official() for name in years}
    found = False
    there = find_csvs(folder, named=_is_official, kind="official files") if folder.is_dir() else None
    for path in there.files if there else ():
        listed, match = LIST_FILE.fullmatch(path.name), EVALUATOR_FILE.fullmatch(path.name)
        if listed is not None:
            found = True
            name = f"dcase{listed[1] or FIRST_LIST}"
            if name in officials:
                _read_list(path, years[name], officials[name])
        elif match is not None and path.parent.name in ("ground_truth_data", "ground_truth_domain"):
            found = True
            name = _year_of(path, years)
            if name in officials:
                _read_evaluator(path, match[1], officials[name])
    if not found:
        raise BenchmarkError(
            f"{printable(folder)} must hold the evaluators' ground_truth_data/ and ground_truth_domain/ or the "
            f"baseline's eval_data_list_<year>.csv, but holds none of them{_instead(folder, there, _is_official)}."
        )
    return officials


def _is_official(name: str) -> bool:
    return name.startswith(("ground_truth_", "eval_data_list"))


def _is_correspondence(name: str) -> bool:
    return "_correspondence" in name


def _instead(folder: Path, found: Found | None, named: Callable[[str], bool]) -> str:
    """Return what a folder holds instead of official files, for the sentence that says that there are none."""
    if found is None:
        return ", and is no folder"
    nowhere = "it follows no name of theirs, or stands in none of their folders"
    there = [*found.passed_over, *((path, nowhere) for path in found.files), *other_csvs(folder, named=named)]
    return f": {list_reasons(there)}" if there else ""


def _read_list(path: Path, dataset: Dataset, official: _Official) -> None:
    """Read the baseline's list: a row of one cell is a machine type, the others are (delivered name, full name)."""
    machine = ""
    for row in _rows(path):
        cells = [cell.strip() for cell in row if cell.strip()]
        if len(cells) == 1:
            machine = cells[0]
        elif len(cells) >= 2:
            try:
                name = parse_name(_stem(cells[1]), with_ids=not dataset.has_domains)
            except BenchmarkError as error:
                raise BenchmarkError(f"{printable(path)} cannot be read: {printable(str(error))}") from None
            delivered = _stem(cells[0])
            if official.listed.setdefault((machine, delivered), name) != name:
                raise _told_twice(path, machine, delivered)
            official.delivered[machine, _stem(cells[1])] = delivered


def _read_evaluator(path: Path, machine: str, official: _Official) -> None:
    """Read a file of an evaluator: a name and 0 or 1 a row."""
    for position, row in enumerate(_rows(path)):
        if len(row) != 2 or row[1] not in LABELS:
            if position == 0 and len(row) == 2 and not row[0].lower().endswith(".wav") and row[1].isalpha():
                continue  # a row of headings
            shown = printable(",".join(row), most=120)
            raise BenchmarkError(f"rows of {printable(path)} must be <name>,<0 or 1>, but one is {shown}.")
        key, positive = (machine, _stem(row[0])), LABELS[row[1]]
        if path.parent.name == "ground_truth_data":
            condition: Condition = "anomaly" if positive else "normal"
            differs = official.conditions.setdefault(key, condition) != condition
        else:
            domain: Domain = "target" if positive else "source"
            differs = official.domains.setdefault(key, domain) != domain
        if differs:
            raise _told_twice(path, *key)


def _told_twice(path: Path, machine: str, stem: str) -> BenchmarkError:
    return BenchmarkError(
        f"{printable(path)} must say one thing of each clip, but {printable(machine)} {printable(stem)} stands twice "
        "with two truths."
    )


def _warn_of_contradictions(name: str, official: _Official) -> None:
    """Say how often the list and the evaluator contradict one another, and where that could not be seen."""
    labels, domains, both = Counter[str](), Counter[str](), Counter[str]()
    for (machine, stem), listed in official.listed.items():
        condition, domain = (official.conditions.get((machine, stem)), official.domains.get((machine, stem)))
        both[machine] += condition is not None
        labels[machine] += None not in (condition, listed.condition) and condition != listed.condition
        domains[machine] += None not in (domain, listed.domain) and domain != listed.domain
    for machine in both:
        if labels[machine] or domains[machine]:
            logger.warning(
                "%s %s: the baseline's list contradicts the evaluator in %d labels and %d domains of %d clips; "
                "the evaluator's hold.",
                name, machine, labels[machine], domains[machine], both[machine],
            )  # fmt: skip
        elif not both[machine] and machine in CONTRADICTED.get(name, ()):
            logger.warning(
                "%s %s: the truth is the baseline's list alone, whose official copy is known to be wrong for this "
                "machine type; give the evaluator's ground_truth_data and ground_truth_domain too.",
                name, machine,
            )  # fmt: skip


def _year_of(path: Path, years: Mapping[str, Dataset]) -> str:
    """Return the year that an evaluator's file belongs to."""
    for part in reversed(path.parent.parts):
        match = YEAR.search(part)
        if match is not None:
            return f"dcase{match[1]}"
    if len(years) == 1:
        return next(iter(years))
    raise BenchmarkError(
        f"the year of {path} must stand in the name of a folder above it, since there are evaluation clips of "
        f"{' and '.join(years) or 'no year'}; put it into a folder such as dcase2022_task2_evaluator."
    )


def _place_of(table: Path) -> str:
    """Return the start of the clip ids of a correspondence table."""
    year = next((match[1] for part in reversed(table.parent.parts) if (match := YEAR.search(part))), None)
    folder = next((part for part in reversed(table.parent.parts) if part in ("dev_data", "eval_data")), "")
    split = next((word for word in table.stem.split("_") if word in ("train", "test")), "")
    part = PART_OF.get((folder, split))
    if year is None or part is None:
        raise BenchmarkError(
            f"{table} must stand as dcase<year>t2/{{dev_data,eval_data}}/<machine>/attributes_NN_<split>_"
            "correspondence.csv, but its year, part or split cannot be told from its path."
        )
    return f"dcase{year}/{part}/{table.parent.name}/{split}"


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a csv, without the empty columns that spreadsheets leave behind the first."""
    for _, cells in read_table(path).rows:
        end = len(cells)
        while end > 1 and not cells[end - 1]:
            end -= 1
        yield cells[:end]


def _stem(name: str) -> str:
    """Return a name without folders, of either system, and without its ending, if it has one: names may hold dots."""
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").rsplit("/", 1)[-1]
    return name[: -len(".wav")] if name.lower().endswith(".wav") else name
