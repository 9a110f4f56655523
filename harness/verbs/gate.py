"""The verbs that judge, as Python functions: select, regress, baseline export."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.places import Places, code_revision, find_places

if TYPE_CHECKING:
    from harness.gate.baselines import RecordedArm
    from harness.stores.results import Results


def select(*, places: Places | None = None, **chosen: Any) -> list[dict[str, Any]]:
    """Choose M, K1 and K2 on some machines and report on the others; see `harness.answers.selection.select`."""
    from harness.answers.selection import select as chosen_elsewhere
    from harness.verbs.answers import with_canonical_scorer
    from harness.verbs.stores import open_results

    with open_results(places or find_places()) as results:
        return chosen_elsewhere(results, **with_canonical_scorer(chosen))


def regress(
    baseline: str,
    candidate: str,
    *,
    margin: float = 0.5,
    scorer: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    junit: Path | None = None,
    places: Places | None = None,
) -> dict[str, Any]:
    """Judge a candidate against a baseline; see `harness.gate.regression.regress`.

    Args:
        baseline: a run id, a trial key, STUDY[:BACKBONE[:M]], or a file from `asdbench baseline export`.
        candidate: likewise.
        margin: points of the official score, in percent, that do not matter.
        scorer: only this scorer's results.
        resamples: of the bootstrap.
        seed: of its draws.
        junit: a file for the verdict; where the comparison cannot be made, it holds the error.
        places: of the results.

    Raises:
        HarnessError: the comparison cannot be made.
    """
    from harness.gate.junit import error_case, verdict_cases, write_junit
    from harness.gate.regression import regress as judged
    from harness.verbs.answers import with_canonical_scorer

    try:
        scorer = with_canonical_scorer({"scorer": scorer})["scorer"]
        before, now = _arms(baseline, candidate, scorer=scorer, places=places or find_places())
        document = judged(before, now, margin=margin, resamples=resamples, seed=seed)
    except ValueError as error:
        if junit is not None:
            write_junit(error_case(str(error)), junit)
        raise
    if junit is not None:
        write_junit(verdict_cases(document), junit)
    return document


def baseline_export(
    reference: str, *, out: Path, scorer: str | None = None, places: Places | None = None
) -> dict[str, Any]:
    """Write recorded results to a file that later candidates are judged by, here or elsewhere.

    Args:
        reference: a run id, a trial key, or STUDY[:BACKBONE[:M]].
        out: the file, ending in .json or .json.gz.
        scorer: only this scorer's results.
        places: of the results.

    Raises:
        HarnessError: nothing recorded has that name, or the file cannot be written.
    """
    from harness.gate.baseline_file import write_baseline
    from harness.gate.baselines import find_arm
    from harness.verbs.answers import with_canonical_scorer
    from harness.verbs.stores import open_results

    with open_results(places or find_places()) as results:
        arm = find_arm(results, reference, **with_canonical_scorer({"scorer": scorer}))
    write_baseline(arm, out, code=code_revision())
    return {
        "file": str(out),
        "baseline": reference,
        "backbone": arm.backbone,
        "protocol": arm.protocol,
        "train_data": arm.train_data,
        "test_data": arm.test_data,
        "clips": len(arm.clips),
        "rows": [
            {"setting": setting.shown(), **setting._asdict(), "seeds": sorted(of_setting)}
            for setting, of_setting in arm.trials.items()
        ],
    }


def _arms(baseline: str, candidate: str, *, scorer: str | None, places: Places) -> tuple[RecordedArm, RecordedArm]:
    from harness.gate.baseline_file import read_baseline
    from harness.gate.baselines import find_arm, is_file_name, of_scorer
    from harness.verbs.stores import open_results

    files = [is_file_name(reference) for reference in (baseline, candidate)]
    opened: AbstractContextManager[Results | None] = nullcontext() if all(files) else open_results(places)
    with opened as results:

        def arm(reference: str, is_file: bool) -> RecordedArm:
            if is_file or results is None:
                return of_scorer(read_baseline(Path(reference)), scorer)
            return find_arm(results, reference, scorer=scorer)

        return arm(baseline, files[0]), arm(candidate, files[1])
