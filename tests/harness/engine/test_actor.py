"""A worker's trials: what they report is told in order, and those that are stopped leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import actor as actors
from harness.engine.actor import TrialActor, Work
from harness.engine.messages import ANSWER, EPOCHS, LEAVING, SIGNAL
from harness.trials.contract import Failure


def begun(run: Callable[..., None]) -> TrialActor:
    """An actor whose first trial runs, without Ray."""
    actor = object.__new__(TrialActor)
    actor.setup({"key": "a"}, desk=None, run=run)
    return actor


def steps(actor: TrialActor) -> list[dict[str, Any]]:
    """What Tune is told until the trial is done."""
    told = [actor.step()]
    while not told[-1].get("done"):
        told.append(actor.step())
    return told


def test_quick_epochs_are_told_together_and_training_waits_for_nobody() -> None:
    """All epochs come in order, with the answer last, in fewer steps than there are epochs."""
    trained = threading.Event()

    def run(_key: str, _desk: Any, report: Any) -> None:
        for epoch in range(50):
            report({EPOCHS: [epoch]})
        trained.set()
        report({ANSWER: "all"})

    actor = begun(run)
    assert trained.wait(10), "training waited for a driver that asked nothing"
    told = steps(actor)
    assert [epoch for each in told for epoch in each[EPOCHS]] == list(range(50))
    assert told[-1][ANSWER] == "all"
    assert len(told) < 5


def test_epochs_are_told_while_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow trial is heard of before it ends."""
    monkeypatch.setattr(actors, "TELL_SECONDS", 0.05)
    go_on = threading.Event()

    def run(_key: str, _desk: Any, report: Any) -> None:
        report({EPOCHS: [1]})
        go_on.wait(10)
        report({ANSWER: "all"})

    actor = begun(run)
    assert actor.step()[EPOCHS] == [1]
    go_on.set()
    assert steps(actor)[-1][ANSWER] == "all"


def test_what_others_are_compared_with_holds_a_trial_until_it_may_go_on() -> None:
    """No epoch is trained that a decision might spare; a stopped trial leaves, and its worker takes the next."""
    trained: list[str] = []

    def run(key: str, _desk: Any, report: Any) -> None:
        for epoch in range(3):
            report({EPOCHS: [epoch], SIGNAL: 1.0})
            trained.append(f"{key}{epoch}")
        report({ANSWER: key})

    actor = begun(run)
    assert actor.step()[SIGNAL] == 1.0
    time.sleep(0.05)
    assert trained == []
    assert actor.step()[EPOCHS] == [1]
    assert trained == ["a0"]
    assert actor.reset_config({"key": "b"})
    assert steps(actor)[-1][ANSWER] == "b"
    assert trained == ["a0", "b0", "b1", "b2"]


def test_last_words_are_heard_before_the_process_ends() -> None:
    """The answer of a process that is about to end is told, and it stays until Tune asks for more."""
    ended = threading.Event()

    def run(_key: str, _desk: Any, report: Any) -> None:
        report({ANSWER: "too long", LEAVING: True})
        ended.set()

    actor = begun(run)
    told = actor.step()
    assert (told[ANSWER], "done" in told) == ("too long", False)
    assert not ended.wait(0.05)
    actor.step()
    assert ended.wait(10)


@pytest.mark.parametrize("error", [ValueError("m must be 1."), KeyboardInterrupt(), SystemExit(3)])
def test_nothing_ends_a_trial_in_silence(error: BaseException) -> None:
    """What ends a trial's thread is a failure with its traceback, which is tried again."""

    def run(_key: str, _desk: Any, _report: Any) -> None:
        raise error

    (told,) = steps(begun(run))
    assert isinstance(told[ANSWER], Failure)
    assert type(error).__name__ in told[ANSWER].reason
    assert "Traceback" in told[ANSWER].trace
    assert told[ANSWER].again


def test_a_trial_without_an_answer_ends() -> None:
    """It is done without one, which the driver records."""
    run: Work = lambda _key, _desk, _report: None  # noqa: E731 - a trial in a line
    (told,) = steps(begun(run))
    assert (told["done"], ANSWER in told) == (True, False)


def test_a_trial_that_does_not_leave_keeps_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another trial does not begin beside one that still computes: Tune takes a new worker."""
    monkeypatch.setattr(actors, "STOP_SECONDS", 0.05)
    go_on = threading.Event()
    actor = begun(lambda _key, _desk, _report: go_on.wait(10))
    assert not actor.reset_config({"key": "b"})
    go_on.set()
