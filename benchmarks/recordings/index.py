"""Folders of recordings, in whatever layout they are kept, to a clip table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from benchmarks.clips import make_clips
from benchmarks.contract import PARTS, BenchmarkError, Dataset, Domain, Part, Problem, Split
from benchmarks.files import printable
from benchmarks.recordings.attributes import check_tables
from benchmarks.recordings.layout import (
    CLIP_FOLDERS,
    DEV,
    EVAL,
    SUPPLEMENTAL,
    MachineFolder,
    find_year,
    is_text,
    machine_folders,
    recordings,
    subfolders,
)
from benchmarks.recordings.names import NO_ATTRIBUTE, ClipName, format_name, parse_name
from benchmarks.recordings.own import list_own, why_not

__all__ = ["NO_ATTRIBUTE", "ClipName", "Scan", "format_name", "index_root", "parse_name", "scan_root"]

logger = logging.getLogger(__name__)

Row: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True)
class Scan:
    """What stands below a root.

    Attributes:
        clips: a checked clip table of everything that can be indexed; it may be empty.
        problems: everything that is not as it should be, in the order in which it was found.
    """

    clips: pd.DataFrame
    problems: tuple[Problem, ...]

    @property
    def bad(self) -> tuple[Problem, ...]:
        """Return the problems that leave a file out of the clips."""
        return tuple(problem for problem in self.problems if problem.bad)

    @property
    def left_out(self) -> int:
        """Return the number of files, and of lines of a csv, that they leave out; one may have several problems."""
        return len({problem.path for problem in self.bad})


def index_root(root: Path | str, datasets: Sequence[Dataset], *, skip_bad: bool = False) -> pd.DataFrame:
    """Index the recordings of some years below a folder.

    Layouts: the official baseline's, `dcase2025t2/{dev_data,eval_data}/raw/<machine>/{train,test}/*.wav`, with or
    without `raw`; archives unzipped side by side, `<machine>/{train,test}/*.wav` or `<archive>/<machine>/...`;
    ASDKit's, `formatted/dcase2025/raw/<machine>/{train,test}/*.wav`. The root may be a year's folder itself; one
    without a year's name is read as the only dataset asked for. Own recordings are listed by a csv
    (`benchmarks.recordings.own`).
    Endings may be .wav or .flac in either case. Files that start with a dot and `supplemental/` are passed over. Names
    win over `attributes_NN.csv`, with a warning. Attributes that the year withholds are NA whatever the names say.

    Args:
        root: folder that holds the years, or one year.
        datasets: years to look for; those that are not there give no rows.
        skip_bad: leave out files that cannot be indexed, and warn of their number, instead of raising.

    Returns:
        A checked clip table, sorted by year in the order given, then part, machine type, split and name.

    Raises:
        BenchmarkError: if the folder does not exist or holds no recording of these years, if a year stands there
            twice, if a name is no UTF-8, does not follow the rule or contradicts its folder, if a folder cannot be
            read, or if a clip stands there twice.
    """
    return usable_clips(scan_root(root, datasets), root, datasets, skip_bad=skip_bad)


def usable_clips(scan: Scan, root: Path | str, datasets: Sequence[Dataset], *, skip_bad: bool = False) -> pd.DataFrame:
    """Return a scan's clips, as `index_root` does: warned of what is odd, refused where files are bad."""
    if scan.bad and not skip_bad:
        more = scan.left_out - 1
        rest = f" {more} more {'is' if more == 1 else 'are'} bad; `asdbench data doctor` lists them." if more else ""
        raise BenchmarkError(scan.bad[0].sentence + rest)
    if scan.bad:
        left = "One bad file is left out" if scan.left_out == 1 else f"{scan.left_out} bad files are left out. First"
        logger.warning("%s: %s", left, scan.bad[0].sentence)
    for problem in scan.problems:
        if not problem.bad and problem.kind != "missing":
            logger.warning("%s", problem.sentence)
    if scan.clips.empty:
        years = ", ".join(dataset.name for dataset in datasets)
        why = [reason for dataset in datasets if dataset.listed for reason in why_not(Path(root), dataset)]
        none = f"{root} must hold recordings of {years} as {_expected(datasets)}, but none was found."
        raise BenchmarkError(" ".join([none, *why]))
    return scan.clips


