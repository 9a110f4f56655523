"""A PostgreSQL server and an MLflow tracking server of the tests' own, started on demand, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import sqlalchemy as sa

START_SECONDS = 90
GUEST, SECRET = "asd_guest", "s3cr3t-Pa55"  # a role that must give its password


@dataclass
class Postgres:
    """A PostgreSQL server on which databases may be made."""

    uri: str
    guarded: bool
    numbers: Iterator[int] = field(default_factory=count)
    template: str | None = None

    def create(self, *, like: str | None = None) -> str:
        """Make a database, if wanted a copy of another, and return its address."""
        name = f"asd_{os.getpid()}_{next(self.numbers)}"
        end = f" TEMPLATE {sa.make_url(like).database}" if like else ""
        self.execute(f"CREATE DATABASE {name}{end}")
        return sa.make_url(self.uri).set(database=name).render_as_string(hide_password=False)

    def ready(self) -> str:
        """Make a database that has MLflow's tables already: making them takes over a second."""
        from mlflow import MlflowClient

        if self.template is None:
            self.template = self.create()
            MlflowClient(tracking_uri=self.template).search_experiments()
            self.execute(  # a database that somebody is connected to cannot be copied
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                f"'{sa.make_url(self.template).database}'"
            )
        return self.create(like=self.template)

    def guest(self, uri: str, *, password: str = SECRET) -> str:
        """Return a database's address for somebody who must give a password."""
        return sa.make_url(uri).set(username=GUEST, password=password).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Run one statement outside of any transaction."""
        engine = sa.create_engine(self.uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


def postgres_programs() -> Path | None:
    """Find the folder of initdb and postgres; they are on the PATH or where the package puts them."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in folders if (each / "initdb").exists() and (each / "postgres").exists()), None)


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """Start a server on a private port, without the care for disks that tests do not need."""
    folder = Path(tempfile.mkdtemp(prefix="asd-pg-"))  # not pytest's: its parents are closed to other users
    as_postgres: list[str] = []
    if os.geteuid() == 0:  # initdb refuses root
        user, as_postgres = pwd.getpwnam("postgres"), ["runuser", "-u", "postgres", "--"]
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, port = folder / "data", free_port()
    made = [*as_postgres, programs / "initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", data]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    rules = "host all asd_guest 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n"
    (data / "pg_hba.conf").write_text(rules)
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off",
        "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 200,
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        started = [*as_postgres, programs / "postgres", "-D", data, *options]
        server = subprocess.Popen(started, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        wait_for_port(port, server)
        postgres = Postgres(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", guarded=True)
        postgres.execute(f"CREATE ROLE {GUEST} LOGIN SUPERUSER PASSWORD '{SECRET}'")
        yield postgres
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(folder: Path, *, backend: str | None = None) -> Iterator[str]:
    """Start a tracking server whose runs are in a folder's own database, or in another one."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", backend or f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    # its job runner is a dozen processes that nobody here needs
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
    try:
        wait_for_health(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        engine = sa.create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres")
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            time.sleep(0.05)
        finally:
            engine.dispose()
    raise RuntimeError("PostgreSQL did not start.")


def wait_for_health(uri: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a tracking server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("The MLflow server did not start.")
