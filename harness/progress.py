"""How far a study is and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        planned: trials that the study plans.
        finished: of them, recorded with a result, in this run or before.
        failed: of them, recorded as failed for good.
        started: trials that this run has started.
        retried: tries of this run that were lost and made again.
        best: highest official score so far and whose it is.
        seconds: since this run began.
        last: what just happened, in words.
    """

    planned: int
    finished: int = 0
    failed: int = 0
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
        left = self.planned - self.finished - self.failed
        return left * (time.monotonic() - self.began) / self.ended


@dataclass(frozen=True)
class Outcome:
    """How a study ended.

    Attributes:
        key: the study's identity.
        run_id: its MLflow run.
        progress: the last state.
        failures: label -> reason of the trials that failed.
    """

    key: str
    run_id: str
    progress: Progress
    failures: Mapping[str, str]


Event: TypeAlias = Callable[[Progress], None]
