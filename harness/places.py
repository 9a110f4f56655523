"""Addresses of the stores: MLflow's runs, the results tables, Optuna's studies, and the cache."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode

from harness.credentials import remember
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cache import Cache

SQLITE = "sqlite:///"  # followed by a path as it is typed, not percent-encoded
ENCODED = "sqlite+pysqlite:///"  # followed by a percent-encoded path, which has %25 for %
LIBRARIES = ("librosa", "numpy", "scikit-learn", "torch")  # whose arithmetic is in a trial's numbers
SPECIAL = re.compile(r"[^\w\s/.,:;@+~=()\[\]{}&$!^-]|[\n\r\t]")  # characters with a meaning in an address


@dataclass(frozen=True)
class Places:
    """Addresses of the stores. Paths are absolute, since workers run in other folders.

    Attributes:
        tracking: address of MLflow's database or tracking server. This and the next two may contain a password.
        results: address of the database of the results tables: MLflow's own, unless that is a server.
        optuna: address of the database of Optuna's studies, which cannot be the one of MLflow's tables.
        cache: folder of packed audio, latents and rankings.
    """

    tracking: str
    results: str
    optuna: str
    cache: Path

    def open_cache(self) -> Cache:
        """Open the cache."""
        from harness.cache import Cache  # noqa: PLC0415 - NumPy, which `asdbench ls` does without

        return Cache(self.cache)


def find_places(*, tracking: str | None = None, results: str | None = None, optuna: str | None = None) -> Places:
    """Return the stores named by options or environment variables; by default files in the current folder.

    Args:
        tracking: None takes MLFLOW_TRACKING_URI, or sqlite:///mlflow.db if that is not set.
        results: None takes the tracking database, or asdbench.db if MLflow is on a server.
        optuna: None takes optuna.db beside the results, or in PostgreSQL the schema "optuna" of their database.
    """
    tracking = _absolute(tracking or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db")
    remember(tracking, results, optuna)
    if tracking.startswith(("file:", "/")):
        raise HarnessError(
            f"MLflow must keep its runs in a database or on a server, but got {tracking!r}; "
            "use sqlite:///mlflow.db, postgresql+psycopg://... or http://..."
        )
    results = _absolute(results) if results else tracking
    if results.startswith(("http://", "https://")):
        results = _absolute(f"{SQLITE}asdbench.db")
    cache = Path(os.environ.get("ASDBENCH_CACHE") or ".asdbench").absolute()
    return Places(tracking, results, _absolute(optuna) if optuna else _beside(results), cache)


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite file, in a form that SQLAlchemy, MLflow and Optuna all resolve to this path."""
    place = str(path.absolute())
    return f"{ENCODED}{quote(os.fsencode(place))}" if SPECIAL.search(place) else f"{SQLITE}{place}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file behind a SQLite address, absolute; None for any other database.

    After `sqlite:///` the path is taken as typed: `run%41/mlflow.db` is in the folder "run%41". Only if that folder
    does not exist, but the percent-decoded one does, is the path decoded: `a%20b/mlflow.db` is in "a b".
    """
    if uri.startswith(ENCODED):
        return Path(unquote(uri[len(ENCODED) :], errors="surrogateescape")).absolute()
    if not uri.startswith(SQLITE) or uri == SQLITE:
        return None
    typed = Path(uri[len(SQLITE) :]).absolute()
    meant = Path(unquote(str(typed), errors="surrogateescape"))
    # os.path.isdir returns False for names that no folder can have, where Path.is_dir may raise
    return meant if os.path.isdir(meant.parent) and not os.path.isdir(typed.parent) else typed  # noqa: PTH112


def demand_recorded(places: Places) -> None:
    """Refuse stores in which nothing was recorded yet, where that shows without opening them: a file is not there.

    Raises:
        HarnessError: there is no such file.
    """
    path = sqlite_path(places.results)
    if path is not None and not path.is_file():
        raise HarnessError(
            f"Recorded trials are read from {path}, but there is no such file; run `asdbench demo` or a study first, "
            "or name the database with --db."
        )


def code_revision() -> str:
    """Return the git commit of the code, with "+changes" where it was edited; outside git the version."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return version("asdbench")
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _absolute(uri: str) -> str:
    """Return an address with an absolute path, since workers run in another folder."""
    if uri.startswith("postgresql://"):
        # without a driver's name, SQLAlchemy 2.1 takes psycopg 3, but earlier versions psycopg2
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)
    path = sqlite_path(uri)
    return uri if path is None else sqlite_uri(path)


def _beside(results: str) -> str:
    path = sqlite_path(results)
    if path is not None:
        return sqlite_uri(path.with_name("optuna.db"))
    place, _, query = results.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    options["options"] = f"{options.get('options', '')} -csearch_path=optuna".strip()
    return f"{place}?{urlencode(options, quote_via=quote)}"


@cache
def installed_libraries() -> str:
    """Return the versions that are installed here: "librosa 0.11.0, numpy 2.3.5, scikit-learn 1.7.2, torch 2.11.0"."""
    return ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)


def differing_libraries(recorded: Iterable[str]) -> str:
    """Say which libraries some trials ran with in different versions; "" if in none.

    Args:
        recorded: of each trial, what `installed_libraries` returned where it ran; "" is not known.
    """
    texts = set(recorded)
    found: dict[str, set[str]] = {}
    for text in texts - {""}:
        for part in text.split(", "):
            name, _, number = part.partition(" ")
            found.setdefault(name, set()).add(number)
    said = [f"{name} {' and '.join(sorted(numbers))}" for name, numbers in sorted(found.items()) if len(numbers) > 1]
    if "" in texts and len(texts) > 1:
        said.append("versions that were not recorded")
    return ", ".join(said)


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]  # "+cpu" and the like say how it was built
    except PackageNotFoundError:
        return "unknown"
