"""The type of progress callbacks: called with (what is done, number done, number in all)."""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _all: int) -> None:
    """Ignore progress."""
