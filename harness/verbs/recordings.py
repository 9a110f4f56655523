"""The `data` verbs as Python functions: count, examine, download and generate recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import plugins
from harness.errors import HarnessError
from harness.told import Told, silent

if TYPE_CHECKING:
    from benchmarks.contract import Part


def data_index(
    root: Path, *, dataset: str | None = None, ground_truth: Path | None = None, skip_bad: bool = False
) -> dict[str, Any]:
    """Count the clips of a root by machine type, part, section, split, domain and condition.

    Args:
        root: folder with recordings, in a layout that `benchmarks.recordings.index.index_root` reads.
        dataset: only this one; None counts all that are there.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: leave out files that cannot be indexed, instead of refusing the folder.

    Returns:
        `dataset`, `clips` (their number), `skipped` (number of files left out), and `rows`: one for each machine type,
        part, section, split, domain and condition, with its number of clips.

    Raises:
        BenchmarkError: the folder holds no recordings, or files that cannot be indexed.
    """
    from benchmarks.clips import count_clips
    from harness.trials.recordings import index_datasets, objects

    indexed = index_datasets(root, (dataset,) if dataset else (), ground_truth=ground_truth, skip_bad=skip_bad)
    counts = count_clips(indexed.clips)
    columns = {name: objects(counts[name]).tolist() for name in counts.columns}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    years = sorted(set(indexed.clips["dataset"]))
    return {
        "dataset": dataset or (years[0] if len(years) == 1 else None),
        "clips": len(indexed.clips),
        "skipped": indexed.skipped,
        "rows": rows,
    }


def data_doctor(
    root: Path,
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    ground_truth: Path | None = None,
    workers: int | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Read every recording of a root and say what is there, what is wrong with it, and whether a protocol could run.

    Args:
        root: as in `data_index`.
        dataset: only this one; None examines all that are there.
        protocol: by name.
        ground_truth: as in `data_index`.
        workers: processes that read; None is one a core.
        told: called with (what, done, total) as work goes on.

    Returns:
        `root`, `parts` (what is there, a row a part), `problems` (a row each; `effect` says what it means for a study),
        `counts` (problems by kind) and `protocol` (`name`, `runs`, `why`), None where none was named.

    Raises:
        ValueError: there is no such dataset or protocol, or the folder cannot be read.
    """
    import os

    from benchmarks.protocols import find_protocol
    from benchmarks.recordings.doctor import examine
    from harness.trials.recordings import load_datasets

    found = examine(
        root, load_datasets((dataset,) if dataset else ()),
        protocol=find_protocol(protocol) if protocol else None, ground_truth=ground_truth,
        workers=workers or os.cpu_count() or 1, progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    verdict = found.verdict
    return {
        "root": str(root),
        "parts": [asdict(part) for part in found.parts],
        "problems": [asdict(problem) | {"effect": problem.effect} for problem in found.problems],
        "counts": dict(sorted(Counter(problem.kind for problem in found.problems).items())),
        "protocol": None if verdict is None else {"name": verdict.protocol, "runs": verdict.runs, "why": verdict.why},
    }


def data_own(root: Path, *, machine: str = "", overwrite: bool = False) -> dict[str, Any]:
    """Write a first csv of a folder of your own recordings, guessed from the names of its folders and files.

    Args:
        root: folder with recordings, which gets the csv.
        machine: of all recordings; "" guesses it from their names.
        overwrite: replace a csv of that name.

    Returns:
        `csv`, its path; `rows`, how many clips there are of each machine, split, domain and condition; `left_out`, a
        sentence for each file that it does not list; and `next`, the command that trains on it.

    Raises:
        BenchmarkError: there are no recordings, or a csv lists them already.
    """
    import shlex

    from benchmarks.folders import folder_of, whole_file, writing
    from benchmarks.recordings.own import COLUMNS, find_own, guess_table

    folder = folder_of(root)
    table = guess_table(folder, machine=machine)
    before = find_own(folder, plugins.load("dataset", "own")) or (table.path if table.path.exists() else None)
    if before is not None and not (overwrite and before == table.path):
        way = "remove it" if before != table.path else "say --overwrite to replace it"
        raise HarnessError(f"Recordings must be listed by one csv, but there is {before} already; edit that, or {way}.")
    with writing(folder), whole_file(table.path) as file:
        file.write(table.text().encode())
    counts = Counter(tuple(row[name] for name in COLUMNS[1:5]) for row in table.rows)
    return {
        "csv": str(table.path),
        "rows": [
            {**dict(zip(COLUMNS[1:5], cells, strict=True)), "clips": count} for cells, count in sorted(counts.items())
        ],
        "left_out": list(table.left_out),
        "next": f"asdbench trial {shlex.quote(str(root))} --protocol own --backbone logmel --frozen",
    }


def data_download(
    dataset: str,
    root: Path,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    keep: bool = False,
    base_url: str | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Download official archives, verify and unpack them; what is there already is not fetched again.

    Args:
        dataset: by name.
        root: folder that gets the year's folder, in the baseline's layout.
        machines: machine types; None fetches all.
        parts: dev, additional, eval; None fetches all.
        keep: keep the archives after they were unpacked.
        base_url: of a mirror of Zenodo; None is Zenodo.
        told: progress in MB, by archive.

    Returns:
        `dataset`, `root` and `archives`: a row each of name, part, machine, bytes, sha256 and whether it was `fetched`.

    Raises:
        ValueError: there is no such dataset, part or machine type, or an archive cannot be fetched or unpacked.
    """
    from benchmarks.archives.download import ZENODO, download

    done = download(
        plugins.load("dataset", dataset), root, machines=machines, parts=cast("Sequence[Part] | None", parts),
        progress=lambda name, got, total: told(f"{name}, MB", got // 10**6, total // 10**6),
        base_url=base_url or ZENODO, keep=keep,
    )  # fmt: skip
    return {"dataset": dataset, "root": str(root), "archives": [asdict(archive) for archive in done]}


def data_generate(
    root: Path,
    dataset: str,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] = ("dev",),
    train_source: int = 30,
    train_target: int = 5,
    test_per_cell: int = 10,
    seconds: float | None = None,
    seed: int = 0,
    told: Told = silent,
) -> None:
    """Write a small set of generated recordings in a year's own layout; what is there already stays.

    Args:
        root: folder that gets the year's folder.
        dataset: by name.
        machines: machine types; None makes all of the year's.
        parts: dev, additional, eval.
        train_source: source training clips a section.
        train_target: target training clips a section.
        test_per_cell: test clips a section, domain and condition.
        seconds: length of a clip; None is the length of the year's clips.
        seed: of the generated sounds.
        told: called with (what, done, total) as work goes on.

    Raises:
        ValueError: there is no such dataset, machine type or part, or the folder cannot be written.
    """
    from benchmarks.synthetic.generator import generate

    generate(
        root,
        plugins.load("dataset", dataset),
        machines=machines,
        parts=cast("tuple[Part, ...]", tuple(parts)),  # generate refuses any other
        train_source=train_source,
        train_target=train_target,
        test_per_cell=test_per_cell,
        seconds=seconds,
        seed=seed,
        progress=lambda done, total: told(f"generating {dataset}", done, total),
    )
