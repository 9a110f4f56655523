"""Opening a database: engines, locks around creation, errors as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from harness.credentials import shown
from harness.errors import HarnessError
from harness.files import demand_regular, make_private_file, make_private_folder, open_regular, private_lock
from harness.places import sqlite_path
from harness.tables import brief

SQLITE_TIMEOUT_SECONDS = 20  # what MLflow itself waits for a lock
CONNECT_SECONDS = 10  # to wait for a PostgreSQL server
SQLITE_FRONT = b"SQLite format 3\x00"
SMALLEST = 512  # bytes of a database, a page; an empty one has none
UNREADABLE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN)
OPENED = "asdbench opened"  # key of a connection's info: device and inode of the database file when it was opened
CREATION_LOCK = 0x617364  # "asd": the number of our advisory lock in a PostgreSQL database
Keeper: TypeAlias = Literal["MLflow", "Optuna"]
# tables by which a database is recognised; a file for MLflow may also hold only our `asd_` tables, if we opened it
# first
SIGNS: dict[Keeper, frozenset[str]] = {
    "MLflow": frozenset({"experiments", "runs", "tags"}),
    "Optuna": frozenset({"studies", "version_info", "trials"}),
}
BEGUN = frozenset(  # Optuna's tables; a driver that is killed while it creates them leaves some of them
    {
        *SIGNS["Optuna"], "alembic_version", "study_directions", "study_user_attributes", "study_system_attributes",
        "trial_user_attributes", "trial_system_attributes", "trial_params", "trial_values", "trial_intermediate_values",
        "trial_heartbeats",
    }
)  # fmt: skip
FIRST = frozenset({"studies", "version_info"})  # those of BEGUN that Optuna creates first
OURS = "asd_"  # in front of the names of our own tables
SHOWN_TABLES = 3  # in a sentence
TABLES = "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'"


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
def creation_lock(uri: str, *, of: Keeper = "MLflow") -> Iterator[None]:
    """Lock a database against other processes that create or migrate it: eight at once corrupt a new SQLite file.

    Every store is opened under this lock. It refuses another program's file before anything is written into it or
    beside it.

    Args:
        uri: of the database.
        of: "MLflow" or "Optuna", whose tables it holds or will hold; the results tables are beside MLflow's.

    Raises:
        HarnessError: it cannot be opened, is no database, or is another program's.
    """
    path = sqlite_path(uri)
    if path is not None:
        with store_errors(uri):
            if make_url(uri).database != str(path):
                raise HarnessError(
                    f"A database must lie in a folder whose name SQLAlchemy can read, but {str(path)!r} is none; "
                    "choose a name of letters and digits."
                )
            place = path.with_name(f".{path.name}.lock")
            if not place.exists():  # no lock file: asdbench has never opened this database, and perhaps should not
                demand_own(path, of)
            make_private_folder(path.parent)
            lock = private_lock(place)
            lock.acquire()
        try:
            with store_errors(uri):
                demand_own(path, of)  # it may have been made by whoever held the lock
                make_private_file(path)
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


def demand_database(path: Path) -> None:
    """Check that a file is a SQLite database, is empty, or does not exist yet.

    Raises:
        HarnessError: it is something else, such as a text file or a named pipe.
        OSError: it cannot be read.
    """
    try:
        with open_regular(path, what="A database") as file:
            front = file.read(len(SQLITE_FRONT))
    except FileNotFoundError:
        return
    if front and front != SQLITE_FRONT:
        raise HarnessError(f"A database must be a file of SQLite, but {path} is another; name another one.")


def demand_own(path: Path, of: Keeper) -> None:
    """Check that a file is a database of MLflow (and asdbench) or of Optuna, has no table, or does not exist yet.

    Raises:
        HarnessError: it is no database, or another program's.
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    tables = tables_of(path)
    first = bool(tables & FIRST) if of == "Optuna" else any(name.startswith(OURS) for name in tables)
    begun = first and (of == "MLflow" or tables <= BEGUN)
    if not tables or begun or tables >= SIGNS[of]:
        return
    option = "--db" if of == "MLflow" else "--optuna"
    whose = next((f"{name}'s" for name, signs in SIGNS.items() if tables >= signs), "another program's")
    some = ", ".join(brief(name) for name in sorted(tables)[:SHOWN_TABLES])
    raise HarnessError(
        f"A database of {of} must hold its tables or none, but {path} is {whose} (it has {len(tables)} tables, among "
        f"them {some}), and nothing was written to it; name another one with {option}."
    )


