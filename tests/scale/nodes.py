"""A study of trials that wait, on a Ray cluster: `python -m tests.scale.nodes FOLDER ADDRESS WORKERS TRIALS`.

Prints a line of JSON: trials a second of the second half, when all workers have begun, and what the driver did.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.engine import tune
from harness.studies.plan import make_plan
from harness.studies.study_file import StudyFile
from tests.harness.made_up import make_result
from tests.harness.quick_trials import answer_as_told
from tests.speed.test_overhead_speed import DATA, places_in, run

WAIT_SECONDS = 5.0  # of a trial, which sleeps: two cores cannot compute for sixteen workers
CELLS = 10  # of the study, each with as many seeds as give the trials


class Watched(tune.CellSearcher):
    """Keeps the time that the driver spends on choosing and recording trials."""

    seconds = 0.0

    def suggest(self, trial_id: str) -> Any:
        """As it is, timed."""
        began = time.perf_counter()
        try:
            return super().suggest(trial_id)
        finally:
            Watched.seconds += time.perf_counter() - began

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """As it is, timed."""
        began = time.perf_counter()
        super().on_trial_complete(trial_id, result, error)
        Watched.seconds += time.perf_counter() - began


def measure(folder: Path, address: str, workers: int, trials: int) -> dict[str, float]:
    """Run a study in a cluster and return what it cost."""
    os.environ["ASDBENCH_CACHE"] = str(folder / "cache")
    file = {
        "name": "nodes", "protocol": "dcase2023", "seeds": list(range(trials // CELLS)), "frozen": False,
        "level": False, "space": {"backbone": ["tiny"], "m": list(range(1, CELLS + 1))},
    }  # fmt: skip
    plan = make_plan(StudyFile.model_validate(file))
    specs = list(plan.specs(**DATA))
    results, begun = dict.fromkeys((spec.key() for spec in specs), make_result(specs[0])), folder / "begun"
    seen, ended = Counter[str](), list[float]()
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda *_: seen.update(["statements"]))
    sa.event.listen(sa.Engine, "commit", lambda *_: seen.update(["commits"]))
    tune.CellSearcher = Watched  # type: ignore[misc]
    began = time.perf_counter()
    outcome = run(
        plan, places_in(folder), workers=workers, address=address,
        trial=partial(answer_as_told, results=results, seconds=WAIT_SECONDS, begun=begun),
        listen=lambda _progress: ended.append(time.perf_counter()),
    )  # fmt: skip
    assert outcome.progress.finished == trials, outcome
    between = ended[-1] - ended[-trials // 2]
    return {
        "workers": workers, "processes": len(set(begun.read_text().split())), "trials": trials, "wait": WAIT_SECONDS,
        "seconds": time.perf_counter() - began, "first_answer": ended[-trials] - began,
        "trials_a_second": (trials // 2 - 1) / between, "driver_seconds_a_trial": Watched.seconds / trials,
        **{name: count / trials for name, count in seen.items()},
    }  # fmt: skip


if __name__ == "__main__":
    place, cluster, at_once, number = sys.argv[1:]
    print(json.dumps(measure(Path(place), cluster, int(at_once), int(number))))  # noqa: T201 - read by the test
