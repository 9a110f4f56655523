"""Databases that are somebody else's: named as ours, they are refused before a byte is written, in them or beside."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.datasets.dcase2023 import DATASET
from benchmarks.synthetic.generator import generate
from harness.errors import HarnessError
from harness.places import sqlite_uri
from harness.stores.database import creation_lock, open_engine, tables_of
from harness.stores.results import Results
from harness.stores.tables import metadata


def made_by(*statements: str) -> Callable[[Path], None]:
    """Return what makes a database by some statements."""

    def make(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return make


def busy(path: Path) -> None:
    """A database whose program was killed while it wrote ahead."""
    made_by("pragma journal_mode=wal", "create table notes (a)")(path.with_name("x"))
    name = str(path.with_name("x"))
    program = (
        f"import sqlite3, os; c = sqlite3.connect({name!r}); c.execute('insert into notes values (1)'); c.commit()\n"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    for end in ("", "-wal"):
        path.with_name(f"x{end}").rename(f"{path}{end}")
    path.with_name("x-shm").unlink(missing_ok=True)


OPTUNA = tuple(f"create table {name} (a)" for name in ("studies", "version_info", "trials", "trial_params"))
MLFLOW = tuple(f"create table {name} (a)" for name in ("experiments", "runs", "tags", "alembic_version"))
FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one table": (made_by("create table notes (a)"), "another program's .*1 tables, among them notes"),
    "rows": (made_by("create table notes (a)", "insert into notes values (1)"), "another program's"),
    "a view alone": (made_by("create view v as select 1"), "another program's"),
    "a web site's, with Alembic": (made_by("create table alembic_version (v)", "create table users (a)"), "another"),
    "Alembic's table alone": (made_by("create table alembic_version (v)"), "another program's"),
    "a browser's": (made_by("create table moz_places (a)", "create table moz_bookmarks (a)"), "moz_bookmarks"),
    "runs of others": (made_by("create table runs (a)", "create table tags (a)"), "another program's"),
    "studies of others": (made_by("create table studies (a)", "create table patients (a)"), "another program's"),
    "our prefix without its line": (made_by("create table asdf (a)"), "another program's"),
    "our prefix in the middle": (made_by("create table my_asd_trials (a)"), "another program's"),
    "in capitals": (made_by("create table NOTES (a)"), "NOTES"),
    "a table with an escape": (made_by('create table "\x1b[31m" (a)'), "another program's"),
    "a table of no UTF-8": (
        lambda path: (
            made_by("create table abcdefgh (a)")(path),
            path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abc\xff\xfefgh")),
        ),
        "another program's",
    ),
    "a table of 5,000 signs": (made_by(f"create table {'x' * 5000} (a)"), "another program's"),
    "2,000 tables": (
        made_by("begin", *(f"create table t{number} (a)" for number in range(2000)), "commit"), "2000 tables",
    ),
    "killed while it wrote": (busy, "another program's"),
    "text": (lambda path: path.write_text("dear diary\n" * 99), "must be a file of SQLite"),
    "one letter": (lambda path: path.write_text("S"), "must be a file of SQLite"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "must be a file of SQLite"),
    "SQLite 2": (lambda path: path.write_bytes(b"** This file contains an SQLite 2.1 database **"), "file of SQLite"),
    "half a database": (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\x10\0" * 4000), "must be a whole file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a named pipe": (os.mkfifo, "is a named pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "a link to a foreign one": (
        lambda path: (made_by("create table notes (a)")(path.with_name("y")), path.symlink_to("y")), "is another",
    ),
}  # fmt: skip


def state(folder: Path) -> dict[str, bytes | None]:
    """Return what a folder holds: names and contents."""
    return {each.name: each.read_bytes() if each.is_file() else None for each in sorted(folder.iterdir())}


@pytest.mark.parametrize("of", ["MLflow", "Optuna"])
@pytest.mark.parametrize("thing", FOREIGN)
def test_what_is_somebody_elses_stays_as_it_is(tmp_path: Path, thing: str, of: Any) -> None:
    """Whatever is named as a database of ours and is none: a sentence, and not a byte of it or a file beside it."""
    make, answer = FOREIGN[thing]
    path = tmp_path / "theirs.db"
    make(path)
    before = state(tmp_path)
    with pytest.raises(HarnessError, match=answer) as error, creation_lock(sqlite_uri(path), of=of):
        pass
    assert len(str(error.value)) < 700
    assert str(error.value).isprintable()
    after = state(tmp_path)
    if thing == "killed while it wrote":  # reading it needs the memory that its programs share
        after.pop("theirs.db-shm", None)
    assert after == before


@pytest.mark.parametrize(
    ("of", "tables", "said"),
    [
        ("MLflow", OPTUNA, "is Optuna's .* another one with --db"),
        ("Optuna", MLFLOW, "is MLflow's .* another one with --optuna"),
        ("Optuna", tuple(f"create table {name} (a)" for name in metadata.tables), "another one with --optuna"),
    ],
)
def test_the_two_of_ours_are_not_mixed_up(tmp_path: Path, of: Any, tables: tuple[str, ...], said: str) -> None:
    """Optuna's database given as --db, or MLflow's as --optuna, would break the other's tables: it is refused."""
    path = tmp_path / "x.db"
    made_by(*tables)(path)
    before = path.read_bytes()
    with pytest.raises(HarnessError, match=said), creation_lock(sqlite_uri(path), of=of):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("of", "tables"),
    [
        ("MLflow", ()), ("MLflow", MLFLOW), ("MLflow", ("create table asd_studies (a)",)),
        ("MLflow", (*MLFLOW, "create table asd_trials (a)", "create table notes (a)")),
        ("Optuna", ()), ("Optuna", OPTUNA), ("Optuna", OPTUNA[:1]), ("Optuna", (*OPTUNA, "create table notes (a)")),
    ],
)  # fmt: skip
def test_ours_opens_whatever_it_has_so_far(tmp_path: Path, of: Any, tables: tuple[str, ...]) -> None:
    """A database without a table, one that a killed process began, and one with a neighbour's table are opened."""
    path = tmp_path / "x.db"
    made_by("pragma user_version = 1", *tables)(path)
    with creation_lock(sqlite_uri(path), of=of):
        pass


