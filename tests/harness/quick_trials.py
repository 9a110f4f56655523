"""Trials that do little, in a module of their own: Ray's workers import it, and should not import the tests with it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.engine.messages import ANSWER, Report
from harness.engine.worker import Desk
from harness.trials.contract import TrialResult

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
    report({ANSWER: replace(result, spec=desk.specs[key])})
