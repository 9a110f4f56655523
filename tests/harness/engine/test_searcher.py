"""Under Ray Tune: stopping early, limits, and workers that die."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backbones.contract import EpochReport
from harness.engine.cluster import find_room, gpu_share, reason_of_death
from harness.engine.messages import SIGNAL, epoch_result
from harness.engine.messages import signal as training_signal
from harness.engine.worker import may_go_away, reason_of
from harness.places import Places
from harness.stores.recorder import Recorder
from harness.studies.plan import make_plan
from harness.studies.progress import Outcome
from harness.studies.study_file import PruningTable
from harness.trials.limits import GIB, excess, limited, waiting
from tests.harness.made_up import make_result, make_spec
from tests.harness.quick_trials import EPOCHS, learn, misbehave, share
from tests.harness.studies.test_cells import RECORDINGS, runs, states, study

RESULT = make_result(make_spec())


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for the module; studies join what runs."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def run(places: Places, recorder: Recorder, file: Any, trial: Any) -> Outcome:
    """Run a study with a made-up trial, one at a time, so that the order is the plan's."""
    from harness.engine.tune import run_study

    return run_study(make_plan(file), RECORDINGS, recorder, places, workers=1, trial=trial)


def pruned_labels(places: Places) -> set[str]:
    """Labels of the trials that a study's runs in MLflow call pruned."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=places.tracking)
    (experiment,) = [each for each in client.search_experiments() if each.name == "asdbench"]
    found = client.search_runs([experiment.experiment_id], "tags.`asd.status` = 'pruned'")
    return {str(each.info.run_name) for each in found}


def failed_runs(recorder: Recorder) -> list[Any]:
    """The runs that ended as failed."""
    tracker = recorder.tracker
    return list(tracker.client.search_runs([tracker.experiment], "attributes.status = 'FAILED'"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asha", pytest.param("median", marks=pytest.mark.long)])
def test_the_test_set_prunes_nothing(
    ray_here: None, places: Places, recorder: Recorder, tmp_path: Path, name: str
) -> None:
    """The trials that learn worst are stopped, the same ones whatever the test clips' scores are.

    Their worker goes on with the next trial, and none is left waiting.
    """
    pruning = PruningTable(name=name, grace=2, reduction=2)
    stopped = []
    for shift in (0.0, 3.0):
        file = study(
            name=f"s{shift:g}", seeds=[int(shift)], level=False, pruning=pruning.model_dump(),
            space={"backbone": ["tiny"], "m": [2, 3, 4, 10, 1, 12]}, recipe={"epochs": EPOCHS},
        )  # fmt: skip
        log = tmp_path / f"{shift}.txt"
        outcome = run(places, recorder, file, partial(learn, result=make_result(make_spec(), shift=shift), log=log))
        assert outcome.progress.finished + outcome.progress.pruned == 6
        began = [line.split() for line in log.read_text().splitlines()]
        assert [int(m) for m, _ in began] == [2, 3, 4, 10, 1, 12]
        assert len({pid for _, pid in began}) == 1, "a stopped trial cost its worker"
        stopped.append({label.rsplit(" ", 1)[0] for label in pruned_labels(places) if label.endswith(f"{shift:g}")})
    assert stopped[0] == stopped[1]
    assert {"tiny M=10 K1=15 K2=15", "tiny M=12 K1=15 K2=15"} <= stopped[0]
    assert not {"tiny M=1 K1=15 K2=15", "tiny M=2 K1=15 K2=15"} & stopped[0]
    assert states(places)["s0"]["PRUNED"] == len(stopped[0])


@pytest.mark.slow
def test_a_pruned_trial_lets_go_of_what_others_wait_for(
    ray_here: None, places: Places, recorder: Recorder, tmp_path: Path
) -> None:
    """The last trial trains what a pruned one had begun: no other trial is left to free the pruned one's worker."""
    from harness.engine.tune import run_study

    file = study(
        seeds=[0], level=False, pruning=PruningTable(name="asha", grace=1, reduction=2).model_dump(),
        space={"backbone": ["tiny"], "m": [1, 10, 12]}, recipe={"epochs": EPOCHS},
    )  # fmt: skip
    trial = partial(share, result=RESULT, folder=tmp_path)
    outcome = run_study(make_plan(file), RECORDINGS, recorder, places, workers=2, trial=trial)
    assert (outcome.progress.finished, outcome.progress.pruned, outcome.progress.failed) == (2, 1, 0)


@pytest.mark.slow
def test_a_trial_that_takes_too_much_is_one_trials_failure(
    ray_here: None, places: Places, recorder: Recorder, tmp_path: Path
) -> None:
    """Too long, too large and killed: each is recorded with its own reason, and the others finish."""
    file = study(level=False, seeds=[0], space={"backbone": ["tiny"], "m": [1, 3, 5, 7, 10]}, resources={"retries": 1})
    outcome = run(places, recorder, file, partial(misbehave, result=RESULT))
    assert (outcome.progress.finished, outcome.progress.failed, outcome.progress.retried) == (2, 3, 1)
    reasons = {label.split()[1]: reason for label, reason in outcome.failures.items()}
    assert "longer than the 0.005 minutes" in reasons["M=3"]
    assert "more than the 0.01 that a trial may take" in reasons["M=5"]
    assert "its worker process died" in reasons["M=7"]
    assert runs(places) == {"FINISHED": 2, "FAILED": 3, "KILLED": 1}
    client = recorder.tracker.client
    (dead,) = [run for run in failed_runs(recorder) if "M=7" in run.info.run_name]
    assert "actor died" in Path(client.download_artifacts(dead.info.run_id, "traceback.txt", tmp_path)).read_text()


