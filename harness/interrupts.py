"""Stopping with Ctrl-C or SIGTERM waits until what is being recorded is whole.

Two things need that, and nothing else should ask for it. What is opened is closed whatever stops the work in between:
`opened`, for runs of MLflow. And what goes into several databases goes into all of them: `whole`, where a trial's end
is recorded, where a driver gives back what it has claimed, and where Ray starts, which a stop in between would crash.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 3.0  # in which a key that is pressed several times counts as pressed once

_held = list[list[tuple[int, float]]]()  # requests to stop, of each block that the main thread is in


@contextmanager
def whole() -> Iterator[None]:
    """Let a request to stop wait until the block has ended.

    Who asks again after `PATIENCE_SECONDS` does not wait any longer, as a store may hang.

    Signals that nobody answers, such as SIGTERM by default, kill at once as ever. Elsewhere than in the main thread
    there is nothing to hold back: Python answers signals there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    answers: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in STOPS}
    asked: list[tuple[int, float]] = []
    _held.append(asked)

    def hold(number: int, frame: FrameType | None) -> None:
        answer, now = answers[signal.Signals(number)], time.monotonic()
        if not asked:
            asked.append((number, now))
        elif callable(answer) and now - asked[0][1] >= PATIENCE_SECONDS:
            asked.clear()
            answer(number, frame)

    held = [number for number, answer in answers.items() if callable(answer)]
    try:
        for number in held:
            signal.signal(number, hold)
        yield
    finally:
        _held.pop()
        try:
            _restore(answers)
        except BaseException:  # a request that came in between
            _restore(answers)
            raise
        if asked:
            signal.raise_signal(asked[0][0])


@contextmanager
def opened(begin: Callable[[], str], end: Callable[[str], None]) -> Iterator[str]:
    """Open something and close it, whatever stops the block in between; a stop cuts neither of the two.

    Args:
        begin: opens, and returns what is opened by its id.
        end: closes it, by its id; not called where nothing was opened.
    """
    made = ""
    try:
        with whole():
            made = begin()
        yield made
    finally:
        if made:
            with whole():
                end(made)


def stop_if_asked() -> None:
    """Answer a request that a block around this holds back: for loops that wait for others and have begun nothing.

    Raises:
        KeyboardInterrupt: there is one.
    """
    if threading.current_thread() is threading.main_thread() and any(_held):
        raise KeyboardInterrupt


def answer_stops() -> list[int]:
    """Answer Ctrl-C and SIGTERM with KeyboardInterrupt from now on: once, however often they come within seconds.

    Returns:
        The signals that were answered so far; it grows.
    """
    asked: list[int] = []
    last = float("-inf")

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < PATIENCE_SECONDS:
            return  # what is open is being closed
        last = time.monotonic()
        asked.append(number)
        raise KeyboardInterrupt

    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a script's background
            signal.signal(number, stop)
    return asked


def _restore(answers: dict[signal.Signals, Any]) -> None:
    for number, answer in answers.items():
        if callable(answer):
            signal.signal(number, answer)
