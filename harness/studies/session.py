"""One run of a study by one driver: what is opened before the first cell and closed after the last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from harness.errors import HarnessError
from harness.interrupts import opened
from harness.places import Places
from harness.stores.claims import Claims
from harness.stores.kept.keeper import ALL, Keeper
from harness.stores.recorder import Recorder
from harness.studies.cells import Cells
from harness.studies.journal import Journal
from harness.studies.plan import Plan, planned_keys, planned_trials
from harness.studies.progress import Event, Outcome, Progress
from harness.trials.recordings import Recordings


@dataclass(frozen=True)
class Session:
    """A study that this driver runs.

    Attributes:
        key: the study's identity.
        run_id: its MLflow run.
        cells: to be run.
    """

    key: str
    run_id: str
    cells: Cells

    def outcome(self) -> Outcome:
        """Say how the study ended."""
        cells = self.cells
        front = cells.journal.front() if len(cells.plan.file.sampler.goals) > 1 else []
        return Outcome(self.key, self.run_id, cells.progress, dict(cells.failures), cells.unfinished, front)


@contextmanager
def study_session(
    plan: Plan,
    recordings: Recordings,
    recorder: Recorder,
    places: Places,
    *,
    listen: Event = lambda _progress: None,
    retry_failed: bool = False,
) -> Iterator[Session]:
    """Open a study in every store; at the end release the cells that are still running and close its MLflow run.

    Args:
        plan: what to run.
        recordings: prepared for the plan's protocol.
        recorder: where results go.
        places: of Optuna's study.
        listen: told when the study begins and after each trial.
        retry_failed: take up again what is recorded as failed.

    Raises:
        HarnessError: a store does not answer.
    """
    data = {"train_data": recordings.train_data, "test_data": recordings.test_data}
    # a trial that runs again also gets the scorers it was recorded with, since its new run replaces the old one
    named = recorder.with_recorded_scorers(
        plan.specs(**data, truth_data=recordings.truth_data, heard=recordings.packed.heard)
    )
    specs = {spec.key(): spec for spec in named}
    key, name = plan.key(**data, truth_data=recordings.truth_data), plan.file.name
    content = json.dumps(
        {**_resolved(plan), **data, "skipped_files": recordings.skipped}, indent=1, sort_keys=True, default=str
    )
    progress = Progress(planned=planned_trials(plan, specs))
    cells: Cells | None = None
    status = "KILLED"
    put_study = partial(
        recorder.put_study, key, name=name, protocol=plan.protocol.name, planned=progress.planned, content=content
    )

    def begin() -> str:
        return recorder.tracker.start_study(
            key, name, tags={"asd.study": name, **{f"asd.{what}": value for what, value in data.items()}},
            params={"protocol": plan.protocol.name, "sampler": plan.file.sampler.name, "seeds": plan.file.seeds},
        )  # fmt: skip

    def end(run_id: str) -> None:
        with suppress(HarnessError):
            with suppress(HarnessError):
                if cells is not None:
                    cells.abandon("the study was stopped")
                    recorder.tracker.log_study(run_id, _study_numbers(progress))
                    put_study(run_id=run_id, trials=recorder.results.study_keys(key))  # a search adds its own
            recorder.tracker.finish(run_id, status)

    with Claims(recorder.results) as claims, ExitStack() as open_study:
        with claims.alone(f"open {key}"):  # two drivers at once would each make a parent run
            run_id = open_study.enter_context(opened(begin, end))
            put_study(run_id=run_id, trials=planned_keys(plan, specs))
            journal = Journal(places.optuna, f"{name}-{key}", plan=plan, specs=specs)
        keeper = None if plan.file.keep == "none" else Keeper(
            recorder.tracker.kept_models, recorder.results, places.cache,
            owner=key if plan.file.keep == "best" else ALL, scorer=plan.file.scorers[0],
            keys=lambda: recorder.results.study_keys(key),
            running=lambda keys: [each for each, claim in claims.living(keys).items() if claim.owner != claims.owner],
        )  # fmt: skip
        cells = Cells(
            journal, claims, recorder, plan=plan, specs=specs, study_key=key, parent=run_id, progress=progress,
            listen=listen, retry_failed=retry_failed, keeper=keeper,
        )  # fmt: skip
        if keeper is not None:
            keeper.tidy()  # after a driver that was killed before it could
        listen(progress)  # whoever shows it learns what was taken over, and sees trials begin
        with recorder.tracker.system_metrics(run_id):
            yield Session(key, run_id, cells)
        status = "FINISHED"


def _resolved(plan: Plan) -> dict[str, Any]:
    return {
        **plan.file.model_dump(),
        "protocol": asdict(plan.protocol),
        "backbones": {name: asdict(choice) for name, choice in plan.backbones.items()},
        "recipe": asdict(plan.recipe),
    }


def _study_numbers(progress: Progress) -> dict[str, float]:
    numbers = {
        "trials/finished": float(progress.finished),
        "trials/failed": float(progress.failed),
        "trials/pruned": float(progress.pruned),
        "trials/planned": float(progress.planned),
    }
    return numbers if progress.best is None else {**numbers, "best_official_score": progress.best[0]}
