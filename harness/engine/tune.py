"""Runs a study: `Cells` decides which trial comes next, Ray Tune runs it in a worker, and the driver records it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # asdbench reports a lost trial in one line
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is the driver's to answer
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # once a day: snapshots are never restored
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "30")  # for a thread to end, on a busy machine

import ray
from ray import tune
from ray.tune.search import Searcher

from benchmarks.folders import clear_folders, held_folder
from harness.engine.cluster import (
    check_places,
    find_room,
    gpu_share,
    last_line,
    ray_cluster,
    reason_of_death,
    trials_at_once,
)
from harness.engine.messages import ANSWER, EPOCHS, Pruned, stop_sign
from harness.engine.pruning import make_scheduler
from harness.engine.share import publish
from harness.engine.shelf import SpecShelf
from harness.engine.trainable import Work, run_in_tune
from harness.engine.worker import Desk, work
from harness.errors import HarnessError
from harness.files import make_private_folder
from harness.interrupts import whole
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.cells import Cells
from harness.studies.plan import Plan
from harness.studies.progress import Event, Outcome
from harness.studies.session import study_session
from harness.told import tell
from harness.trials.contract import Failure
from harness.trials.recordings import Recordings

for noisy in ("ray.tune.tune", "ray.tune.execution.tune_controller"):  # they log tracebacks of lost trials
    logging.getLogger(noisy).setLevel(logging.CRITICAL)

RECENT = 256  # newest trials of Tune that are checked after each step: enough to contain all that were just started
WITHOUT_ANSWER = "its function ended without an answer"


class CellSearcher(Searcher):  # type: ignore[misc]  # ray ships no types
    """Hands a study's cells to Ray Tune. Tune's own snapshots are not used: a study is continued from the stores.

    Args:
        cells: of the study.
        at_once: most trials that run at the same time.
    """

    def __init__(self, cells: Cells, *, at_once: int = 1) -> None:
        super().__init__()  # no metric for Tune to optimise: reports of epochs contain no score
        self.cells, self.at_once = cells, at_once
        self.keys: dict[str, str] = {}  # Tune's trial id -> cell
        self.answers: dict[str, Any] = {}
        self.deaths: dict[str, str] = {}
        self.broken: Exception | None = None  # a store's error, which Tune would only log

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """Accept Tune's properties; the plan has its own."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next cell; None if it has to wait, FINISHED if no cell will come any more."""
        if len(self.keys) >= self.at_once:
            return None
        with self._recording():
            spec = self.cells.next()
        if spec is None:
            return Searcher.FINISHED if self.cells.over else None
        self.keys[trial_id] = spec.key()
        return {"key": spec.key()}

    def hear(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the epochs of a report, and keep an answer until Tune says that the trial is complete."""
        key = self.keys.get(trial_id)
        if ANSWER in result:
            self.answers[trial_id] = result[ANSWER]
        if key is not None and result.get(EPOCHS):
            with self._recording():
                self.cells.epochs(key, result[EPOCHS])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: Tune leaves out a trial's last report here, so a callback passes all reports to `hear`."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial ended."""
        key = self.keys.pop(trial_id, None)
        answer, death = self.answers.pop(trial_id, None), self.deaths.pop(trial_id, "")
        if key is None:
            return
        if answer is None:
            answer = Failure(reason_of_death(death) if error else WITHOUT_ANSWER, trace=death, again=True)
        with self._recording():
            if isinstance(answer, Pruned):
                self.cells.prune(key, answer.reason)
            else:
                self.cells.end(key, answer)

    def on_death(self, trial_id: str, error: str) -> None:
        """Keep why a worker died."""
        self.deaths[trial_id] = error

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a study is continued from what the stores hold."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to pickle: open databases cannot be, and Tune's snapshots are never restored."""
        return {}

    @contextmanager
    def _recording(self) -> Iterator[None]:
        with whole():  # else Ctrl-C could leave a trial recorded in the tables but running in Optuna
            try:
                yield
            except Exception as error:
                self.broken = error
                raise


class _Following(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """Passes reports to the searcher, and tells it of trials that Tune ended without telling it."""

    def __init__(self, searcher: CellSearcher) -> None:
        self.searcher = searcher

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass a report on and empty it, since Tune keeps every trial's last report in memory to the end."""
        self.searcher.hear(trial.trial_id, result)
        result.pop(EPOCHS, None)
        if ANSWER in result:
            result[ANSWER] = "recorded"  # an empty result would make Tune print a line a trial

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise a store's error; end trials that Tune ended without telling the searcher.

        Tune tells the searcher of a trial that fails, but not of one whose worker could not be started.
        """
        if self.searcher.broken is not None:
            raise self.searcher.broken
        for trial in trials[-RECENT:]:
            if trial.status == "ERROR" and trial.trial_id in self.searcher.keys:
                self.searcher.on_trial_complete(trial.trial_id, error=True)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to pickle: Tune's snapshots are never restored."""
        return {}


def run_study(
    plan: Plan,
    recordings: Recordings,
    recorder: Recorder,
    places: Places,
    *,
    workers: int | None = None,
    address: str | None = None,
    share: str | None = None,
    retry_failed: bool = False,
    listen: Event = lambda _progress: None,
    trial: Work | None = None,
) -> Outcome:
    """Run a study to the end, from wherever it stopped.

    Args:
        plan: what to run.
        recordings: prepared for the plan's protocol.
        recorder: writes results; only drivers write, never workers.
        places: of Optuna's study and the cache.
        workers: trials that run at once; None is the study's number, or as many as there are cores and GPUs for.
        address: of a Ray cluster to join; None starts Ray on this machine for as long as the study runs.
        share: folder or fsspec address through which nodes of the cluster without the prepared recordings get them.
        retry_failed: take up again what is recorded as failed.
        listen: told after each trial.
        trial: function that runs a trial in a worker; tests and benchmarks pass one that needs no recordings.

    Raises:
        HarnessError: the cluster cannot run a trial, or a store does not answer.
    """
    opened = study_session(plan, recordings, recorder, places, listen=listen, retry_failed=retry_failed)
    with opened as session:
        if not session.cells.over:
            _run(session.cells, plan, recordings, places, workers=workers, address=address, share=share, trial=trial)
    return session.outcome()


def _run(
    cells: Cells,
    plan: Plan,
    recordings: Recordings,
    places: Places,
    *,
    workers: int | None,
    address: str | None,
    share: str | None,
    trial: Work | None,
) -> None:
    asked = plan.file.resources
    tell("starting Ray")
    with ray_cluster(address) as nodes, _folder_of_tune(places.cache) as folder:
        gpus = gpu_share(asked.gpus, nodes)
        room = find_room(nodes, cpus=asked.cpus, gpus=gpus)
        if share is not None:
            tell("putting the prepared recordings into the share")
            publish(recordings.place, share)
            check_places([])
        elif trial is None:
            check_places([recordings.place, places.cache])
        searcher = CellSearcher(cells, at_once=trials_at_once(asked, workers, room=room))
        # else Tune starts one worker after the other: of sixteen the last would begin after minutes
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(searcher.at_once)
        signs = folder / "signs"
        signs.mkdir()
        desk = Desk(
            SpecShelf(cells.specs), recordings.place, places.cache, signs, threads=max(1, int(asked.cpus)),
            pruning=plan.file.pruning, minutes=asked.minutes, memory_gb=asked.memory_gb, gpus=gpus,
            keep=plan.file.keep != "none", share=share or "",
        )  # fmt: skip
        scheduler = make_scheduler(
            plan.file.pruning,
            epochs=plan.recipe.epochs,
            on_stop=lambda trial_id, epoch: stop_sign(signs, searcher.keys[trial_id], epoch).touch(),
            on_death=searcher.on_death,
        )
        trainable = tune.with_parameters(run_in_tune, desk=desk, run=trial or work)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"CPU": asked.cpus, "GPU": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(folder),
                verbose=0,
                callbacks=[_Following(searcher)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tell("")
        try:
            tuner.fit()
        except (tune.TuneError, ray.exceptions.RayError) as error:
            if searcher.broken is not None:
                raise searcher.broken from None
            raise HarnessError(
                f"Ray must keep running while a study does, but it stopped: {last_line(str(error))}; "
                "run the same command again to go on."
            ) from error
        if searcher.broken is not None:
            raise searcher.broken


@contextmanager
def _folder_of_tune(cache: Path) -> Iterator[Path]:
    """Make a folder for the snapshots that Tune always writes, though they are not used, and remove it at the end."""
    place = make_private_folder(cache / "tune")
    clear_folders(place, lambda _name: True)  # of drivers that were killed
    with held_folder(place, "study-") as folder:
        yield folder


def _trial_folder(trial: Any) -> str:
    return str(trial.trial_id)