def look_at(path: Path, query: str) -> list[Any]:
    """Run a query on a SQLite file without writing a single byte to it or beside it."""
    # a write-ahead log or journal beside it means that another process may be using it; without one, SQLite would
    # create a log in order to read, unless the file is declared immutable
    busy = any(path.with_name(f"{path.name}{log}").exists() for log in ("-wal", "-journal"))
    address = f"{path.as_uri()}?mode=ro{'' if busy else '&immutable=1'}"
    with closing(sqlite3.connect(address, uri=True, timeout=SQLITE_TIMEOUT_SECONDS)) as connection:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")  # of a damaged file
        return connection.execute(query).fetchall()


def tables_of(path: Path) -> set[str]:
    """Return the names of a SQLite file's tables, without writing to it.

    The file is opened by SQLite alone. Whoever opens and closes it besides, if only to read its first bytes, drops
    every lock that this process has on it (so POSIX wants it): another process then takes itself for the last one, and
    removes the log that this one is writing to. What a study recorded from then on would be lost.

    Raises:
        HarnessError: it is no database, or cannot be read.
        OSError: it is not there, or may not be read.
    """
    demand_regular(path, what="A database")
    if 0 < path.stat().st_size < SMALLEST:  # which SQLite takes for an empty one
        demand_database(path)
    try:
        return {str(name) for (name,) in look_at(path, TABLES)}
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in UNREADABLE:  # nobody has it open as a database, so no lock is dropped
            demand_database(path)
        raise HarnessError(f"A database must be a whole file of SQLite, but {path}: {error}.") from error


# A database file may be deleted while it is open. On Linux writes then go to the deleted file and are lost without an
# error. So the file at the path is compared with the one that was opened.

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Return the device and inode of a file, which stay the same when it is renamed; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def demand_same(path: Path, opened: Identity | None) -> None:
    """Check that a path still leads to the file that was opened there.

    Raises:
        HarnessError: the file was deleted, moved or replaced.
    """
    now = identity(path)
    if opened is not None and now != opened:
        what = "was deleted or moved" if now is None else "was replaced by another file"
        raise HarnessError(
            f"A database must stay where it is while it is open, but {path} {what}: what was recorded since is lost, "
            "and what was recorded before unless the file is put back; put it back, or start again for a new one."
        )


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
        make_private_folder(path.parent)
        url = sa.URL.create("sqlite", database=str(path))
        engine = sa.create_engine(url, connect_args={"timeout": SQLITE_TIMEOUT_SECONDS})
    write_ahead(engine)
    return engine


def write_ahead(engine: sa.Engine) -> None:
    """Use write-ahead logging for an SQLite database from its next connection on; notice if its file is replaced."""
    path = Path(engine.url.database or "").absolute()

    def remember(_connection: Any, record: Any) -> None:
        record.info[OPENED] = identity(path)

    def look(_connection: Any, record: Any, _proxy: Any) -> None:
        demand_same(path, record.info.get(OPENED))

    def look_again(connection: sa.Connection) -> None:
        demand_same(path, connection.info.get(OPENED))

    sa.event.listen(engine, "connect", remember)
    sa.event.listen(engine, "connect", _sqlite_pragmas)
    sa.event.listen(engine, "checkout", look)
    sa.event.listen(engine, "commit", look_again)


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # with the default journal an open reader blocks the writer for 20 s
    # a killed process loses nothing; a power cut may lose the last transactions, but never part of one
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn an error of a database into a `HarnessError` of one sentence."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, OSError, ModuleNotFoundError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise HarnessError(
            f"The results database must be one that can be opened and written, but {shown(uri)} answered: "
            f"{cause}; name another one with --db or MLFLOW_TRACKING_URI."
        ) from error
