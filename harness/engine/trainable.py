"""A trial as Ray Tune runs it: a function that reports epochs as they end and, last, how the trial ended.

A worker imports this file as it starts, and torch only as its first trial begins. When a trial ends, Tune gives its
worker to a waiting trial and kills the worker that was starting for that one: of sixteen workers that took ten seconds
to start, trials of two seconds let one alone come up.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ray import tune

from harness.engine.messages import ANSWER, EPOCH, EPOCHS, LAST, LEAVING, SIGNAL, Pruned, Report, stop_sign
from harness.trials.contract import Failure

if TYPE_CHECKING:
    from harness.engine.worker import Desk

TELL_SECONDS = 1.0  # epochs that end within this time are reported together, since each report waits for the driver
AT_ONCE = {SIGNAL, LAST, LEAVING}  # a report with one of these keys is sent without delay

Work: TypeAlias = "Callable[[str, Desk, Report], None]"


class StoppedError(BaseException):
    """Raised inside a trial that was pruned; a BaseException, so that a plugin's `except Exception` lets it through."""


class Telling:
    """Sends a trial's reports to the driver.

    Sending waits until the driver has processed the report. Two threads may send, the trial's own and the one that
    watches its limits of time and memory. A lock lets one wait for the other, since Tune takes one report at a time.

    Attributes:
        answer: how the trial ended, once it has reported it.
        over: whether Tune has ended the trial, so that nobody receives reports any more.
    """

    def __init__(self, key: str, signs: Path, send: Callable[[dict[str, Any]], None] = tune.report) -> None:
        self.key, self.signs, self.send = key, signs, send
        self.answer: Any = None
        self.over = False
        self._epochs: list[Any] = []
        self._told = 0.0
        self._lock = threading.Lock()

    def __call__(self, report: dict[str, Any]) -> None:
        """Take a report and send it now or together with later ones. An answer is sent by `end`, unless it is LEAVING.

        Raises:
            StoppedError: the trial shall stop, since it learns worse than others.
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
        """Send the answer, and the epochs that were not sent yet; afterwards Tune suspends this thread."""
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
    """Run one trial and report how it ended, whatever happens inside.

    The answer is sent only after the trial's own function has returned and released its locks, since Tune may end or
    suspend the thread once it has the last report.

    Args:
        config: Tune's; `key` names the trial.
        desk: the study's trials, folders and limits.
        run: runs one trial, as `harness.engine.worker.work` does.
    """
    if not desk.gpus:  # Ray hides GPUs from those that share one, and leaves all to those that asked for none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
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
