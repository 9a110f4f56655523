"""Whether MLflow's database or server answers, and what it answered, as a sentence."""

from __future__ import annotations

import base64
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit, urlunsplit

from mlflow.exceptions import MlflowException

from harness.credentials import shown
from harness.errors import HarnessError
from harness.places import sqlite_path
from harness.stores.database import DATABASE_ERRORS, Identity, demand_same, identity

# MLflow logs the traceback of an error before it raises it; what it raises is said here, in one sentence
for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

SERVER_SECONDS = 5  # a tracking server that has not answered by then is not there


def ask_server(uri: str) -> None:
    """Demand that a tracking server answers.

    Raises:
        HarnessError: it does not.
    """
    try:
        with urllib.request.urlopen(_health(uri), timeout=SERVER_SECONDS):  # noqa: S310 - http(s) only, checked by the caller
            return
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise HarnessError(
            f"The MLflow tracking server must answer at {shown(uri)}, but it did not: {reason}; "
            "start it, or set MLFLOW_TRACKING_URI to another one or to sqlite:///mlflow.db."
        ) from error


def _health(uri: str) -> urllib.request.Request:
    """Ask how a server is, with user and password in a header: urllib takes none in an address."""
    parts = urlsplit(uri)
    people, at, host = parts.netloc.rpartition("@")
    user, _, password = people.partition(":")
    address = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
    request = urllib.request.Request(address)  # noqa: S310 - as above
    if at:
        word = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    elif os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}")
    return request


_opened = dict[str, Identity | None]()  # MLflow keeps a database open for as long as the process lives


def watch(uri: str) -> None:
    """Take note of the file of a database that MLflow has opened: from now on it must stay that file."""
    path = sqlite_path(uri)
    if path is not None:
        demand_same(path, _opened.setdefault(uri, identity(path)))


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database or its server answers into one sentence.

    Raises:
        HarnessError: it could not do what it was asked, or its database was taken away before or meanwhile.
    """
    if uri in _opened:
        watch(uri)
    try:
        yield
        if uri in _opened:
            watch(uri)
    except (MlflowException, OSError, ImportError, *DATABASE_ERRORS) as error:  # a driver that is not installed
        raise HarnessError(
            f"MLflow must be able to read and write {shown(uri)}, but it answered: {_first_line(error)}; "
            "check that place, or name another one with MLFLOW_TRACKING_URI."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
