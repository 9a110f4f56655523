"""Four nodes with four workers each against one node with four: trials a second, and what the one driver does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.harness.engine.test_study_hosts import laid_hosts
from tests.scale.conftest import MEASURED, ROOT
from tests.scale.growth import keep
from tests.scale.nodes import WAIT_SECONDS

pytestmark = pytest.mark.scale

CORES, TRIALS = 4, 200
MOST_SECONDS = 500
LEAST_SPEEDUP = 2.5  # of four nodes; a driver that records two trials at a time would be slower than this


def run(folder: Path, nodes: int) -> dict[str, float]:
    """Run the study on so many nodes, each a network namespace of its own with a Ray node of four workers."""
    folder.mkdir()
    log = folder / "log.txt"
    with laid_hosts(nodes) as hosts:
        for host in range(nodes):
            hosts.start_ray(host, cores=CORES)
        hosts.wait_for_nodes(nodes)
        sizes = [str(CORES * nodes), str(TRIALS)]
        command = [sys.executable, "-m", "tests.scale.nodes", str(folder), hosts.address, *sizes]
        driver = hosts.begin(0, command, log=log, PYTHONPATH=str(ROOT))
        assert driver.wait(MOST_SECONDS) == 0, log.read_text()
    found: dict[str, float] = json.loads(log.read_text().splitlines()[-1])
    return found


def test_nodes(tmp_path: Path) -> None:
    """Sixteen workers on four nodes give more trials a second than four on one; the databases see the same of each."""
    found = {str(nodes): run(tmp_path / str(nodes), nodes) for nodes in (1, 4)}
    keep(MEASURED, "nodes", found)
    print(json.dumps(found, indent=1))  # noqa: T201
    one, four = found["1"], found["4"]
    assert one["trials_a_second"] <= 1.1 * CORES / WAIT_SECONDS  # it is no more than four at once
    assert (one["processes"], four["processes"]) == (CORES, 4 * CORES), "workers are used again"
    assert four["trials_a_second"] > LEAST_SPEEDUP * one["trials_a_second"]
    assert four["statements"] < 1.2 * one["statements"]
