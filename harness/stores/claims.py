"""Claims: which driver is running which trial, for all drivers of all studies on one database.

A trial's key is a digest of its content, so a claim on it holds across studies, and two studies that contain the same
trial run it once. A claim is taken by one INSERT or one UPDATE, which succeeds for exactly one driver.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from harness.errors import HarnessError
from harness.interrupts import stop_if_asked, whole
from harness.stores.database import creation_lock, store_errors
from harness.stores.readings import FEW
from harness.stores.results import Results

RENEW_SECONDS = 20.0
LEASE_SECONDS = 120.0  # a driver on another host that has not renewed its lease for this time counts as dead
POLL_SECONDS = 0.2  # between two tries to take a lock that another driver holds
FREE = ""

metadata = sa.MetaData()

drivers = sa.Table(
    "asd_drivers",
    metadata,
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("renewed", sa.Float, nullable=False),
)

claims = sa.Table(
    "asd_claims",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("label", sa.String(500), nullable=False, default=""),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("since", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Claim:
    """A living driver's claim on a key.

    Attributes:
        owner: the driver: host, process and so on.
        since: when it was taken, seconds since 1970.
        label: the trial's label, to be shown.
    """

    owner: str
    since: float
    label: str = ""

    @property
    def shown(self) -> str:
        """Return who it is, for people: host and process."""
        host, _, process, *_ = self.owner.split("|")
        return f"{host}, process {process}"


@dataclass(frozen=True)
class Lost:
    """How often a trial was begun before without ending.

    Attributes:
        tries: times that it was lost with its worker process.
        deaths: times that it was lost with its driver, which was killed.
    """

    tries: int = 0
    deaths: int = 0


class Claims:
    """One driver's claims: a context manager that releases all of them at its end.

    While it is open, a thread renews the driver's lease. Whether another driver is alive is decided by its process id
    if it is on this host, which is exact, and otherwise by its lease, against the database server's clock if there is
    one.

    Args:
        results: the results tables of the database.
        renew_seconds: between two renewals.
        lease_seconds: how long a renewal lasts.
    """

    def __init__(
        self, results: Results, *, renew_seconds: float = RENEW_SECONDS, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.uri, self.engine = results.uri, results.engine
        self.renew_seconds, self.lease_seconds = renew_seconds, lease_seconds
        self.owner = _owner()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)
        with store_errors(self.uri), creation_lock(self.uri):
            metadata.create_all(self.engine)

    def __enter__(self) -> Claims:
        """Begin the lease."""
        self._renew()
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        with whole():  # if Ctrl-C came in here, a notebook that runs the study again would wait for its own claims
            self._closed.set()
            self._heart.join()
            with suppress(HarnessError), store_errors(self.uri), self.engine.begin() as connection:
                connection.execute(claims.update().where(claims.c.owner == self.owner).values(owner=FREE))
                connection.execute(drivers.delete().where(drivers.c.owner == self.owner))

    def take(self, key: str, label: str = "") -> Lost | None:
        """Claim a key. Return how often it was lost before, or None if a living driver holds it."""
        label = label[:500]
        with store_errors(self.uri):
            for _ in range(2):  # the row may be deleted after the INSERT failed and before it is read
                if self._insert(key, label):
                    return Lost()
                with self.engine.connect() as connection:
                    row = connection.execute(sa.select(claims).where(claims.c.key == key)).fetchone()
                    now = _clock(connection)
                    there = self._leases(connection)
                if row is not None:
                    break
            else:
                return None
            if row.owner != FREE and self._lives(row.owner, there, now):
                return None
            lost = Lost(row.tries, row.deaths + (row.owner != FREE))
            change = {"owner": self.owner, "label": label, "deaths": lost.deaths, "since": now}
            with self.engine.begin() as connection:
                same = (claims.c.key == key, claims.c.owner == row.owner)
                won = connection.execute(claims.update().where(*same).values(**change)).rowcount
            return lost if won else None

    def release(self, key: str, *, tries: int | None = None) -> None:
        """Release a key. If the trial was lost and shall run again, `tries` is how often that has happened."""
        mine = (claims.c.key == key, claims.c.owner == self.owner)
        with store_errors(self.uri), self.engine.begin() as connection:
            if tries is None:
                connection.execute(claims.delete().where(*mine))
            else:
                connection.execute(claims.update().where(*mine).values(owner=FREE, tries=tries))

    def holds(self, key: str) -> bool:
        """Tell whether this driver still holds a key: if it was suspended for long, another may have taken over."""
        query = sa.select(claims.c.owner).where(claims.c.key == key)
        with store_errors(self.uri), self.engine.connect() as connection:
            return bool(connection.execute(query).scalar() == self.owner)

    def living(self, keys: Iterable[str]) -> dict[str, Claim]:
        """Return the claims of living drivers on these keys."""
        rows, there, now = self._look(keys)
        return {row.key: Claim(row.owner, row.since, row.label) for row in rows if self._lives(row.owner, there, now)}

    def deaths(self, keys: Iterable[str]) -> dict[str, int]:
        """Return how often each key was lost with a killed driver, counting claims that dead drivers still hold."""
        rows, there, now = self._look(keys)
        return {row.key: row.deaths + (row.owner != FREE and not self._lives(row.owner, there, now)) for row in rows}

    def is_alive(self, owner: str) -> bool:
        """Tell whether a driver lives."""
        with store_errors(self.uri), self.engine.connect() as connection:
            return self._lives(owner, self._leases(connection), _clock(connection))

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Lock `what`, any name, against all other drivers on this database while the block runs."""
        while self.take(what) is None:
            stop_if_asked()
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            self.release(what)

    def _look(self, keys: Iterable[str]) -> tuple[list[Any], Mapping[str, float], float]:
        wanted, query = set(keys), sa.select(claims)
        if len(wanted) <= FEW:  # of more, all claims are read: they are few, since one goes as its trial is recorded
            query = query.where(claims.c.key.in_(sorted(wanted)))
        with store_errors(self.uri), self.engine.connect() as connection:
            rows = [row for row in connection.execute(query).fetchall() if row.key in wanted]
            return rows, self._leases(connection), _clock(connection)

    def _insert(self, key: str, label: str) -> bool:
        try:
            with self.engine.begin() as connection:
                row = {"key": key, "owner": self.owner, "label": label, "since": _clock(connection)}
                connection.execute(claims.insert().values(tries=0, deaths=0, **row))
        except sa.exc.IntegrityError:
            return False
        return True

    def _leases(self, connection: sa.Connection) -> dict[str, float]:
        return {row.owner: row.renewed for row in connection.execute(sa.select(drivers)).fetchall()}

    def _lives(self, owner: str, leases: Mapping[str, float], now: float) -> bool:
        if owner not in leases:
            return False
        host, space, process, created, *_ = owner.split("|")
        if (host, space) != _here():
            return now - leases[owner] < self.lease_seconds
        try:
            return f"{psutil.Process(int(process)).create_time():.2f}" == created
        except (psutil.Error, ValueError):
            return False

    def _beat(self) -> None:
        while not self._closed.wait(self.renew_seconds):
            with suppress(HarnessError):  # the driver meets the same error, or the database answers again in time
                self._renew()

    def _renew(self) -> None:
        with store_errors(self.uri), self.engine.begin() as connection:
            now, mine = _clock(connection), drivers.c.owner == self.owner
            if not connection.execute(drivers.update().where(mine).values(renewed=now)).rowcount:
                connection.execute(drivers.insert().values(owner=self.owner, renewed=now))


def _owner() -> str:
    process = psutil.Process()
    return "|".join((*_here(), str(process.pid), f"{process.create_time():.2f}", uuid.uuid4().hex[:8]))


def _here() -> tuple[str, str]:
    """Return the host name, and a digest that differs between hosts of the same name and containers of one host.

    Process ids can be compared only if both agree.
    """
    marks = []
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        marks.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - no path: "pid:[4026531836]"
    return socket.gethostname().replace("|", "-"), hashlib.blake2b(repr(marks).encode(), digest_size=4).hexdigest()


def _clock(connection: sa.Connection) -> float:
    """Return seconds since 1970 by the database server's clock, if there is one, since the clocks of hosts differ."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


class Living(Container[str]):
    """Keys that living drivers have claimed, looked up at the first `in`: after the runs to compare were read."""

    def __init__(self, claims: Claims, keys: Iterable[str]) -> None:
        self.claims, self.keys = claims, keys
        self._found: Container[str] | None = None

    def __contains__(self, key: object) -> bool:
        if self._found is None:
            self._found = self.claims.living(self.keys)
        return key in self._found
