"""Anybody's `anomaly_score_*.csv`: read, checked clip by clip, joined by name with what is known of each clip."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.clips import COLUMNS, did_you_mean, make_clips
from benchmarks.contract import BenchmarkError, Dataset, Domain, Part
from benchmarks.metrics.official_counts import other_counts, other_years_attributes
from benchmarks.recordings.names import DOMAINS, ClipName, parse_name
from benchmarks.recordings.truth import add_ground_truth, delivered_names, listed_clips

# The challenge's names, and the baseline's long ones: anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv
FILE_NAME = re.compile(
    r"anomaly_score_(?:DCASE(?P<year>20[0-9]{2})T2)?(?P<machine>[A-Za-z0-9]+)_(?:section|id)_(?:id_)?(?P<section>[0-9]{2})"
    r"(?:_(?P<domain>source|target))?(?:_test)?(?P<tail>_.+)?\.csv"
)
FILE_RULE = "anomaly_score_<machine>_{id_NN|section_NN[_source|_target]_test}.csv or the baseline's longer form"
PATTERN = "anomaly_score_*.csv"
PANDAS_HEADER = ("0", "1")  # what pandas writes above two columns that nobody named
SCORED_PARTS: tuple[Part, ...] = ("dev", "eval")
SHOWN = 5  # names that an error gives


@dataclass(frozen=True)
class ScoreFile:
    """A score file, as its name says.

    Attributes:
        path: of the file.
        machine: machine type.
        section: section, or machine ID in 2020.
        domain: where the year has a file a domain.
        part: that has this machine type's section.
    """

    path: Path
    machine: str
    section: str
    domain: Domain | None
    part: Part


@dataclass(frozen=True)
class ScoredFolder:
    """The clips of a folder of score files.

    Attributes:
        clips: a clip table with a column `score`, sorted by id; `path` is that of the score file.
        part: of the year that all of them are of.
        absent: (machine type, section) of that part that no file scores.
        notes: what looks odd but may be meant, a sentence each.
    """

    clips: pd.DataFrame
    part: Part
    absent: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def read_scores(
    folder: Path | str, dataset: Dataset, *, ground_truth: Path | str | None = None, part: Part | None = None
) -> ScoredFolder:
    """Read a folder of `anomaly_score_*.csv`, also in folders below it, and join its clips by name with their truth.

    A file has two columns, name and score, with or without a row of headings; names with or without folders in front
    and `.wav` behind. Conditions and domains come from the names of clips, domains also from those of files (2021), and
    those of evaluation clips from the official files.

    Args:
        folder: with the files.
        dataset: the year.
        ground_truth: the user's copy of the official files about evaluation clips; then every clip that these list of
            a section must be scored, and no other.
        part: only this part's files; None takes all, which must be of one part.

    Raises:
        BenchmarkError: no file, a name that follows no rule or is another year's, machine type's, section's or
            domain's, a wrong number of columns, a score that is no finite number, a clip that is scored twice, that is
            missing or that should not be there, or clips whose condition nobody tells.
    """
    if dataset.listed:
        raise BenchmarkError(
            f"Score files carry the names of a challenge's clips, but {dataset.name} has names of its own; name a year."
        )
    files = _one_part(_score_files(Path(folder).expanduser().absolute(), dataset), part)
    rows = [(file, *row) for file in files for row in _file_rows(file, dataset)]
    _refuse_doubled(rows)
    table = _clip_table(rows, dataset)
    if ground_truth is not None and files[0].part == "eval":
        table = _with_truth(table, _truth_folder(ground_truth), dataset, files)
    _refuse_unlabeled(table, dataset, ground_truth)
    scored = {(file.machine, file.section) for file in files}
    units = dataset.sections[files[0].part].items()
    absent = tuple((machine, one) for machine, sections in units for one in sections if (machine, one) not in scored)
    notes = _development_notes(table, dataset, ground_truth) if files[0].part == "dev" else ()
    return ScoredFolder(table, files[0].part, absent, notes)


def _score_files(folder: Path, dataset: Dataset) -> list[ScoreFile]:
    """Return the score files below a folder, sorted by path."""
    paths = sorted(path for path in folder.rglob(PATTERN) if path.is_file()) if folder.is_dir() else []
    if not paths:
        why = "holds none" if folder.is_dir() else "is no folder"
        raise BenchmarkError(f"{folder} must be a folder that holds {PATTERN}, but it {why}.")
    return [_read_file_name(path, dataset) for path in paths]


def _read_file_name(path: Path, dataset: Dataset) -> ScoreFile:
    """Read what the name of a score file says, as this year understands it."""
    match = FILE_NAME.fullmatch(path.name)
    # a tail belongs to the baseline's form: its year in front, or its seed behind
    if match is None or (match["tail"] and not match["year"] and not match["tail"].startswith("_seed")):
        raise BenchmarkError(f"names of score files must follow {FILE_RULE}, but got {path.name}.")
    machine, section, domain = match["machine"], match["section"], match["domain"]
    if match["year"] and f"dcase{match['year']}" != dataset.name:
        raise BenchmarkError(
            f"score files must be those of {dataset.name}, but {path.name} says dcase{match['year']}; "
            f"name it with --dataset dcase{match['year']}."
        )
    known = {name for each in SCORED_PARTS for name in dataset.machines[each]}
    if machine not in known:
        raise BenchmarkError(
            f"machine types of {dataset.name} are {', '.join(sorted(known))}, but {path.name} is of {machine}; "
            f"name its own year, or correct the name.{did_you_mean(machine, known)}"
        )
    if domain is not None and len(dataset.test_folders) == 1:
        raise BenchmarkError(
            f"score files of {dataset.name} hold both domains, but {path.name} is of the {domain} domain, as those of "
            "dcase2021 are; name the right year."
        )
    # the baseline, which says its year, writes both domains of 2021 into one file
    if domain is None and not match["year"] and len(dataset.test_folders) > 1:
        raise BenchmarkError(
            f"score files of {dataset.name} are of one domain each, {machine}_section_{section}_source_test and "
            f"_target_test, but {path.name} names none, as those of later years; name the right year."
        )
    for part in SCORED_PARTS:
        if section in dataset.sections[part].get(machine, ()):
            return ScoreFile(path, machine, section, DOMAINS.get(domain or ""), part)
    there = sorted({one for part in SCORED_PARTS for one in dataset.sections[part].get(machine, ())})
    raise BenchmarkError(
        f"{machine} of {dataset.name} has {'sections' if dataset.has_domains else 'machine IDs'} {', '.join(there)}, "
        f"but {path.name} is of {section}; name its own year, or correct the name."
    )


def _one_part(files: Sequence[ScoreFile], part: Part | None) -> list[ScoreFile]:
    """Return the files of one part; BenchmarkError where there is none, or where there are two parts and no choice."""
    chosen = [file for file in files if part in (None, file.part)]
    if not chosen:
        raise BenchmarkError(
            f"There must be score files of the {part} part, but {files[0].path.name} and all others are not of it."
        )
    parts = {file.part: file for file in chosen}
    if len(parts) > 1:
        raise BenchmarkError(
            f"an official score is of one part, but {parts['dev'].path.name} is of dev and {parts['eval'].path.name} "
            "of eval; choose with --part dev or --part eval."
        )
    return chosen


def _file_rows(file: ScoreFile, dataset: Dataset) -> list[tuple[str, ClipName, float]]:
    """Return (stem, what the name says, score) of each row of a file."""
    rows = list(_cells(file.path))
    if not rows:
        raise BenchmarkError(f"{file.path} must hold a clip name and its score a row, but it is empty.")
    wrong = [(line, cells) for line, cells in rows if len(cells) != 2]
    if wrong:
        line, cells = wrong[0]
        raise BenchmarkError(
            f"rows of {file.path} must have two columns, a clip name and its score, but line {line} has {len(cells)}: "
            f"{','.join(cells)[:80]}."
        )
    if _is_heading(rows[0][1], dataset):
        rows = rows[1:]
        if not rows:
            raise BenchmarkError(f"{file.path} must hold scored clips, but it holds a row of headings alone.")
    named = [(_clip_name(cells[0], file, dataset), cells[1]) for _, cells in rows]
    bad = [f"{stem} ({text or 'nothing'})" for (stem, _), text in named if not math.isfinite(_number(text))]
    if bad:
        raise BenchmarkError(f"scores must be finite numbers, but {len(bad)} of {file.path} are not: {_some(bad)}.")
    return [(stem, name, _number(text)) for (stem, name), text in named]


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each line of a csv that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped):
                    yield reader.line_num, stripped
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchmarkError(f"{path} must be a readable UTF-8 csv, but: {error}.") from error


def _is_heading(cells: Sequence[str], dataset: Dataset) -> bool:
    """Tell whether a row names columns instead of a clip and its score."""
    if tuple(cells) == PANDAS_HEADER:
        return True
    try:
        float(cells[1])
    except ValueError:
        stem, _ = _stem_and_folders(cells[0])
        return not cells[0].lower().endswith(".wav") and _name(stem, dataset) is None
    return False


def _name(stem: str, dataset: Dataset) -> ClipName | None:
    """Return what a name says; None where it is no clip's."""
    try:
        return parse_name(stem, with_ids=not dataset.has_domains)
    except BenchmarkError:
        return None


