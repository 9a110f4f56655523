"""The cells (planned trials) of a running study: which one runs next, and how each ended, kept alike in every store.

A driver is a process that runs `asdbench study run`. Several may work on one study, on one machine or on many.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from backbones.contract import EpochReport
from harness.scoring.contract import LEVEL_SCORER
from harness.stores.claims import Claims, Living, Lost
from harness.stores.kept.keeper import Keeper
from harness.stores.readings import End
from harness.stores.recorder import Recorder
from harness.studies.goals import goal_values, measured
from harness.studies.journal import Journal, is_left_behind
from harness.studies.plan import Plan, planned_keys
from harness.studies.progress import Event, Live, Progress, Running, group_of
from harness.trials.contract import Failure, TrialResult, TrialSpec

DUPLICATES_IN_A_ROW = 20  # after so many proposals that were begun before, a new cell is drawn at random instead
DRIVER_DEATHS = 10  # a cell whose driver died so often is recorded as failed: it may be what kills the driver
POLL_SECONDS = 1.0  # between two looks at the cells that other drivers are running


class Cells:
    """Hands out a study's cells and records what comes back.

    The results tables say which cells are finished, claims which driver runs the others, Optuna's study what was begun,
    and MLflow has the history. Another driver may be running a cell, for this study or for another that contains the
    same trial. This one then waits for the result and uses it; if the other driver dies, the cell is run here.

    Args:
        journal: the study in Optuna.
        claims: this driver's claims on trials.
        recorder: writes results to MLflow and the results tables.
        plan: of the study.
        specs: trial key -> spec, of every cell and reference.
        study_key: of the study in the results tables.
        parent: the study's MLflow run.
        progress: kept up to date.
        listen: told after each trial.
        retry_failed: take up again what is recorded as failed.
        keeper: keeps encoders, if the study asks for it.
    """

    def __init__(
        self,
        journal: Journal,
        claims: Claims,
        recorder: Recorder,
        *,
        plan: Plan,
        specs: Mapping[str, TrialSpec],
        study_key: str,
        parent: str,
        progress: Progress,
        listen: Event = lambda _progress: None,
        retry_failed: bool = False,
        keeper: Keeper | None = None,
    ) -> None:
        self.journal, self.claims, self.recorder, self.plan = journal, claims, recorder, plan
        self.results, self.specs, self.study_key, self.parent = recorder.results, specs, study_key, parent
        self.progress, self.listen = progress, listen
        self.live: dict[str, Live] = {}
        self.failures: dict[str, str] = {}
        self.ended: set[str] = set()
        self.todo: deque[str] = deque()
        self.elsewhere: set[str] = set()
        self.exhausted = not journal.asks  # a sampler has nothing more to propose within the budget
        self.spent = False  # whether the budget of hours is used up
        self._proposals: dict[str, int] = {}
        self._again: set[str] = set()
        self.keeper, self._unkept = keeper, set[str]()  # finished trials that run again for their encoder
        self._looked = 0.0
        planned = planned_keys(plan, specs)
        with claims.alone(f"settle {study_key}"):
            self._settle(planned, retry_failed=retry_failed)
        progress.waiting.update(group_of(specs[key]) for key in self.todo)
        self._take_up_unkept()
        progress.taken_over = progress.done

    @property
    def over(self) -> bool:
        """Tell whether this driver is done: it runs nothing and will begin nothing."""
        return not self.live and (self.spent or not (self.todo or self.elsewhere or not self.exhausted))

    @property
    def unfinished(self) -> str:
        """Say why planned trials were not begun; empty when all of them ended."""
        if not self.spent or not (self.todo or not self.exhausted):
            return ""
        hours = self.plan.file.sampler.hours
        return f"the {hours:g} hours of the study's budget are spent; raise sampler.hours and run it again to go on"

    def next(self) -> TrialSpec | None:
        """Begin the next cell and return it; None if there is none now, though there may be one later (see `over`)."""
        self.spent = self.spent or self._hours_are_spent()
        if self.spent:
            return None
        spec = self._from_todo() or self._from_sampler()
        if spec is None and self.elsewhere and time.monotonic() - self._looked >= POLL_SECONDS:
            self._look_elsewhere()
            spec = self._from_todo()
        if spec is None and self._take_up_unkept():
            spec = self._from_todo()
        return spec

    def _take_up_unkept(self) -> bool:
        """Once nothing else is to do, run trials again that should have kept their encoder; tell whether there are."""
        if self.keeper is None or self.live or self.todo or self.elsewhere or not self.exhausted:
            return False
        done = self.results.finished([key for key in self.ended if self.specs[key].kind == "trial"])
        lacking = [key for key in self.keeper.lacking(done) if key not in self._unkept]
        self._unkept.update(lacking)
        self._wait(lacking)
        self.progress.finished -= len(lacking)
        return bool(lacking)

    def _wait(self, keys: Collection[str]) -> None:
        self.todo.extend(keys)
        self.progress.waiting.update(group_of(self.specs[key]) for key in keys)

    def _from_todo(self) -> TrialSpec | None:
        while self.todo:
            key = self.todo.popleft()
            self.progress.waiting[group_of(self.specs[key])] -= 1
            lost = self.claims.take(key, self.specs[key].label())
            if lost is None:
                self.elsewhere.add(key)
                continue
            end = self._ends([key]).get(key)
            if end is None:
                if self._begin(key, lost, self._proposals.pop(key, None)):
                    return self.specs[key]
                continue
            self._adopt(key, end, number=self._proposals.pop(key, None))
            self.claims.release(key)
        return None

    def _from_sampler(self) -> TrialSpec | None:
        if self.exhausted:
            return None
        with self.claims.alone(f"ask {self.study_key}"):
            duplicates = 0
            while True:
                begun = self.journal.begun_keys()
                self.elsewhere |= begun - self.ended - self.live.keys() - set(self.todo)
                self.exhausted = self._is_full(begun)
                if self.exhausted:
                    return None
                number, cells = self.journal.ask(owner=self.claims.owner)
                spec = next((cell for cell in cells if cell.key() not in begun), None)
                if spec is None:
                    duplicates += 1
                    self.journal.drop(number)
                    if duplicates < DUPLICATES_IN_A_ROW:
                        continue
                    self._wait([self._unseen(begun)])
                else:
                    self.journal.sign(number, spec)
                    self._proposals[spec.key()] = number
                    self._wait([spec.key()])
                spec = self._from_todo()  # it may be recorded already, or another study may be at it
                if spec is not None:
                    return spec

    def _is_full(self, begun: set[str]) -> bool:
        references = sum(spec.kind != "trial" for spec in self.specs.values())
        return len(begun) >= min(self.progress.planned - references, len(self.specs) - references)

    def _unseen(self, begun: set[str]) -> str:
        left = sorted(key for key, spec in self.specs.items() if spec.kind == "trial" and key not in begun)
        return random.Random(f"{self.plan.file.sampler.seed} {len(begun)}").choice(left)

    def _begin(self, key: str, lost: Lost, number: int | None) -> bool:
        spec = self.specs[key]
        if number is None and key not in self._unkept:  # Optuna has those already
            number = self.journal.begin(spec, owner=self.claims.owner)
        if self.journal.asks:
            self.results.link(self.study_key, [key])
        run_id = self.recorder.begin(spec, parent=self.parent, study=self.plan.file.name)
        self.live[key] = Live(spec, number, run_id, lost.tries, time.monotonic())
        self.progress.started += 1
        epochs = spec.recipe.epochs if spec.kind == "trial" else 0
        self.progress.trials[key] = Running(spec.label(), group_of(spec), epochs)
        self._count()
        if lost.deaths < DRIVER_DEATHS:
            return True
        self.end(key, Failure(f"its driver was killed {lost.deaths} times while it ran; the trial may be the cause"))
        return False

    def _hours_are_spent(self) -> bool:
        hours = self.plan.file.sampler.hours
        elapsed = time.monotonic() - self.progress.began
        return hours is not None and elapsed + self.journal.spent(self.claims.owner) >= 3600 * hours

    def epochs(self, key: str, reports: Sequence[EpochReport]) -> None:
        """Record epochs as they end."""
        live = self.live.get(key)
        if live is not None:
            self.recorder.epochs(live.run_id, reports)
            self.progress.trials[key].learned(reports[-1].epoch)

    def end(self, key: str, answer: TrialResult | Failure) -> None:
        """Record a result or a failure, in every store."""
        live = self.live.pop(key)
        if not self.claims.holds(key):
            self.recorder.drop(live.run_id, "this driver stood still for so long that another one took the trial")
            self.journal.tell(live.number, None, back=True)
            self.elsewhere.add(key)
            self.progress.trials.pop(key, None)
        elif isinstance(answer, TrialResult):
            self._finish(live, answer)
        elif answer.again and live.tries < self.plan.file.resources.retries:
            self._give_back(live, answer.reason, tries=live.tries + 1)
            self.progress.retried += 1
            self._say(f"{live.spec.label()}: {answer.reason}; trying again ({live.tries + 1})")
        else:
            self._fail(live, answer)

    def prune(self, key: str, reason: str) -> None:
        """Record that a trial was stopped early."""
        live = self.live.pop(key)
        self.recorder.prune(live.run_id, live.spec, reason)
        self.journal.prune(live.number)
        self.claims.release(key)
        self.ended.add(key)
        self.progress.pruned += 1
        self.progress.ends(key)
        self._say(f"{live.spec.label()}: pruned: {reason}")

    def abandon(self, reason: str) -> None:
        """Release all cells that are running, so that the next run of the study can begin them at once."""
        for live in list(self.live.values()):
            self._give_back(live, reason, tries=live.tries)
        self.live.clear()
        for number in self._proposals.values():  # proposals whose cell another driver is running
            self.journal.tell(number, None, back=True)
        self._proposals.clear()
        self._spend()

    def _finish(self, live: Live, result: TrialResult) -> None:
        spec, key = live.spec, live.spec.key()
        self.recorder.finish(live.run_id, result, keeper=self.keeper)
        self.journal.tell(live.number, goal_values(measured(result, self._scorer(spec)), self.plan.file.sampler.goals))
        self.claims.release(key)
        self.ended.add(key)
        self.progress.finished += 1
        self.progress.ends(key)
        self._note(score := result.official[self._scorer(spec)], spec)
        shown = "undefined" if score is None else f"{100 * score:.2f}"
        self._say(f"{spec.label()}: {shown} ({time.monotonic() - live.began:.1f} s)")

    def _fail(self, live: Live, failure: Failure) -> None:
        self.recorder.fail(live.run_id, live.spec, failure)
        self.journal.tell(live.number, None)
        self.claims.release(live.spec.key())
        self.ended.add(live.spec.key())
        self.failures[live.spec.label()] = failure.reason
        self.progress.failed += 1
        self.progress.ends(live.spec.key())
        self._say(f"{live.spec.label()}: failed: {failure.reason}")

    def _give_back(self, live: Live, reason: str, *, tries: int) -> None:
        self.recorder.drop(live.run_id, reason)
        self.journal.tell(live.number, None, back=True)
        self.claims.release(live.spec.key(), tries=tries)
        self.todo.append(live.spec.key())
        self.progress.ends(live.spec.key(), counted=False)

    def _settle(self, planned: list[str], *, retry_failed: bool) -> None:
        """Bring Optuna, MLflow and the results tables into agreement, since an earlier run may have been killed."""
        if retry_failed:
            self._again = {key for key, end in self.results.ends(self.specs).items() if end.status == "failed"}
        self._bury()
        if self.journal.asks:
            planned = list(
                dict.fromkeys([*planned, *(each for each in self.journal.begun_keys() if each in self.specs)])
            )
        ends, living, complete = self._ends(planned), self.claims.living(planned), self.journal.complete_keys()
        for key in planned:
            if key in living:
                self.elsewhere.add(key)
            elif key in complete and key in ends:
                self._adopt(key, ends[key], complete=complete)
            else:
                self.todo.append(key)
        deaths = self.claims.deaths(self.todo)
        recorded = [key for key in self.todo if key in ends]  # by another study, or as failed
        # cells that were lost with a killed driver run last: they may have been what killed it
        self.todo = deque(sorted((key for key in self.todo if key not in ends), key=lambda key: deaths.get(key, 0)))
        for key in recorded:
            if self.claims.take(key) is None:
                self.elsewhere.add(key)
                continue
            self._adopt(key, ends[key], complete=complete)
            self.claims.release(key)

    def _adopt(self, key: str, end: End, *, number: int | None = None, complete: Container[str] | None = None) -> None:
        """Count a trial as ended that was recorded before, or by another driver.

        Args:
            key: of the trial. This driver must hold the claim on it, unless it is complete in Optuna.
            end: how it ended, as recorded.
            number: Optuna's trial number, if this driver's sampler proposed it.
            complete: keys of trials that are complete in Optuna, if the caller has just read them.
        """
        spec = self.specs[key]
        self.ended.add(key)
        if self.journal.asks:
            self.results.link(self.study_key, [key])
        if end.status == "finished":
            self.progress.finished += 1
            self._note(end.official.get(self._scorer(spec)), spec)
        elif end.status == "pruned":
            self.progress.pruned += 1
        else:
            self.progress.failed += 1
            self.failures[spec.label()] = end.reason
        if number is not None:
            self.journal.tell(number, self._values(key) if end.status == "finished" else None)
        elif end.status == "finished" and key not in (self.journal.complete_keys() if complete is None else complete):
            values = self._values(key)
            if values is not None:
                self.journal.add(spec, values)
                self.recorder.adopt(end.run_id, self.parent)

    def _look_elsewhere(self) -> None:
        self._looked = time.monotonic()
        living = self.claims.living(self.elsewhere)
        gone = [key for key in self.elsewhere if key not in living]
        if set(gone) - self._ends(gone).keys():
            self._bury()
        self.elsewhere -= set(gone)
        self._wait(gone)
        self._count()

    def _bury(self) -> None:
        """Close the runs in MLflow and the trials in Optuna that drivers which died left open."""
        self.recorder.settle(self.parent, Living(self.claims, self.specs))
        running = [each for each in self.journal.running() if each.owner != self.claims.owner]
        alive = {owner: self.claims.is_alive(owner) for owner in {each.owner for each in running if each.owner}}
        dead = [each for each in running if not alive.get(each.owner, not is_left_behind(each))]
        ends = self._ends([each.key for each in dead if each.key in self.specs])
        for each in dead:
            end = ends.get(each.key)
            values = self._values(each.key) if end is not None and end.status == "finished" else None
            if end is not None and end.status == "pruned":
                self.journal.prune(each.number)
            elif not each.key:
                self.journal.drop(each.number)
            else:
                self.journal.tell(each.number, values, back=end is None)

    def _ends(self, keys: Iterable[str]) -> dict[str, End]:
        """Return how trials ended, without those that must run again, as one that lacks a scorer of the study."""
        return {key: end for key, end in self.results.ends(keys).items() if self._stands(key, end)}

    def _stands(self, key: str, end: End) -> bool:
        if end.status == "finished":
            unkept = self.keeper and key in self._unkept and self.keeper.lacking([key])
            return set(self.specs[key].scorers) <= end.official.keys() and not unkept
        if end.status == "pruned":
            return self.plan.file.pruning is not None
        return key not in self._again

    def _values(self, key: str) -> list[float] | None:
        scorer = self._scorer(self.specs[key])
        return goal_values(self.results.measured([key], scorer)[key], self.plan.file.sampler.goals)

    def _note(self, score: float | None, spec: TrialSpec) -> None:
        best = self.progress.best
        if spec.kind == "trial" and score is not None and (best is None or score > best[0]):
            self.progress.best = (score, spec.label())

    def _count(self) -> None:
        self.progress.running, self.progress.elsewhere = len(self.live), len(self.elsewhere)

    def _say(self, text: str) -> None:
        self._count()
        self._spend()
        self.progress.last = text
        self.listen(self.progress)

    def _spend(self) -> None:
        if self.plan.file.sampler.hours is not None:
            self.journal.spend(self.claims.owner, time.monotonic() - self.progress.began)

    def _scorer(self, spec: TrialSpec) -> str:
        return LEVEL_SCORER if spec.kind == "level" else self.plan.file.scorers[0]
