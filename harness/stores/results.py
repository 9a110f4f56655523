"""The results tables, written: the database that leaderboards read, usually the same file as MLflow's own tables."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from harness.errors import HarnessError
from harness.stores.database import creation_lock, open_engine, store_errors
from harness.stores.readings import NO_CLIP_SCORES, Readings, clip_cells, clips_digest, unpacked_clips
from harness.stores.tables import (
    add_new_columns,
    machine_metrics,
    metadata,
    scores,
    studies,
    study_trials,
    test_clips,
    trials,
)
from harness.trials.axes import axis_values
from harness.trials.contract import Failure, TrialResult, TrialSpec, machine_name


class Results(Readings):
    """The results tables of one database, which is created and brought up to date when it is opened."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, open_engine(uri))
        with store_errors(uri), creation_lock(uri):
            metadata.create_all(self.engine)
            add_new_columns(self.engine)
        self._test_sets: dict[str, str] = {}  # test_data -> digest of its clips, as far as read

    # Only a study's driver writes, and every write may be repeated without harm.

    def put_study(self, key: str, *, name: str, protocol: str, run_id: str, planned: int, content: str) -> None:
        """Record a study, or bring its record up to date."""
        row = {"name": name, "protocol": protocol, "run_id": run_id, "planned": planned, "content": content}

        def write(connection: sa.Connection) -> None:
            changed = connection.execute(studies.update().where(studies.c.key == key).values(**row)).rowcount
            if not changed:
                connection.execute(studies.insert().values(key=key, created=_now(), **row))

        self._write(write)

    def link(self, study_key: str, trial_keys: Iterable[str]) -> None:
        """Record which trials belong to a study; a trial may belong to several."""

        def write(connection: sa.Connection) -> None:
            study_id = connection.execute(sa.select(studies.c.id).where(studies.c.key == study_key)).scalar_one()
            for some in self._slices(trial_keys):  # all keys of the study would be read again for each of its trials
                known = sa.select(study_trials.c.trial_key).where(
                    study_trials.c.study_id == study_id, self._among(study_trials.c.trial_key, some)
                )
                there = set(connection.scalars(known))
                if new := [{"study_id": study_id, "trial_key": key} for key in some if key not in there]:
                    connection.execute(study_trials.insert(), new)

        self._write(write)

    def put_result(
        self,
        result: TrialResult,
        *,
        run_id: str,
        code: str,
        origin: str = "",
        recorded: datetime | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a finished trial in one transaction.

        If the trial is recorded already, its row and those of the same scorers are replaced. Rows of other scorers
        stay, since an equal key means equal embeddings.

        Args:
            result: of the trial.
            run_id: of MLflow.
            code: revision of the code that ran it.
            origin: where the run is kept, if it is not this database's own MLflow.
            recorded: when; None is now.
            detail: what is kept as JSON; None is what the result has.

        Raises:
            HarnessError: other clips are recorded under this fingerprint of test recordings, or the database fails.
        """
        spec = result.spec
        clips = result.scored.sort_values("clip_id") if len(result.scored) else result.scored
        row = {
            **_spec_row(spec),
            "status": "finished",
            "reason": "",
            "run_id": run_id,
            "code": code,
            "origin": origin,
            "libraries": result.libraries,
            "classes": _total(result.labels, "classes"),
            "singletons": _total(result.labels, "singletons"),
            "left_out": _total(result.labels, "left_out"),
            "seconds": float(sum(result.seconds.values())),
            "peak_mb": max(result.peak_mb.values(), default=None),
            "detail": json.dumps(result_detail(result) if detail is None else dict(detail), sort_keys=True),
            "recorded": recorded or _now(),
        }

        def write(connection: sa.Connection) -> None:
            trial_id = _replace_trial(connection, row, scorers=result.metrics)
            if len(clips):  # numbers taken from a publication have none
                _put_test_clips(connection, spec.test_data, clips)
                self._check_test_clips(connection, spec.test_data, clips)
            for scorer, metrics in result.metrics.items():
                connection.execute(
                    scores.insert().values(
                        trial_id=trial_id,
                        scorer=scorer,
                        official_score=result.official[scorer],
                        clip_scores=_packed(clips[f"score_{scorer}"]) if len(clips) else NO_CLIP_SCORES,
                    )
                )
                connection.execute(
                    machine_metrics.insert(),
                    [
                        {
                            "trial_id": trial_id,
                            "scorer": scorer,
                            **{name: value for name, value in asdict(each).items() if name in machine_metrics.c},
                            "h_mean": result.machines[scorer].get(machine_name(spec, each.dataset, each.machine)),
                        }
                        for each in metrics
                    ],
                )

        self._write(write)

    def put_failure(
        self,
        spec: TrialSpec,
        failure: Failure,
        *,
        run_id: str,
        code: str,
        status: str = "failed",
        origin: str = "",
        recorded: datetime | None = None,
    ) -> None:
        """Record a trial that failed or was pruned; a finished one is never overwritten by either."""
        row = {
            **_spec_row(spec),
            "status": status,
            "reason": failure.reason,
            "run_id": run_id,
            "code": code,
            "origin": origin,
            "detail": "{}",
            "recorded": recorded or _now(),
        }

        def write(connection: sa.Connection) -> None:
            before = connection.execute(sa.select(trials.c.status).where(trials.c.key == row["key"])).scalar()
            if before != "finished":
                _replace_trial(connection, row, scorers=())

        self._write(write)

    def _write(self, work: Callable[[sa.Connection], None]) -> None:
        """Write in one transaction, and try once more if another process was faster.

        If two processes record the same trial, study or test set at the same time, both find no row and insert one. The
        database refuses the second, whose retry finds the row and replaces it.
        """
        with store_errors(self.uri):
            try:
                with self.engine.begin() as connection:
                    work(connection)
            except sa.exc.IntegrityError:
                with self.engine.begin() as connection:
                    work(connection)

    def _check_test_clips(self, connection: sa.Connection, name: str, clips: pd.DataFrame) -> None:
        """Check that a test set's clips are the recorded ones, since scores are stored in the order of their ids."""
        if name not in self._test_sets:
            content = connection.execute(sa.select(test_clips.c.content).where(test_clips.c.test_data == name)).scalar()
            self._test_sets[name] = clips_digest(unpacked_clips(content or b""))
        if self._test_sets[name] != clips_digest(clips):
            raise HarnessError(
                f"The test recordings {name} must be the clips that are recorded under that fingerprint, but these are "
                "others; index the recordings again."
            )


def result_detail(result: TrialResult) -> dict[str, Any]:
    """Return the parts of a result that have no column of their own, ready for JSON."""
    return {
        "seconds": dict(result.seconds),
        "peak_mb": dict(result.peak_mb),
        "labels": [dict(row) for row in result.labels],
        "epochs": [asdict(report) for report in result.epochs],
        "recipe": asdict(result.spec.recipe),
        "labeling": {"min_confidence": result.spec.min_confidence, "below": result.spec.below},
        "reused": list(result.reused),
        "libraries": result.libraries,
        "intervals": {scorer: found.content() for scorer, found in result.intervals.items()},
        "thresholds": {scorer: [asdict(each) for each in found] for scorer, found in result.thresholds.items()},
        "undefined": sorted({why for rows in result.metrics.values() for each in rows for why in each.undefined}),
    }


def _replace_trial(connection: sa.Connection, row: Mapping[str, Any], *, scorers: Iterable[str]) -> int:
    trial_id = connection.execute(sa.select(trials.c.id).where(trials.c.key == row["key"])).scalar()
    if trial_id is None:
        inserted = connection.execute(trials.insert().values(**row))
        return int(inserted.inserted_primary_key[0]) if inserted.inserted_primary_key else 0
    connection.execute(trials.update().where(trials.c.id == trial_id).values(**row))
    for table in (scores, machine_metrics):
        connection.execute(table.delete().where(table.c.trial_id == trial_id, table.c.scorer.in_(list(scorers))))
    return int(trial_id)


def _put_test_clips(connection: sa.Connection, name: str, clips: pd.DataFrame) -> None:
    known = connection.execute(sa.select(test_clips.c.test_data).where(test_clips.c.test_data == name)).scalar()
    if known is None:
        connection.execute(test_clips.insert().values(test_data=name, content=_packed_clips(clips)))


def _packed_clips(clips: pd.DataFrame) -> bytes:
    return zlib.compress(json.dumps(clip_cells(clips)).encode())


def _spec_row(spec: TrialSpec) -> dict[str, Any]:
    return {
        "key": spec.key(),
        "kind": spec.kind,
        **axis_values(spec),
        "seed": spec.seed,
        "protocol": spec.protocol.name,
        "train_data": spec.train_data,
        "test_data": spec.test_data,
        "recipe": spec.recipe_key(),
    }


def _total(labels: Iterable[Mapping[str, Any]], name: str) -> int | None:
    values = [int(row[name]) for row in labels]
    return sum(values) if values else None


def _packed(values: pd.Series[Any]) -> bytes:
    return zlib.compress(np.asarray(values, dtype="<f8").tobytes())


def _now() -> datetime:
    return datetime.now(UTC)
