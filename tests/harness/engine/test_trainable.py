"""A trial as Ray Tune runs it: what it reports is told in order, and one that is to stop lets go of what it holds."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from harness.engine import trainable
from harness.engine.messages import ANSWER, EPOCH, EPOCHS, LAST, LEAVING, SIGNAL, Pruned, stop_sign
from harness.engine.trainable import Telling, Work, run_in_tune
from harness.trials.contract import Failure


def told_by(run: Work, monkeypatch: pytest.MonkeyPatch, *, signs: Path = Path("nowhere")) -> list[dict[str, Any]]:
    """What a trial tells Tune, without Ray."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(trainable, "Telling", lambda key, folder: Telling(key, folder, send=told.append))
    desk: Any = SimpleNamespace(signs=signs, gpus=1)
    run_in_tune({"key": "a"}, desk=desk, run=run)
    return told


def test_quick_epochs_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All epochs come in order, with the answer last, in fewer reports than there are epochs."""

    def run(_key: str, _desk: Any, report: Any) -> None:
        for epoch in range(50):
            report({EPOCHS: [epoch]})
        report({ANSWER: "all"})

    told = told_by(run, monkeypatch)
    assert [epoch for each in told for epoch in each[EPOCHS]] == list(range(50))
    assert (told[-1][ANSWER], told[-1]["done"]) == ("all", True)
    assert [ANSWER in each for each in told].count(True) == 1
    assert len(told) == 2, "the first epoch, and all others with the answer"


def test_slow_epochs_the_last_one_and_compared_ones_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No epoch of a slow trial, none that others are compared with, and not the last one waits for another."""
    monkeypatch.setattr(trainable, "TELL_SECONDS", 1e9)
    count: list[int] = []
    heard: list[dict[str, Any]] = []
    telling = Telling("a", Path("nowhere"), send=heard.append)
    telling({EPOCHS: [1]})
    for report in ({EPOCHS: [2], EPOCH: 2, SIGNAL: 1.0}, {EPOCHS: [3]}, {EPOCHS: [4], LAST: True}):
        telling(report)
        count.append(len(heard))
    assert count == [1, 1, 2]
    assert [each[EPOCHS] for each in heard] == [[1, 2], [3, 4]]
    monkeypatch.setattr(trainable, "TELL_SECONDS", 0.0)
    telling({EPOCHS: [5]})
    assert heard[-1][EPOCHS] == [5]


def test_a_trial_that_is_to_stop_lets_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is free by the time at which the driver hears that the trial was pruned, and nothing more is trained."""
    trained: list[int] = []
    stop_sign(tmp_path, "a", 2).touch()
    stop_sign(tmp_path, "b", 1).touch()  # another trial's

    def run(_key: str, _desk: Any, report: Any) -> None:
        with FileLock(tmp_path / "lock"):
            for epoch in range(1, 5):
                report({EPOCHS: [epoch], EPOCH: epoch, SIGNAL: 0.5})
                trained.append(epoch)
        report({ANSWER: "all"})

    told: list[Any] = []

    def hear(report: dict[str, Any]) -> None:
        if ANSWER in report:
            with FileLock(tmp_path / "lock", timeout=0):
                told.append(report[ANSWER])

    monkeypatch.setattr(trainable, "Telling", lambda key, folder: Telling(key, folder, send=hear))
    desk: Any = SimpleNamespace(signs=tmp_path, gpus=1)
    run_in_tune({"key": "a"}, desk=desk, run=run)
    assert told == [Pruned("after epoch 2 at 0.500 of guessing's loss")]
    assert trained == [1]


def test_a_reason_is_heard_before_its_process_ends() -> None:
    """The watch over a trial's minutes tells while the trial itself tells an epoch: one after the other, none lost."""
    hearing, go_on = threading.Event(), threading.Event()
    heard: list[dict[str, Any]] = []

    def hear(report: dict[str, Any]) -> None:
        heard.append(report)
        hearing.set()
        assert go_on.wait(30)

    telling = Telling("a", Path("nowhere"), send=hear)
    trial = threading.Thread(target=telling, args=({EPOCHS: [1]},))
    trial.start()
    assert hearing.wait(30)
    watch = threading.Thread(target=telling, args=({ANSWER: "too long", LEAVING: True},))
    watch.start()
    watch.join(0.05)
    assert len(heard) == 1, "Tune takes one report at a time"
    go_on.set()
    for each in (trial, watch):
        each.join(30)
    assert heard[1] == {ANSWER: "too long", LEAVING: True, EPOCHS: []}, "without `done`: it returns once it is heard"


@pytest.mark.parametrize("error", [ValueError("m must be 1."), KeyboardInterrupt(), SystemExit(3), SystemExit(0)])
def test_nothing_ends_a_trial_in_silence(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a trial is a failure with its traceback, which is tried again."""

    def run(_key: str, _desk: Any, _report: Any) -> None:
        raise error

    (told,) = told_by(run, monkeypatch)
    assert isinstance(told[ANSWER], Failure)
    assert type(error).__name__ in told[ANSWER].reason
    assert "Traceback" in told[ANSWER].trace
    assert told[ANSWER].again


def test_a_trial_that_tune_ends_tells_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray ends a trial's thread by SystemExit where it reports; another report would wait for ever."""
    told: list[dict[str, Any]] = []

    def end(report: dict[str, Any]) -> None:
        told.append(report)
        raise SystemExit(0)

    monkeypatch.setattr(trainable, "Telling", lambda key, folder: Telling(key, folder, send=end))
    desk: Any = SimpleNamespace(signs=Path("nowhere"), gpus=1)
    with pytest.raises(SystemExit):
        run_in_tune({"key": "a"}, desk=desk, run=lambda _key, _desk, report: report({EPOCHS: [1]}))
    assert len(told) == 1


def test_a_trial_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done without one, which the driver records."""
    (told,) = told_by(lambda _key, _desk, _report: None, monkeypatch)
    assert (told["done"], ANSWER in told) == (True, False)


def test_a_worker_starts_without_torch() -> None:
    """What a worker imports as it starts brings no torch, which takes seconds: a trial's own start brings it."""
    said = "import sys, harness.engine.trainable; print(*sys.modules)"
    asked = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert {"torch", "sklearn", "librosa", "harness.engine.worker"}.isdisjoint(asked.stdout.split())