def _clip_name(cell: str, file: ScoreFile, dataset: Dataset) -> tuple[str, ClipName]:
    """Return the stem of a clip's name and what it says, once it is one of this file's."""
    stem, folders = _stem_and_folders(cell)
    try:
        name = parse_name(stem, with_ids=not dataset.has_domains)
    except BenchmarkError as error:
        raise BenchmarkError(f"{file.path} holds what is no clip of {dataset.name}: {error}") from None
    machines = {machine for each in SCORED_PARTS for machine in dataset.machines[each]}
    of_machine = next((folder for folder in reversed(folders) if folder in machines), file.machine)
    for what, said, wanted in (
        ("machine type", of_machine, file.machine),
        ("section" if dataset.has_domains else "machine ID", name.section, file.section),
        ("domain", name.domain or file.domain, file.domain or name.domain),
        ("split", name.split or "test", "test"),
    ):
        if said != wanted:
            raise BenchmarkError(
                f"{file.path} must score clips of its own {what}, {wanted}, but holds one of {said}: {cell}."
            )
    return stem, name


def _stem_and_folders(cell: str) -> tuple[str, list[str]]:
    """Part a path of either system into the file's name without its ending, and the folders in front."""
    *folders, name = cell.replace("\\", "/").split("/")
    return (name[: -len(".wav")] if name.lower().endswith(".wav") else name), folders


