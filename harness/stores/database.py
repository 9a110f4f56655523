"""Opening a database: engines, locks around creation, errors as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.engine import make_url

from harness.credentials import shown
from harness.errors import HarnessError

SQLITE_TIMEOUT_SECONDS = 20  # what MLflow itself waits for a lock
CONNECT_SECONDS = 10  # a PostgreSQL server that has not answered by then is not there
CREATION_LOCK = 0x617364  # "asd": the number of our advisory lock in a PostgreSQL database


def create_schema(uri: str, schema: str) -> None:
    """Create a schema in a PostgreSQL database unless it is there; any other database has none to create."""
    if not uri.startswith("postgresql"):
        return
    engine = open_engine(uri)
    with store_errors(uri), engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    engine.dispose()


DATABASE_ERRORS = (sa.exc.SQLAlchemyError,)  # for rooms that know no SQLAlchemy and call what uses it


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Let one process at a time create or migrate a database; eight at once break a fresh SQLite file for good."""
    path = sqlite_path(uri)
    if path is not None:
        with store_errors(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_name(f".{path.name}.lock"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    elif uri.startswith("postgresql"):
        engine = open_engine(uri)
        try:
            with store_errors(uri):  # the lock goes with its connection, so a process that is killed leaves none behind
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


def open_engine(uri: str) -> sa.Engine:
    """Make the engine of a database; the folder of a SQLite file is made where it is missing.

    Raises:
        HarnessError: the address is wrong, its driver is missing, or the folder cannot be made.
    """
    path = sqlite_path(uri)
    with store_errors(uri):
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
def store_errors(uri: str) -> Iterator[None]:
    """Turn what the results database answers into one sentence."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, OSError, ModuleNotFoundError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise HarnessError(
            f"The results database must be one that can be opened and written, but {shown(uri)} answered: "
            f"{cause}; name another one with --db or MLFLOW_TRACKING_URI."
        ) from error
