"""Recording a trial: MLflow for the history, the results tables for what leaderboards read."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from backbones.contract import EpochReport
from harness.credentials import scrubbed
from harness.errors import HarnessError
from harness.interrupts import opened, whole
from harness.scoring.choice import is_computed
from harness.stores.kept.keeper import Keeper
from harness.stores.records import CELLS_FILE, STUDY_FILE
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.trials.contract import Failure, TrialResult, TrialSpec


class Recorder:
    """Writes a driver's results; nothing else in a driver writes to MLflow or the results tables.

    A trial counts as finished once its rows are in the results tables, where they are written in one transaction.
    MLflow gets the result before, and its run is closed after. So if a driver is killed in between and leaves an open
    run, the tables tell whether the trial was finished.
    """

    def __init__(self, tracker: Tracker, results: Results) -> None:
        self.tracker, self.results = tracker, results

    def put_study(
        self, key: str, *, name: str, protocol: str, run_id: str, planned: int, content: str, trials: Sequence[str]
    ) -> None:
        """Record what a study is and which trials are its own, before any of them begins."""
        cells = {"key": key, "name": name, "protocol": protocol, "planned": planned, "trials": list(trials)}
        self.tracker.log_text(run_id, {STUDY_FILE: content, CELLS_FILE: json.dumps(cells)})
        self.results.put_study(key, name=name, protocol=protocol, run_id=run_id, planned=planned, content=content)
        self.results.link(key, trials)

    def with_recorded_scorers(self, specs: Iterable[TrialSpec]) -> list[TrialSpec]:
        """Return specs with the scorers added that their trials are recorded with, so that a new run has all of them.

        A scorer whose plugin is not installed here, or has a newer version, is not added; its recorded rows stay.
        """
        specs = list(specs)
        recorded = self.results.scorers_of([spec.key() for spec in specs])
        computed = {each for each in set[str]().union(*recorded.values()) if is_computed(each)}
        known = {key: [each for each in names if each in computed] for key, names in recorded.items()}
        merged = [tuple(dict.fromkeys([*spec.scorers, *known.get(spec.key(), ())])) for spec in specs]
        # a spec that does not change is kept as it is, with its key computed: for thousands that takes a while
        return [
            spec if spec.scorers == scorers else replace(spec, scorers=scorers)
            for spec, scorers in zip(specs, merged, strict=True)
        ]

    def begin(self, spec: TrialSpec, *, parent: str | None = None, study: str = "") -> str:
        """Open a trial's run and return its id."""
        return self.tracker.start_trial(spec, parent=parent, study=study)

    @contextmanager
    def open_trial(self, spec: TrialSpec) -> Iterator[str]:
        """Open the run of a trial that belongs to no study, and leave it closed, whatever stops the block."""
        reason = "it was interrupted"

        def close(run_id: str) -> None:
            with suppress(HarnessError):
                if self.tracker.is_open(run_id):
                    self._close(run_id, self.results.finished([spec.key()]).get(spec.key()), reason)

        with opened(lambda: self.begin(spec), close) as run_id:
            try:
                yield run_id
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise

    def epochs(self, run_id: str, reports: Sequence[EpochReport]) -> None:
        """Record epochs, live."""
        self.tracker.log_epochs(run_id, reports)

    def finish(self, run_id: str, result: TrialResult, *, keeper: Keeper | None = None) -> None:
        """Record a finished trial; Ctrl-C waits until that is done.

        Args:
            run_id: of its run.
            result: what it found.
            keeper: keeps its encoder, if it is to be kept: before the trial counts as finished, so that none is lost.
        """
        with whole():
            model_id = keeper.keep(run_id, result) if keeper else None
            self.tracker.log_result(run_id, result, model_id=model_id)
            key = result.spec.key()
            status, before, origin = self.results.rows_of([key]).get(key, ("", "", ""))
            self.results.put_result(result, run_id=run_id, code=self.tracker.code)
            self.tracker.finish(run_id)
            if status == "finished" and before != run_id and not origin:  # a run of another server stays there
                self.tracker.retire(before, run_id)
            if keeper:
                keeper.tidy()

    def fail(self, run_id: str, spec: TrialSpec, failure: Failure) -> None:
        """Record a trial that failed, with its reason and traceback; Ctrl-C waits until that is done."""
        failure = replace(failure, reason=scrubbed(failure.reason), trace=scrubbed(failure.trace))
        with whole():
            self.tracker.log_failure(run_id, spec, failure)
            self.results.put_failure(spec, failure, run_id=run_id, code=self.tracker.code)
            self.tracker.finish(run_id, "FAILED", reason=failure.reason)

    def prune(self, run_id: str, spec: TrialSpec, reason: str) -> None:
        """Record a trial that was stopped early because it learned worse than others."""
        failure = Failure(reason)
        self.tracker.log_failure(run_id, spec, failure)
        self.results.put_failure(spec, failure, run_id=run_id, code=self.tracker.code, status="pruned")
        self.tracker.finish(run_id, "KILLED", reason=reason, tags={"asd.status": "pruned"})

    def drop(self, run_id: str, reason: str) -> None:
        """Close the run of a try that was lost and that will be repeated."""
        self.tracker.interrupt(run_id, reason)

    def adopt(self, run_id: str, parent: str) -> None:
        """Let a trial that a study takes over stand under the study's run, unless another study's has it."""
        self.tracker.adopt(run_id, parent)

    def settle(self, parent: str, live: Container[str]) -> None:
        """Close runs that a killed driver left open: as FINISHED if the tables hold the trial, else as KILLED.

        Args:
            parent: the study's run.
            live: keys of trials that other living drivers are running.
        """
        stale = [(run_id, key) for run_id, key in self.tracker.open_trials(parent) if key not in live]
        done = self.results.finished([key for _, key in stale])
        for run_id, key in stale:
            self._close(run_id, done.get(key), "its driver was stopped before the trial ended")

    def _close(self, run_id: str, recorded: str | None, reason: str) -> None:
        """Close an open run: as finished where the tables hold the trial as recorded by it."""
        if recorded == run_id:
            self.tracker.finish(run_id)
        else:
            self.drop(run_id, reason)
