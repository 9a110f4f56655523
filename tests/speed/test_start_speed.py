"""How soon the command line answers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest


def processor_seconds(*arguments: str) -> float:
    """Return the processor time of a Python process, the least of three runs."""
    seconds = []
    for _ in range(3):
        asked = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(asked.pid, 0)
        assert status == 0
        seconds.append(used.ru_utime + used.ru_stime)
    return min(seconds)


@pytest.mark.speed
def test_help_is_quick(bench: Any) -> None:
    """`asdbench --help` takes a fraction of what importing torch alone takes."""
    ours = processor_seconds("-m", "harness.cli.main", "--help")
    bench.row("asdbench --help", ours, "import torch", processor_seconds("-c", "import torch"), 3.0)
