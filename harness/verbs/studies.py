"""The `study` verbs as Python functions: run a study, show its status, list recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.plugins import unknown
from harness.told import Told, silent
from harness.verbs.stores import open_recorder, open_results

if TYPE_CHECKING:
    from harness.cache import Cache
    from harness.stores.recorder import Recorder
    from harness.studies.plan import Plan
    from harness.studies.progress import Event, Outcome
    from harness.studies.study_file import StudyFile
    from harness.trials.contract import TrialSpec
    from harness.trials.recordings import Recordings

MOST_SAID = 20  # sentences in the description of a study's run


def study_run(
    study: str | StudyFile,
    *,
    data: Path,
    workers: int | None = None,
    address: str | None = None,
    share: str | None = None,
    retry_failed: bool = False,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Told = silent,
    listen: Event = lambda _progress: None,
    say: Callable[[str], None] = lambda _sentence: None,
) -> Outcome:
    """Run a study to the end, from wherever it stopped.

    Args:
        study: name of a study that ships with asdbench, path of a TOML file, or a `StudyFile`.
        data: folder with recordings, in the official layout or your own with their csv.
        workers: number of trials that run at the same time; None is the study's, or as many as the machine has cores
            and GPUs for.
        address: of a Ray cluster to join; None starts Ray on this machine.
        share: shared folder, or address of an object store that fsspec knows, through which nodes of the cluster get
            the prepared recordings, each once into its own cache; None demands that every node sees them.
        retry_failed: run trials again that are recorded as failed.
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: leave out recordings that cannot be used; their number is recorded in the study's run.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) while recordings are prepared.
        listen: called with the study's `Progress` after each trial.
        say: called with one sentence that says what is planned, before the first trial.

    Returns:
        How the study ended: its key and run, numbers of finished and failed trials, and why trials failed.

    Raises:
        ValueError: the study has a mistake, the recordings cannot be used, or a store does not answer.
    """
    from harness.studies.costs import counted, said_count

    if share is not None:
        share = _check_share(share, address)
    places = places or find_places()
    prepared = _prepared(
        study, data, workers=workers, ground_truth=ground_truth, skip_bad=skip_bad, places=places, told=told
    )
    plan, recordings = prepared.plan, prepared.recordings
    say(said_count(counted(plan, prepared.specs, recordings)))
    told("opening the databases", 0, 0)
    from harness.engine.tune import run_study  # Ray takes seconds to import; what is wrong with the data is said before

    with open_recorder(places) as recorder:
        outcome = run_study(
            plan, recordings, recorder, places, workers=workers, address=address, share=share,
            retry_failed=retry_failed, listen=listen,
        )  # fmt: skip
        told("writing the report", 0, 0)
        log_study_pictures(recorder, outcome)
        return outcome


def _check_share(share: str, address: str | None) -> str:
    """Return a share's address as every process understands it; see `study_run`."""
    from harness.credentials import remember
    from harness.engine.share import check_share

    if address is None:
        raise HarnessError(
            f"--share is for the nodes of a cluster, but got {share} without --address; leave it out on one machine."
        )
    remember(share)
    share = share if "://" in share else str(Path(share).expanduser().absolute())  # workers run in other folders
    check_share(share)
    return share


@dataclass(frozen=True)
class _Prepared:
    """A study that met its recordings: checked as far as can be before a trial begins."""

    plan: Plan
    specs: list[TrialSpec]
    recordings: Recordings
    cache: Cache


