"""The command line: one verb, one function, one call into the library."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from harness.cli.answers import compare, importance, leaderboard, reference, report
from harness.cli.backbones import check_backbone, embed, pretrain
from harness.cli.data import data_app, sync
from harness.cli.gate import baseline_app, bench_backbone, regress, select
from harness.cli.options import (
    Form,
    Verb,
    tabular,
)
from harness.cli.scores import score, submit
from harness.cli.studies import demo, study_app
from harness.cli.trials import label, trial
from harness.cli.weights import weights_app
from harness.interrupts import answer_stops

INTERRUPTED, TERMINATED = 130, 143  # exit status after Ctrl-C and SIGTERM, as shells have it

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

app = typer.Typer(
    name="asdbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # in "rich", what stands in brackets is taken for a colour: "Trials at once [default: 2]"
    help="Anomalous sound detection: does Top-M pseudo-labeling beat Top-1, and by more than chance?",
    epilog="Environment: ASDBENCH_WEIGHTS, ASDBENCH_CACHE, MLFLOW_TRACKING_URI.",
)


@tabular
def ls(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="backbones, losses, strategies, datasets, scorers, protocols or studies."),
    ] = None,
    form: Form = "text",
) -> None:
    """List what can be named.

    Example: asdbench ls backbones
    """
    from harness import verbs
    from harness.cli.console import show
    from harness.tables import plain

    rows = verbs.ls(kind)
    columns = [plain("kind"), plain("name"), plain("summary")]
    show(form, columns, rows, title="What there is")


# in the order in which they are needed
VERBS: dict[str, dict[str, Any]] = {
    "First": {"demo": demo, "ls": ls},
    "Recordings": {"data": data_app, "label": label},
    "Weights": {"weights": weights_app},
    "Trials and studies": {"trial": trial, "study": study_app},
    "Answers": {
        "leaderboard": leaderboard,
        "compare": compare,
        "importance": importance,
        "report": report,
        "select": select,
        "reference": reference,
    },
    "Score files": {"score": score, "submit": submit},
    "New backbones": {
        "check-backbone": check_backbone,
        "embed": embed,
        "pretrain": pretrain,
        "bench-backbone": bench_backbone,
        "baseline": baseline_app,
        "regress": regress,
    },
    "Stores": {"sync": sync},
}
for panel, verbs_of_panel in VERBS.items():
    for name, verb in verbs_of_panel.items():
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name, rich_help_panel=panel)
        else:
            app.command(name, cls=Verb, rich_help_panel=panel)(verb)


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Say which version this is."""
    if show_version:
        from importlib.metadata import version as installed

        from harness.cli.console import say

        say(f"asdbench {installed('asdbench')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a known error is one sentence and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Japanese Windows, a plain C locale: many have no sign for "–"
    atexit.register(gc.freeze)  # Python would look through the frameworks' million objects once more, for two seconds
    asked = answer_stops()
    try:
        app()
    except SystemExit as end:
        if end.code not in (INTERRUPTED, signal.SIGTERM):  # typer's answer to Ctrl-C, Ray's to SIGTERM while it starts
            raise
        _complain("Stopped. Run the same command again to go on where it stopped.")
        eval("0")  # noqa: S307 - else Python dies by the signal where the request to stop met an exec(), as of dataclasses
        sys.exit(TERMINATED if signal.SIGTERM in (end.code, *asked[:1]) else INTERRUPTED)
    except BrokenPipeError:  # who read the answer has seen enough, as `head` has
        _forget_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:  # of a place that was named: too long, not ours to enter, a full disk, ...
            _complain(_of_place(error))
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _forget_output()
            _complain(f"What was asked must be written to standard output, but that cannot be: {error.strerror}.")
        else:
            raise
        sys.exit(1)
    except Exception as error:
        if not _is_known(error):
            raise
        _complain(str(error))
        sys.exit(1)


def _of_place(error: OSError) -> str:
    """Say what a file or folder answered that nobody expected to."""
    from harness.tables import brief

    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"Files and folders must be ones that can be read and written, but {brief(name)}: {error.strerror}."


def _forget_output() -> None:
    """Write what is left for standard output nowhere, so that Python does not try again, and complain, as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_known(error: Exception) -> bool:
    """Tell whether an error is one of the rooms' own, without importing a room for the question."""
    known = (
        ("harness.errors", "HarnessError"),
        ("backbones.contract", "BackboneError"),
        ("benchmarks.contract", "BenchmarkError"),
        ("labeling.contract", "LabelingError"),
    )
    classes = [getattr(sys.modules[module], name) for module, name in known if module in sys.modules]
    return isinstance(error, tuple(classes))


def _complain(text: str) -> None:
    from harness.cli.console import note

    note(f"asdbench: {text}", style="red")


if __name__ == "__main__":
    main()
