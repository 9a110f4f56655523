"""The command line: one verb, one function, one call into the library."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.answers import compare, leaderboard, reference
from harness.cli.backbones import pretrain
from harness.cli.check_ import check_backbone
from harness.cli.data import data_app
from harness.cli.gate import baseline_app, regress_app
from harness.cli.options import (
    K1,
    K2,
    Below,
    Csv,
    Db,
    Fusion,
    GroundTruth,
    Json,
    Labels,
    M,
    Markdown,
    MinConfidence,
    Options,
    Optuna,
    ProtocolName,
    Root,
    Seed,
    SkipBad,
    Truth,
    Weights,
    form_of,
    options_of,
    places_of,
)
from harness.cli.report_ import report
from harness.cli.scores import score, submit
from harness.cli.studies import study_app
from harness.cli.sync_ import sync
from harness.interrupts import answer_stops

INTERRUPTED, TERMINATED = 130, 143  # exit status after Ctrl-C and SIGTERM, as shells have it

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

app = typer.Typer(
    name="asdbench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Anomalous sound detection: does Top-M pseudo-labeling beat Top-1, and by more than chance?",
    epilog="Environment: ASDBENCH_WEIGHTS, ASDBENCH_CACHE, MLFLOW_TRACKING_URI.",
)
app.command()(sync)
app.add_typer(data_app, name="data")
app.add_typer(study_app, name="study")
app.command("check-backbone")(check_backbone)
app.add_typer(regress_app)
app.add_typer(baseline_app, name="baseline")
app.command()(report)
for verb in (leaderboard, compare, reference):
    app.command()(verb)
app.command()(score)
app.command()(submit)
app.command()(pretrain)


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


@app.command()
def demo(
    data: Annotated[Path, typer.Option(help="Where the generated recordings go.")] = Path(".asdbench/demo"),
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at once [default: one a core].")] = None,
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


@app.command()
def ls(
    kind: Annotated[
        str | None, typer.Argument(help="backbones, strategies, datasets, scorers, protocols or studies.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """List what can be named.

    Example: asdbench ls backbones
    """
    from harness.cli.console import show
    from harness.tables import plain
    from harness.verbs import all_ as verbs

    rows = verbs.ls(kind)
    columns = [plain("kind"), plain("name"), plain("summary")]
    show(form_of(as_json, as_csv, as_markdown), columns, rows, title="What there is")


@app.command()
def label(
    root: Root,
    protocol: ProtocolName,
    m: M = 1,
    k1: K1 = 15,
    k2: K2 = 15,
    fusion: Fusion = "composite",
    backbone: Annotated[str, typer.Option(help="Whose pre-trained latents are clustered.")] = "tiny",
    weights: Weights = "",
    option: Options = None,
    min_confidence: MinConfidence = 0.9,
    below: Below = "drop",
    seed: Seed = 0,
    labels: Labels = "paper",
    truth: Truth = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path | None, typer.Option(help="Write the labels to a .parquet or .csv file.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """Pseudo-label the training clips, without any fine-tuning; with --truth, judge the labels too.

    Example: asdbench label ~/dcase --protocol paper --m 3 --k1 15 --k2 15
    """
    from harness.cli.console import say, show, telling
    from harness.tables import count, percent, plain, quality_columns
    from harness.verbs import all_ as verbs

    with telling() as told:
        document = verbs.label(
            root, protocol=protocol, m=m, k1=k1, k2=k2, fusion=fusion, backbone=backbone, weights=weights,
            options=options_of(option), min_confidence=min_confidence, below=below, seed=seed, labels=labels,
            truth=truth, ground_truth=ground_truth, skip_bad=skip_bad, out=out, told=told,
        )  # fmt: skip
    form = form_of(as_json, as_csv, as_markdown)
    columns = [
        plain("machine"),
        plain("case"),
        *(count(n) for n in ("clips", "labeled", "pseudo_labeled", "left_out", "classes", "singletons")),
        percent("mean_confidence", "confidence %"),
        *(quality_columns() if any("purity" in row for row in document["rows"]) else []),
    ]
    source = {"paper": f"M = {m}", "gmm": f"Gaussian mixtures, M = {m}", "machine": "the machine type alone"}
    title = f"Pseudo-labels of {protocol}, {source.get(labels, 'the truth: an upper bound')}"
    show(form, columns, document["rows"], title=title, document=document)
    if form == "text":
        for row in document["rows"]:
            say(f"{row['machine']}: {row['why']}")


@app.command()
def trial(
    root: Root,
    protocol: ProtocolName,
    backbone: Annotated[str, typer.Option(help="By name; see `asdbench ls backbones`.")],
    m: M = 1,
    k1: K1 = 15,
    k2: K2 = 15,
    fusion: Fusion = "composite",
    seed: Seed = 0,
    weights: Weights = "",
    option: Options = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME:option=value,...; may be repeated [default: knn].")
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="No labels and no fine-tuning.")] = False,
    epochs: Annotated[int, typer.Option(min=0, help="Passes over the training clips; 0 is --frozen.")] = 40,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips an optimiser step sees.")] = 512,
    learning_rate: Annotated[float, typer.Option(help="Peak, after warm-up.")] = 2e-4,
    warmup_epochs: Annotated[float, typer.Option(min=0, help="Linear warm-up.")] = 4.0,
    clip_seconds: Annotated[float, typer.Option(min=0.1, help="Every clip is brought to this length.")] = 10.0,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Another choice of the recipe, NAME=VALUE, as lora_rank=8; may be repeated."),
    ] = None,
    min_confidence: MinConfidence = 0.9,
    below: Below = "drop",
    labels: Labels = "paper",
    truth: Truth = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """Run one trial in this process and record it.

    Example: asdbench trial ~/dcase --protocol dcase2023 --backbone tiny --m 3 --epochs 10
    """
    from harness.cli.console import say, show, telling
    from harness.tables import in_percent, percent, plain
    from harness.verbs import all_ as verbs

    with telling() as told:
        document = verbs.trial(
            root, protocol=protocol, backbone=backbone, m=None if frozen or not epochs else m, k1=k1, k2=k2,
            fusion=fusion, seed=seed, weights=weights, options=options_of(option), scorers=scorer or ["knn"],
            recipe={
                "epochs": max(1, epochs), "batch_size": batch_size, "learning_rate": learning_rate,
                "warmup_epochs": warmup_epochs, "clip_seconds": clip_seconds, **options_of(recipe, flag="--recipe"),
            },
            min_confidence=min_confidence, below=below, labels=labels, truth=truth, threads=threads,
            ground_truth=ground_truth, skip_bad=skip_bad, places=places_of(db, None), told=told,
        )  # fmt: skip
    form = form_of(as_json, as_csv, as_markdown)
    columns = [
        *(plain(name) for name in ("dataset", "machine", "section")),
        *(percent(name, f"{name} %") for name in ("auc", "s_auc", "t_auc", "p_auc", "h_mean")),
    ]
    show(form, columns, document["rows"], title=f"Trial {document['key']}", document=document)
    if form == "text":
        ends = (document["intervals"] or {}).get("official")
        between = f", 95 % interval over clips {in_percent(ends[0])} to {in_percent(ends[1])}" if ends else ""
        say(f"Official score {in_percent(document['official_score'])}{between}. MLflow run {document['run_id']}.")
        for why in document["undefined"]:
            say(f"Undefined: {why}")


def main() -> None:
    """Run the command line; a known error is one sentence and exit status 1."""
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
    except Exception as error:
        if not _is_known(error):
            raise
        _complain(str(error))
        sys.exit(1)


def _is_known(error: Exception) -> bool:
    """Tell whether an error is one of the rooms' own, without importing a room for the question."""
    known = (
        ("harness.trials.contract", "HarnessError"),
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
