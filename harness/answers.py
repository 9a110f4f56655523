"""How leaderboards, comparisons and the end of a study are shown."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.console import fits, say, show

if TYPE_CHECKING:
    from harness.progress import Outcome
    from harness.report import Form
    from harness.stores import Places


def show_outcome(outcome: Outcome, places: Places) -> None:
    """Show what a study found, what failed, and where to look next."""
    from harness import verbs

    progress = outcome.progress
    if progress.finished:
        show_leaderboard(verbs.leaderboard(places=places, study=outcome.key), "text")
        say()
        try:
            show_compare(verbs.compare(places=places, study=outcome.key), "text")
        except ValueError as error:  # a study without M = 1 has nothing to compare
            say(str(error))
        say()
    say(
        f"{progress.finished} of {progress.planned} trials finished, {progress.failed} failed; "
        f"this run started {progress.started}."
    )
    for name, reason in outcome.failures.items():
        say(f"failed: {name}: {reason}", style="red")
    server = places.tracking.startswith("http")
    look = places.tracking if server else f"{_command('mlflow')} ui --backend-store-uri {_shown(places.tracking)}"
    say(f"Every trial, with curves and artifacts: {look}")
    say(f"The table again: {_command('asdbench')} leaderboard; the comparison: {_command('asdbench')} compare")


def show_leaderboard(rows: list[dict[str, Any]], form: Form) -> None:
    """Show a ranking, a table a protocol and set of recordings."""
    from harness.leaderboard import chance_note
    from harness.report import count, leaderboard_columns, machine_columns, plain

    if form != "text":
        show(form, leaderboard_columns(rows), rows, title="", document={"chance": 0.5, "rows": rows})
        return
    for protocol, data in dict.fromkeys((row["protocol"], row["data"]) for row in rows):
        board = [row for row in rows if (row["protocol"], row["data"]) == (protocol, data)]
        title = f"Leaderboard of {protocol} (recordings {data})"
        if fits(leaderboard_columns(board), board):
            show(form, leaderboard_columns(board), board, title=title)
        else:
            show(form, leaderboard_columns(board, machines=False), board, title=title)
            columns = [count("rank", "#"), plain("backbone"), count("m", "M"), *machine_columns(board)]
            show(form, columns, board, title="Harmonic mean of each machine, %")
    say(chance_note(rows))


def show_compare(rows: list[dict[str, Any]], form: Form) -> None:
    """Show how every M did against M = 1, and say it in words."""
    from harness.report import compare_columns

    show(form, compare_columns(rows), rows, title="Top-M against Top-1")
    if form == "text":
        for row in rows:
            say(row["sentence"])


def _command(name: str) -> str:
    """Return how to call a program of this environment from the current folder."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _shown(uri: str) -> str:
    from harness.results import without_password

    return without_password(uri)
