"""More than one node, more than one driver, and a real study that stops trials early."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness import verbs
from harness.engine.cluster import check_places
from harness.errors import HarnessError
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from harness.studies.progress import Progress
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_trials import answer_at_once
from tests.harness.studies.test_cells import RECORDINGS, runs, states, study
from tests.harness.toy_study import STUDY, counts, official, places_in

pytestmark = pytest.mark.slow

MOST_SECONDS = 400


def test_a_node_that_goes_away(places: Places, recorder: Recorder, tmp_path: Path) -> None:
    """Of two nodes one is killed in the middle of a study: its trial is made again on the other, and all cells finish.

    A folder that a node lacks is named before anything runs.
    """
    from ray.cluster_utils import Cluster

    from harness.engine.tune import run_study

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        file = study(level=False, seeds=[0, 1, 2, 3], resources={"retries": 5})
        plan = make_plan(file)
        nodes = [second]

        def listen(progress: Progress) -> None:
            if progress.finished >= 3 and nodes:
                with pytest.raises(HarnessError, match=r"must have the folder .*nowhere.*ASDBENCH_CACHE"):
                    check_places([tmp_path / "nowhere"])
                cluster.remove_node(nodes.pop(), allow_graceful=False)

        outcome = run_study(
            plan, RECORDINGS, recorder, places, address=cluster.address, listen=listen,
            trial=partial(answer_at_once, result=make_result(make_spec()), seconds=0.3),
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert not nodes, "no node was removed"
    assert (outcome.progress.finished, outcome.progress.failed) == (12, 0)
    assert states(places)["toy"]["COMPLETE"] == 12
    assert runs(places)["FINISHED"] == 12
    assert runs(places)["RUNNING"] == 0


def start(folder: Path, root: Path, *, more: str = "", number: int = 0) -> subprocess.Popen[bytes]:
    """Start the toy study's command line in a folder."""
    (folder / "toy.toml").write_text(STUDY % "1e-3" + more)
    environment = {**os.environ, "ASDBENCH_CACHE": str(folder / "cache")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [
        sys.executable,
        "-m",
        "harness.cli.main",
        "study",
        "run",
        "toy.toml",
        "--data",
        str(root),
        "--workers",
        "1",
    ]
    with (folder / f"log{number}.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


@pytest.mark.long  # tests/harness/stores/test_faults.py starts eight of made-up trials
def test_two_drivers_at_once(root: Path, tmp_path: Path, undisturbed: dict[str, float]) -> None:
    """The same command started twice at once shares the cells: each is in every store once, with the same numbers."""
    drivers = [start(tmp_path, root, number=number) for number in range(2)]
    said = [(process.wait(MOST_SECONDS), (tmp_path / f"log{n}.txt").read_text()) for n, process in enumerate(drivers)]
    assert [status for status, _ in said] == [0, 0], said
    assert counts(tmp_path) == {"mlflow": {"FINISHED": 7}, "tables": {"finished": 7}, "optuna": {"COMPLETE": 4}}
    assert official(tmp_path) == undisturbed
    assert all("7 of 7 trials finished" in text for _, text in said)


@pytest.mark.long
def test_stopping_early_changes_no_other_number(root: Path, tmp_path: Path, undisturbed: dict[str, float]) -> None:
    """Real trials of which some are stopped early: those that end have the numbers of a study that stops none."""
    more = '\n[pruning]\nname = "median"\ngrace = 1\nleast = 1\n'
    (tmp_path / "cache").mkdir()
    assert start(tmp_path, root, more=more).wait(MOST_SECONDS) == 0, (tmp_path / "log0.txt").read_text()
    status = verbs.study_status("toy", places=places_in(tmp_path))
    assert status["finished"] + status["pruned"] == 7
    assert status["pruned"] >= 1, (tmp_path / "log0.txt").read_text()
    found = official(tmp_path)
    assert found.items() <= undisturbed.items()
