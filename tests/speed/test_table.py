"""The speed table itself: rows appear as they are measured, and ROWS picks some of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.speed.conftest import HEADINGS, Bench

ROOT = Path(__file__).parents[2]


def test_rows_are_shown_as_they_are_measured() -> None:
    """A row is shown when it is measured, one that misses its floor too, and one that is skipped says why."""
    shown: list[str] = []
    bench = Bench(shown.append)
    bench.row("search", 0.5, "brute force", 1.0, 1.5)
    assert [text.split()[0] for text in shown] == [HEADINGS[0], "search"]
    assert shown[1].split() == ["search", "500", "ms", "brute", "force", "1", "s", "2.00", "1.5", "yes"]
    with pytest.raises(AssertionError, match=r"search: 2\.00 times brute force, but 3 is required"):
        bench.row("search", 0.5, "brute force", 1.0, 3.0)
    assert shown[2].endswith("NO")
    with pytest.raises(pytest.skip.Exception, match="emulated"):
        bench.skip("training", "bfloat16 is emulated")
    assert shown[3].split() == ["training", "skipped", "bfloat16", "is", "emulated"]


def collected(rows: str) -> subprocess.CompletedProcess[str]:
    """Collect the speed tests that a choice of rows leaves."""
    command = [sys.executable, "-m", "pytest", "-m", "speed", "--collect-only", "-q", "-p", "no:xdist"]
    command += ["-o", "addopts=--import-mode=importlib", "tests/speed/test_scoring_speed.py"]
    environment = {"PATH": "/usr/bin:/bin", "ROWS": rows}
    return subprocess.run([*command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_rows_are_chosen_by_words() -> None:
    """A word picks the rows of whose test it is a part; one that fits none is named."""
    chosen = [line for line in collected("bootstraps").stdout.splitlines() if "::" in line]
    assert [line.split("::")[1] for line in chosen] == ["test_the_bootstrap_is_fifty_times_a_loop"]
    refused = collected("bootstrap nonsense")
    assert refused.returncode == 4
    assert "none fits nonsense; there are: scoring" in refused.stdout + refused.stderr