def scan_root(root: Path | str, datasets: Sequence[Dataset]) -> Scan:
    """Index what can be indexed below a folder, and collect what cannot.

    Args:
        root: as in `index_root`.
        datasets: as in `index_root`.

    Raises:
        BenchmarkError: if the folder does not exist, its path is no UTF-8, or a year stands there twice.
    """
    root = Path(root).expanduser().absolute()
    if not is_text(str(root)):
        raise BenchmarkError(f"paths of roots must be UTF-8, but {printable(str(root))} is not; rename the folder.")
    if not root.is_dir():
        raise BenchmarkError(f"{root} must be a folder that holds {_expected(datasets)}, but there is no such folder.")
    problems: list[Problem] = []
    rows: list[Row] = []
    for dataset in datasets:
        if dataset.listed:
            rows.extend(list_own(root, dataset, problems))
            continue
        year = find_year(root, dataset, datasets)
        if year is not None:
            rows.extend(_index_year(year, dataset, problems))
    return Scan(make_clips(_without_doubles(rows, problems)), tuple(problems))


def _expected(datasets: Sequence[Dataset]) -> str:
    years = [dataset for dataset in datasets if not dataset.listed]
    if datasets and not years:
        return "a csv with the columns file and split beside the recordings"
    return f"{years[0].folder if years else '<year>'}/dev_data/raw/<machine>/train/*.wav"


def _index_year(year: Path, dataset: Dataset, problems: list[Problem]) -> list[Row]:
    """Return a year's rows, part by part and machine type by machine type."""
    sure: list[Row] = []
    by_section: list[Row] = []
    for folder in machine_folders(year, dataset, problems):
        (sure if folder.parts else by_section).extend(_index_machine(folder, dataset, problems))
    return sure + sorted(by_section, key=lambda row: row[3] != "dev")  # a stable sort: development first


def _index_machine(folder: MachineFolder, dataset: Dataset, problems: list[Problem]) -> Iterator[Row]:
    """Yield the rows of one machine type, training clips first."""
    machine = folder.machine
    attributes: dict[str, str | None] = {}
    for clip_folder in CLIP_FOLDERS:
        for stem, path in recordings(folder.path / clip_folder, dataset, problems):
            row = _row(path, stem, dataset, problems, machine=machine, clip_folder=clip_folder, parts=folder.parts)
            if row is not None:
                attributes[f"{clip_folder}/{stem}"] = row[-1]
                yield row
    problems.extend(_passed_over(folder.path, dataset, problems))
    problems.extend(
        replace(problem, part=folder.parts["train"] if folder.parts else None)
        for problem in check_tables(folder.path, dataset, attributes)
    )


def _row(
    path: str,
    stem: str,
    dataset: Dataset,
    problems: list[Problem],
    *,
    machine: str,
    clip_folder: str,
    parts: Mapping[Split, Part] | None = None,
) -> Row | None:
    """Return a clip's row by its name and its folder; None, with a problem, where its name is none of the year's.

    Where `parts` is None, machine type and section tell the part.
    """
    split, folder_domain = CLIP_FOLDERS[clip_folder]
    try:
        name = parse_name(stem, with_ids=not dataset.has_domains)
        part = (parts or _parts_of(name, machine, dataset))[split]
        _check_place(name, split, folder_domain)
    except BenchmarkError as error:
        sentence = f"{printable(path)} is not a {split} clip of {dataset.name}: {error}"
        rule = str(error).partition(", but ")[0]
        problems.append(Problem("misnamed", path, sentence, dataset=dataset.name, value=rule))
        return None
    attribute = None if machine in dataset.withheld.get(part, ()) else name.attribute
    clip_id = f"{dataset.name}/{part}/{machine}/{split}/{stem}"
    return (
        clip_id, path, dataset.name, part, machine, name.section, split, name.domain or folder_domain, name.condition,
        attribute,
    )  # fmt: skip


