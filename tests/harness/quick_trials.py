"""Trials that do little, in a module of their own: Ray's workers import it, and should not import the tests with it."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from backbones.contract import EpochReport
from harness.engine.messages import ANSWER, LEAVING, Report, epoch_result
from harness.engine.worker import Desk
from harness.trials.contract import Failure, TrialResult
from harness.trials.limits import limited

EPOCHS = 9  # of what learns
MOST_SECONDS = 240  # to wait for the other workers, which start one after the other


def answer_at_once(key: str, desk: Desk, report: Report, *, result: TrialResult, seconds: float = 0.0) -> None:
    """Report a result that was made beforehand, after a while."""
    time.sleep(seconds)
    report({ANSWER: replace(result, spec=desk.specs[key])})


def answer_as_told(
    key: str, desk: Desk, report: Report, *, results: Mapping[str, TrialResult], seconds: float, begun: Path
) -> None:
    """Leave a sign that a trial began, and report its own result after a while."""
    with begun.open("a") as file:
        file.write(f"{os.getpid()}\n")
    answer_at_once(key, desk, report, result=results[key], seconds=seconds)


def answer_and_tell(key: str, desk: Desk, report: Report, *, result: TrialResult, seconds: float) -> None:
    """Leave in the cache which GPU this trial may see, in which process, from when to when.

    The first one of a worker ends when as many workers as are said in the cache have begun one.
    """
    began = time.time()
    (desk.cache / f"{os.getpid()}.worker").touch()
    workers = int((desk.cache / "workers").read_text())
    while len(list(desk.cache.glob("*.worker"))) < workers and time.time() < began + MOST_SECONDS:
        time.sleep(0.05)
    time.sleep(seconds)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all") or "none"
    (desk.cache / f"{key}.seen").write_text(f"{seen} {os.getpid()} {began} {time.time()}")
    answer_at_once(key, desk, report, result=result)


def learn(key: str, desk: Desk, report: Report, *, result: TrialResult, log: Path) -> None:
    """A trial whose loss is the better the smaller M is; its classes grow with M, its test scores are the result's."""
    spec = desk.specs[key]
    quality = 0.2 + (spec.m or 0) / 20
    with log.open("a") as lines:
        lines.write(f"{spec.m} {os.getpid()}\n")
    for epoch in range(1, EPOCHS + 1):
        loss = math.log(10 * (spec.m or 0)) * quality ** (epoch / EPOCHS)
        done = EpochReport(epoch, loss, 0.5, 1e-3, 0.1, classes=10 * (spec.m or 0))
        report(epoch_result(done, pruning=desk.pruning, last=EPOCHS))
    answer_at_once(key, desk, report, result=result)


def misbehave(key: str, desk: Desk, report: Report, *, result: TrialResult) -> None:
    """A trial that takes too long at M = 3, too much at M = 5, and dies at M = 7."""
    spec = desk.specs[key]

    def tell(reason: str) -> None:
        report({ANSWER: Failure(reason), LEAVING: True})

    minutes, memory = (0.005, None) if spec.m == 3 else (None, 0.01 if spec.m == 5 else None)
    with limited(tell, minutes=minutes, memory_gb=memory):
        if spec.m in {3, 5}:
            time.sleep(60)
        if spec.m == 7:
            os.kill(os.getpid(), signal.SIGKILL)
    answer_at_once(key, desk, report, result=result)


def share(key: str, desk: Desk, report: Report, *, result: TrialResult, folder: Path) -> None:
    """M = 10 holds what M = 12 waits for, and is worse than M = 1 was."""
    spec = desk.specs[key]
    begun = [folder / f"{m}" for m in (1, 10, 12)]
    (folder / f"{spec.m}").touch()
    if spec.m == 12:
        with FileLock(folder / "lock", timeout=30):
            pass
    else:
        with FileLock(folder / "lock") if spec.m == 10 else nullcontext():
            while spec.m == 10 and not all(each.exists() for each in begun):
                time.sleep(0.01)
            done = EpochReport(1, 1.0 + (spec.m or 0), 0.5, 1e-3, 0.1, classes=10)
            report(epoch_result(done, pruning=desk.pruning, last=EPOCHS))
    answer_at_once(key, desk, report, result=result)
