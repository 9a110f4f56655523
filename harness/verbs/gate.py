"""The verbs that judge, as Python functions: select, regress, baseline export."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from harness.places import Places, code_revision, find_places

if TYPE_CHECKING:
    from harness.answers.selection import SelectedRow
    from harness.gate.baselines import RecordedArm
    from harness.gate.regression import Verdict
    from harness.stores.results import Results


class Exported(TypedDict):
    """What a baseline's file holds; each row is a setting with its seeds."""

    file: str
    baseline: str
    backbone: str
    protocol: str
    train_data: str
    test_data: str
    clips: int
    rows: list[dict[str, Any]]


def select(
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    resamples: int = 500,
    seed: int = 0,
    places: Places | None = None,
) -> list[SelectedRow]:
    """Choose M, K1, K2 and fusion on all other machines, report on the one left out, and compare with test-set tuning.

    Args:
        study: only this study's trials, by its name (the newest of that name) or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's, as in `knn:k=5`.
        resamples: of the bootstrap; the choice is repeated in each.
        seed: of the bootstrap's draws.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        One row a backbone, labels, scorer, year and way of choosing; fractions. See `harness.answers.selection.select`.

    Raises:
        HarnessError: nothing is recorded, nothing of that name, or no board has two cells and two machines.
    """
    from harness.answers.question import Question
    from harness.answers.selection import select as chosen_elsewhere
    from harness.verbs.answers import canonical_scorer
    from harness.verbs.stores import open_results

    question = Question(study, protocol, backbone, canonical_scorer(scorer), resamples=resamples, seed=seed)
    with open_results(places or find_places()) as results:
        return chosen_elsewhere(results, question)


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
) -> Verdict:
    """Judge whether a candidate is worse than a baseline by more than a margin.

    Args:
        baseline: a run id, a trial key, STUDY[:BACKBONE[:M]], or a file from `asdbench baseline export`.
        candidate: likewise.
        margin: largest loss of the official score that does not matter, in percentage points.
        scorer: only this scorer's results.
        resamples: of the bootstrap.
        seed: of its draws.
        junit: JUnit file to write the verdict to; if the comparison cannot be made, the error is written there.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        Whether the candidate is accepted, with a row for each setting, and for each setting and machine type. See
        `harness.gate.regression.regress`.

    Raises:
        HarnessError: the comparison cannot be made.
    """
    from harness.gate.junit import error_case, verdict_cases, write_junit
    from harness.gate.regression import regress as judged
    from harness.verbs.answers import canonical_scorer

    try:
        before, now = _arms(baseline, candidate, scorer=canonical_scorer(scorer), places=places or find_places())
        document = judged(before, now, margin=margin, resamples=resamples, seed=seed)
    except ValueError as error:
        if junit is not None:
            write_junit(error_case(str(error)), junit)
        raise
    if junit is not None:
        write_junit(verdict_cases(document), junit)
    return document


def baseline_export(reference: str, *, out: Path, scorer: str | None = None, places: Places | None = None) -> Exported:
    """Write recorded results to a file that later candidates are judged by, here or elsewhere.

    Args:
        reference: a run id, a trial key, or STUDY[:BACKBONE[:M]].
        out: the file, ending in .json or .json.gz.
        scorer: only this scorer's results.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        What the file holds, with a row a setting.

    Raises:
        HarnessError: nothing recorded has that name, or the file cannot be written.
    """
    from harness.gate.baseline_file import write_baseline
    from harness.gate.baselines import find_arm
    from harness.verbs.answers import canonical_scorer
    from harness.verbs.stores import open_results

    with open_results(places or find_places()) as results:
        arm = find_arm(results, reference, scorer=canonical_scorer(scorer))
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
            {"setting": setting.shown(), **setting.as_json(), "seeds": sorted(of_setting)}
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
