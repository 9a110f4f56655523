"""How far a study is and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias


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
        best: highest official score so far, with the label of its trial.
        seconds: since this run began.
        last: what just happened, in words.
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
    best: tuple[float, str] | None = None
    began: float = field(default_factory=time.monotonic)
    last: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds left from this run's own rate; None before the first trial ended."""
        if not self.ended:
            return None
        left = self.planned - self.finished - self.failed - self.pruned
        return left * (time.monotonic() - self.began) / self.ended


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
