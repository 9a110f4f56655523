"""The results tables rebuilt from MLflow's runs, this database's own or another's."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.credentials import shown
from harness.errors import HarnessError
from harness.places import Places, find_places
from harness.stores.history import History, PastRun
from harness.stores.records import CELLS_FILE, SCORES_FILE, STUDY_FILE, TRIAL_FILE, Name, Record, Text, read_record
from harness.stores.results import Results
from harness.trials.measures import scorer_intervals

Told = Callable[[str, int, int], None]
OTHERS = ("study", "pretrain")  # kinds of runs that are no trials
ENDED_BADLY = ("FAILED", "PRUNED")
KEY = re.compile(r"[0-9a-f]{16}")


@dataclass
class Synced:
    """What a synchronisation did.

    Attributes:
        taken: trials whose rows were written.
        there: trials whose rows were there already.
        unfinished: runs that are still open or were killed, and so have no result.
        studies: studies that were written.
        refused: runs that are not what they should be: (run id, name, reason).
    """

    taken: int = 0
    there: int = 0
    unfinished: int = 0
    studies: int = 0
    refused: list[tuple[str, str, str]] = field(default_factory=list)


def sync(
    source: str | None = None,
    *,
    rewrite: bool = False,
    places: Places | None = None,
    told: Told = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """Write rows of the results tables from MLflow's runs; rows that are there already stay.

    Args:
        source: another database or tracking server whose trials are taken over; None is this database's own MLflow. The
            runs themselves are not copied: the column `origin` says where they are.
        rewrite: replace rows that are there, too. Rows of trials that ran here are replaced only from this database's
            own runs.
        places: of the stores.
        told: progress.

    Returns:
        `from`, the counts `taken`, `there`, `unfinished`, `studies`, `refused`, and `rows` with `run_id`, `name` and
        `reason` of each run that was refused.

    Raises:
        HarnessError: a store cannot be opened, or fails on the way.
    """
    places = places or find_places()
    if source is not None:
        source = find_places(tracking=source).tracking
    origin = "" if source in (None, places.tracking) else shown(source or "")
    history = History(source or places.tracking)
    results = Results(places.results)
    try:
        found = synchronise(history, results, origin=origin, rewrite=rewrite, told=told)
    finally:
        results.close()
    return {
        "from": shown(source or places.tracking),
        "taken": found.taken,
        "there": found.there,
        "unfinished": found.unfinished,
        "studies": found.studies,
        "refused": len(found.refused),
        "rows": [{"run_id": run_id, "name": name, "reason": reason} for run_id, name, reason in found.refused],
    }


def synchronise(
    history: History,
    results: Results,
    *,
    origin: str = "",
    rewrite: bool = False,
    told: Told = lambda _what, _done, _all: None,
) -> Synced:
    """Write rows for every run that has ended, oldest first. A malformed run is skipped and listed as refused.

    Args:
        history: the runs to read.
        results: the tables to write.
        origin: address of the store that the runs come from; empty for this database's own MLflow.
        rewrite: replace rows that are there, too.
        told: progress.
    """
    runs, synced = history.runs(), Synced()
    trials = [run for run in runs if run.kind not in OTHERS]
    known = results.rows_of({run.key for run in trials})
    replaced = {run.run_id for run in trials if run.binned}
    places = {run.run_id: place for place, run in enumerate(trials)}
    for done, run in enumerate(trials, start=1):
        status, run_id, kept = known.get(run.key, ("", "", origin))
        # A recorded end stays, except a failure that an older run left: a later run of the trial may have finished. A
        # row from a run in MLflow's bin is written again: an earlier sync stopped before it read the run that replaced
        # it.
        later = places.get(run_id, len(trials)) >= done - 1
        stands = status == "finished" or (status in ("failed", "pruned") and run.status in ENDED_BADLY and later)
        if run.status not in ("FINISHED", *ENDED_BADLY) or (run.binned and run.status in ENDED_BADLY):
            synced.unfinished += not run.binned
        elif stands and run_id not in replaced and not (rewrite and kept == origin):
            synced.there += not run.binned
        else:
            _take(run, history, results, origin=origin, synced=synced)
        told("reading runs", done, len(trials))
    for run in runs:
        if run.kind == "study" and not run.binned:
            begun = [each.key for each in trials if each.parent == run.run_id and KEY.fullmatch(each.key)]
            _take_study(run, history, results, begun=begun, own=not origin, synced=synced)
    return synced


def _take(run: PastRun, history: History, results: Results, *, origin: str, synced: Synced) -> None:
    try:
        record = _read(run, history)
    except HarnessError as error:
        if not run.binned:  # a binned run's artifacts may have been deleted
            synced.refused.append((run.run_id, run.name, str(error)))
        return
    about: dict[str, Any] = {"run_id": run.run_id, "code": run.code, "origin": origin, "recorded": run.ended}
    if record.result is None:
        if record.failure is not None:
            status = "pruned" if run.status == "PRUNED" else "failed"
            results.put_failure(record.spec, record.failure, status=status, **about)
    elif not results.holds_clips(record.spec.test_data, record.result.scored):
        reason = "clip_scores.parquet must score the clips that are known under its fingerprint, but scores others."
        synced.refused.append((run.run_id, run.name, reason))
        return
    else:
        results.put_result(record.result, detail=_measured(record) if origin else record.detail, **about)
    synced.taken += not run.binned


def _measured(record: Record) -> dict[str, Any]:
    """Return the detail of a trial from another store, with its intervals computed again from its clip scores.

    The recorded ones are neither trusted nor compared, since another version may have drawn other resamples.
    """
    result = record.result
    found = scorer_intervals(result.scored, list(result.metrics)) if result is not None and len(result.scored) else {}
    return {**record.detail, "intervals": {scorer: each.content() for scorer, each in found.items()}}


def _read(run: PastRun, history: History) -> Record:
    if run.wrong:
        raise HarnessError(run.wrong)
    with tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
        history.fetch(run.run_id, (TRIAL_FILE, SCORES_FILE), Path(folder))
        record = read_record(Path(folder), key=run.key)
    if (record.result is not None) != (run.status == "FINISHED"):
        raise HarnessError(f"A run that is {run.status} must have such a record, but has another.")
    return record


class _Cells(BaseModel):
    """The file in a study's run that lists its trials."""

    model_config = ConfigDict(strict=True)

    key: Name
    name: Text
    protocol: Text
    planned: int = Field(ge=0)
    trials: list[Name]


