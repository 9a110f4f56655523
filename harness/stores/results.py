"""The results tables: what leaderboards read, beside MLflow's own tables in one database."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.engine import make_url

from harness.credentials import shown
from harness.studies.goals import Measured
from harness.trials.contract import Failure, HarnessError, TrialResult, TrialSpec, machine_name

NO_CLIP_SCORES = b""  # of a trial that is known by its metrics alone
FEW = 500  # trials that a question may name one by one
SQLITE_TIMEOUT_SECONDS = 20  # what MLflow itself waits for a lock
KEYS_A_QUERY = 500  # older SQLite takes 999 variables
CONNECT_SECONDS = 10  # a PostgreSQL server that has not answered by then is not there
CREATION_LOCK = 0x617364  # "asd": the number of our advisory lock in a PostgreSQL database

metadata = sa.MetaData()

studies = sa.Table(
    "asd_studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(32), unique=True, nullable=False),
    sa.Column("name", sa.String(200), nullable=False, index=True),
    sa.Column("protocol", sa.String(200), nullable=False),
    sa.Column("run_id", sa.String(64), index=True),
    sa.Column("planned", sa.Integer, nullable=False, default=0),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)

trials = sa.Table(
    "asd_trials",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(32), unique=True, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("backbone", sa.String(200)),
    sa.Column("m", sa.Integer),
    sa.Column("k1", sa.Integer),
    sa.Column("k2", sa.Integer),
    sa.Column("fusion", sa.String(32), nullable=False),
    sa.Column("labels", sa.String(16), nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("protocol", sa.String(200), nullable=False),
    sa.Column("train_data", sa.String(64), nullable=False),
    sa.Column("test_data", sa.String(64), nullable=False, index=True),
    sa.Column("recipe", sa.String(32), nullable=False),
    sa.Column("run_id", sa.String(64), index=True),
    sa.Column("code", sa.String(64), nullable=False, default=""),
    # where a run taken in from elsewhere is kept; empty for those of this database's own MLflow
    sa.Column("origin", sa.String(500), nullable=False, default="", server_default=""),
    sa.Column("classes", sa.Integer),
    sa.Column("singletons", sa.Integer),
    sa.Column("left_out", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("peak_mb", sa.Float),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
    sa.Column("recorded", sa.DateTime(timezone=True), nullable=False),
)

study_trials = sa.Table(
    "asd_study_trials",
    metadata,
    sa.Column("study_id", sa.ForeignKey(studies.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("trial_key", sa.String(32), primary_key=True, index=True),
)

scores = sa.Table(
    "asd_scores",
    metadata,
    sa.Column("trial_id", sa.ForeignKey(trials.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("scorer", sa.String(64), primary_key=True),
    sa.Column("official_score", sa.Float),
    sa.Column("clip_scores", sa.LargeBinary, nullable=False),
)

machine_metrics = sa.Table(
    "asd_machine_metrics",
    metadata,
    sa.Column("trial_id", sa.ForeignKey(trials.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("scorer", sa.String(64), primary_key=True),
    sa.Column("dataset", sa.String(64), primary_key=True),
    sa.Column("machine", sa.String(64), primary_key=True),
    sa.Column("section", sa.String(16), primary_key=True),
    sa.Column("auc", sa.Float),
    sa.Column("s_auc", sa.Float),
    sa.Column("t_auc", sa.Float),
    sa.Column("p_auc", sa.Float),
    sa.Column("h_mean", sa.Float),
)

test_clips = sa.Table(
    "asd_test_clips",
    metadata,
    sa.Column("test_data", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

TEST_COLUMNS = ["clip_id", "dataset", "machine", "section", "domain", "condition"]

# what leaderboards read of a trial, besides its scorer and official score: not its detail, which is a hundred times
# as long as all the rest
LISTED = (
    "id", "key", "kind", "backbone", "m", "k1", "k2", "fusion", "labels", "seed", "protocol", "train_data", "test_data",
    "recipe", "classes", "singletons", "left_out", "seconds", "peak_mb",
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


class Results:
    """The results tables of one database, which is created and brought up to date when it is opened."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.engine = _engine(uri)
        with _errors(uri), creation_lock(uri):
            metadata.create_all(self.engine)
            _add_new_columns(self.engine)
        self._test_sets: dict[str, str] = {}  # test_data -> digest of its clips, of those met so far

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # --- writing: the driver alone does it, and every write may be repeated

    def put_study(self, key: str, *, name: str, protocol: str, run_id: str, planned: int, content: str) -> None:
        """Record a study, or bring its record up to date."""
        row = {"name": name, "protocol": protocol, "run_id": run_id, "planned": planned, "content": content}
        with _errors(self.uri), self.engine.begin() as connection:
            changed = connection.execute(studies.update().where(studies.c.key == key).values(**row)).rowcount
            if not changed:
                connection.execute(studies.insert().values(key=key, created=_now(), **row))

    def link(self, study_key: str, trial_keys: Iterable[str]) -> None:
        """Say that trials belong to a study; a trial may belong to several."""
        with _errors(self.uri), self.engine.begin() as connection:
            study_id = connection.execute(sa.select(studies.c.id).where(studies.c.key == study_key)).scalar_one()
            there = set(
                connection.scalars(sa.select(study_trials.c.trial_key).where(study_trials.c.study_id == study_id))
            )
            new = [{"study_id": study_id, "trial_key": key} for key in dict.fromkeys(trial_keys) if key not in there]
            if new:
                connection.execute(study_trials.insert(), new)

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

        The same trial again replaces its own row and those of the scorers that it was scored by; rows of others stay,
        since the key says that they are of the same embeddings.

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
            "classes": _total(result.labels, "classes"),
            "singletons": _total(result.labels, "singletons"),
            "left_out": _total(result.labels, "left_out"),
            "seconds": float(sum(result.seconds.values())),
            "peak_mb": max(result.peak_mb.values(), default=None),
            "detail": json.dumps(result_detail(result) if detail is None else dict(detail), sort_keys=True),
            "recorded": recorded or _now(),
        }
        with _errors(self.uri), self.engine.begin() as connection:
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
        with _errors(self.uri), self.engine.begin() as connection:
            before = connection.execute(sa.select(trials.c.status).where(trials.c.key == row["key"])).scalar()
            if before != "finished":
                _replace_trial(connection, row, scorers=())

    def _check_test_clips(self, connection: sa.Connection, name: str, clips: pd.DataFrame) -> None:
        """Demand that a test set's clips are those recorded: scores stand in the order of their ids."""
        if name not in self._test_sets:
            content = connection.execute(sa.select(test_clips.c.content).where(test_clips.c.test_data == name)).scalar()
            self._test_sets[name] = _clips_digest(_unpacked_clips(content or b""))
        if self._test_sets[name] != _clips_digest(clips):
            raise HarnessError(
                f"The test recordings {name} must be the clips that are recorded under that fingerprint, but these are "
                "others; index the recordings again."
            )

    # --- reading

    def finished(self, keys: Iterable[str], *, scorers: Iterable[str] = ()) -> dict[str, str]:
        """Return key -> run id of the trials that are finished, with every one of these scorers."""
        needed = set(scorers)
        query = sa.select(trials.c.key, trials.c.run_id).where(trials.c.status == "finished")
        if needed:  # a trial has a row each scorer, so as many of them as are needed must be there
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
        for some in _slices(keys):
            for key, scorer in self._rows(query.where(trials.c.key.in_(some)).order_by(scores.c.scorer)):
                found.setdefault(key, []).append(scorer)
        return found

    def run_of(self, key: str) -> str | None:
        """Return the run id of one finished trial."""
        rows = self._rows(sa.select(trials.c.run_id).where(trials.c.key == key, trials.c.status == "finished"))
        return rows[0][0] if rows else None

    def failed(self, keys: Iterable[str]) -> dict[str, str]:
        """Return key -> reason of the trials that are recorded as failed."""
        query = sa.select(trials.c.key, trials.c.reason).where(trials.c.status == "failed")
        return dict(self._of_keys(query, keys))

    def official(self, key: str, scorer: str) -> float | None:
        """Return one finished trial's official score."""
        return self.officials([key], scorer).get(key)

    def officials(self, keys: Iterable[str], scorer: str) -> dict[str, float | None]:
        """Return key -> official score of the finished trials that have this scorer."""
        query = (
            sa.select(trials.c.key, scores.c.official_score)
            .join(scores)
            .where(scores.c.scorer == scorer, trials.c.status == "finished")
        )
        return dict(self._of_keys(query, keys))

    def rows_of(self, keys: Iterable[str]) -> dict[str, tuple[str, str, str]]:
        """Return key -> (status, run id, where that run is kept) of every trial that has a row."""
        query = sa.select(trials.c.key, trials.c.status, trials.c.run_id, trials.c.origin)
        return {key: (status, run_id, origin) for key, status, run_id, origin in self._of_keys(query, keys)}

    def holds_clips(self, test_data: str, clips: pd.DataFrame) -> bool:
        """Tell whether clips are those recorded under a fingerprint of test recordings; none recorded yet is yes."""
        content = self._rows(sa.select(test_clips.c.content).where(test_clips.c.test_data == test_data))
        here = _clips_digest(clips.sort_values("clip_id"))
        return not content or _clips_digest(_unpacked_clips(content[0][0])) == here

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

    def costs(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return the rows of recorded trials, whatever their end, with `detail` as JSON."""
        found: list[dict[str, Any]] = []
        for part in _slices(keys):
            query = sa.select(trials).where(trials.c.key.in_(part)).order_by(trials.c.id)
            found += [dict(row._mapping) for row in self._rows(query)]
        return found

    def measured(self, keys: Iterable[str], scorer: str) -> dict[str, Measured]:
        """Return the numbers of finished trials that goals are made of, by key."""
        found: dict[str, Measured] = {}
        for part in _slices(keys):
            among = (trials.c.key.in_(part), trials.c.status == "finished")
            # details first: a trial that another driver records in between is then left out, not taken without numbers
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
        """Return one row a finished trial and scorer: the trial's columns, `scorer`, `official_score`."""
        keys = None if keys is None else set(keys)
        query = (
            sa.select(trials, scores.c.scorer, scores.c.official_score)
            .join(scores)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, scores.c.scorer)
        )
        return _only(self._frame(_of_keys(query, keys)), "key", keys)

    def recorded(self, keys: Iterable[str]) -> pd.DataFrame:
        """Return finished trials' own columns, `detail` with them, for some keys."""
        wanted = list(dict.fromkeys(keys))
        parts = [wanted[start : start + KEYS_A_QUERY] for start in range(0, len(wanted), KEYS_A_QUERY)] or [[]]
        query = sa.select(trials).where(trials.c.status == "finished")
        return pd.concat([self._frame(query.where(trials.c.key.in_(part))) for part in parts], ignore_index=True)

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
        """Return LISTED, `scorer` and `official_score` as columns, a place a finished trial and scorer.

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

        The name is scorer, dataset and machine type, with BETWEEN between them: one text is read three times as fast
        as three.

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
        wanted = set(keys)
        query = (
            sa.select(trials.c.key, trials.c.test_data, scores.c.clip_scores)
            .join(scores)
            .where(scores.c.scorer == scorer, trials.c.key.in_(wanted), trials.c.status == "finished")
            .where(scores.c.clip_scores != NO_CLIP_SCORES)
        )
        rows = self._rows(query)
        sets = {name: self._test_clips(name) for name in {row[1] for row in rows}}
        return {key: sets[name].assign(score=_unpacked(packed)) for key, name, packed in rows}

    def _test_clips(self, name: str) -> pd.DataFrame:
        return _unpacked_clips(self._rows(sa.select(test_clips.c.content).where(test_clips.c.test_data == name))[0][0])

    def _of_keys(self, query: sa.Select[Any], keys: Iterable[str]) -> Iterator[Any]:
        """Yield a query's rows of these trials alone, some hundred keys at a time: SQLite takes no more than 32,766."""
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), KEYS_A_QUERY):
            yield from self._rows(query.where(trials.c.key.in_(wanted[start : start + KEYS_A_QUERY])))

    def _rows(self, query: sa.Select[Any]) -> list[Any]:
        with _errors(self.uri), self.engine.connect() as connection:
            return list(connection.execute(query).fetchall())

    def _tuples(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """Return rows of numbers and texts as the driver gives them; SQLAlchemy's own rows take twice as long."""
        with _errors(self.uri), self.engine.connect() as connection:
            return list(connection.execute(query).cursor.fetchall())

    def _frame(self, query: sa.Select[Any]) -> pd.DataFrame:
        with _errors(self.uri), self.engine.connect() as connection:
            found = connection.execute(query)
            return pd.DataFrame(found.fetchall(), columns=list(found.keys()))


def result_detail(result: TrialResult) -> dict[str, Any]:
    """Return what of a result has no column of its own, ready for JSON."""
    return {
        "seconds": dict(result.seconds),
        "peak_mb": dict(result.peak_mb),
        "labels": [dict(row) for row in result.labels],
        "epochs": [asdict(report) for report in result.epochs],
        "recipe": asdict(result.spec.recipe),
        "reused": list(result.reused),
        "intervals": {scorer: found.content() for scorer, found in result.intervals.items()},
        "thresholds": {scorer: [asdict(each) for each in found] for scorer, found in result.thresholds.items()},
        "undefined": sorted({why for rows in result.metrics.values() for each in rows for why in each.undefined}),
    }


def create_schema(uri: str, schema: str) -> None:
    """Create a schema in a PostgreSQL database unless it is there; any other database has none to create."""
    if not uri.startswith("postgresql"):
        return
    engine = _engine(uri)
    with _errors(uri), engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    engine.dispose()


DATABASE_ERRORS = (sa.exc.SQLAlchemyError,)  # for rooms that know no SQLAlchemy and call what uses it


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Let one process at a time create or migrate a database; eight at once break a fresh SQLite file for good."""
    path = sqlite_path(uri)
    if path is not None:
        with _errors(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_name(f".{path.name}.lock"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    elif uri.startswith("postgresql"):
        engine = _engine(uri)
        try:
            with _errors(uri):  # the lock goes with its connection, so a process that is killed leaves none behind
                connection = engine.connect()
                connection.execute(sa.select(sa.func.pg_advisory_lock(CREATION_LOCK)))
            with connection:
                yield
        finally:
            engine.dispose()
    else:
        yield


def sqlite_path(uri: str) -> Path | None:
    """Return the file behind a SQLite URI; None for any other database."""
    url = make_url(uri) if uri.startswith("sqlite") else None
    return Path(url.database).absolute() if url is not None and url.database else None


def _engine(uri: str) -> sa.Engine:
    path = sqlite_path(uri)
    with _errors(uri):
        if path is None:
            late = {} if "connect_timeout" in uri else {"connect_timeout": CONNECT_SECONDS}
            return sa.create_engine(uri, pool_pre_ping=True, connect_args=late if uri.startswith("postgresql") else {})
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(uri, connect_args={"timeout": SQLITE_TIMEOUT_SECONDS})
    write_ahead(engine)
    return engine


def write_ahead(engine: sa.Engine) -> None:
    """Let an SQLite database write ahead, from its next connection on."""
    sa.event.listen(engine, "connect", _sqlite_pragmas)


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # with the default journal an open reader blocks the writer for 20 s
    # a killed process loses nothing; a power cut can lose the last moments, never tear them, and a study goes on there
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, OSError, ModuleNotFoundError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise HarnessError(
            f"The results database must be one that can be opened and written, but {shown(uri)} answered: "
            f"{cause}; name another one with --db or MLFLOW_TRACKING_URI."
        ) from error


database_errors = _errors  # of harness/studies/claims.py too, which keeps its tables in the same database


def _add_new_columns(engine: sa.Engine) -> None:
    """Add what tables of an earlier version have not; every such column has a default."""
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = sa.schema.CreateColumn(column).compile(engine)
                with engine.begin() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))


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
    cells = clips[TEST_COLUMNS].astype(object).where(clips[TEST_COLUMNS].notna(), None)
    return zlib.compress(json.dumps(cells.to_numpy().tolist()).encode())


def _unpacked_clips(content: bytes) -> pd.DataFrame:
    return pd.DataFrame(json.loads(zlib.decompress(content)), columns=TEST_COLUMNS)


def _clips_digest(clips: pd.DataFrame) -> str:
    return hashlib.blake2b("\n".join(clips["clip_id"]).encode(), digest_size=16).hexdigest()


def _spec_row(spec: TrialSpec) -> dict[str, Any]:
    return {
        "key": spec.key(),
        "kind": spec.kind,
        "backbone": spec.backbone.name if spec.backbone else None,
        "m": spec.m,
        "k1": spec.k1,
        "k2": spec.k2,
        "fusion": spec.fusion,
        "labels": spec.labels,
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


def _unpacked(content: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.frombuffer(zlib.decompress(content), dtype="<f8")


def _of_keys(query: sa.Select[Any], keys: set[str] | None) -> sa.Select[Any]:
    """Ask for a few trials alone; a question that names thousands is too long for some databases."""
    return query if keys is None or len(keys) > FEW else query.where(trials.c.key.in_(sorted(keys)))


def _keys_of(study_key: str) -> sa.Select[Any]:
    return sa.select(study_trials.c.trial_key).join(studies).where(studies.c.key == study_key)


def _slices(keys: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(dict.fromkeys(keys))
    for start in range(0, len(wanted), KEYS_A_QUERY):
        yield wanted[start : start + KEYS_A_QUERY]


def _only(frame: pd.DataFrame, column: str, keys: Iterable[str] | None) -> pd.DataFrame:
    return frame if keys is None else frame[frame[column].isin(set(keys))].reset_index(drop=True)


def _now() -> datetime:
    return datetime.now(UTC)
