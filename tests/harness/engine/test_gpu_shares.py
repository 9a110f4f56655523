"""A study on shares of GPUs, without any: Ray is told that a node has two, and trials say which one they may see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from harness.engine.tune import run_study
from harness.errors import HarnessError
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_trials import answer_and_tell
from tests.harness.studies.test_cells import RECORDINGS, study

pytestmark = pytest.mark.slow

TRIAL_SECONDS = 0.3
TRIAL = partial(answer_and_tell, result=make_result(make_spec()), seconds=TRIAL_SECONDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A node without a GPU and one that is said to have two; the address."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    try:
        made.add_node(num_cpus=4, num_gpus=2)
        made.wait_for_nodes()
        yield made.address
    finally:
        made.shutdown()


def run(
    cluster: str, recorder: Recorder, places: Places, *, workers: int, **resources: Any
) -> list[tuple[str, str, float, float]]:
    """Run a study whose first trials wait for so many workers; return GPU, process, begin and end of each, by begin."""
    places.cache.mkdir(parents=True, exist_ok=True)
    (places.cache / "workers").write_text(str(workers))
    plan = make_plan(study(level=False, seeds=[0, 1, 2, 3], resources=resources))
    outcome = run_study(plan, RECORDINGS, recorder, places, address=cluster, workers=workers, trial=TRIAL)
    assert (outcome.progress.finished, outcome.progress.failed) == (12, 0)
    told = [path.read_text().split() for path in sorted(places.cache.glob("*.seen"))]
    assert len(told) == 12
    return sorted(
        ((seen, process, float(began), float(ended)) for seen, process, began, ended in told), key=lambda each: each[2]
    )


def most_at_once(trials: list[tuple[str, str, float, float]]) -> int:
    """Return how many of the trials ran at the same time at most."""
    return max(sum(one[2] <= other[2] < one[3] for one in trials) for other in trials)


def test_halves_of_two_gpus(cluster: str, recorder: Recorder, places: Places) -> None:
    """With gpus = 0.5 a GPU has two trials at a time, each sees it alone, and each share keeps one worker."""
    trials = run(cluster, recorder, places, workers=4, gpus=0.5)
    assert {seen for seen, *_ in trials} == {"0", "1"}
    for gpu in ("0", "1"):
        its = [trial for trial in trials if trial[0] == gpu]
        assert most_at_once(its) == 2
        workers = {process for _, process, *_ in its}
        assert len(workers) == 2
        for worker in workers:
            own = [trial for trial in its if trial[1] == worker]
            assert all(one[3] <= other[2] for one, other in pairwise(own))


@pytest.mark.long
def test_a_whole_gpu_each(cluster: str, recorder: Recorder, places: Places) -> None:
    """With gpus = "auto" a trial has a GPU of its own, and the node without one stays idle."""
    trials = run(cluster, recorder, places, workers=2)
    assert {seen for seen, *_ in trials} == {"0", "1"}
    assert most_at_once(trials) == 2


@pytest.mark.long
def test_without_gpus(cluster: str, recorder: Recorder, places: Places) -> None:
    """With gpus = 0 trials run on both nodes and see no GPU, so that none takes memory of one."""
    trials = run(cluster, recorder, places, workers=3, gpus=0)
    assert {seen for seen, *_ in trials} == {"none"}
    assert most_at_once(trials) > 2


def test_more_than_there_is(cluster: str, recorder: Recorder, places: Places) -> None:
    """A study that asks for more GPUs than a node has is refused at once, with what the nodes have."""
    plan = make_plan(study(level=False, resources={"gpus": 3}))
    began = time.monotonic()
    with pytest.raises(HarnessError, match=r"1 CPU and 3 GPU, but no node .*GPU 2.*lower resources"):
        run_study(plan, RECORDINGS, recorder, places, address=cluster, trial=TRIAL)
    assert time.monotonic() - began < 60
