"""Delays Ctrl-C and SIGTERM while results are being recorded, so that no record is left incomplete.

`opened` makes sure that an MLflow run that was opened is also closed. `whole` runs a block to its end before the signal
takes effect: for recording a trial's end in several databases, for releasing a driver's claims, and for starting Ray,
which a signal during its start would crash. Nothing else should need either.
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
PATIENCE_SECONDS = 3.0  # signals within this time of the first count as one

_held = list[list[tuple[int, float]]]()  # for each active `whole` block: delayed signals and their times


@contextmanager
def whole() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the block has ended.

    A second signal after `PATIENCE_SECONDS` takes effect at once, since a store may hang.

    A signal without a Python handler, such as SIGTERM by default, still kills the process at once. In other threads
    than the main one this does nothing, since Python runs signal handlers in the main thread only.
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
        except BaseException:  # a signal arrived during the first call
            _restore(answers)
            raise
        if asked:
            signal.raise_signal(asked[0][0])


@contextmanager
def opened(begin: Callable[[], str], end: Callable[[str], None]) -> Iterator[str]:
    """Open something and close it at the end of the block; signals are delayed while it is opened or closed.

    Args:
        begin: opens it and returns its id.
        end: closes it by its id; not called if `begin` failed.
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
    """Let a delayed signal take effect now. For loops inside a `whole` block that only wait for another process.

    Raises:
        KeyboardInterrupt: a signal was delayed.
    """
    if threading.current_thread() is threading.main_thread() and any(_held):
        raise KeyboardInterrupt


def answer_stops() -> list[int]:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt; repeated signals within `PATIENCE_SECONDS` raise it once.

    Returns:
        A list to which each signal that raised KeyboardInterrupt is appended.
    """
    asked: list[int] = []
    last = float("-inf")

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < PATIENCE_SECONDS:
            return  # the program is already stopping
        last = time.monotonic()
        asked.append(number)
        raise KeyboardInterrupt

    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # keep ignoring it, as shells set for background jobs
            signal.signal(number, stop)
    return asked


def _restore(answers: dict[signal.Signals, Any]) -> None:
    for number, answer in answers.items():
        if callable(answer):
            signal.signal(number, answer)
