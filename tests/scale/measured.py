"""What a stage costs: processor time and memory, measured inside a process of the stage's own."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a stage cost.

    Attributes:
        cpu_seconds: of all its threads; other work on the machine does not count, as it does in wall time.
        wall_seconds: from its beginning to its end.
        peak_mb: the most resident memory, MiB, less what the process had before (Python and its imports).
        private_mb: the most memory of its own, MiB, as far as the stage looked: without the pages of files that it
            maps, which the system takes back at any time. None where the stage did not look.
        notes: other numbers that the stage tells.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    private_mb: float | None
    notes: Mapping[str, float]


class Private:
    """Watches this process's own memory; a stage calls it now and then."""

    def __init__(self) -> None:
        self.most: float | None = None
        self.before = memory("RssAnon")

    def __call__(self) -> None:
        """Look once."""
        self.most = max(self.most or 0.0, memory("RssAnon") - self.before)


def memory(name: str) -> float:
    """Return a line of the process's status in MiB: VmRSS now, VmHWM the most, RssAnon without mapped files."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def measure(stage: Callable[[Private], Mapping[str, float] | None]) -> Cost:
    """Run a stage in this process, which should do nothing else, and return what it cost."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from here on
    private, before, cpu, wall = Private(), memory("VmRSS"), time.process_time(), time.perf_counter()
    notes = stage(private) or {}
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu, wall, max(0.0, memory("VmHWM") - before), private.most, notes)


class Stages:
    """A process that has imported what stages need and runs each in a fork of itself, which imports nothing again.

    Args:
        module: ends by calling `serve`.
        arguments: of the module.
        server: address of a database server; "" is none.
    """

    def __init__(self, module: str, *arguments: str, server: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # one thread, since threads that wait for each other on a busy machine count as processor time, too
            env={**os.environ, "ASDBENCH_SCALE_SERVER": server, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, stage: str) -> dict[str, Any]:
        """Run a stage and return the fields of its `Cost`.

        Raises:
            AssertionError: it failed; what it said stands in the test's output.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{stage}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line.startswith("{"), f"stage {stage} failed"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(stage_of: Callable[[str], Callable[[Private], Mapping[str, float] | None]]) -> None:
    """Run the stages that are named on standard input, each in a fork, and print what each cost as a line of JSON.

    Args:
        stage_of: makes a stage's function by its name, with what it needs; that is not measured.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what stages print is no answer
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                cost = measure(stage_of(line.strip()))
                answers.write(json.dumps(asdict(cost)) + "\n")
                answers.flush()
                status = 0
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
                traceback.print_exc()
            os._exit(status)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            answers.write("failed\n")
            answers.flush()


def serve_stages(stages: Mapping[str, Callable[[Any], Any]], place_of: Callable[[Path, int], Any]) -> None:
    """Run the stages of a module as a program, whose arguments are a folder and a size.

    Args:
        stages: name -> what makes the stage's function, given the place.
        place_of: makes the place of a folder and a size.
    """
    folder, size = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    place = place_of(folder, size)
    serve(lambda name: stages[name](place))
