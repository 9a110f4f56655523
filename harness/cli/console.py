"""The command line's one console: tables and answers to stdout, progress and errors to stderr."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.studies.progress import Progress as StudyProgress
    from harness.studies.progress import Running
    from harness.tables import Column, Form

PATIENCE = 1.5  # seconds of silence after which a terminal shows what is being done
LONG_SECONDS = 30.0  # of silence after which a line says so where there is no terminal
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
        _pause()
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

    _pause()
    wide, wanted = _looks.get()
    if wanted is not None:
        columns = named_columns(columns, wanted)
    if title:  # a sentence of its own: within the table it would be wrapped to the table's width
        say(title, style="bold")
    if wide:
        Console(width=WIDE).print(text_table(columns, rows), crop=False)
        return
    view = fitting(columns, rows, out.width)
    out.print(text_table(view.columns, rows, width=out.width), soft_wrap=False)
    if view.same:
        said = ", ".join(f"{heading} {value}" for heading, value in view.same.items())
        say(f"In every row that has one: {said}.")
    if view.left_out:
        left_out = ", ".join(f'"{heading}"' if "," in heading else heading for heading in view.left_out)
        some = f"--columns {_quoted(view.left_out[0])}"
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

    if console is out:
        _pause()
    elif (display := _display.get()) is not None and display.live is not None:
        console = display.live.console  # which prints above the bars
    text = printable(text, longest=longest)
    # a terminal would break a long line in the middle of a word; files and pipes take lines as long as they are
    lines = _lines(text, console.width) if console.is_terminal else [text]
    console.print("\n".join(lines), style=style, markup=False, highlight=False, soft_wrap=True)


def _lines(text: str, width: int) -> list[str]:
    """Break a sentence at blanks into lines for a terminal; a word that is longer, such as a path, stays whole.

    The terminal then shows that word in several lines, and whoever copies it gets one.
    """
    lines: list[str] = []
    room = 0
    for word in text.split(" "):
        taken = cell_len(word) + 1
        if lines and taken <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
            room = width + 1
        room -= taken
    return lines


def _pause() -> None:
    """Take the display of progress away before something is printed."""
    if (display := _display.get()) is not None:
        display.pause()


class Display:
    """Shows what a verb is doing: bars on a terminal, plain lines elsewhere. There is one at a time.

    A verb that has said nothing for `PATIENCE` seconds is shown with what it does and for how long. Before anything is
    printed the display is taken away, and it comes back when the next thing is told or time has passed again.

    Args:
        verb: how the work is called until something is told.
    """

    def __init__(self, verb: str) -> None:
        self.verb, self.step, self.began = verb, verb, time.monotonic()
        self.bars: dict[str, tuple[int, int, float]] = {}  # what -> done, in all, when it began
        self.study: StudyProgress | None = None
        self.live: Live | None = None
        self._said: dict[str, tuple[float, str]] = {}  # what -> when it was last told in a line, and the line
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()
        self._wait(PATIENCE if err.is_terminal else LONG_SECONDS)

    def tell(self, what: str, done: int, total: int) -> None:
        """Show how far something is; of 0 in all only that it goes on."""
        with self._lock:
            if total <= 0:
                self.step, self.began = what, time.monotonic()
            else:
                began = self.bars.get(what, (0, 0, time.monotonic()))[2]
                self.bars[what] = (done, total, began)
                if done >= total:
                    del self.bars[what]
                    self.step, self.began = "", time.monotonic()
            if err.is_terminal:
                self._show()
            elif total > 0:
                self._line(what, done, total)

    def watch(self, progress: StudyProgress) -> None:
        """Show a study: a line for each trial that ended, and on a terminal the running trials below."""
        with self._lock:
            self.step, self.study = "", progress
            for line in study_lines(progress, brief=err.is_terminal):
                note(line)
            if err.is_terminal:
                self._show()

    def pause(self) -> None:
        """Take the display away, so that something can be printed."""
        with self._lock:
            if self.live is not None:
                self.live.stop()
                self.live = None
            if self._timer is not None and err.is_terminal:  # else it would start in the middle of what is printed
                self._wait(PATIENCE)

    def close(self) -> None:
        """Take the display away for good."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            self.study, self.bars = None, {}
            if self.live is not None:
                self.live.stop()
                self.live = None

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._overdue)
        self._timer.daemon = True
        self._timer.start()

    def _overdue(self) -> None:
        """Break the silence."""
        with self._lock:
            if self._timer is None:
                return
            if err.is_terminal:
                self._show()
            elif self.study is None:
                what, (_, _, began) = next(reversed(self.bars.items()), (self.step or self.verb, (0, 0, self.began)))
                note(f"{what}: {clock(time.monotonic() - began)}")
                self._wait(LONG_SECONDS)

    def _show(self) -> None:
        if self.live is None and self._timer is not None:
            self.live = Live(
                get_renderable=self._drawn, console=err, transient=True, refresh_per_second=4,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self.live.start()

    def _drawn(self) -> Group:
        """Draw what is going on; called several times a second, from a thread of its own."""
        from harness.tables import brief

        table = _rows_of_bars()
        if self.step and not self.bars:
            table.add_row(Text(brief(self.step)), None, "", clock(time.monotonic() - self.began))
        for what, (done, total, began) in list(self.bars.items()):
            elapsed = max(time.monotonic() - began, 1e-3)
            rate = done / elapsed
            left = f"{clock((total - done) / rate)} left" if done else ""
            table.add_row(Text(brief(what)), ProgressBar(total, done), f"{done}/{total} {rate:,.1f}/s", left)
        return Group(table, *([_drawn_study(self.study)] if self.study else []))

    def _line(self, what: str, done: int, total: int) -> None:
        now, line = time.monotonic(), f"{what}: {done}/{total}"
        told, last = self._said.get(what, (-math.inf, ""))
        # what runs once for each of several choices ends several times, with the same line
        if line != last and (done >= total or now - told >= QUIET_SECONDS):
            self._said[what] = (now, line)
            note(line)
            if self._timer is not None:  # else the display is closed, and nobody would end a new timer
                self._wait(LONG_SECONDS)


_display: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def displaying(verb: str) -> Iterator[Display]:
    """Show what a verb is doing in the block; inside another such block nothing changes."""
    from harness.told import hearing

    if (there := _display.get()) is not None:
        yield there
        return
    display = Display(verb)
    set_before = _display.set(display)
    try:
        with hearing(display.tell):
            yield display
    finally:
        _display.reset(set_before)
        display.close()


@contextmanager
def telling() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that reports progress: as a bar on a terminal, as plain lines elsewhere."""
    with displaying("") as display:
        yield display.tell


@contextmanager
def watching() -> Iterator[Callable[[StudyProgress], None]]:
    """Yield a function that shows a study: running trials on a terminal, a line after each trial everywhere."""
    with displaying("") as display:
        yield display.watch


def study_lines(progress: StudyProgress, *, brief: bool) -> list[str]:
    """Return the lines that say what just happened in a study.

    Args:
        progress: of the study.
        brief: leave out what the display below the lines shows anyway: best, running, time left.
    """
    if not progress.last:
        before = f"{progress.taken_over} of {progress.planned} trials were recorded before and are taken over"
        none = "1 trial, not" if progress.planned == 1 else f"{progress.planned} trials, none of them"
        return [f"{before}." if progress.taken_over else f"{none} recorded before."]
    parts = [f"[{progress.done}/{progress.planned}]", progress.last]
    if not brief:
        if progress.best is not None:
            parts.append(f"| best {100 * progress.best[0]:.2f} {progress.best[1]}")
        counts = ("failed", "pruned", "running", "elsewhere")
        parts += [f"| {getattr(progress, name)} {name}" for name in counts if getattr(progress, name)]
        if (left := progress.seconds_left) is not None and progress.done < progress.planned:
            parts.append(f"| {clock(left)} left")
    return [" ".join(parts)]


def _rows_of_bars() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=16)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right", min_width=12)
    return table


def _drawn_study(progress: StudyProgress) -> Group:
    """Draw a study: a bar for all of it, one for each running trial, and the best fine-tuned one."""
    from harness.tables import brief

    table = _rows_of_bars()
    left = progress.seconds_left
    shown = f"{clock(left)} left" if left is not None else clock(time.monotonic() - progress.began)
    before = f" ({progress.taken_over} from before)" if progress.taken_over else ""
    table.add_row(
        Text(f"trials{before}", style="bold"), ProgressBar(progress.planned, progress.done),
        f"{progress.done}/{progress.planned}", shown,
    )  # fmt: skip
    for each in list(progress.trials.values()):
        table.add_row(Text(brief(each.label)), *_drawn_trial(each))
    said = [
        f"{getattr(progress, name)} {name}" for name in ("failed", "pruned", "elsewhere") if getattr(progress, name)
    ]
    if progress.best is not None:
        said.insert(0, f"best {100 * progress.best[0]:.2f}: {brief(progress.best[1])}")
    return Group(table, *([Text(", ".join(said), overflow="ellipsis", no_wrap=True)] if said else []))


def _drawn_trial(each: Running) -> tuple[ProgressBar | None, str, str]:
    """Return a running trial's bar, its rate, and its time left or, where that is not known, since it began."""
    since = clock(time.monotonic() - each.began)
    if not each.epochs:
        return None, "no training", since
    bar = ProgressBar(each.epochs, each.epoch)
    if not each.epoch:
        return bar, "labeling", since
    if each.epoch >= each.epochs:
        return bar, "scoring", since
    rate = each.seconds_an_epoch
    pace = f" {rate:,.1f} s each" if rate is not None else ""
    left = each.seconds_left
    return bar, f"epoch {each.epoch}/{each.epochs}{pace}", f"{clock(left)} left" if left is not None else since


def clock(seconds: float) -> str:
    """Print a duration as 1:02:03 or 2:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
