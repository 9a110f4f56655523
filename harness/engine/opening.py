"""Opening what a study needs and closing it, side by side: Ray waits for its processes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.places import Places
from harness.stores.results import Results
from harness.studies.plan import Plan, planned_trials
from harness.trials.recordings import Recordings

if TYPE_CHECKING:
    from harness.stores.recorder import Recorder


@dataclass(frozen=True)
class Opened:
    """What a study needs while it runs.

    Attributes:
        recorder: where results go.
        leave_ray: to be called once no trial is left: Ray stops while the study's pictures are drawn.
    """

    recorder: Recorder
    leave_ray: Callable[[], None]


@contextmanager
def opened(
    plan: Plan, recordings: Recordings, places: Places, *, code: str, address: str | None = None
) -> Iterator[Opened]:
    """Open a study's stores and, if trials are left to run, Ray beside them.

    Args:
        plan: of the study.
        recordings: prepared for the plan's protocol.
        places: of the stores.
        code: revision of the code.
        address: of a Ray cluster to join; None starts Ray on this machine.

    Raises:
        HarnessError: a store or the cluster does not answer.
    """
    results = Results(places.results)  # first: it also tells whether the database can be written
    try:
        with ThreadPoolExecutor(1) as beside, ExitStack() as ray:
            recorder = beside.submit(_make_recorder, results, places, code)
            if _something_is_left(plan, recordings, results):
                from harness.engine.cluster import ray_cluster  # noqa: PLC0415 - a study that is done needs no Ray

                ray.enter_context(ray_cluster(address))
            leaving: list[Future[None]] = []
            yield Opened(recorder.result(), lambda: leaving.append(beside.submit(ray.pop_all().close)))
            for each in leaving:
                each.result()
    finally:
        results.close()


def _make_recorder(results: Results, places: Places, code: str) -> Recorder:
    from harness.stores.recorder import Recorder  # noqa: PLC0415 - importing MLflow is half of the work
    from harness.stores.tracker import Tracker  # noqa: PLC0415

    tracker = Tracker(places.tracking, code=code)
    import harness.engine.tune  # noqa: F401, PLC0415 - and so is importing Optuna and Ray Tune

    return Recorder(tracker, results)


def _something_is_left(plan: Plan, recordings: Recordings, results: Results) -> bool:
    data = {
        "train_data": recordings.train_data, "test_data": recordings.test_data, "truth_data": recordings.truth_data,
    }  # fmt: skip
    specs = {spec.key(): spec for spec in plan.specs(**data)}
    begun = results.study_keys(plan.key(**data))
    return len(results.ends(begun)) < planned_trials(plan, specs)
