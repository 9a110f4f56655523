"""What tries a mutant: a test that does not end any more ends the process, and so counts as having noticed."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mutants import child
from tests.mutants.child import Patience


@pytest.mark.parametrize(("usual", "seconds", "ended"), [(0.001, 30.0, -signal.SIGALRM), (0.01, 0.0, 0)])
def test_a_test_that_takes_far_longer_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, usual: float, seconds: float, ended: int
) -> None:
    """It has twenty times what it usually takes; one that ends in time takes the alarm with it."""
    monkeypatch.setattr(child, "LEAST_S", 0.05)
    forked = os.fork()
    if not forked:
        item: Any = SimpleNamespace(nodeid="a test")
        protocol = Patience({"a test": usual}).pytest_runtest_protocol(item)
        next(protocol)
        time.sleep(seconds)
        try:
            next(protocol)
        except StopIteration:
            time.sleep(0.4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == ended
