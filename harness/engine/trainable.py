"""A trial as Ray Tune runs it: a function that reports epochs as they end and, last, how the trial ended."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from harness.engine.messages import ANSWER, EPOCH, EPOCHS, LAST, LEAVING, SIGNAL, Pruned, Report, stop_sign
from harness.engine.worker import Desk
from harness.trials.contract import Failure

TELL_SECONDS = 1.0  # epochs that end sooner after one another are told together: telling waits for the driver
AT_ONCE = {SIGNAL, LAST, LEAVING}  # a report with one of them is told without delay

Work = Callable[[str, Desk, Report], None]


class StoppedError(BaseException):
    """Raised inside a trial that was pruned; no `except Exception` of a plugin holds it up."""


class Telling:
    """Tells the driver what a trial reports.

    Whoever tells waits until the driver has dealt with it. Two threads may tell: the trial's own, and the one that
    watches its minutes and memory; one waits for the other, as Tune takes one report at a time.

    Attributes:
        answer: how the trial ended, once it has said so.
        over: Tune has ended the trial, and nobody listens any more.
    """

    def __init__(self, key: str, signs: Path, send: Callable[[dict[str, Any]], None] = tune.report) -> None:
        self.key, self.signs, self.send = key, signs, send
        self.answer: Any = None
        self.over = False
        self._epochs: list[Any] = []
        self._told = 0.0
        self._lock = threading.Lock()

    def __call__(self, report: dict[str, Any]) -> None:
        """Take a report: tell it now, or with a later one; an answer is told by `end`, but for one that is leaving.

        Raises:
            StoppedError: the trial is to stop, as it learns worse than others.
        """
        with self._lock:
            self._epochs += report.get(EPOCHS, [])
            if ANSWER in report and LEAVING not in report:
                self.answer = report[ANSWER]
                return
            if not AT_ONCE.isdisjoint(report) or time.monotonic() - self._told >= TELL_SECONDS:
                self._tell(report)
        if SIGNAL in report and stop_sign(self.signs, self.key, report[EPOCH]).exists():
            raise StoppedError(f"after epoch {report[EPOCH]} at {report[SIGNAL]:.3f} of guessing's loss")

    def end(self) -> None:
        """Tell the answer and the epochs that were not told yet; Tune lets this function sleep from then on."""
        with self._lock:
            self._tell({"done": True} if self.answer is None else {ANSWER: self.answer, "done": True})

    def _tell(self, report: dict[str, Any]) -> None:
        epochs, self._epochs = self._epochs, []
        try:
            self.send({**report, EPOCHS: epochs})
        except SystemExit:
            self.over = True
            raise
        self._told = time.monotonic()


def run_in_tune(config: dict[str, Any], desk: Desk, run: Work) -> None:
    """Run one trial and tell how it ended, whatever happens inside.

    The answer is told after the trial's own function has returned: until then Tune can neither end it nor let it sleep
    with a lock in its hands.

    Args:
        config: Tune's; `key` names the trial.
        desk: what the worker works with.
        run: runs a trial.
    """
    telling = Telling(config["key"], desk.signs)
    try:
        run(config["key"], desk, telling)
    except StoppedError as stopped:
        telling.answer = Pruned(str(stopped))
    except BaseException as error:  # whatever ends a trial must reach the driver as a reason
        if telling.over:
            raise
        telling.answer = Failure(f"{type(error).__name__}: {error}", trace=traceback.format_exc(), again=True)
    telling.end()
