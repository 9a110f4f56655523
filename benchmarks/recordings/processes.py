"""Processes that decode: started quickly, and never forked from a process that runs threads."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

# imported once for all processes. First what makes `benchmarks` our package: the server's path begins with the working
# directory, which may have a folder of that name. Then soundfile, soxr and numpy
PRELOADED = ["asdbench", "benchmarks.recordings.packing"]


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
