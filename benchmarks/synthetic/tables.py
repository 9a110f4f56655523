"""What stands beside generated recordings: attribute tables, and the truth of what the names withhold."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.contract import Dataset
from benchmarks.folders import whole_file
from benchmarks.recordings.index import format_name
from benchmarks.synthetic.names import list_columns
from benchmarks.synthetic.plan import PART_FOLDERS, PlannedClip, withhold


def write_tables(root: Path, dataset: Dataset, planned: Sequence[PlannedClip]) -> None:
    """Write every table of a generated year.

    These are `attributes_NN.csv` beside the recordings (from 2022 on), and below the root the official forms of what
    was released after each challenge: `ground_truth_attributes/<folder>/<part folder>/<machine>/
    attributes_NN_<split>_correspondence.csv`, whose source is the name with its attribute and whose target is the name
    that was published; `ground_truth/eval_data_list_<year>.csv`; and the evaluator's own files,
    `ground_truth/<year's name>_task2_evaluator/{ground_truth_data,ground_truth_domain}/`.

    Args:
        root: folder above the year's.
        dataset: year.
        planned: all its clips.
    """
    if dataset.attribute_files:
        for path, rows in _attribute_tables(dataset, planned).items():
            write_rows(root / dataset.folder / path, rows)
    for path, rows in _correspondences(dataset, planned).items():
        write_rows(root / "ground_truth_attributes" / dataset.folder / path, rows)
    listed = _eval_list(dataset, planned)
    if listed:
        write_rows(root / "ground_truth" / f"eval_data_list_{dataset.name.removeprefix('dcase')}.csv", listed)
    for path, rows in _evaluator_tables(dataset, planned).items():
        write_rows(root / "ground_truth" / f"{dataset.name}_task2_evaluator" / path, rows)


def _attribute_tables(dataset: Dataset, planned: Iterable[PlannedClip]) -> dict[Path, list[list[str]]]:
    """Collect `attributes_NN.csv`: one a section, of every clip whose name may tell its attribute."""
    tables: dict[Path, list[list[str]]] = defaultdict(list)
    for clip in planned:
        if clip.part == "eval":
            continue
        withheld = clip.machine in dataset.withheld.get(clip.part, ())
        cells = () if withheld else list_columns(clip.state, dataset.name)
        name = f"{clip.machine}/{clip.folder}/{clip.stem}.wav"
        tables[clip.path.parents[1] / f"attributes_{clip.truth.section}.csv"].append([name, *cells])
    for rows in tables.values():
        pairs = max(1, max(len(row) for row in rows) // 2)
        for row in rows:
            row.extend([""] * (1 + 2 * pairs - len(row)))
        rows.insert(0, ["file_name", *(f"d{pair}{kind}" for pair in range(1, pairs + 1) for kind in "pv")])
    return tables


def _correspondences(dataset: Dataset, planned: Iterable[PlannedClip]) -> dict[Path, list[list[str]]]:
    """Collect the tables of withheld attributes, in the columns of the baseline's ground_truth_attributes/."""
    tables: dict[Path, list[list[str]]] = {}
    for clip in planned:
        if clip.machine in dataset.withheld.get(clip.part, ()):
            name = f"attributes_{clip.truth.section}_{clip.truth.split}_correspondence.csv"
            path = Path(PART_FOLDERS[clip.part], clip.machine, name)
            rows = tables.setdefault(path, [["source_file_name", "target_file_name"]])
            rows.append([f"{format_name(clip.truth)}.wav", f"{format_name(withhold(clip.truth))}.wav"])
    return tables


def _eval_list(dataset: Dataset, planned: Iterable[PlannedClip]) -> list[list[str]]:
    """Collect the ground truth of the evaluation clips: a row a machine type, then its clips and their full names."""
    rows: list[list[str]] = []
    machine = None
    for clip in planned:
        if clip.part != "eval":
            continue
        if clip.machine != machine:
            machine = clip.machine
            rows.append([machine])
        truth = withhold(clip.truth) if machine in dataset.withheld.get("eval", ()) else clip.truth
        row = [f"{clip.stem}.wav", f"{format_name(truth, with_ids=not dataset.has_domains)}.wav"]
        # the list of 2020 has the label in a third column
        rows.append(row if dataset.has_domains else [*row, str(int(clip.truth.condition == "anomaly"))])
    return rows


def _evaluator_tables(dataset: Dataset, planned: Iterable[PlannedClip]) -> dict[Path, list[list[str]]]:
    """Collect an evaluator's files: of each section (and domain, where those are separate) names with 0 or 1."""
    tables: dict[Path, list[list[str]]] = defaultdict(list)
    for clip in planned:
        if clip.part != "eval":
            continue
        unit = f"section_{clip.truth.section}" if dataset.has_domains else f"id_{clip.truth.section}"
        domain = f"_{clip.truth.domain}" if len(dataset.test_folders) > 1 else ""
        name = f"ground_truth_{clip.machine}_{unit}{domain}_test.csv"
        label = str(int(clip.truth.condition == "anomaly"))
        tables[Path("ground_truth_data", name)].append([f"{clip.stem}.wav", label])
        if dataset.has_domains:
            target = str(int(clip.truth.domain == "target"))
            tables[Path("ground_truth_domain", name)].append([f"{clip.stem}.wav", target])
    return tables


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