LINES = (
    "trial d --protocol dcase2023 --backbone tiny --epochs 1 --clip-seconds 1 --db {db}", "leaderboard --db {db}",
    "compare --db {db}", "study status demo --db {db}", "study ls --db {db}", "report --out r.html --db {db}",
    "reference paper --db {db}", "sync --db {db}", "sync --from {db}", "baseline export tiny --out b.json --db {db}",
    "regress --baseline b.json --candidate tiny --db {db}", "select --db {db}",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_every_verb_leaves_it_alone(line: str, asdbench: Any, tmp_path: Path) -> None:
    """Each verb that opens a database says so and fails, and the diary is as it was."""
    path = tmp_path / "diary.db"
    made_by("create table notes (a)", "insert into notes values ('dear')")(path)
    before = path.read_bytes()
    if line.startswith("trial"):
        generate(tmp_path / "d", DATASET, machines=("fan",), train_source=6, test_per_cell=3, seconds=1.0)
    status, out, err = asdbench(line, db=f"sqlite:///{path}")
    assert status == 1, (out, err)
    assert "Traceback" not in err
    assert "and nothing was written to it" in err or "has no table" in err
    assert path.read_bytes() == before
    assert not [each for each in tmp_path.iterdir() if "diary.db" in each.name and each != path]


def test_a_whole_store_is_opened_again(tmp_path: Path, empty_mlflow: Path) -> None:
    """What the real stores made is theirs: a results database alone, and one with MLflow's tables."""
    for name in ("alone.db", "mlflow.db"):
        if name == "mlflow.db":
            shutil.copy(empty_mlflow, tmp_path / name)
        for _ in range(2):
            Results(sqlite_uri(tmp_path / name)).close()


READS_AND_LEAVES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("select count(*) from asd_notes").fetchone()[0])
connection.close()
"""


def test_looking_at_a_database_drops_no_lock_on_it(tmp_path: Path) -> None:
    """A driver that looks at its open database keeps its locks: a reader's end does not take the log away from it."""
    path = tmp_path / "ours.db"
    engine = open_engine(sqlite_uri(path))
    with engine.connect() as connection:
        connection.exec_driver_sql("create table asd_notes (a)")
        connection.exec_driver_sql("insert into asd_notes values (1)")
        connection.commit()
        for rows in (1, 2):
            assert "asd_notes" in tables_of(path)
            with creation_lock(sqlite_uri(path)):
                pass
            read = subprocess.run(
                [sys.executable, "-c", READS_AND_LEAVES, str(path)], capture_output=True, text=True, check=True
            )
            assert int(read.stdout) == rows
            assert path.with_name("ours.db-wal").exists()
            connection.exec_driver_sql("insert into asd_notes values (2)")
            connection.commit()
    engine.dispose()
