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
        unfinished: runs that are under way, or were given up, and so have nothing to take.
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
    """Write the results tables from MLflow's runs; what is there already stays.

    Args:
        source: another database or tracking server whose trials are taken in; None is this database's own MLflow. Its
            runs stay where they are: the tables say where that is.
        rewrite: write rows that are there, too; of a trial that this database ran itself, from its own runs alone.
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
    """Write rows for every run that has ended, oldest first; a malformed one is refused and the others go on.

    Args:
        history: whose runs.
        results: where the rows go.
        origin: what the rows say about where their run is kept; empty for this database's own MLflow.
        rewrite: write rows that are there, too.
        told: progress.
    """
    runs, synced = history.runs(), Synced()
    trials = [run for run in runs if run.kind not in OTHERS]
    known = results.rows_of({run.key for run in trials})
    replaced = {run.run_id for run in trials if run.binned}
    places = {run.run_id: place for place, run in enumerate(trials)}
    for done, run in enumerate(trials, start=1):
        status, run_id, kept = known.get(run.key, ("", "", origin))
        # a trial that failed here may have finished there; a replaced run's row is half a synchronisation's
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
        if not run.binned:  # the bin may have been emptied
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
    """Return the detail of another's trial with intervals that are drawn here, since nobody else's are taken on trust.

    They are not compared: another version may draw other resamples.
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
    """What a study's run says about which trials are its own."""

    model_config = ConfigDict(strict=True)

    key: Name
    name: Text
    protocol: Text
    planned: int = Field(ge=0)
    trials: list[Name]


def _take_study(
    run: PastRun, history: History, results: Results, *, begun: list[str], own: bool, synced: Synced
) -> None:
    """Write a study that is not there, or that is this database's own, and which trials belong to it.

    Args:
        run: the study's.
        history: whose runs.
        results: where the rows go.
        begun: keys of trials that it began; a search plans none of them.
        own: whether the run is this database's own.
        synced: is brought up to date.
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