def _take_study(
    run: PastRun, history: History, results: Results, *, begun: list[str], own: bool, synced: Synced
) -> None:
    """Record a study, if it is not recorded yet or ran on this database, and which trials belong to it.

    Args:
        run: the study's.
        history: reads the run's artifacts.
        results: the tables to write.
        begun: keys of trials that it began. Those of a search are not in its plan.
        own: whether the run is in this database's own MLflow.
        synced: its counts are updated.
    """
    with tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
        try:
            history.fetch(run.run_id, (STUDY_FILE, CELLS_FILE), Path(folder))
            cells = _Cells.model_validate_json((Path(folder) / CELLS_FILE).read_bytes())
            content = (Path(folder) / STUDY_FILE).read_text()
            if cells.key != run.key or not isinstance(json.loads(content), dict):
                raise HarnessError(f"{STUDY_FILE} must be the study {run.key}, but is another.")
        except (HarnessError, ValidationError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            synced.refused.append((run.run_id, run.name, f"its {CELLS_FILE} cannot be used: {reason}"))
            return
    if own or cells.key not in set(results.studies()["key"]):
        results.put_study(
            cells.key,
            name=cells.name,
            protocol=cells.protocol,
            run_id=run.run_id,
            planned=cells.planned,
            content=content,
        )
        synced.studies += 1
    results.link(cells.key, [*cells.trials, *begun])
