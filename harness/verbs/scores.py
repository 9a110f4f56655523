"""Score files of anybody's system."""

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
        resamples: of the bootstrap that intervals come from.
        seed: of its draws.
        explain: name the clips that enter each number.
        record: the name under which the scores are recorded as an external system; None records nothing.
        places: of the stores.

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
        places: of the results.

    Returns:
        What was written, as `harness.scorefiles.submission.submit` says.

    Raises:
        HarnessError: there is no such trial, or the folder cannot be written.
    """
    from harness.scorefiles.submission import submit as written

    with open_results(places or find_places()) as results:
        return written(results, key, out=out, scorer=scorer)
