"""Opens the stores for a verb; and the verb `sync`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.places import Places, code_revision, demand_recorded
from harness.told import Told, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.stores.recorder import Recorder
    from harness.stores.results import Results


def sync(
    source: str | None = None, *, rewrite: bool = False, places: Places | None = None, told: Told = silent
) -> dict[str, Any]:
    """Write rows of the results tables from MLflow's runs; rows that are there already stay.

    Args:
        source: another database or tracking server whose trials are taken over; None is this database's own MLflow.
        rewrite: replace rows that are there already, too.
        places: addresses of the stores; None takes them from the environment, else the current folder's files.
        told: called with (what, done, total) as work goes on.

    Returns:
        See `harness.stores.sync.sync`: counts, and a row a run that was refused.

    Raises:
        HarnessError: a store cannot be opened, or fails on the way.
    """
    from harness.stores.sync import sync as synchronise

    return synchronise(source, rewrite=rewrite, places=places, told=told)


@contextmanager
def open_results(places: Places) -> Iterator[Results]:
    """Open the results tables for reading; a missing database is an error and is not created.

    Raises:
        HarnessError: nothing was recorded there yet.
    """
    demand_recorded(places)
    from harness.stores.results import Results  # after that, since it imports SQLAlchemy

    results = Results(places.results)
    try:
        yield results
    finally:
        results.close()


@contextmanager
def open_recorder(places: Places) -> Iterator[Recorder]:
    """Open MLflow and the results tables for recording; what is missing is created.

    Raises:
        HarnessError: one of them cannot be opened and written.
    """
    from harness.stores.recorder import Recorder
    from harness.stores.results import Results

    results = Results(places.results)  # first: it also tells whether the database can be written
    try:
        from harness.stores.tracker import Tracker

        yield Recorder(Tracker(places.tracking, code=code_revision()), results)
    finally:
        results.close()
