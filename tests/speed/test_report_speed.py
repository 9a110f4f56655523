"""What the report page costs when much is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.speed.recorded import record_trials

MOST_SECONDS, MOST_MB, MOST_PAGE_MB = 10.0, 500.0, 1.5

# a process of its own: its memory is the report's alone
REPORT = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from harness import verbs
from harness.places import find_places
found = verbs.report(Path(sys.argv[2]), places=find_places(tracking=sys.argv[1]))
seconds = time.perf_counter() - began
status = Path("/proc/self/status").read_text()  # maxrss would count what the parent held before
memory = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps([seconds, memory, found["bytes"] / 1e6]))
"""


@pytest.mark.speed
def test_report_of_ten_thousand_trials(tmp_path: Path, bench: Any) -> None:
    """The page of 10,000 recorded trials takes under 10 seconds, imports included, 500 MB and 1.5 MB of HTML."""
    recorded = record_trials(tmp_path / "mlflow.db")
    ran = subprocess.run(
        [sys.executable, "-c", REPORT, recorded.uri, str(tmp_path / "report.html")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, memory, page = json.loads(ran.stdout.splitlines()[-1])
    bench.limit("report of 10,000 recorded trials", seconds, MOST_SECONDS, "s")
    bench.limit("memory of the same", memory, MOST_MB, "MB")
    bench.limit("the page of the same", page, MOST_PAGE_MB, "MB")
