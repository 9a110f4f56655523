"""What each stage of a trial costs: seconds, and the resident memory at its highest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SAMPLE_SECONDS = 0.05
MIB = 2**20


class Costs:
    """Seconds and peak memory by stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside under a name."""
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
