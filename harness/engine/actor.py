"""A worker as Ray Tune drives it: it runs one trial after another and tells what they report."""

from __future__ import annotations

import gc
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from ray import tune

from harness.engine.messages import ANSWER, EPOCHS, LEAVING, SIGNAL, Report
from harness.engine.worker import Desk
from harness.trials.contract import Failure

TELL_SECONDS = 1.0  # epochs that end sooner after one another are told together, so that training waits for nobody
STOP_SECONDS = 30.0  # that a pruned trial has to leave its worker before that is given up

Work = Callable[[str, Desk, Report], None]


class StoppedError(BaseException):
    """Raised inside a trial that was pruned; no `except Exception` of a plugin holds it up."""


class TrialActor(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """Runs a study's trials in its process, one at a time, each in a thread of its own.

    A step of Tune's is what a trial has reported since the last one: `epochs`, a list of reports, and with the last
    step `answer`. A report that others are compared with holds the trial up until Tune has decided, and the last words
    of a process that is about to end do until they are heard.
    """

    def setup(self, config: dict[str, Any], desk: Desk, run: Work) -> None:
        """Begin the first trial.

        Args:
            config: Tune's; `key` names the trial.
            desk: what the worker works with.
            run: runs a trial.
        """
        self.desk, self.run = desk, run
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial; False where the one before does not end."""
        if not self._leave(STOP_SECONDS):
            return False
        self.reports: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.stopped, self.heard = threading.Event(), threading.Semaphore(0)
        self.told, self.waiting = 0.0, False
        self.thread = threading.Thread(target=self._work, args=(new_config["key"],), name="trial", daemon=True)
        self.thread.start()
        return True

    def step(self) -> dict[str, Any]:
        """Return what the trial has reported since the last step."""
        if self.waiting:
            self.waiting = False
            self.heard.release()
        result: dict[str, Any] = {EPOCHS: []}
        until = self.told + TELL_SECONDS
        while True:
            try:
                report = self.reports.get(timeout=max(0.0, until - time.monotonic()) if result[EPOCHS] else None)
            except queue.Empty:
                break
            if report is None:
                return {**result, "done": True}
            result = {**report, EPOCHS: [*result[EPOCHS], *report.get(EPOCHS, [])]}
            self.waiting = _waits(report)
            if ANSWER in report and not self.waiting:
                return {**result, "done": True}
            if self.waiting:
                break
        self.told = time.monotonic()
        return result

    def let_go(self) -> None:
        """Have a trial that was pruned leave: it may hold what others wait for, and the next one may never come."""
        self._leave(0.0)

    def cleanup(self) -> None:
        """Stop the trial; the process ends after this."""
        self._leave(0.0)
        gc.freeze()  # Python would look through a million objects once more before it ends

    def _leave(self, seconds: float) -> bool:
        thread = getattr(self, "thread", None)
        if thread is None or not thread.is_alive():
            return True
        self.stopped.set()
        self.heard.release()
        thread.join(seconds)
        return not thread.is_alive()

    def _work(self, key: str) -> None:
        reports, stopped, heard = self.reports, self.stopped, self.heard

        def report(result: dict[str, Any]) -> None:
            if stopped.is_set():
                raise StoppedError
            reports.put(result)
            if _waits(result):
                heard.acquire()
                if stopped.is_set():
                    raise StoppedError

        try:
            self.run(key, self.desk, report)
        except StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - what ends a thread must reach the driver as a reason
            reports.put({ANSWER: Failure(f"{type(error).__name__}: {error}", trace=traceback.format_exc(), again=True)})
        reports.put(None)


def _waits(report: dict[str, Any]) -> bool:
    return SIGNAL in report or LEAVING in report
