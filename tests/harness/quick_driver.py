"""A driver of a quick study, for tests that kill it: real stores, made-up trials."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.engine import tune as study
from harness.engine.messages import ANSWER
from harness.places import find_places
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.stores.tracker import Tracker
from harness.studies.journal import Journal
from harness.studies.plan import Plan, make_plan
from harness.studies.study_file import StudyFile
from harness.trials.contract import TrialResult, TrialSpec
from tests.harness.made_up import make_result
from tests.harness.quick_trials import answer_as_told

DATA = {"train_data": "aaaa", "test_data": "bbbb"}
POINTS: dict[str, tuple[type, str]] = {
    "start": (Tracker, "start_trial"),
    "artifacts": (Tracker, "log_result"),
    "tables": (Results, "put_result"),
    "close": (Tracker, "finish"),
    "tell": (Journal, "tell"),
}


def quick_plan() -> Plan:
    """A study of 21 cells, whose lost tries are made again often enough for any test."""
    return make_plan(
        StudyFile.model_validate(
            {
                "name": "quick", "protocol": "dcase2023", "seeds": list(range(7)), "frozen": False, "level": False,
                "space": {"backbone": ["tiny"], "m": [1, 3, 5]}, "resources": {"retries": 30},
            }
        )
    )  # fmt: skip


def quick_specs() -> dict[str, TrialSpec]:
    """The cells by key."""
    return {spec.key(): spec for spec in quick_plan().specs(**DATA)}


def quick_result(spec: TrialSpec) -> TrialResult:
    """A trial's numbers: made up, and the same whenever and wherever it runs."""
    return make_result(spec, shift=float(spec.m or 1))


def in_this_process(first: Any, *_: object, **__: object) -> None:
    """Run what the searcher suggests here, one after another, without Ray."""
    searcher = first if isinstance(first, study.CellSearcher) else study.CellSearcher(first)
    specs, number = quick_specs(), 0
    while (cell := searcher.suggest(f"trial-{number}")) != study.Searcher.FINISHED:
        if isinstance(cell, dict):
            answer = {ANSWER: quick_result(specs[cell["key"]])}
            searcher.hear(f"trial-{number}", answer)
            searcher.on_trial_complete(f"trial-{number}", answer)
            number += 1
        else:
            time.sleep(0.05)  # other drivers are at the last cells


def die_at(point: str) -> None:
    """Make this process kill itself with SIGKILL just before or after its third write of one kind."""
    when, name = point.split("-")
    owner, method = POINTS[name]
    write: Callable[..., Any] = getattr(owner, method)
    written = []

    @wraps(write)
    def deadly(*arguments: Any, **options: Any) -> Any:
        written.append(1)
        if when == "before" and len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        found = write(*arguments, **options)
        if when == "after" and len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, method, deadly)


def drive(tracking: str, folder: Path, log: Path, *, alone: bool, seconds: float, die: str | None) -> None:
    """Run the study to its end in a folder, as the leader of a process group.

    Args:
        tracking: where MLflow's runs and the results go.
        folder: current folder; the sign of trials that began is left there.
        log: file that takes what the driver says.
        alone: trials run in this process, without Ray.
        seconds: that a trial takes.
        die: kill this process at such a point.
    """
    os.setsid()
    os.chdir(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"ASDBENCH_CACHE": str(log.parent / "cache")}
    tempfile.tempdir = str(folder)
    places = find_places(tracking=tracking)
    trial = None
    if alone:
        study._run = in_this_process
    else:
        results = {key: quick_result(spec) for key, spec in quick_specs().items()}
        trial = partial(answer_as_told, results=results, seconds=seconds, begun=folder / "begun.txt")
    if die:
        die_at(die)
    recordings: Any = SimpleNamespace(
        **DATA, truth_data="", place=places.cache, skipped=0, packed=SimpleNamespace(heard=True)
    )
    tables = Results(places.results)
    recorder = Recorder(Tracker(places.tracking, code="test"), tables)
    study.run_study(quick_plan(), recordings, recorder, places, workers=2, trial=trial)
    tables.close()
