"""The verbs about studies: one verb, one function, one call into the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.bounds import span
from harness.cli.options import (
    Data,
    Db,
    Form,
    GroundTruth,
    Optuna,
    SkipBad,
    Verb,
    places_of,
    tabular,
)

study_app = typer.Typer(no_args_is_help=True, help="Studies: run, watch and list them.")


@study_app.command("run", cls=Verb)
@tabular
def study_run(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="One that ships (`asdbench ls studies`), or a .toml file.")
    ],
    data: Data,
    workers: Annotated[
        int | None, typer.Option(**span("workers"), show_default="as the study says", help="Trials at once.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Join this Ray cluster instead of starting Ray here.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Take up again what is recorded as failed.")
    ] = False,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    db: Db = None,
    optuna: Optuna = None,
) -> None:
    """Run a study to the end, from wherever it stopped.

    Example: asdbench study run real-mini --data ~/dcase
    """
    from harness import verbs
    from harness.cli.console import telling, watching
    from harness.cli.show import show_outcome

    places = places_of(db, optuna)
    with telling() as told, watching() as listen:
        outcome = verbs.study_run(
            study,
            data=data,
            workers=workers,
            address=address,
            retry_failed=retry_failed,
            ground_truth=ground_truth,
            skip_bad=skip_bad,
            places=places,
            told=told,
            listen=listen,
        )
    show_outcome(outcome, places)


@study_app.command("status", cls=Verb)
@tabular
def study_status(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A recorded study, by name or key.")],
    trials: Annotated[bool, typer.Option("--trials", help="What each recorded trial cost, too.")] = False,
    db: Db = None,
    optuna: Optuna = None,
    form: Form = "text",
) -> None:
    """Say how far a study is: planned, finished, failed, pruned, running; what runs where, and why trials failed.

    Example: asdbench study status demo
    """
    from harness import verbs
    from harness.cli.show import show_status

    row = verbs.study_status(study, trials=trials, places=places_of(db, optuna))
    show_status(row, form)


@study_app.command("ls", cls=Verb)
@tabular
def study_ls(db: Db = None, form: Form = "text") -> None:
    """List the recorded studies.

    Example: asdbench study ls
    """
    from harness import verbs
    from harness.cli.console import show
    from harness.tables import count, plain

    rows = verbs.study_ls(places=places_of(db, None))
    columns = [plain("name"), plain("key"), plain("protocol"), count("planned"), count("finished"), plain("created")]
    show(form, columns, rows, title="Recorded studies")


@tabular
def demo(
    data: Annotated[Path, typer.Option(help="Where the generated recordings go.")] = Path(".asdbench/demo"),
    workers: Annotated[
        int | None, typer.Option(**span("workers"), show_default="one a core", help="Trials at once.")
    ] = None,
    db: Db = None,
    optuna: Optuna = None,
) -> None:
    """Generate recordings, run Top-M against Top-1 on two small backbones, show the leaderboard.

    A few minutes on two cores. Run again, it goes on where it stopped and computes nothing twice.

    Example: asdbench demo
    """
    from harness.cli.console import telling, watching
    from harness.cli.show import show_outcome
    from harness.verbs import demo as demonstration

    places = places_of(db, optuna)
    with telling() as told:
        demonstration.generate_recordings(data, told=told)
    with telling() as told, watching() as listen:
        outcome = demonstration.run(data, workers=workers, places=places, told=told, listen=listen)
    show_outcome(outcome, places)
