"""How long a server is waited for in all.

The time-out of a socket starts anew with each byte, so that a trickle, or a chain of redirections, would last for ever.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import requests


def answer_within(seconds: float, ask: Callable[[], requests.Response]) -> requests.Response:
    """Return an answer, however slowly its head comes and wherever it leads, within a time in all.

    Args:
        seconds: in all, redirections and names of hosts included.
        ask: makes the request; it runs in a thread, which is left behind if it takes too long.

    Raises:
        requests.Timeout: if the time is over; other errors as `ask` raises them.
    """
    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def wait() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 - handed over, and raised where it is waited for
            answers.put(error)

    threading.Thread(target=wait, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise requests.Timeout(f"no whole answer came in {seconds:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextmanager
def watched(response: requests.Response, *, seconds: float, least: int) -> Iterator[Callable[[int], None]]:
    """Watch the body of an answer, and shut the line when too little comes.

    Args:
        response: whose body is read inside.
        seconds: in which at least so many bytes must come.
        least: bytes.

    Yields:
        A function to call with the number of bytes of each block that came.

    Raises:
        requests.Timeout: if too little came; what was read until then is not whole.
    """
    done, late = threading.Event(), threading.Event()
    began, gathered = time.monotonic(), 0

    def came(count: int) -> None:
        nonlocal began, gathered
        gathered += count
        if gathered >= least:
            began, gathered = time.monotonic(), 0

    def watch() -> None:
        while not done.wait(max(0.0, began + seconds - time.monotonic())):
            if time.monotonic() >= began + seconds:
                late.set()
                with suppress(OSError, RuntimeError, ValueError):  # the line is shut already
                    response.raw.shutdown()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield came
    except Exception as error:
        if late.is_set():  # whatever a shut line looks like to its reader
            raise requests.Timeout(f"under {least:,} bytes came in {seconds:.0f} s") from error
        raise
    finally:
        done.set()
    if late.is_set():
        raise requests.Timeout(f"under {least:,} bytes came in {seconds:.0f} s")
