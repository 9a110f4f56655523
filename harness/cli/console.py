"""The command line's one console: tables and answers to stdout, progress and errors to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.studies.progress import Progress as StudyProgress
    from harness.tables import Column, Form

QUIET_SECONDS = 10.0  # least time between two progress lines, where there is no progress bar
LONGEST, NOTED = 2000, 600  # most characters of a sentence that is part of the answer, and of an error or a note
WIDE = 400  # characters in a line of a file or pipe, and of tables with --wide
NO_LOOKS: tuple[bool, str | None] = (False, None)
_looks = ContextVar("looks", default=NO_LOOKS)  # --wide and --columns of the verb that runs

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)
if not out.is_terminal:
    out.width = WIDE


def show(
    form: Form,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    document: Mapping[str, Any] | None = None,
) -> None:
    """Print rows as a table, JSON, CSV or markdown."""
    from harness.tables import written

    if form == "text":
        _show_table(columns, rows, title)
    else:
        out.print(written(form, columns, rows, document or {"rows": list(rows)}), markup=False, highlight=False)


@contextmanager
def looking(*, wide: bool, columns: str | None) -> Iterator[None]:
    """Apply a verb's options --wide and --columns to all tables that are printed in the block."""
    asked = _looks.set((wide, columns))
    try:
        yield
    finally:
        _looks.reset(asked)


def _show_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the columns of a table that fit the terminal, or that were asked for, and say which do not."""
    from harness.tables import fitting, named_columns, text_table

    wide, wanted = _looks.get()
    if wanted is not None:
        columns = named_columns(columns, wanted)
    if wide:
        Console(width=WIDE).print(text_table(title, columns, rows), crop=False)
        return
    view = fitting(columns, rows, out.width)
    out.print(text_table(title, view.columns, rows, width=out.width), soft_wrap=False)
    if view.same:
        say("In every row: " + ", ".join(f"{heading} {value}" for heading, value in view.same.items()) + ".")
    if view.left_out:
        left_out, some = ", ".join(view.left_out), f"--columns {_quoted(view.left_out[0])}"
        say(f"No room for: {left_out}. All columns: --wide; some: {some}; every field: --csv.")


def _quoted(heading: str) -> str:
    """Return a heading as --columns accepts it: up to its first comma, since commas separate headings there."""
    short = heading.split(",", maxsplit=1)[0]
    return f'"{short}"' if " " in short or "#" in short else short


def fits(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a table will be printed with all of its columns, or those that were asked for."""
    from harness.tables import fitting

    return _looks.get() != NO_LOOKS or not fitting(columns, rows, out.width).left_out


def say(text: str = "", *, style: str | None = None) -> None:
    """Print a sentence."""
    _print(out, text, style, LONGEST)


def note(text: str, *, style: str | None = None) -> None:
    """Print a sentence that is not part of the answer."""
    _print(err, text, style, NOTED)


def _print(console: Console, text: str, style: str | None, longest: int) -> None:
    """Print a sentence without control characters, shortened if very long, since names come from anybody's files."""
    from harness.tables import printable

    console.print(printable(text, longest=longest), style=style, markup=False, highlight=False)


@contextmanager
def telling() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that reports progress: as a bar on a terminal, as plain lines elsewhere."""
    from harness.tables import brief

    if not err.is_terminal:
        yield _plain_lines()
        return
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True,
    ) as bars:  # fmt: skip
        tasks: dict[str, tuple[Any, float]] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = (bars.add_task(brief(what), total=total, rate=""), time.monotonic())
            task, began = tasks[what]
            rate = done / max(time.monotonic() - began, 1e-3)
            bars.update(task, completed=done, total=total, rate=f"{rate:,.1f}/s")

        yield tell


@contextmanager
def watching() -> Iterator[Callable[[StudyProgress], None]]:
    """Yield a function that reports a study's progress: a line after each trial, with best score and time left."""

    def tell(progress: StudyProgress) -> None:
        done = progress.finished + progress.failed + progress.pruned
        left = progress.seconds_left
        parts = [f"[{done}/{progress.planned}]", progress.last]
        if progress.best is not None:
            parts.append(f"| best {100 * progress.best[0]:.2f} {progress.best[1]}")
        counts = ("failed", "pruned", "running", "elsewhere")
        parts += [f"| {getattr(progress, name)} {name}" for name in counts if getattr(progress, name)]
        if left:
            parts.append(f"| {clock(left)} left")
        note(" ".join(parts))

    yield tell


def clock(seconds: float) -> str:
    """Print a duration as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _plain_lines() -> Callable[[str, int, int], None]:
    said: dict[str, float] = {}

    def tell(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = what not in said
        if first or done >= total or now - said[what] >= QUIET_SECONDS:
            said[what] = now
            note(f"{what}: {done}/{total}")

    return tell
