"""Score files of anybody's system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.places import Places, find_places
from harness.verbs.stores import open_results


def score(
    folder: Path | str,
    *,
    dataset: str,
    explain: bool = False,
    record: str | None = None,
    places: Places | None = None,
    **chosen: Any,
) -> dict[str, Any]:
    """Measure a folder of anybody's score files by a year's official rule.

    Args:
        folder: with `anomaly_score_*.csv`.
        dataset: the year.
        explain: name the clips that enter each number.
        record: the name under which the scores are recorded as an external system; None records nothing.
        places: of the stores.
        chosen: see `harness.scorefiles.measured.measure_folder`.

    Returns:
        See `harness.scorefiles.measured.MeasuredFolder.document`; where recorded also `key` and `run_id`.
    """
    from harness.scorefiles.measured import measure_folder

    measured = measure_folder(folder, dataset=dataset, **chosen)
    document = measured.document(explain=explain)
    if record is not None:
        from harness.scorefiles.external import record_external

        document |= record_external(record, measured, places=places or find_places())
    return document


def submit(key: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> dict[str, Any]:
    """Write a recorded trial's official score and decision files; see `harness.scorefiles.submission.submit`."""
    from harness.scorefiles.submission import submit as written

    with open_results(places or find_places()) as results:
        return written(results, key, out=out, scorer=scorer)