def test_signal_is_a_share_of_guessing() -> None:
    """Guessing among any number of classes is 1, and one class, in which there is nothing to learn, is 0."""
    for classes in (2, 30, 500):
        assert training_signal(EpochReport(1, math.log(classes), 0.0, 0.0, 0.0, classes)) == pytest.approx(1)
    assert training_signal(EpochReport(1, 0.0, 1.0, 0.0, 0.0, 1)) == 0


def test_last_epoch_and_those_between_show_no_signal() -> None:
    """Every second epoch is compared where the study says so, and the last one never."""
    pruning = PruningTable(name="asha", every=2)
    shown = [
        epoch
        for epoch in range(1, 9)
        if SIGNAL in epoch_result(EpochReport(epoch, 1.0, 0.5, 1e-3, 0.1, 4), pruning=pruning, last=8)
    ]
    assert shown == [2, 4, 6]
    assert SIGNAL not in epoch_result(EpochReport(2, 1.0, 0.5, 1e-3, 0.1, 4))


def test_limits_leave_the_process(tmp_path: Path) -> None:
    """Past its limit the process is told to leave, after the reason was told; within it nothing happens."""
    told: list[str] = []
    left: list[int] = []
    with limited(told.append, minutes=0.002, leave=left.append):
        deadline = time.monotonic() + 20
        while not left and time.monotonic() < deadline:
            time.sleep(0.02)
    assert left == [71]
    assert "raise resources.minutes" in told[0]
    with limited(told.append, minutes=5, memory_gb=500, leave=left.append):
        time.sleep(0.6)
    assert len(told) == len(left) == 1
    assert "2.00 GiB, more than the 1" in excess(1, 2 * GIB, minutes=None, memory_gb=1)


def test_waiting_for_another_trial_takes_none_of_the_minutes() -> None:
    """What a trial waits for before it trains is not its own time; what comes after is."""
    told: list[str] = []
    with limited(told.append, minutes=0.5 / 60, leave=lambda _status: None):
        with waiting():
            time.sleep(1.0)
        time.sleep(0.2)
        assert told == []
        time.sleep(1.0)
    assert len(told) == 1


def test_memory_that_does_not_suffice_names_the_remedy() -> None:
    """Out of memory, on a GPU or not, is a failure whose reason says what to change."""
    import torch

    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()):
        assert "smaller recipe.micro_batch" in reason_of(error)
    assert reason_of(ValueError("m must be 1.")) == "m must be 1."
    assert "smaller recipe.micro_batch" in reason_of_death("Task was killed due to the node running low on memory.")
    assert "worker process died" in reason_of_death("")
    assert "went away" in reason_of_death("The actor is dead because its node has died.")


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "room"),
    [
        ([{"CPU": 2}], 1, 0, 2),
        ([{"CPU": 2}, {"CPU": 3}], 2, 0, 2),
        ([{"CPU": 8, "GPU": 1}], 1, 0.25, 4),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 64}], 1, 0.5, 2),
        ([{"CPU": 1}], 0.1, 0, 10),
        ([{"CPU": 8, "GPU": 2}], 1, 0.6, 2),  # a share is of one GPU
        ([{"CPU": 8, "GPU": 2}], 1, 0.3, 6),
        ([{"CPU": 3, "GPU": 2}], 1, 0.25, 3),  # cores run out first
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 1}, {"CPU": 8}], 1, 2, 2),
        ([{"CPU": 8, "GPU": 1}], 1, 0.1, 8),
    ],
)
def test_room_is_counted_node_by_node(nodes: list[dict[str, float]], cpus: float, gpus: float, room: int) -> None:
    """A trial runs on one node: cores left over on two of them hold none."""
    assert find_room(nodes, cpus=cpus, gpus=gpus) == room


def test_what_no_node_has_fails_in_words() -> None:
    """Two nodes of two cores cannot run a trial of four, though they have four together."""
    with pytest.raises(ValueError, match=r"asks for 4 CPU, but no node .*lower resources\.cpus"):
        find_room([{"CPU": 2}, {"CPU": 2}], cpus=4, gpus=0)
    with pytest.raises(ValueError, match=r"asks for 1 CPU and 1 GPU, but no node"):
        find_room([{"CPU": 2}], cpus=1, gpus=1)
    with pytest.raises(ValueError, match=r"a share of one GPU or a whole number of them, but got 1\.5"):
        find_room([{"CPU": 8, "GPU": 4}], cpus=1, gpus=1.5)
    assert (gpu_share("auto", [{"CPU": 2}]), gpu_share("auto", [{"GPU": 2}]), gpu_share(0.5, [])) == (0, 1, 0.5)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ValueError("m must be 1."), False),
        (MemoryError(), False),
        (RuntimeError("CUDA out of memory"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (OSError("Stale file handle"), True),
    ],
)
def test_what_is_tried_again(error: Exception, again: bool) -> None:
    """An unexpected error is worth another try; a refusal in a sentence and a want of memory are not."""
    assert may_go_away(error) is again
