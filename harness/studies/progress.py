"""How far a study is and how it ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from harness.trials.contract import TrialSpec


Group: TypeAlias = tuple[str, str]
"""Kind and backbone of a trial: trials of one group take about the same time."""


def group_of(spec: TrialSpec) -> Group:
    """Return the group of a trial."""
    return spec.kind, spec.backbone.name if spec.backbone else ""


@dataclass(frozen=True)
class Live:
    """A cell that this driver is running.

    Attributes:
        spec: the cell.
        number: Optuna's trial number; None for a reference of a search, which Optuna does not see.
        run_id: MLflow's run id.
        tries: how often it was begun before and lost with its worker.
        began: seconds of `time.monotonic` at its start.
    """

    spec: TrialSpec
    number: int | None
    run_id: str
    tries: int
    began: float


@dataclass
class Running:
    """A trial that this driver is running.

    Attributes:
        label: its name.
        group: of trials that take about as long.
        epochs: of fine-tuning; 0 for a reference, which learns nothing.
        epoch: the last that has ended.
        began: seconds of `time.monotonic` at its start.
        first: at the first report of epochs, and their number: labeling and the like came before.
        last: at the last report of epochs.
    """

    label: str
    group: Group
    epochs: int
    epoch: int = 0
    began: float = field(default_factory=time.monotonic)
    first: tuple[float, int] | None = None
    last: float = 0.0

    def learned(self, epoch: int) -> None:
        """Note that an epoch has ended."""
        now = time.monotonic()
        self.epoch, self.last = max(self.epoch, epoch), now
        self.first = self.first or (now, self.epoch)

    @property
    def seconds_an_epoch(self) -> float | None:
        """Return how long an epoch takes; None until two reports have come."""
        if self.first is None or self.epoch <= self.first[1]:
            return None
        return (self.last - self.first[0]) / (self.epoch - self.first[1])

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds of fine-tuning that are left; None while that is not known."""
        each = self.seconds_an_epoch
        if each is None:
            return None
        return max(0.0, each * (self.epochs - self.epoch) - (time.monotonic() - self.last))


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        planned: trials that the study plans.
        finished: planned trials that are recorded with a result, in this run or before.
        failed: planned trials that are recorded as failed and not tried again.
        pruned: planned trials that were stopped early.
        running: trials that this driver is running.
        elsewhere: planned trials that another driver is running.
        started: trials that this run has started.
        ended: trials of this run that have ended, in whatever way.
        retried: tries of this run that were lost, with a worker for example, and started again.
        taken_over: planned trials that had ended before this run began, in this study or in another.
        best: highest official score so far of a fine-tuned trial, with its label; never a reference.
        began: seconds of `time.monotonic` at the start of this run.
        last: what just happened, in words; empty when the study begins.
        trials: key -> trial that this driver is running.
        waiting: number of trials that are known and not begun, by group.
        took: seconds of this run's ended trials, by group.
    """

    planned: int
    finished: int = 0
    failed: int = 0
    pruned: int = 0
    running: int = 0
    elsewhere: int = 0
    started: int = 0
    ended: int = 0
    retried: int = 0
    taken_over: int = 0
    best: tuple[float, str] | None = None
    began: float = field(default_factory=time.monotonic)
    last: str = ""
    trials: dict[str, Running] = field(default_factory=dict)
    waiting: Counter[Group] = field(default_factory=Counter)
    took: dict[Group, list[float]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Return how many planned trials have ended, in whatever way."""
        return self.finished + self.failed + self.pruned

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds left from what trials of each group took; None before a first trial ended here."""
        took, counts = dict(self.took), dict(self.waiting)  # a display asks from a thread of its own
        known = [seconds for of_group in took.values() for seconds in of_group]
        if not known:
            return None
        learned = [one for group, of_group in took.items() if group[0] == "trial" for one in of_group]
        usual = _mean(learned or known)

        def one_of(group: Group) -> float:
            return _mean(took[group]) if group in took else usual

        now, running = time.monotonic(), list(self.trials.values())
        waiting = {group: count for group, count in counts.items() if count > 0}
        unknown = max(0, self.planned - self.done - self.elsewhere - len(running) - sum(waiting.values()))
        seconds = sum(count * one_of(group) for group, count in waiting.items()) + unknown * usual
        seconds += sum(max(0.0, one_of(each.group) - (now - each.began)) for each in running)
        return seconds / max(1, len(running))

    def ends(self, key: str, *, counted: bool = True) -> None:
        """Note that a trial runs no more; `counted` tells whether it ended, so that its time says what others take."""
        each = self.trials.pop(key, None)
        if each is not None and counted:
            self.ended += 1
            self.took.setdefault(each.group, []).append(time.monotonic() - each.began)
        elif each is not None:
            self.waiting[each.group] += 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True)
class Outcome:
    """How a study ended.

    Attributes:
        key: the study's identity.
        run_id: its MLflow run.
        progress: the last state.
        failures: label -> reason of the trials that failed.
        unfinished: why planned trials were not begun; empty when all of them ended.
        front: the Pareto front of a search with several goals: trials that no other beats in every goal.
    """

    key: str
    run_id: str
    progress: Progress
    failures: Mapping[str, str]
    unfinished: str = ""
    front: Sequence[Mapping[str, Any]] = ()


Event: TypeAlias = Callable[[Progress], None]
