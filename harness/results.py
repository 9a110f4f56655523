"""The results tables: what leaderboards read, beside MLflow's own tables in one database."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.engine import make_url

from harness.contract import Failure, HarnessError, TrialResult, TrialSpec

SQLITE_TIMEOUT_SECONDS = 20  # what MLflow itself waits for a lock

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


class Results:
    """The results tables of one database, which is created and brought up to date when it is opened."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.engine = _engine(uri)
        with _errors(uri), creation_lock(uri):
            metadata.create_all(self.engine)

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

    def put_result(self, result: TrialResult, *, run_id: str, code: str) -> None:
        """Record a finished trial in one transaction; the same trial again replaces its own rows."""
        spec = result.spec
        clips = result.scored.sort_values("clip_id")
        row = {
            **_spec_row(spec),
            "status": "finished",
            "reason": "",
            "run_id": run_id,
            "code": code,
            "classes": _total(result.labels, "classes"),
            "singletons": _total(result.labels, "singletons"),
            "left_out": _total(result.labels, "left_out"),
            "seconds": float(sum(result.seconds.values())),
            "peak_mb": max(result.peak_mb.values(), default=None),
            "detail": json.dumps(result_detail(result), sort_keys=True),
            "recorded": _now(),
        }
        with _errors(self.uri), self.engine.begin() as connection:
            trial_id = _replace_trial(connection, row)
            _put_test_clips(connection, spec.test_data, clips)
            for scorer, metrics in result.metrics.items():
                connection.execute(
                    scores.insert().values(
                        trial_id=trial_id,
                        scorer=scorer,
                        official_score=result.official[scorer],
                        clip_scores=_packed(clips[f"score_{scorer}"]),
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

    def put_failure(self, spec: TrialSpec, failure: Failure, *, run_id: str, code: str) -> None:
        """Record a trial that failed; a finished one is never overwritten by a failure."""
        row = {
            **_spec_row(spec),
            "status": "failed",
            "reason": failure.reason,
            "run_id": run_id,
            "code": code,
            "detail": "{}",
            "recorded": _now(),
        }
        with _errors(self.uri), self.engine.begin() as connection:
            status = connection.execute(sa.select(trials.c.status).where(trials.c.key == row["key"])).scalar()
            if status != "finished":
                _replace_trial(connection, row)

    # --- reading

    def finished(self, keys: Iterable[str], *, scorers: Iterable[str] = ()) -> dict[str, str]:
        """Return key -> run id of the trials that are finished, with every one of these scorers."""
        wanted, needed = set(keys), set(scorers)
        query = (
            sa.select(trials.c.key, trials.c.run_id, scores.c.scorer).join(scores).where(trials.c.status == "finished")
        )
        have: dict[str, tuple[str, set[str]]] = {}
        for key, run_id, scorer in self._rows(query):
            if key in wanted:
                have.setdefault(key, (run_id, set()))[1].add(scorer)
        return {key: run_id for key, (run_id, there) in have.items() if needed <= there}

    def run_of(self, key: str) -> str | None:
        """Return the run id of one finished trial."""
        rows = self._rows(sa.select(trials.c.run_id).where(trials.c.key == key, trials.c.status == "finished"))
        return rows[0][0] if rows else None

    def failed(self, keys: Iterable[str]) -> dict[str, str]:
        """Return key -> reason of the trials that are recorded as failed."""
        wanted = set(keys)
        query = sa.select(trials.c.key, trials.c.reason).where(trials.c.status == "failed")
        return {key: reason for key, reason in self._rows(query) if key in wanted}

    def official(self, key: str, scorer: str) -> float | None:
        """Return one finished trial's official score."""
        query = (
            sa.select(scores.c.official_score)
            .join(trials)
            .where(trials.c.key == key, scores.c.scorer == scorer, trials.c.status == "finished")
        )
        rows = self._rows(query)
        return rows[0][0] if rows else None

    def studies(self) -> pd.DataFrame:
        """Return the recorded studies, newest last."""
        return self._frame(sa.select(studies).order_by(studies.c.id))

    def study_keys(self, study_key: str) -> list[str]:
        """Return the keys of a study's trials."""
        query = sa.select(study_trials.c.trial_key).join(studies).where(studies.c.key == study_key)
        return [row[0] for row in self._rows(query)]

    def trial_scores(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row a finished trial and scorer: the trial's columns, `scorer`, `official_score`."""
        query = (
            sa.select(trials, scores.c.scorer, scores.c.official_score)
            .join(scores)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, scores.c.scorer)
        )
        return _only(self._frame(query), "key", keys)

    def metrics(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row a finished trial, scorer, dataset, machine type and section, with `key`."""
        query = (
            sa.select(trials.c.key, machine_metrics)
            .join(machine_metrics)
            .where(trials.c.status == "finished")
            .order_by(trials.c.id, machine_metrics.c.scorer, machine_metrics.c.dataset, machine_metrics.c.machine)
        )
        return _only(self._frame(query), "key", keys)

    def clip_scores(self, keys: Iterable[str], scorer: str) -> dict[str, pd.DataFrame]:
        """Return key -> test clips with their `score`, for finished trials that have this scorer."""
        wanted = set(keys)
        query = (
            sa.select(trials.c.key, trials.c.test_data, scores.c.clip_scores)
            .join(scores)
            .where(scores.c.scorer == scorer, trials.c.key.in_(wanted), trials.c.status == "finished")
        )
        rows = self._rows(query)
        sets = {name: self._test_clips(name) for name in {row[1] for row in rows}}
        return {key: sets[name].assign(score=_unpacked(packed)) for key, name, packed in rows}

    def _test_clips(self, name: str) -> pd.DataFrame:
        content = self._rows(sa.select(test_clips.c.content).where(test_clips.c.test_data == name))[0][0]
        return pd.DataFrame(json.loads(zlib.decompress(content)), columns=TEST_COLUMNS)

    def _rows(self, query: sa.Select[Any]) -> list[Any]:
        with _errors(self.uri), self.engine.connect() as connection:
            return list(connection.execute(query).fetchall())

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
        "undefined": sorted({why for rows in result.metrics.values() for each in rows for why in each.undefined}),
    }


def machine_name(spec: TrialSpec, dataset: str, machine: str) -> str:
    """Return how a machine type is called in a trial's results: with its year where several are scored."""
    years = {part.dataset for part in spec.protocol.score}
    return machine if len(years) == 1 else f"{dataset}/{machine}"


def create_schema(uri: str, schema: str) -> None:
    """Create a schema in a PostgreSQL database unless it is there; any other database has none to create."""
    if not uri.startswith("postgresql"):
        return
    engine = _engine(uri)
    with _errors(uri), engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    engine.dispose()


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Let one process at a time create or migrate a database; eight at once break a fresh SQLite file for good."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def sqlite_path(uri: str) -> Path | None:
    """Return the file behind a SQLite URI; None for any other database."""
    url = make_url(uri) if uri.startswith("sqlite") else None
    return Path(url.database).absolute() if url is not None and url.database else None


def without_password(uri: str) -> str:
    """Return a database or server URI that may be shown: the password is masked."""
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return uri.rpartition("@")[2]


def _engine(uri: str) -> sa.Engine:
    path = sqlite_path(uri)
    with _errors(uri):
        if path is None:
            return sa.create_engine(uri, pool_pre_ping=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(uri, connect_args={"timeout": SQLITE_TIMEOUT_SECONDS})
    sa.event.listen(engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # with the default journal an open reader blocks the writer for 20 s
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, OSError, ModuleNotFoundError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise HarnessError(
            f"The results database must be one that can be opened and written, but {without_password(uri)} answered: "
            f"{cause}; name another one with --db or MLFLOW_TRACKING_URI."
        ) from error


def _replace_trial(connection: sa.Connection, row: Mapping[str, Any]) -> int:
    trial_id = connection.execute(sa.select(trials.c.id).where(trials.c.key == row["key"])).scalar()
    if trial_id is None:
        inserted = connection.execute(trials.insert().values(**row))
        return int(inserted.inserted_primary_key[0]) if inserted.inserted_primary_key else 0
    connection.execute(trials.update().where(trials.c.id == trial_id).values(**row))
    connection.execute(scores.delete().where(scores.c.trial_id == trial_id))
    connection.execute(machine_metrics.delete().where(machine_metrics.c.trial_id == trial_id))
    return int(trial_id)


def _put_test_clips(connection: sa.Connection, name: str, clips: pd.DataFrame) -> None:
    known = connection.execute(sa.select(test_clips.c.test_data).where(test_clips.c.test_data == name)).scalar()
    if known is None:
        cells = clips[TEST_COLUMNS].astype(object).where(clips[TEST_COLUMNS].notna(), None)
        content = zlib.compress(json.dumps(cells.to_numpy().tolist()).encode())
        connection.execute(test_clips.insert().values(test_data=name, content=content))


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


def _only(frame: pd.DataFrame, column: str, keys: Iterable[str] | None) -> pd.DataFrame:
    return frame if keys is None else frame[frame[column].isin(set(keys))].reset_index(drop=True)


def _now() -> datetime:
    return datetime.now(UTC)