def _number(text: str) -> float:
    """Return the number that a cell holds, NaN where it holds none."""
    try:
        return math.nan if "_" in text else float(text)  # Python alone reads 1_0 as ten
    except ValueError:
        return math.nan


def _refuse_doubled(rows: Sequence[tuple[ScoreFile, str, ClipName, float]]) -> None:
    """Raise BenchmarkError where a machine type's clip is scored more than once, in one file or in several."""
    times = Counter((file.machine, stem) for file, stem, _, _ in rows)
    doubled = [key for key, number in times.items() if number > 1]
    if doubled:
        where = dict.fromkeys(str(file.path) for file, stem, _, _ in rows if (file.machine, stem) == doubled[0])
        raise BenchmarkError(
            f"each clip must be scored once, but {len(doubled)} have several scores: "
            f"{_some([f'{machine} {stem}' for machine, stem in doubled])}; the first in {' and '.join(where)}."
        )


def _clip_table(rows: Iterable[tuple[ScoreFile, str, ClipName, float]], dataset: Dataset) -> pd.DataFrame:
    """Return a checked clip table with scores, sorted by id, the ids as an index of the recordings has them."""
    cells, scores = [], []
    for file, stem, name, score in rows:
        clip_id = f"{dataset.name}/{file.part}/{file.machine}/test/{stem}"
        place = (clip_id, str(file.path), dataset.name, file.part, file.machine, file.section, "test")
        domain = name.domain or file.domain if dataset.has_domains else None
        cells.append((*place, domain, name.condition, None))
        scores.append(score)
    return make_clips(cells)[list(COLUMNS)].assign(score=scores).sort_values("clip_id", ignore_index=True)


