"""Studies: Optuna says what comes next, Ray Tune runs it, the driver records it."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is the driver's to answer
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")  # nothing is ever restored from Tune's own snapshots

import ray
from ray import tune
from ray.tune.search import Searcher

from backbones.contract import EpochReport
from harness.cache import Cache
from harness.contract import LEVEL_SCORER, Failure, HarnessError, TrialResult, TrialSpec
from harness.journal import Entry, Journal
from harness.plan import Plan
from harness.progress import Event, Outcome, Progress
from harness.recorder import Recorder
from harness.recordings import Recordings, open_recordings
from harness.stores import Places
from harness.trial import run_trial

# batched front ends and convolutions spend a third of their time giving pages back without it
WORKER_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}


@dataclass
class _Live:
    entry: Entry
    run_id: str
    began: float


class CellSearcher(Searcher):  # type: ignore[misc]  # ray ships no types
    """Hands a study's cells to Ray Tune and records what comes back.

    Optuna's study is the truth about which cells were started; the results tables about which are finished.
    Tune restores nothing: running a study again reads both.
    """

    def __init__(
        self,
        journal: Journal,
        recorder: Recorder,
        *,
        plan: Plan,
        parent: str,
        progress: Progress,
        listen: Event,
        retry_failed: bool = False,
    ) -> None:
        super().__init__()  # no metric: scores come from the recorder, and an epoch's report has none
        self.journal, self.specs, self.recorder, self.plan = journal, journal.specs, recorder, plan
        self.parent, self.progress, self.listen = parent, progress, listen
        self.live: dict[str, _Live] = {}
        self.failures: dict[str, str] = {}
        self.taken: set[str] = set()
        self.broken: Exception | None = None  # a store's error, which Tune would only quote
        self._settle(retry_failed=retry_failed)

    # --- what Ray Tune calls

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        """Accept Tune's properties; the plan has its own."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next cell that is not recorded yet; None while the last ones run."""
        with self._keeping_errors():
            entry = self.journal.take(self.taken) if len(self.taken) < self.progress.planned else None
            if entry is None:
                return None if self.live else Searcher.FINISHED
            run_id = self.recorder.begin(entry.spec, parent=self.parent, study=self.plan.file.name)
        self.live[trial_id] = _Live(entry, run_id, time.monotonic())
        self.progress.started += 1
        return {"key": entry.spec.key()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch as it ends."""
        live, report = self.live.get(trial_id), result.get("epoch_report")
        if live is not None and isinstance(report, EpochReport):
            with self._keeping_errors():
                self.recorder.epoch(live.run_id, report)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record a result or a failure, in every store."""
        live = self.live.pop(trial_id, None)
        if live is None:
            return
        answer = (result or {}).pop("answer", None)
        with self._keeping_errors():
            if isinstance(answer, TrialResult) and not error:
                self._finish(live, answer)
            elif isinstance(answer, Failure) and not error:
                self._fail(live, answer)
            else:
                self._fail(live, Failure("its worker process died; the system may have run out of memory", again=True))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: Optuna's study and the results tables are all there is to know."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.broken = error
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the snapshot that Tune makes of itself and nobody restores: open databases do not pickle."""
        return {}

    # --- ends

    def abandon(self, reason: str) -> None:
        """Give back what is under way, so that the next run takes it up at once."""
        for live in self.live.values():
            self._give_back(live, reason, tries=live.entry.tries)
        self.live.clear()

    def _finish(self, live: _Live, result: TrialResult) -> None:
        spec = live.entry.spec
        self.recorder.finish(live.run_id, result)
        score = result.official[self._scorer(spec)]
        self.journal.tell(live.entry.number, score)
        self.progress.finished += 1
        self.progress.ended += 1
        self._note(score, spec)
        shown = "undefined" if score is None else f"{100 * score:.2f}"
        self._say(f"{spec.label()}: {shown} ({time.monotonic() - live.began:.1f} s)")

    def _fail(self, live: _Live, failure: Failure) -> None:
        spec, tries = live.entry.spec, live.entry.tries
        if failure.again and tries < self.plan.file.resources.retries:
            self._give_back(live, failure.reason, tries=tries + 1)
            self.progress.retried += 1
            self._say(f"{spec.label()}: {failure.reason}; trying again ({tries + 1})")
            return
        self.recorder.fail(live.run_id, spec, failure)
        self.journal.tell(live.entry.number, None)
        self.failures[spec.label()] = failure.reason
        self.progress.failed += 1
        self.progress.ended += 1
        self._say(f"{spec.label()}: failed: {failure.reason}")

    def _give_back(self, live: _Live, reason: str, *, tries: int) -> None:
        self.recorder.drop(live.run_id, reason)
        self.journal.tell(live.entry.number, None)
        self.journal.enqueue([live.entry.spec], tries=tries)
        self.taken.discard(live.entry.spec.key())

    def _note(self, score: float | None, spec: TrialSpec) -> None:
        best = self.progress.best
        if score is not None and (best is None or score > best[0]):
            self.progress.best = (score, spec.label())

    def _say(self, text: str) -> None:
        self.progress.last = text
        self.listen(self.progress)

    def _settle(self, *, retry_failed: bool) -> None:
        """Bring Optuna, MLflow and the tables to one state after whatever happened before."""
        results, live = self.recorder.results, self.journal.live_keys()
        self.recorder.settle(self.parent, live)
        by_scorers: dict[tuple[str, ...], list[str]] = {}
        for key, spec in self.specs.items():
            by_scorers.setdefault(spec.scorers, []).append(key)
        done = {key for scorers, keys in by_scorers.items() for key in results.finished(keys, scorers=scorers)}
        failed = {} if retry_failed else results.failed(self.specs)
        scores = {key: results.official(key, self._scorer(self.specs[key])) for key in done}
        for number, key in self.journal.stale():
            self.journal.tell(number, scores.get(key))
        known = self.journal.known_keys()
        for key, spec in self.specs.items():
            if key in done:
                self._settle_done(spec, scores[key], known=key in known)
            elif key in failed:
                self.progress.failed += 1
                self.failures[spec.label()] = failed[key]
            elif key not in live:
                if key not in known and (self.journal.enumerated or spec.kind != "trial"):
                    self.journal.enqueue([spec])
                continue
            self.taken.add(key)

    def _settle_done(self, spec: TrialSpec, score: float | None, *, known: bool) -> None:
        self.progress.finished += 1
        self._note(score, spec)
        if not known and score is not None:
            self.journal.add_finished(spec, score)

    def _scorer(self, spec: TrialSpec) -> str:
        return LEVEL_SCORER if spec.kind == "level" else self.plan.file.scorers[0]


def run_study(
    plan: Plan,
    recordings: Recordings,
    recorder: Recorder,
    places: Places,
    *,
    workers: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    listen: Event = lambda _progress: None,
    trainable: Callable[[dict[str, Any]], None] | None = None,
) -> Outcome:
    """Run a study to the end, from wherever it stopped.

    Args:
        plan: what to run.
        recordings: prepared for the plan's protocol.
        recorder: where results go; this process alone writes.
        places: of Optuna's study and the cache.
        workers: trials at once; None is the study's, else what the machine has room for.
        address: of a Ray cluster to join; None starts Ray on this machine for as long as the study runs.
        retry_failed: take up again what is recorded as failed.
        listen: told after each trial.
        trainable: what runs a trial; tests and benchmarks give another one.

    Raises:
        HarnessError: the cluster cannot run a trial, or a store does not answer.
    """
    data = {"train_data": recordings.train_data, "test_data": recordings.test_data}
    specs = {spec.key(): spec for spec in plan.specs(**data, truth_data=recordings.truth_data)}
    study_key = plan.key(**data, truth_data=recordings.truth_data)
    run_id = recorder.tracker.start_study(
        study_key,
        plan.file.name,
        tags={"asd.study": plan.file.name, **{f"asd.{name}": value for name, value in data.items()}},
        params={"protocol": plan.protocol.name, "sampler": plan.file.sampler.name, "seeds": plan.file.seeds},
    )
    content = json.dumps(
        {**_resolved(plan), **data, "skipped_files": recordings.skipped}, indent=1, sort_keys=True, default=str
    )
    planned = min(plan.file.sampler.trials or len(specs), len(specs))
    recorder.results.put_study(
        study_key,
        name=plan.file.name,
        protocol=plan.protocol.name,
        run_id=run_id,
        planned=planned,
        content=content,
    )
    recorder.results.link(study_key, specs)
    progress = Progress(planned=planned)
    journal = Journal(places.optuna, f"{plan.file.name}-{study_key}", plan=plan, specs=specs)
    searcher = CellSearcher(
        journal, recorder, plan=plan, parent=run_id, progress=progress, listen=listen, retry_failed=retry_failed
    )
    status = "FINISHED"
    try:
        if len(searcher.taken) < planned:
            _run(searcher, plan, recordings, places, workers=workers, address=address, trainable=trainable)
    except BaseException:
        status = "KILLED"
        raise
    finally:
        with suppress(HarnessError):
            searcher.abandon("the study was stopped")
            recorder.tracker.log_study(run_id, _study_numbers(progress))
            recorder.tracker.log_text(run_id, {"study.json": content})
            recorder.tracker.finish(run_id, status)
    return Outcome(study_key, run_id, progress, dict(searcher.failures))


def worker_trial(config: dict[str, Any], specs: Mapping[str, TrialSpec], place: Path, cache: Path, cpus: int) -> None:
    """Run one trial in a worker and report epochs and the answer; a worker writes into no store."""
    import torch  # noqa: PLC0415 - workers need it, the driver's start does not

    torch.set_num_threads(cpus)
    logging.disable(logging.INFO)
    tune.report({"answer": answer_trial(specs[config["key"]], place, cache)})


def answer_trial(spec: TrialSpec, place: Path, cache: Path) -> TrialResult | Failure:
    """Run one trial; whatever goes wrong inside is an answer too, with its reason."""

    def on_epoch(report: EpochReport) -> None:
        tune.report({"epoch_report": report})

    try:
        return run_trial(spec, open_recordings(place), Cache(cache), on_epoch=on_epoch)
    except Exception as error:  # noqa: BLE001 - one trial's failure is recorded and never ends the study
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        return Failure(reason=reason, trace=traceback.format_exc())


def _run(
    searcher: CellSearcher,
    plan: Plan,
    recordings: Recordings,
    places: Places,
    *,
    workers: int | None,
    address: str | None,
    trainable: Callable[[dict[str, Any]], None] | None,
) -> None:
    asked = plan.file.resources
    with _ray(address) as cluster:
        gpus = _gpu_share(asked.gpus, cluster)
        _check_room(cluster, cpus=asked.cpus, gpus=gpus)
        room = int(cluster.get("CPU", 1) // asked.cpus)
        at_once = workers or asked.workers or max(1, room)
        function = trainable or tune.with_parameters(
            worker_trial,
            specs=searcher.specs,
            place=recordings.place,
            cache=places.cache,
            cpus=max(1, int(asked.cpus)),
        )
        tuner = tune.Tuner(
            tune.with_resources(function, {"CPU": asked.cpus, "GPU": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=max(1, min(at_once, room)),
                trial_dirname_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(places.cache / "tune" / f"{os.getpid()}"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            tuner.fit()
        except (tune.TuneError, ray.exceptions.RayError) as error:
            if searcher.broken is not None:
                raise searcher.broken from None
            raise HarnessError(
                f"Ray must keep running while a study does, but it stopped: {str(error).strip().splitlines()[-1]}; "
                "run the same command again to go on."
            ) from error
        if searcher.broken is not None:
            raise searcher.broken


def _trial_folder(trial: Any) -> str:
    return str(trial.trial_id)


@contextmanager
def _ray(address: str | None) -> Iterator[dict[str, float]]:
    mine = not ray.is_initialized()
    if mine:
        for name, value in WORKER_MALLOC.items():
            os.environ.setdefault(name, value)
        try:
            if address:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            else:
                ray.init(
                    num_cpus=os.cpu_count(),
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise HarnessError(
                f"A Ray cluster must answer at {address or 'this machine'}, but it did not: "
                f"{str(error).splitlines()[0]}; start it with `ray start --head`, or leave --address out."
            ) from error
    try:
        yield {name: float(value) for name, value in ray.cluster_resources().items()}
    finally:
        if mine:
            ray.shutdown()


def _gpu_share(asked: float | str, cluster: Mapping[str, float]) -> float:
    if asked != "auto":
        return float(asked)
    return 1.0 if cluster.get("GPU", 0) >= 1 else 0.0


def _check_room(cluster: Mapping[str, float], *, cpus: float, gpus: float) -> None:
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        there = cluster.get(name, 0.0)
        if wanted > there:
            raise HarnessError(
                f"A trial asks for {wanted:g} {name}, but the cluster has {there:g} "
                f"(CPU {cluster.get('CPU', 0):g}, GPU {cluster.get('GPU', 0):g}); "
                f"lower resources.{name.lower()}s in the study."
            )


def _resolved(plan: Plan) -> dict[str, Any]:
    return {
        **plan.file.model_dump(),
        "protocol": asdict(plan.protocol),
        "backbones": {name: asdict(choice) for name, choice in plan.backbones.items()},
        "recipe": asdict(plan.recipe),
    }


def _study_numbers(progress: Progress) -> dict[str, float]:
    numbers = {
        "trials/finished": float(progress.finished),
        "trials/failed": float(progress.failed),
        "trials/planned": float(progress.planned),
    }
    return numbers if progress.best is None else {**numbers, "best_official_score": progress.best[0]}
