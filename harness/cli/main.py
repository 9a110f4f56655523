"""The program `asdbench`: collects the verbs, and turns known errors into one sentence and an exit status."""

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
    Journey,
    Verb,
    tabular,
)
from harness.cli.scores import detect, score, submit
from harness.cli.studies import demo, study_app
from harness.cli.trials import label, trial
from harness.cli.weights import weights_app
from harness.interrupts import answer_stops

INTERRUPTED, TERMINATED = 130, 143  # exit status after Ctrl-C and SIGTERM: 128 + the signal's number, as in shells

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

app = typer.Typer(
    name="asdbench",
    cls=Journey,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
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


# in the order in which a new user needs them
VERBS: dict[str, dict[str, Any]] = {
    "First": {"demo": demo, "ls": ls},
    "Recordings": {"data": data_app, "label": label},
    "Trials and studies": {"trial": trial, "study": study_app, "detect": detect},
    "Answers": {
        "leaderboard": leaderboard,
        "compare": compare,
        "importance": importance,
        "report": report,
        "select": select,
        "reference": reference,
    },
    "Score files": {"score": score, "submit": submit},
    "Backbones": {
        "weights": weights_app,
        "check-backbone": check_backbone,
        "embed": embed,
        "pretrain": pretrain,
        "bench-backbone": bench_backbone,
        "baseline": baseline_app,
        "regress": regress,
    },
    "Stores": {"sync": sync},
}
Journey.order = [name for verbs_of_panel in VERBS.values() for name in verbs_of_panel]
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
            stream.reconfigure(errors="replace")  # some encodings (Japanese Windows, C locale) lack "–"
    atexit.register(gc.freeze)  # else the last garbage collection takes two seconds for the frameworks' objects
    asked = answer_stops()
    try:
        app()
    except SystemExit as end:
        if end.code not in (INTERRUPTED, signal.SIGTERM):  # Typer exits with 130 after Ctrl-C, Ray with 15 on SIGTERM
            raise
        _complain("Stopped. Run the same command again to go on where it stopped.")
        eval("0")  # noqa: S307 - else Python dies by the signal where the request to stop met an exec(), as of dataclasses
        sys.exit(TERMINATED if signal.SIGTERM in (end.code, *asked[:1]) else INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        _forget_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:  # about a path: name too long, no permission, disk full, ...
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
    """Put an unexpected error of a file or folder into a sentence."""
    from harness.tables import brief

    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"Files and folders must be ones that can be read and written, but {brief(name)}: {error.strerror}."


def _forget_output() -> None:
    """Send the rest of standard output to /dev/null, so that Python does not raise BrokenPipeError again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_known(error: Exception) -> bool:
    """Tell whether an error is one of asdbench's own classes, without importing their modules."""
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