def index_names(
    source: Path | str, names: Sequence[tuple[str | None, str, str, str]], datasets: Sequence[Dataset]
) -> Scan:
    """Index clips by their names alone, where no recordings are: everything that a name says, and nothing else.

    Args:
        source: the file that names them; the clips' paths are names in it.
        names: (year or None where it is not said, machine type, folder, stem) each, as in
            `dcase2025t2/fan/train/section_00_source_train_normal_0000_m-n_X.wav`.
        datasets: years to look for; a name without a year belongs to the only one. Names of other years are left out.

    Raises:
        BenchmarkError: a name has no year and there are several, or the clips are listed by a csv.
    """
    listed = [dataset.name for dataset in datasets if dataset.listed]
    years = {dataset.name: dataset for dataset in datasets}
    if listed and len(years) == len(listed):
        raise BenchmarkError(
            f"clips of {listed[0]} must be listed by a csv, since their names say nothing, but {source} has names "
            "alone; name the folder with the csv as the root, and the file as the backbone emb:FILE."
        )
    problems: list[Problem] = []
    rows: list[Row] = []
    for year, machine, folder, stem in names:
        if year is None and len(years) > 1:
            raise BenchmarkError(
                f"names must say their year where there are {len(years)} ({', '.join(years)}), but {source} has "
                f"{machine}/{folder}/{printable(stem)}; put the year's folder in front, {datasets[0].folder}/..."
            )
        dataset = years.get(year or next(iter(years)))
        if dataset is None or dataset.listed:
            continue
        path = f"{source}/{machine}/{folder}/{stem}"
        row = _row(path, stem, dataset, problems, machine=machine, clip_folder=folder)
        if row is not None:
            rows.append(row)
    return Scan(make_clips(sorted(_without_doubles(rows, problems), key=lambda row: str(row[0]))), tuple(problems))


def _passed_over(folder: Path, dataset: Dataset, problems: list[Problem]) -> list[Problem]:
    """Return the folders of a machine type that hold recordings and are not read."""
    found = []
    for name in subfolders(folder, dataset, problems):
        if name not in CLIP_FOLDERS and name != SUPPLEMENTAL and recordings(folder / name, dataset, []):
            place = folder / name
            sentence = f"{place} is none of {', '.join(CLIP_FOLDERS)} and is passed over."
            found.append(Problem("extra", str(place), sentence, bad=False, dataset=dataset.name, value=name))
    return found


def _parts_of(name: ClipName, machine: str, dataset: Dataset) -> Mapping[Split, Part]:
    """Return the part of each split where the folders do not say it: development sections are known.

    Raises:
        BenchmarkError: if the machine type has no such section.
    """
    for part in PARTS:
        if name.section in dataset.sections.get(part, {}).get(machine, ()):
            return DEV if part == "dev" else EVAL
    raise BenchmarkError(
        f"sections of {machine} must be those of {dataset.name}, but this one is {name.section}; keep the years apart."
    )


def _check_place(name: ClipName, split: Split, folder_domain: Domain | None) -> None:
    """Raise BenchmarkError where a name and its folder say different things."""
    if name.split not in {None, split}:
        raise BenchmarkError(f"names must say the split of their folder, {split}, but this one says {name.split}.")
    if folder_domain is not None and name.domain not in {None, folder_domain}:
        raise BenchmarkError(
            f"names must say the domain of their folder, {folder_domain}, but this one says {name.domain}."
        )
    if split == "train" and name.condition != "normal":
        raise BenchmarkError(f"training clips must be named normal, but this one says {name.condition or 'nothing'}.")


def _without_doubles(rows: Sequence[Row], problems: list[Problem]) -> list[Row]:
    """Return the rows with each clip id once: where a clip stands twice, what came first."""
    first: dict[str | None, Row] = {}
    for row in rows:
        before = first.setdefault(row[0], row)
        if before is not row:
            sentence = f"clip ids must be unique, but {row[0]} is that of {before[1]} and of {row[1]}; remove one."
            problems.append(Problem("doubled", str(row[1]), sentence, dataset=str(row[2])))
    return list(first.values()) if len(first) < len(rows) else list(rows)
