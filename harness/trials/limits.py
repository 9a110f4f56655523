"""Limits of one trial (minutes, memory, threads) and its measured costs, both watched from inside its worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from harness.told import tell

LOOK_SECONDS = 0.25
TELL_SECONDS = 10.0  # the worker waits at most this long for the driver to receive the reason, then exits
GIB = 2**30
EXIT_STATUS = 71


class _Waiting:
    """How long a process has waited for other trials' results; this time does not count towards its minutes."""

    def __init__(self) -> None:
        self.ended = 0.0
        self.since: float | None = None

    def seconds(self) -> float:
        """Return the seconds so far."""
        since = self.since
        return self.ended + (0.0 if since is None else time.monotonic() - since)


_waiting = _Waiting()


@contextmanager
def waiting() -> Iterator[None]:
    """Mark a block that waits for another trial's result: its time does not count towards the limit of minutes."""
    _waiting.since = time.monotonic()
    try:
        yield
    finally:
        _waiting.ended, _waiting.since = _waiting.seconds(), None


@contextmanager
def limited(
    tell: Callable[[str], None],
    *,
    minutes: float | None = None,
    memory_gb: float | None = None,
    leave: Callable[[int], None] = os._exit,
) -> Iterator[None]:
    """End this process if the block exceeds its limit of time or memory.

    Python cannot stop a thread in the middle of a computation, so the whole process exits. Ray starts another for the
    next trial.

    Args:
        tell: is given the reason, in words, before the end.
        minutes: of wall time, but for what `waiting` takes; None is no limit.
        memory_gb: GiB of resident memory of this process; None is no limit.
        leave: ends the process.
    """
    if minutes is None and memory_gb is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        process, began = psutil.Process(), time.monotonic() - _waiting.seconds()
        while not done.wait(LOOK_SECONDS):
            seconds = time.monotonic() - began - _waiting.seconds()
            reason = excess(seconds, process.memory_info().rss, minutes=minutes, memory_gb=memory_gb)
            if reason and not done.is_set():
                teller = threading.Thread(target=tell, args=(reason,), name="limit reached", daemon=True)
                teller.start()
                teller.join(TELL_SECONDS)
                leave(EXIT_STATUS)
                return

    watcher = threading.Thread(target=watch, name="limits", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def excess(seconds: float, rss: float, *, minutes: float | None, memory_gb: float | None) -> str:
    """Say which limit is exceeded and what helps; "" if none is.

    Args:
        seconds: since the trial began.
        rss: resident memory, bytes.
        minutes: limit.
        memory_gb: limit, GiB.
    """
    if minutes is not None and seconds > 60 * minutes:
        return (
            f"it ran longer than the {minutes:g} minutes that a trial may take; "
            "raise resources.minutes, or take fewer epochs"
        )
    if memory_gb is not None and rss > memory_gb * GIB:
        return (
            f"its worker held {rss / GIB:.2f} GiB, more than the {memory_gb:g} that a trial may take; "
            "raise resources.memory_gb, or lower recipe.micro_batch"
        )
    return ""


def hold_threads(threads: int) -> None:
    """Let torch and NumPy's libraries use this many threads in this process from now on.

    NumPy's libraries count the cores when they are imported, which is before Ray says how many a trial has.
    """
    import torch  # noqa: PLC0415 - limits themselves need no framework
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - it ships no types

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


SAMPLE_SECONDS = 0.05
MIB = 2**20

# what a trial's stages are called where its progress is shown
STAGES = {
    "rank": "ranking candidates", "fuse": "fusing labels", "latents": "embedding clips for labeling",
    "finetune": "fine-tuning", "embed": "embedding clips", "score": "scoring", "measure": "measuring",
    "intervals": "resampling for intervals", "draw": "drawing pictures",
}  # fmt: skip


class Costs:
    """Seconds and peak memory by stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside under a name, and tell whoever follows the trial."""
        tell(STAGES.get(name, name))
        process, done = psutil.Process(), threading.Event()
        highest = [process.memory_info().rss]

        def watch() -> None:
            while not done.wait(SAMPLE_SECONDS):
                highest[0] = max(highest[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch, name=f"memory of {name}", daemon=True)
        watcher.start()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began
            done.set()
            watcher.join()
            self.peak_mb[name] = max(highest[0], process.memory_info().rss) / MIB