def _prepared(
    study: str | StudyFile,
    data: Path,
    *,
    workers: int | None,
    ground_truth: Path | None,
    skip_bad: bool,
    places: Places,
    told: Told,
) -> _Prepared:
    """Resolve a study and prepare its recordings; see `study_run` for the arguments."""
    import os

    from benchmarks.protocols import says_no_labels
    from harness.studies.plan import make_plan
    from harness.studies.study_file import read_study
    from harness.trials.candidates import check_candidates
    from harness.trials.recordings import prepare_recordings, with_released
    from harness.trials.stages import check_layers

    plan = make_plan(read_study(study) if isinstance(study, str) else study, root=data)
    cache, cores = places.open_cache(), workers or os.cpu_count() or 1
    recordings = prepare_recordings(
        data, plan.protocol, cache, workers=cores, ground_truth=ground_truth, skip_bad=skip_bad,
        progress=lambda done, total: told("reading recordings", done, total),
    )  # fmt: skip
    told("checking the study against the recordings", 0, 0)
    if plan.file.labeling.truth:
        recordings = with_released(recordings, Path(plan.file.labeling.truth).expanduser())
    if plan.file.keep == "best" and says_no_labels(recordings.test):
        raise HarnessError(
            "The best encoder is told by its official score, which needs labels, but no test clip has one; say keep = "
            '"all" in the study, or label test clips.'
        )
    specs = plan.specs(
        train_data=recordings.train_data, test_data=recordings.test_data, truth_data=recordings.truth_data,
        heard=recordings.packed.heard,
    )  # fmt: skip
    check_candidates(specs, recordings, cache, workers=cores)
    check_layers(specs, recordings)
    return _Prepared(plan, specs, recordings, cache)


def study_plan(
    study: str | StudyFile,
    *,
    data: Path,
    workers: int | None = None,
    gpu: str = "",
    share: float | None = None,
    ground_truth: Path | None = None,
    skip_bad: bool = False,
    places: Places | None = None,
    told: Told = silent,
) -> dict[str, Any]:
    """Say what a study will take before any trial begins: trials, classes, hours, memory, disk.

    Recordings are read, which the study itself then need not do again, and each backbone embeds a few of them.

    Args:
        study: as of `study_run`.
        data: as of `study_run`.
        workers: trials at once; None is the study's, else one a core.
        gpu: state the hours for this one instead of measuring here: "H100" and others.
        share: of the GPU's peak that is reached; None is a fifth.
        ground_truth: as of `study_run`.
        skip_bad: as of `study_run`.
        places: of the cache.
        told: progress of the preparation.

    Returns:
        See `harness.studies.costs.plan_costs`.

    Raises:
        ValueError: the study has a mistake, the recordings cannot be used, or there is no such GPU.
    """
    from harness.studies.costs import GPUS, SHARE, plan_costs
    from harness.trials.limits import hold_threads

    if gpu and gpu not in GPUS:  # before recordings are read for minutes
        raise HarnessError(unknown("--gpu", gpu, GPUS))
    hold_threads(1)
    prepared = _prepared(
        study, data, workers=workers, ground_truth=ground_truth, skip_bad=skip_bad, places=places or find_places(),
        told=told,
    )  # fmt: skip
    return plan_costs(
        prepared.plan, prepared.specs, prepared.recordings, prepared.cache, workers=workers, gpu=gpu,
        share=SHARE if share is None else share,
    )  # fmt: skip


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
        written = report(recorder.results, question=question, tracking=tracker.uri, tracker=tracker)
        tracker.set_tags(outcome.run_id, {"mlflow.note.content": study_note(written["verdicts"], written["sentences"])})


def study_note(verdicts: Sequence[str], sentences: Sequence[str]) -> str:
    """Return the description of a study's run in MLflow: the answer, every comparison, and how to read it."""
    said = "".join(f"- {sentence}\n" for sentence in sentences[:MOST_SAID])
    more = f"- and {len(sentences) - MOST_SAID} more\n" if len(sentences) > MOST_SAID else ""
    answer = "\n\n".join(f"**{each}**" for each in verdicts)
    return (
        f"{answer}\n\n{said}{more}\nThe artifact `report.html` shows it, `leaderboard.csv` has every row. "
        "Scores are fractions, differences points of percent."
    )


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
