"""Queries of the results tables for leaderboards, comparisons and studies."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from harness.errors import HarnessError
from harness.plugins import unknown
from harness.stores.database import store_errors
from harness.stores.tables import (
    machine_metrics,
    scores,
    studies,
    study_trials,
    test_clips,
    trials,
)
from harness.trials.axes import AXES
from harness.trials.contract import Measured

NO_CLIP_SCORES = b""  # of a trial that is known by its metrics alone
FEW = 500  # keys up to which a query names them; with more, all rows are read and filtered here
KEYS_A_QUERY = 500  # older SQLite allows 999 variables in a query
KEYS_A_QUERY_OF_A_SERVER = 10_000  # PostgreSQL reads all scores for every query that names hundreds of trials


TEST_COLUMNS = ["clip_id", "dataset", "machine", "section", "domain", "condition"]

# columns of a trial that leaderboards read, besides its scorer and official score; `detail` is left out, since its JSON
# is a hundred times as long as all the rest
LISTED = (
    "id", "key", "kind", *(axis.name for axis in AXES), "seed", "protocol", "train_data", "test_data", "recipe",
    "classes", "singletons", "left_out", "seconds", "peak_mb", "libraries",
)  # fmt: skip
MACHINE_NUMBERS = ("h_mean", "auc", "s_auc", "t_auc", "p_auc")
BETWEEN = "\x1f"  # ASCII's unit separator, which no name has


@dataclass(frozen=True)
class End:
    """How a recorded trial ended.

    Attributes:
        status: "finished", "failed" or "pruned".
        reason: why it has no result; empty where it has one.
        run_id: MLflow's.
        official: of a finished trial, the official score by scorer.
    """

    status: str
    reason: str
    run_id: str
    official: dict[str, float | None]


class Readings:
    """The results tables of one database, as they are read.

    Args:
        uri: the database's address, for sentences.
        engine: of it.
    """

    def __init__(self, uri: str, engine: sa.Engine) -> None:
        self.uri, self.engine = uri, engine

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def finished(self, keys: Iterable[str], *, scorers: Iterable[str] = ()) -> dict[str, str]:
        """Return key -> run id of the trials that are finished and have scores of all these scorers."""
        needed = set(scorers)
        query = sa.select(trials.c.key, trials.c.run_id).where(trials.c.status == "finished")
        if needed:  # a trial has one row for each scorer: count those that are asked for
            query = (
                query.join(scores)
                .where(scores.c.scorer.in_(needed))
                .group_by(trials.c.key, trials.c.run_id)
                .having(sa.func.count() == len(needed))
            )
        return dict(self._of_keys(query, keys))

    def scorers_of(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Return key -> scorers of the trials that are finished."""
        query = sa.select(trials.c.key, scores.c.scorer).join(scores).where(trials.c.status == "finished")
        found: dict[str, list[str]] = {}
        for key, scorer in self._of_keys(query.order_by(scores.c.scorer), keys):
            found.setdefault(key, []).append(scorer)
        return found

    def run_of(self, key: str) -> str | None:
        """Return the run id of one finished trial."""
        rows = self._rows(sa.select(trials.c.run_id).where(trials.c.key == key, trials.c.status == "finished"))
        return rows[0][0] if rows else None

    def rows_of(self, keys: Iterable[str]) -> dict[str, tuple[str, str, str]]:
        """Return key -> (status, run id, origin) of every recorded trial; origin is "" for a run of this MLflow."""
        query = sa.select(trials.c.key, trials.c.status, trials.c.run_id, trials.c.origin)
        return {key: (status, run_id, origin) for key, status, run_id, origin in self._of_keys(query, keys)}

    def holds_clips(self, test_data: str, clips: pd.DataFrame) -> bool:
        """Tell whether these clips, with their conditions, are those recorded under a fingerprint of test recordings.

        Also True if none are recorded under it yet.
        """
        content = self._rows(sa.select(test_clips.c.content).where(test_clips.c.test_data == test_data))
        return not content or clip_cells(unpacked_clips(content[0][0])) == clip_cells(clips.sort_values("clip_id"))

    def ends(self, keys: Iterable[str]) -> dict[str, End]:
        """Return how recorded trials ended, by key."""
        found: dict[str, End] = {}
        # one question: between two another driver may record a trial
        query = sa.select(
            trials.c.key, trials.c.status, trials.c.reason, trials.c.run_id, scores.c.scorer, scores.c.official_score
        ).outerjoin(scores)
        for key, status, reason, run_id, scorer, value in self._of_keys(query, keys):
            end = found.setdefault(key, End(status, reason, run_id or "", {}))
            if scorer is not None:
                end.official[scorer] = value
        return found

    def best_of(self, keys: Iterable[str], scorer: str) -> tuple[str, float] | None:
        """Return key and official score of the best of some trials with pseudo-labels; None where none has a score."""
        query = sa.select(trials.c.key, scores.c.official_score).join(scores).where(
            trials.c.status == "finished", trials.c.kind == "trial", scores.c.scorer == scorer,
            scores.c.official_score.is_not(None),
        )  # fmt: skip
        found = [(str(key), float(score)) for key, score in self._of_keys(query, keys)]
        return min(found, key=lambda each: (-each[1], each[0]), default=None)

    def costs(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return the rows of recorded trials, whatever their end, with `detail` as JSON."""
        return [dict(row._mapping) for row in self._of_keys(sa.select(trials).order_by(trials.c.id), keys)]

    def measured(self, keys: Iterable[str], scorer: str) -> dict[str, Measured]:
        """Return key -> the numbers that a search's goals are computed from, of finished trials."""
        found: dict[str, Measured] = {}
        for part in self._slices(keys):
            among = (self._among(trials.c.key, part), trials.c.status == "finished")
            # read details first: a trial that another driver records meanwhile is then missing, but never incomplete
            details = sa.select(trials.c.key, trials.c.detail, scores.c.official_score).join(scores)
            rows = self._rows(details.where(*among, scores.c.scorer == scorer))
            domains: dict[str, list[tuple[float | None, float | None]]] = {}
            columns = (trials.c.key, machine_metrics.c.s_auc, machine_metrics.c.t_auc)
            query = sa.select(*columns).join(machine_metrics).where(*among, machine_metrics.c.scorer == scorer)
            for key, s_auc, t_auc in self._rows(query):
                domains.setdefault(key, []).append((s_auc, t_auc))
            for key, detail, official in rows:
                content, numbers = json.loads(detail), domains.get(key, [])
                found[key] = Measured(
                    official,
                    [row[0] for row in numbers],
                    [row[1] for row in numbers],
                    content.get("seconds", {}),
                    content.get("peak_mb", {}),
                )
        return found

    def studies(self) -> pd.DataFrame:
        """Return the recorded studies, newest last."""
        return self._frame(sa.select(studies).order_by(studies.c.id))

    def study_keys(self, study_key: str) -> list[str]:
        """Return the keys of a study's trials."""
        query = sa.select(study_trials.c.trial_key).join(studies).where(studies.c.key == study_key)
        return [row[0] for row in self._rows(query)]

    def trial_scores(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return a row for each finished trial and scorer: the trial's columns, `scorer`, `official_score`.

        `detail` is a column for a few named trials only: of a hundred thousand it would fill the memory (`recorded`).
        """
        keys = None if keys is None else set(keys)
        few = keys is not None and len(keys) <= FEW
        query = (
            sa.select(*(each for each in trials.c if few or each is not trials.c.detail))
            .add_columns(scores.c.scorer, scores.c.official_score)
            .join(scores)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, scores.c.scorer)
        )
        return _only(self._frame(_of_keys(query, keys)), "key", keys)

    def recorded(self, keys: Iterable[str]) -> pd.DataFrame:
        """Return the rows of finished trials with these keys, with all their columns."""
        query = sa.select(trials).where(trials.c.status == "finished")
        parts = list(self._slices(keys)) or [[]]
        frames = [self._frame(query.where(self._among(trials.c.key, part))) for part in parts]
        return pd.concat(frames, ignore_index=True)

    def metrics(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row a finished trial, scorer, dataset, machine type and section, with `key`."""
        keys = None if keys is None else set(keys)
        query = (
            sa.select(trials.c.key, machine_metrics)
            .join(machine_metrics)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, machine_metrics.c.scorer, machine_metrics.c.dataset, machine_metrics.c.machine)
        )
        return _only(self._frame(_of_keys(query, keys)), "key", keys)

    def trial_columns(self, study_key: str | None = None) -> dict[str, tuple[Any, ...]]:
        """Return the columns LISTED, `scorer` and `official_score`, with an entry for each finished trial and scorer.

        Args:
            study_key: only this study's trials.
        """
        query = (
            sa.select(*(trials.c[name] for name in LISTED), scores.c.scorer, scores.c.official_score)
            .join(scores)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, scores.c.scorer)
        )
        if study_key is not None:
            query = query.where(trials.c.key.in_(_keys_of(study_key)))
        columns = list(zip(*self._tuples(query), strict=True)) or [()] * (len(LISTED) + 2)
        return dict(zip((*LISTED, "scorer", "official_score"), columns, strict=True))

    def machine_numbers(self, study_key: str | None = None) -> list[tuple[Any, ...]]:
        """Return (trial id, name, *MACHINE_NUMBERS) of every finished trial, scorer, machine type and section.

        The name is scorer, dataset and machine type joined by BETWEEN, since reading one text is three times as fast as
        reading three.

        Args:
            study_key: only this study's trials.
        """
        scorer, dataset, machine = (machine_metrics.c[each] for each in ("scorer", "dataset", "machine"))
        name = scorer + BETWEEN + dataset + BETWEEN + machine
        query = sa.select(machine_metrics.c.trial_id, name, *(machine_metrics.c[each] for each in MACHINE_NUMBERS))
        if study_key is not None:
            query = query.join(trials).where(trials.c.key.in_(_keys_of(study_key)))
        return self._tuples(query)

    def experiment_of(self, run_id: str) -> str | None:
        """Return MLflow's experiment that holds a run; None where MLflow's tables are elsewhere."""
        runs = sa.table("runs", sa.column("run_uuid"), sa.column("experiment_id"))
        if not sa.inspect(self.engine).has_table(runs.name):
            return None
        found = self._rows(sa.select(runs.c.experiment_id).where(runs.c.run_uuid == run_id))
        return str(found[0][0]) if found else None

    def test_set(self, test_data: str) -> pd.DataFrame | None:
        """Return the clips of a fingerprint of test recordings, with TEST_COLUMNS; None where none are recorded."""
        query = sa.select(test_clips.c.content).where(test_clips.c.test_data == test_data)
        return self._test_clips(test_data) if self._rows(query) else None

    def clip_scores(self, keys: Iterable[str], scorer: str) -> dict[str, pd.DataFrame]:
        """Return key -> test clips with their `score`, for finished trials that have this scorer's clip scores."""
        query = (
            sa.select(trials.c.key, trials.c.test_data, scores.c.clip_scores)
            .join(scores)
            .where(scores.c.scorer == scorer, trials.c.status == "finished")
            .where(scores.c.clip_scores != NO_CLIP_SCORES)
        )
        rows = list(self._of_keys(query, keys))
        sets = {name: self._test_clips(name) for name in {row[1] for row in rows}}
        return {key: sets[name].assign(score=_unpacked(packed)) for key, name, packed in rows}

    def _test_clips(self, name: str) -> pd.DataFrame:
        return unpacked_clips(self._rows(sa.select(test_clips.c.content).where(test_clips.c.test_data == name))[0][0])

    def _of_keys(self, query: sa.Select[Any], keys: Iterable[str]) -> Iterator[Any]:
        """Yield a query's rows of these trials, asked for in slices."""
        for some in self._slices(keys):
            yield from self._rows(query.where(self._among(trials.c.key, some)))

    def _among(self, column: sa.Column[str], keys: Sequence[str]) -> sa.ColumnElement[bool]:
        """Return a condition: a value of a column is one of these keys.

        PostgreSQL gets them as one array: ten thousand values of their own take twice as long.
        """
        if self.engine.dialect.name == "postgresql":
            return column == sa.any_(sa.literal(list(keys), postgresql.ARRAY(sa.String)))
        return column.in_(keys)

    def _slices(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Yield different keys, as many at a time as a query should name."""
        most = KEYS_A_QUERY if self.engine.dialect.name == "sqlite" else KEYS_A_QUERY_OF_A_SERVER
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), most):
            yield wanted[start : start + most]

    def _rows(self, query: sa.Select[Any]) -> list[Any]:
        with store_errors(self.uri), self.engine.connect() as connection:
            return list(connection.execute(query).fetchall())

    def _tuples(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """Return rows of numbers and texts as the driver gives them; SQLAlchemy's own rows take twice as long."""
        with store_errors(self.uri), self.engine.connect() as connection:
            return list(connection.execute(query).cursor.fetchall())

    def _frame(self, query: sa.Select[Any]) -> pd.DataFrame:
        with store_errors(self.uri), self.engine.connect() as connection:
            found = connection.execute(query)
            return pd.DataFrame(found.fetchall(), columns=list(found.keys()))


def find_study(results: Readings, study: str) -> dict[str, Any]:
    """Return a recorded study by its name (the newest one) or key.

    Raises:
        HarnessError: no study of that name is recorded.
    """
    recorded = results.studies()
    found = recorded[(recorded["name"] == study) | (recorded["key"] == study)]
    if found.empty:
        raise HarnessError(unknown("recorded study", study, set(recorded["name"])))
    return {str(name): value for name, value in found.iloc[-1].to_dict().items()}


def unpacked_clips(content: bytes) -> pd.DataFrame:
    """Return the clip table that is kept of a test set."""
    return pd.DataFrame(json.loads(zlib.decompress(content)), columns=TEST_COLUMNS)


def clip_cells(clips: pd.DataFrame) -> list[list[Any]]:
    """Return the TEST_COLUMNS of test clips as rows, with None where a value is not known."""
    cells = clips[TEST_COLUMNS].astype(object)
    found: list[list[Any]] = cells.where(cells.notna(), None).to_numpy().tolist()
    return found


def _unpacked(content: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.frombuffer(zlib.decompress(content), dtype="<f8")


def _of_keys(query: sa.Select[Any], keys: set[str] | None) -> sa.Select[Any]:
    """Restrict a query to these trials if they are few; naming thousands would be too long for some databases."""
    return query if keys is None or len(keys) > FEW else query.where(trials.c.key.in_(sorted(keys)))


def _keys_of(study_key: str) -> sa.Select[Any]:
    return sa.select(study_trials.c.trial_key).join(studies).where(studies.c.key == study_key)


def _only(frame: pd.DataFrame, column: str, keys: Iterable[str] | None) -> pd.DataFrame:
    return frame if keys is None else frame[frame[column].isin(set(keys))].reset_index(drop=True)


def clips_digest(clips: pd.DataFrame) -> str:
    """Return a digest of a test set's clips and their conditions."""
    return hashlib.blake2b("\n".join(clips["clip_id"]).encode(), digest_size=16).hexdigest()
