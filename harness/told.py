"""What long work is doing, told to whoever shows it: the command line's display, a notebook's function, or nobody.

A callback of type `Told` is called with (what is done, number done, number in all). A number in all of 0 is a step
whose length is not known, as the start of Ray. Functions that are given a callback call it; those deep below, which are
not, use `tell`, which reaches the callback that `hearing` has set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Told = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _all: int) -> None:
    """Ignore progress."""


_heard: ContextVar[Told] = ContextVar("heard", default=silent)


def tell(what: str, done: int = 0, total: int = 0) -> None:
    """Tell whoever listens in this context what is being done; "" ends a step of unknown length."""
    _heard.get()(what, done, total)


@contextmanager
def hearing(told: Told) -> Iterator[None]:
    """Let a callback hear what `tell` says in the block."""
    before = _heard.set(told)
    try:
        yield
    finally:
        _heard.reset(before)
