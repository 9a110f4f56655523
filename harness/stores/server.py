"""Checks that MLflow's database or server answers, and turns its errors into sentences."""

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

# MLflow logs a traceback before it raises an error; `mlflow_errors` reports the error in one sentence instead
for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

SERVER_SECONDS = 5  # to wait for a tracking server


def ask_server(uri: str) -> None:
    """Check that a tracking server answers.

    Raises:
        HarnessError: it does not answer.
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
    """Build a request for a server's health, with user and password in a header, since urllib takes none in a URL."""
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


OUTDATED = "out-of-date database schema"  # in the message by which MLflow refuses a database
_opened = dict[str, Identity | None]()  # uri -> file; MLflow keeps a database open as long as the process lives


def watch(uri: str) -> None:
    """Remember the file of a database that MLflow has opened, to notice if it is deleted or replaced later."""
    path = sqlite_path(uri)
    if path is not None:
        demand_same(path, _opened.setdefault(uri, identity(path)))


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn an error of MLflow, its database or its server into a `HarnessError` of one sentence.

    Raises:
        HarnessError: the block raised such an error, or the database file was deleted or replaced.
    """
    if uri in _opened:
        watch(uri)
    try:
        yield
        if uri in _opened:
            watch(uri)
    except (MlflowException, OSError, ImportError, *DATABASE_ERRORS) as error:  # a driver that is not installed
        if OUTDATED in str(error):
            raise HarnessError(
                f"MLflow's tables must be those of the installed MLflow, but {shown(uri)} has an earlier version's; "
                f"keep a copy of it, run `mlflow db upgrade {shown(uri)}`, then the same command again."
            ) from error
        raise HarnessError(
            f"MLflow must be able to read and write {shown(uri)}, but it answered: {_first_line(error)}; "
            "check that place, or name another one with MLFLOW_TRACKING_URI."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
