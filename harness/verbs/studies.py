"""The `study` verbs as Python functions: run a study, show its status, list recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.places import Places, find_places
from harness.told import Told, silent
from harness.verbs.stores import open_recorder, open_results

if TYPE_CHECKING:
    from harness.stores.recorder import Recorder
    from harness.studies.progress import Event, Outcome
    from harness.studies.study_file import StudyFile


def study_run(
    study: str | StudyFile,
    *,
    data: Path,
    workers: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Told = silent,
    listen: Event = lambda _progress: None,
) -> Outcome:
    """Run a study to the end, from wherever it stopped.

    Args:
        study: name of a study that ships with asdbench, path of a TOML file, or a `StudyFile`.
        data: folder with recordings in the official layout.
        workers: number of trials that run at the same time; None is the study's, or as many as the machine has cores
            and GPUs for.
        address: of a Ray cluster to join; None starts Ray on this machine.
        retry_failed: run trials again that are recorded as failed.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: leave out recordings that cannot be used; their number is recorded in the study's run.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) while recordings are prepared.
        listen: called with the study's `Progress` after each trial.

    Returns:
        How the study ended: its key and run, numbers of finished and failed trials, and why trials failed.

    Raises:
        ValueError: the study has a mistake, the recordings cannot be used, or a store does not answer.
    """
    import os

    from harness.studies.plan import make_plan
    from harness.studies.study_file import read_study
    from harness.trials.candidates import check_candidates
    from harness.trials.recordings import prepare_recordings, with_released
    from harness.trials.stages import check_layers

    places = places or find_places()
    plan = make_plan(read_study(study) if isinstance(study, str) else study, root=data)
    cache = places.open_cache()
    recordings = prepare_recordings(
        data, plan.protocol, cache, workers=workers or os.cpu_count() or 1, ground_truth=ground_truth,
        skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    if plan.file.labeling.truth:
        recordings = with_released(recordings, Path(plan.file.labeling.truth).expanduser())
    specs = plan.specs(
        train_data=recordings.train_data, test_data=recordings.test_data, truth_data=recordings.truth_data,
        heard=recordings.packed.heard,
    )  # fmt: skip
    check_candidates(specs, recordings, cache, workers=workers or os.cpu_count() or 1)
    check_layers(specs, recordings)
    from harness.engine.tune import run_study  # Ray takes seconds to import; what is wrong with the data is said before

    with open_recorder(places) as recorder:
        outcome = run_study(
            plan, recordings, recorder, places, workers=workers, address=address, retry_failed=retry_failed,
            listen=listen,
        )  # fmt: skip
        log_study_pictures(recorder, outcome)
        return outcome


def log_study_pictures(recorder: Recorder, outcome: Outcome) -> None:
    """Log the M-curve, the leaderboard and the report page of a study to its run."""
    from harness.answers.leaderboard import leaderboard
    from harness.answers.question import Question
    from harness.pictures.candidates import png
    from harness.report.evidence import curve_families
    from harness.report.figures import m_curve_figure
    from harness.report.page import report
    from harness.tables import csv_table

    if outcome.progress.finished:
        question = Question(study=outcome.key)
        rows = leaderboard(recorder.results, question)
        # a study whose recordings changed on the way has several boards, and a figure shows one
        board = [row for row in rows if (row["protocol"], row["data"]) == (rows[0]["protocol"], rows[0]["data"])]
        curve = {"m_curve.png": png(m_curve_figure(board))} if curve_families(board) else {}
        recorder.tracker.log_text(outcome.run_id, {**curve, "leaderboard.csv": csv_table(rows)})
        tracker = recorder.tracker
        report(recorder.results, question=question, tracking=tracker.uri, tracker=tracker)


def study_status(study: str, *, trials: bool = False, places: Places | None = None) -> dict[str, Any]:
    """Say how far a recorded study is, and what runs.

    Args:
        study: by name or key.
        trials: also list each recorded trial with its cost.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        See `harness.studies.status.study_status`.

    Raises:
        HarnessError: no such study is recorded.
    """
    from harness.studies.status import study_status as status

    with open_results(places or find_places()) as results:
        return status(results, study, trials=trials)


def study_ls(*, places: Places | None = None) -> list[dict[str, Any]]:
    """List the recorded studies.

    Args:
        places: addresses of the stores; None takes them from the environment, else the current folder's files.

    Returns:
        A row a study: `name`, `key`, `protocol`, `planned`, `run_id`, `finished`, `created`.

    Raises:
        HarnessError: nothing was recorded there yet.
    """
    with open_results(places or find_places()) as results:
        names = ["name", "key", "protocol", "planned", "run_id"]
        rows = results.studies()
        done = [len(results.finished(results.study_keys(key))) for key in rows["key"]]
        return [
            {**{name: row[name] for name in names}, "finished": count, "created": str(row["created"])}
            for row, count in zip(rows.to_dict("records"), done, strict=True)
        ]
