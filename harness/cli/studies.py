"""The verbs about studies, and `demo`."""

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
    recorded_in,
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
    share: Annotated[
        str | None,
        typer.Option(help="With --address: folder or object store (s3://...) from which nodes get the recordings."),
    ] = None,
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
    from harness.cli.console import note, telling, watching
    from harness.cli.show import show_outcome

    places = places_of(db, optuna)
    with telling() as told, watching() as listen:
        outcome = verbs.study_run(
            study,
            data=data,
            workers=workers,
            address=address,
            share=share,
            retry_failed=retry_failed,
            ground_truth=ground_truth,
            skip_bad=skip_bad,
            places=places,
            told=told,
            listen=listen,
            say=note,
        )
    show_outcome(outcome, places)


@study_app.command("plan", cls=Verb)
@tabular
def study_plan(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="As of `study run`.")],
    data: Data,
    workers: Annotated[
        int | None, typer.Option(**span("workers"), show_default="as the study says", help="Trials at once.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="State the hours for this GPU (H100, A100, ...), not for here.")] = "",
    share: Annotated[
        float | None, typer.Option(min=0.001, max=1, show_default="0.2", help="Of the GPU's peak that is reached.")
    ] = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    form: Form = "text",
) -> None:
    """Say what a study will take before any trial begins: trials, classes, hours, memory, disk.

    Example: asdbench study plan real --data ~/dcase
    """
    from harness import verbs
    from harness.cli.console import say, show, telling
    from harness.studies.costs import said_count
    from harness.tables import Column, count, how_many, lasting, number, plain

    with telling() as told:
        costs = verbs.study_plan(
            study, data=data, workers=workers, gpu=gpu, share=share, ground_truth=ground_truth, skip_bad=skip_bad,
            told=told,
        )  # fmt: skip
    exact = {row["exact"] for row in costs["classes"]}
    columns = [
        plain("labels"), count("m", "M"), count("k1", "K1"), count("k2", "K2"), plain("fusion"),
        *(count(name) for name in ("classes", "singletons")), count("left_out", "left out"),
        *([plain("exact")] if len(exact) > 1 else []),
    ]  # fmt: skip
    show(form, columns, costs["classes"], title="Classes of the first seed's labels", document=costs)
    if form == "text":
        if False in exact:
            which = "Rows that are not exact" if True in exact else "These rows"
            say(
                f"{which} are estimates: clips were clustered by their MFCC, since the encoder's embeddings of all "
                "clips are made as the study runs."
            )
        takes = Column("takes", lambda row: lasting(3600 * row["hours"]), right=True)
        columns = [
            plain("backbone"), plain("train"), count("trials"), count("trainings"),
            *([count("first_rounds", "first rounds")] if any(each["first_rounds"] for each in costs["backbones"])
              else []),
            number("embed_seconds", "s to embed a clip"), number("train_seconds", "s a clip and epoch"),
            takes,
        ]  # fmt: skip
        show(form, columns, costs["backbones"], title="What each backbone takes")
        say(said_count(costs))
        say(
            f"About {lasting(3600 * costs['hours'])} with {how_many(costs['workers'], 'trial')} at a time "
            f"({costs['basis']}), {costs['memory_gb']:.1f} GiB of memory, {costs['disk_gb']:.1f} GiB of disk."
        )


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
    places = recorded_in(db, optuna)
    from harness import verbs
    from harness.cli.show import show_status

    row = verbs.study_status(study, trials=trials, places=places)
    show_status(row, form)


@study_app.command("ls", cls=Verb)
@tabular
def study_ls(db: Db = None, form: Form = "text") -> None:
    """List the recorded studies.

    Example: asdbench study ls
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.console import show
    from harness.tables import count, plain, times

    rows = verbs.study_ls(places=places)
    columns = [
        plain("name"), plain("key"), plain("protocol"), count("planned"), count("finished"),
        times("created", "created (UTC)"),
    ]  # fmt: skip
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
    from harness.verbs import demonstration

    places = places_of(db, optuna)
    with telling() as told:
        demonstration.generate_recordings(data, told=told)
    with telling() as told, watching() as listen:
        outcome = demonstration.run(data, workers=workers, places=places, told=told, listen=listen)
    show_outcome(outcome, places)
