"""The verbs `score` and `submit` as Python functions: reading and writing the challenge's score files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.places import Places, find_places
from harness.verbs.stores import open_results

if TYPE_CHECKING:
    from benchmarks.contract import Part


def score(
    folder: Path | str,
    *,
    dataset: str,
    ground_truth: Path | None = None,
    part: Part | None = None,
    resamples: int = 1000,
    seed: int = 0,
    explain: bool = False,
    record: str | None = None,
    places: Places | None = None,
) -> dict[str, Any]:
    """Measure a folder of anybody's score files by a year's official rule.

    Args:
        folder: with `anomaly_score_*.csv`.
        dataset: the year.
        ground_truth: the user's copy of the official files about evaluation clips.
        part: only this part, where the folder holds both.
        resamples: bootstrap resamples for the intervals.
        seed: of the bootstrap's draws.
        explain: also return which clips enter each number.
        record: name under which the scores are recorded as those of an external system; None records nothing.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        See `harness.scorefiles.measured.MeasuredFolder.document`; where recorded also `key` and `run_id`.

    Raises:
        ValueError: the files are not those of the year, or cannot be used; or the name cannot be recorded.
    """
    from harness.scorefiles.measured import measure_folder

    measured = measure_folder(
        folder, dataset=dataset, ground_truth=ground_truth, part=part, resamples=resamples, seed=seed
    )
    document = measured.document(explain=explain)
    if record is not None:
        from harness.scorefiles.external import record_external

        document |= record_external(record, measured, places=places or find_places())
    return document


def submit(key: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> dict[str, Any]:
    """Write a recorded trial's official score and decision files; see `harness.scorefiles.submission.submit`.

    Args:
        key: of the trial.
        out: folder for the files.
        scorer: whose scores; None is the trial's first.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        What was written, as `harness.scorefiles.submission.submit` says.

    Raises:
        HarnessError: there is no such trial, or the folder cannot be written.
    """
    from harness.scorefiles.submission import submit as written

    with open_results(places or find_places()) as results:
        return written(results, key, out=out, scorer=scorer)
