"""The `data` verbs as Python functions: count, examine, download and generate recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from harness import plugins

if TYPE_CHECKING:
    from benchmarks.contract import Part

Told: TypeAlias = Callable[[str, int, int], None]


def _nobody(_what: str, _done: int, _all: int) -> None:
    """Tell nobody about progress."""


def data_index(
    root: Path, *, dataset: str | None = None, ground_truth: Path | None = None, skip_bad: bool = False
) -> dict[str, Any]:
    """Count the clips of a root by machine type, part, section, split, domain and condition.

    Args:
        root: folder with recordings, in a layout that `benchmarks.recordings.index.index_root` reads.
        dataset: only this one; None counts all that are there.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: count without files that cannot be indexed, and say how many they are.
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
    told: Told = _nobody,
) -> dict[str, Any]:
    """Read every recording of a root and say what is there, what is wrong with it, and whether a protocol could run.

    Args:
        root: as in `data_index`.
        dataset: only this one; None examines all that are there.
        protocol: by name.
        ground_truth: as in `data_index`.
        workers: processes that read; None is one a core.
        told: progress.

    Returns:
        `root`, `parts` (what is there, a row a part), `problems` (a row each), `counts` (problems by kind) and
        `protocol` (`name`, `runs`, `why`), None where none was named.
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
        "problems": [asdict(problem) for problem in found.problems],
        "counts": dict(sorted(Counter(problem.kind for problem in found.problems).items())),
        "protocol": None if verdict is None else {"name": verdict.protocol, "runs": verdict.runs, "why": verdict.why},
    }


def data_download(
    dataset: str,
    root: Path,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    told: Told = _nobody,
    **options: Any,
) -> dict[str, Any]:
    """Download official archives, verify and unpack them; what is there already is not fetched again.

    Args:
        dataset: by name.
        root: folder that gets the year's folder, in the baseline's layout.
        machines: machine types; None fetches all.
        parts: dev, additional, eval; None fetches all.
        told: progress in MB, by archive.
        **options: of `benchmarks.archives.download.download`.

    Returns:
        `dataset`, `root` and `archives`: a row each of name, part, machine, bytes, sha256 and whether it was `fetched`.
    """
    from benchmarks.archives.download import download

    done = download(
        plugins.load("dataset", dataset), root, machines=machines, parts=cast("Sequence[Part] | None", parts),
        progress=lambda name, got, total: told(f"{name}, MB", got // 10**6, total // 10**6), **options,
    )  # fmt: skip
    return {"dataset": dataset, "root": str(root), "archives": [asdict(archive) for archive in done]}


def data_generate(
    root: Path,
    dataset: str,
    *,
    machines: Sequence[str] | None = None,
    parts: Sequence[str] = ("dev",),
    seed: int = 0,
    told: Told = _nobody,
    **sizes: Any,
) -> None:
    """Write a small set of generated recordings in a year's own layout."""
    from benchmarks.synthetic.generator import generate

    generate(
        root,
        plugins.load("dataset", dataset),
        machines=machines,
        parts=cast("tuple[Part, ...]", tuple(parts)),  # generate refuses any other
        seed=seed,
        progress=lambda done, total: told(f"generating {dataset}", done, total),
        **sizes,
    )
