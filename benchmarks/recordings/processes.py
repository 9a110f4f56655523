"""Processes that decode: started quickly, and never forked from a process that runs threads."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

PRELOADED = ["benchmarks.recordings.packing"]  # soundfile, soxr and numpy: imported once for all processes


def open_pool(workers: int) -> ProcessPoolExecutor:
    """Open a pool of processes.

    They are forked from a small server that has no threads of its own, where the system has such servers: a fork of a
    process that runs torch's threads can hang, and starting each process from nothing takes as long as reading hundreds
    of clips.

    Args:
        workers: processes.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(workers, context)
