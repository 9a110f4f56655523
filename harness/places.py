"""Where everything is kept: MLflow's runs, the results tables, Optuna's studies, the cache."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from harness.cache import Cache
from harness.credentials import remember
from harness.errors import HarnessError

SQLITE = "sqlite:///"  # and a path as it stands
ENCODED = "sqlite+pysqlite:///"  # and a path with %25 for %: SQLAlchemy decodes both, MLflow makes the folders of one
SPECIAL = re.compile(r"[^\w\s/.,:;@+~=()\[\]{}&$!^-]|[\n\r\t]")  # signs that mean something in an address


@dataclass(frozen=True)
class Places:
    """Addresses of the stores, absolute, since workers run elsewhere.

    Attributes:
        tracking: MLflow's, a database or a tracking server; it may hold a password, as the others may.
        results: the database of the results tables; MLflow's own where that is a database.
        optuna: the database of Optuna's studies; it cannot share MLflow's tables.
        cache: folder of packed audio, latents and rankings.
    """

    tracking: str
    results: str
    optuna: str
    cache: Path

    def open_cache(self) -> Cache:
        """Open the cache."""
        return Cache(self.cache)


def find_places(*, tracking: str | None = None, results: str | None = None, optuna: str | None = None) -> Places:
    """Return the stores as options and environment name them; by default files of the current folder.

    Args:
        tracking: else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
        results: else the tracking database; beside a tracking server asdbench.db.
        optuna: else optuna.db beside the results; in PostgreSQL the schema "optuna" of the same database.
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
    """Return the address of a database file, which SQLAlchemy, MLflow and Optuna read as this path and no other."""
    place = str(path.absolute())
    return f"{ENCODED}{quote(os.fsencode(place))}" if SPECIAL.search(place) else f"{SQLITE}{place}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file behind a SQLite address, absolute; None for any other database.

    What stands behind `sqlite:///` is a path as people type it, `run%41/mlflow.db` or `what?v=2/mlflow.db`. Only where
    its folder is not there, and the one that an encoded path means is, it is that one: `a%20b/mlflow.db`.
    """
    if uri.startswith(ENCODED):
        return Path(unquote(uri[len(ENCODED) :], errors="surrogateescape")).absolute()
    if not uri.startswith(SQLITE) or uri == SQLITE:
        return None
    typed = Path(uri[len(SQLITE) :]).absolute()
    meant = Path(unquote(str(typed), errors="surrogateescape"))
    # by os, to which a name that no folder can have is none
    return meant if os.path.isdir(meant.parent) and not os.path.isdir(typed.parent) else typed  # noqa: PTH112


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
    """Return an address that means the same in every folder: workers have one of their own."""
    if uri.startswith("postgresql://"):
        # SQLAlchemy 2.1 reads this as psycopg 3, earlier ones as psycopg2
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
