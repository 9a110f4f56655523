"""The verbs `label` and `trial`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.bounds import span
from harness.cli.options import (
    K1,
    K2,
    Below,
    Db,
    Form,
    Fusion,
    GroundTruth,
    Labels,
    M,
    MinConfidence,
    Options,
    ProtocolName,
    Root,
    Seed,
    SkipBad,
    Threads,
    Truth,
    Weights,
    options_of,
    places_of,
    tabular,
)

NOT_KNOWN = "have no known condition."  # how `benchmarks.metrics` ends the sentence of a number that lacks labels


@tabular
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
    form: Form = "text",
) -> None:
    """Pseudo-label the training clips, without any fine-tuning; with --truth, judge the labels too.

    Example: asdbench label ~/dcase --protocol paper --m 3 --k1 15 --k2 15
    """
    from harness.answers.columns import quality_columns
    from harness.cli.console import say, show, telling
    from harness.tables import count, percent, plain
    from harness.trials.choices import TrialChoices
    from harness.verbs.trials import label_chosen

    with telling() as told:
        choices = TrialChoices(
            protocol=protocol, m=m, k1=k1, k2=k2, fusion=fusion, backbone=backbone, weights=weights,
            options=options_of(option), min_confidence=min_confidence, below=below, seed=seed, labels=labels,
            truth=truth, ground_truth=ground_truth, skip_bad=skip_bad,
        )  # fmt: skip
        document = label_chosen(root, choices, out=out, told=told)
    columns = [
        plain("machine"),
        plain("case"),
        *(count(n) for n in ("clips", "labeled", "pseudo_labeled", "left_out", "classes", "singletons")),
        percent("mean_confidence", "confidence %"),
        count("candidates"),
        count("distinct_m", "M that differ"),
        *(quality_columns() if any("purity" in row for row in document["rows"]) else []),
    ]
    source = {"paper": f"M = {m}", "truth": "the truth: an upper bound", "machine": "the machine type alone"}
    title = f"Pseudo-labels of {protocol}, {source.get(labels, f'{labels}, M = {m}')}"
    show(form, columns, document["rows"], title=title, document=document)
    if form == "text":
        for row in document["rows"]:
            say(f"{row['machine']}: {row['why']}")


@tabular
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
        list[str] | None, typer.Option(show_default="knn", help="NAME or NAME:option=value,...; may be repeated.")
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="No labels and no fine-tuning.")] = False,
    epochs: Annotated[
        int, typer.Option(min=0, max=span("epochs")["max"], help="Passes over the training clips; 0 is --frozen.")
    ] = 40,
    batch_size: Annotated[int, typer.Option(**span("batch_size"), help="Clips an optimiser step sees.")] = 512,
    learning_rate: Annotated[float, typer.Option(**span("learning_rate"), help="Peak, after warm-up.")] = 2e-4,
    warmup_epochs: Annotated[float, typer.Option(**span("warmup_epochs"), help="Linear warm-up.")] = 4.0,
    clip_seconds: Annotated[
        float, typer.Option(**span("clip_seconds"), help="Every clip is brought to this length.")
    ] = 10.0,
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
    keep: Annotated[bool, typer.Option("--keep", help="Keep the encoder as an MLflow model, for new clips.")] = False,
    threads: Threads = 1,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Run one trial in this process and record it.

    Example: asdbench trial ~/dcase --protocol dcase2023 --backbone tiny --m 3 --epochs 10
    """
    from harness.cli.console import say, show, telling
    from harness.tables import in_percent, percent, plain
    from harness.trials.choices import TrialChoices
    from harness.verbs.trials import run_chosen

    with telling() as told:
        choices = TrialChoices(
            protocol=protocol, backbone=backbone, m=None if frozen or not epochs else m, k1=k1, k2=k2,
            fusion=fusion, seed=seed, weights=weights, options=options_of(option), scorers=scorer or ["knn"],
            recipe={
                "epochs": max(1, epochs), "batch_size": batch_size, "learning_rate": learning_rate,
                "warmup_epochs": warmup_epochs, "clip_seconds": clip_seconds, **options_of(recipe, flag="--recipe"),
            },
            min_confidence=min_confidence, below=below, labels=labels, truth=truth, ground_truth=ground_truth,
            skip_bad=skip_bad,
        )  # fmt: skip
        document = run_chosen(root, choices, keep=keep, threads=threads, places=places_of(db, None), told=told)
    columns = [
        *(plain(name) for name in ("dataset", "machine", "section")),
        *(percent(name, f"{name} %") for name in ("auc", "s_auc", "t_auc", "p_auc", "h_mean")),
    ]
    show(form, columns, document["rows"], title=f"Trial {document['key']}", document=document)
    if form == "text":
        ends = (document["intervals"] or {}).get("official")
        between = f", 95 % interval over clips {in_percent(ends[0])} to {in_percent(ends[1])}" if ends else ""
        say(f"Official score {in_percent(document['official_score'])}{between}. MLflow run {document['run_id']}.")
        unlabelled = [why for why in document["undefined"] if why.endswith(NOT_KNOWN)]
        for why in document["undefined"]:
            if why not in unlabelled:
                say(f"Undefined: {why}")
        if unlabelled:
            say(
                f"Undefined: {len(unlabelled)} numbers need labels that the test clips do not have (--json says which)."
            )
            if frozen or not epochs or keep:
                say(f"What sounds unlike training: asdbench detect {document['key']} {shlex.quote(str(root))}")
            else:
                say("What sounds unlike training is told by a kept encoder: run the same command with --keep.")