def _truth_folder(ground_truth: Path | str) -> Path:
    """Return the folder to search: of an evaluator's subfolder the one above, which holds the domains too."""
    folder = Path(ground_truth).expanduser().absolute()
    return folder.parent if folder.name in ("ground_truth_data", "ground_truth_domain") else folder


def _with_truth(clips: pd.DataFrame, folder: Path, dataset: Dataset, files: Sequence[ScoreFile]) -> pd.DataFrame:
    """Return the clips with their truth, once they are just those that the official files list of these sections."""
    delivered = delivered_names(folder, dataset)
    scored = {
        (machine, delivered.get((machine, stem), stem))
        for machine, stem in zip(clips["machine"], clips["clip_id"].str.rsplit("/", n=1).str[-1], strict=True)
    }
    listed = listed_clips(folder, dataset)
    machines = {machine for machine, _ in listed}
    unheard = sorted({file.machine for file in files} - machines)
    if unheard:
        raise BenchmarkError(
            f"{folder} must tell the conditions of every machine type that is scored, but says nothing of "
            f"{', '.join(unheard)} of {dataset.name}; give that year's official files."
        )
    full = sorted(key for key in scored - set(listed) if (name := _name(key[1], dataset)) and name.condition)
    if full and not delivered:
        raise BenchmarkError(
            f"names of evaluation clips must be those delivered, or be paired with them by a list, but {full[0][0]} "
            f"{full[0][1]} tells its condition; give the baseline's eval_data_list_{dataset.name.removeprefix('dcase')}"
            ".csv beside the evaluator's files, or leave out --ground-truth to go by the names."
        )
    units = {(file.machine, file.section, domain) for file in files for domain in _domains_of(file)}
    wanted = {key for key in listed if _unit_of(key, dataset) & units}
    for names, rule in (
        (wanted - scored, "be scored, but {} are missing"),
        (scored - wanted, "be one that the official files list, but {} are not, extra or misspelt"),
    ):
        if names:
            shown = _some([f"{machine} {stem}" for machine, stem in sorted(names)])
            raise BenchmarkError(f"every clip of a section must {rule.format(len(names))}: {shown}.")
    return add_ground_truth(clips, folder, [dataset])


def _domains_of(file: ScoreFile) -> tuple[Domain | None, ...]:
    return (file.domain,) if file.domain else (None, "source", "target")


def _unit_of(key: tuple[str, str], dataset: Dataset) -> set[tuple[str, str, Domain | None]]:
    """Return the (machine type, section, domain) of a listed clip; of no section where its name tells none."""
    machine, stem = key
    name = _name(stem, dataset)
    return set() if name is None else {(machine, name.section, name.domain)}


def _development_notes(clips: pd.DataFrame, dataset: Dataset, ground_truth: Path | str | None) -> tuple[str, ...]:
    """Return what looks odd about a development set's clips, whose names no official file lists."""
    stems = clips["clip_id"].str.rsplit("/", n=1).str[-1].tolist()
    machines, sections = clips["machine"].tolist(), clips["section"].tolist()
    kinds = clips[["domain", "condition"]].astype(object).where(clips[["domain", "condition"]].notna(), None)
    notes = (
        other_years_attributes(dataset, zip(machines, stems, strict=True)),
        other_counts(dataset, zip(machines, sections, map(tuple, kinds.to_numpy().tolist()), stems, strict=True)),
        "--ground-truth was not read: it is about evaluation clips, and the names of these tell their condition."
        if ground_truth is not None
        else None,
    )
    return tuple(note for note in notes if note)


def _refuse_unlabeled(clips: pd.DataFrame, dataset: Dataset, ground_truth: Path | str | None) -> None:
    """Raise BenchmarkError where no clip has a condition: there is nothing to measure."""
    if clips["condition"].notna().any():
        return
    way_out = "give --ground-truth, a folder with" if ground_truth is None else "check that --ground-truth holds"
    raise BenchmarkError(
        f"the conditions of {dataset.name}'s {clips['part'].iloc[0]} clips stand neither in their names, such as "
        f"{clips['clip_id'].iloc[0].rsplit('/', 1)[1]}, nor in other files; {way_out} that year's official files."
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
