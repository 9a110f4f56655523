"""Anybody's `anomaly_score_*.csv`: read, checked clip by clip, joined by name with what is known of each clip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.clips import COLUMNS, make_clips
from benchmarks.contract import BenchmarkError, Dataset, Domain, Part
from benchmarks.files import printable
from benchmarks.folders import folder_of
from benchmarks.found import Found, find_csvs, list_reasons, other_csvs
from benchmarks.metrics.official_counts import other_counts, other_years_attributes
from benchmarks.metrics.score_rows import SCORED_PARTS, ScoreFile, clip_name_of, file_rows, some
from benchmarks.recordings.names import DOMAINS, ClipName
from benchmarks.recordings.truth import add_ground_truth, delivered_names, listed_clips
from benchmarks.suggestions import did_you_mean

# The challenge's names, and the baseline's long ones: anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv
FILE_NAME = re.compile(
    r"(?i:anomaly_score)_(?:DCASE(?P<year>20[0-9]{2})T2)?(?P<machine>[A-Za-z0-9]+)_(?:section|id)_(?:id_)?(?P<section>[0-9]{2})"
    r"(?:_(?P<domain>source|target))?(?:_test)?(?P<tail>_.+)?(?i:\.csv)"
)
FILE_RULE = "anomaly_score_<machine>_{id_NN|section_NN[_source|_target]_test}.csv or the baseline's longer form"
FRONT = "anomaly_score"
PATTERN = "anomaly_score_*.csv"


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
    all_files, passed_over = _score_files(folder_of(folder), dataset)
    files = _one_part(all_files, part)
    rows = [(file, *row) for file in files for row in file_rows(file, dataset)]
    _refuse_doubled(rows)
    table = _clip_table(rows, dataset)
    if ground_truth is not None and files[0].part == "eval":
        table = _with_truth(table, _truth_folder(ground_truth), dataset, files)
    _refuse_unlabeled(table, dataset, ground_truth)
    scored = {(file.machine, file.section) for file in files}
    units = dataset.sections[files[0].part].items()
    absent = tuple((machine, one) for machine, sections in units for one in sections if (machine, one) not in scored)
    notes = _development_notes(table, dataset, ground_truth) if files[0].part == "dev" else ()
    return ScoredFolder(table, files[0].part, absent, passed_over + notes)


def _score_files(folder: Path, dataset: Dataset) -> tuple[list[ScoreFile], tuple[str, ...]]:
    """Return the score files below a folder, sorted by path, and a note on files that were passed over."""
    if not folder.is_dir():
        raise BenchmarkError(f"{printable(folder)} must be a folder that holds {PATTERN}, but it is no folder.")
    found = find_csvs(folder, named=_is_score_file, kind="score files")
    files = [path for path in found.files if path.name.lower().startswith(FRONT)]
    other = [(path, f"its name does not begin with {FRONT}") for path in found.files if path not in files]
    found = Found(tuple(files), (*found.passed_over, *other))
    if not files:
        there = [*found.passed_over, *other_csvs(folder, named=_is_score_file)]
        instead = f" that counts: {list_reasons(there)}" if there else ""
        raise BenchmarkError(f"{printable(folder)} must be a folder that holds {PATTERN}, but it holds none{instead}.")
    return [_read_file_name(path, dataset) for path in files], found.notes()


def _is_score_file(name: str) -> bool:
    return FRONT in name


def _read_file_name(path: Path, dataset: Dataset) -> ScoreFile:
    """Read what the name of a score file says, as this year understands it."""
    match = FILE_NAME.fullmatch(path.name)
    # a tail belongs to the baseline's form: its year in front, or its seed behind
    if match is None or (match["tail"] and not match["year"] and not match["tail"].startswith("_seed")):
        raise BenchmarkError(f"names of score files must follow {FILE_RULE}, but got {printable(path)}.")
    machine, section, domain = match["machine"], match["section"], match["domain"]
    if match["year"] and f"dcase{match['year']}" != dataset.name:
        raise BenchmarkError(
            f"score files must be those of {dataset.name}, but {printable(path)} says dcase{match['year']}; "
            f"name it with --dataset dcase{match['year']}."
        )
    known = {name for each in SCORED_PARTS for name in dataset.machines[each]}
    if machine not in known:
        raise BenchmarkError(
            f"machine types of {dataset.name} are {', '.join(sorted(known))}, but {printable(path)} is of {machine}; "
            f"name its own year, or correct the name.{did_you_mean(machine, known)}"
        )
    if domain is not None and len(dataset.test_folders) == 1:
        raise BenchmarkError(
            f"score files of {dataset.name} hold both domains, but {printable(path)} is of the {domain} domain, as "
            "those of dcase2021 are; name the right year."
        )
    # the baseline, which says its year, writes both domains of 2021 into one file
    if domain is None and not match["year"] and len(dataset.test_folders) > 1:
        raise BenchmarkError(
            f"score files of {dataset.name} are of one domain each, {machine}_section_{section}_source_test and "
            f"_target_test, but {printable(path)} names none, as those of later years; name the right year."
        )
    for part in SCORED_PARTS:
        if section in dataset.sections[part].get(machine, ()):
            return ScoreFile(path, machine, section, DOMAINS.get(domain or ""), part)
    there = sorted({one for part in SCORED_PARTS for one in dataset.sections[part].get(machine, ())})
    raise BenchmarkError(
        f"{machine} of {dataset.name} has {'sections' if dataset.has_domains else 'machine IDs'} {', '.join(there)}, "
        f"but {printable(path)} is of {section}; name its own year, or correct the name."
    )


def _one_part(files: Sequence[ScoreFile], part: Part | None) -> list[ScoreFile]:
    """Return the files of one part; BenchmarkError where there is none, or where there are two parts and no choice."""
    chosen = [file for file in files if part in (None, file.part)]
    if not chosen:
        raise BenchmarkError(
            f"There must be score files of the {part} part, but {files[0].path} and all others are not of it."
        )
    parts = {file.part: file for file in chosen}
    if len(parts) > 1:
        raise BenchmarkError(
            f"an official score is of one part, but {parts['dev'].path} is of dev and {parts['eval'].path} "
            "of eval; choose with --part dev or --part eval."
        )
    return chosen


def _refuse_doubled(rows: Sequence[tuple[ScoreFile, str, ClipName, float]]) -> None:
    """Raise BenchmarkError where a machine type's clip is scored more than once, in one file or in several."""
    times = Counter((file.machine, stem) for file, stem, _, _ in rows)
    doubled = [key for key, number in times.items() if number > 1]
    if doubled:
        where = dict.fromkeys(str(file.path) for file, stem, _, _ in rows if (file.machine, stem) == doubled[0])
        raise BenchmarkError(
            f"each clip must be scored once, but {len(doubled)} have several scores: "
            f"{some([f'{machine} {stem}' for machine, stem in doubled])}; the first in {' and '.join(where)}."
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
    folder = folder_of(ground_truth)
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
    full = sorted(key for key in scored - set(listed) if (name := clip_name_of(key[1], dataset)) and name.condition)
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
            shown = some([f"{machine} {stem}" for machine, stem in sorted(names)])
            raise BenchmarkError(f"every clip of a section must {rule.format(len(names))}: {shown}.")
    return add_ground_truth(clips, folder, [dataset])


def _domains_of(file: ScoreFile) -> tuple[Domain | None, ...]:
    return (file.domain,) if file.domain else (None, "source", "target")


def _unit_of(key: tuple[str, str], dataset: Dataset) -> set[tuple[str, str, Domain | None]]:
    """Return the (machine type, section, domain) of a listed clip; of no section where its name tells none."""
    machine, stem = key
    name = clip_name_of(stem, dataset)
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
