"""The verbs about backbones: pre-train one, check one, and write its embeddings to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.bounds import span
from harness.cli.options import (
    Data,
    Db,
    Form,
    GroundTruth,
    Options,
    ProtocolName,
    Root,
    Seed,
    SkipBad,
    Threads,
    Weights,
    options_of,
    places_of,
    tabular,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PADDED = 0.25  # if padding takes a larger share of the input, the verb says so


@tabular
def pretrain(
    data: Data,
    protocol: ProtocolName,
    out: Annotated[Path, typer.Option(help="The checkpoint to write, in the backbone's official format.")],
    backbone: Annotated[str, typer.Option(help="By name, one with a decoder.")] = "audiomae",
    weights: Weights = "",
    option: Options = None,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training clips.")] = 40,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips an optimiser step sees.")] = 512,
    base_learning_rate: Annotated[float, typer.Option(help="The peak is this times batch size / 256.")] = 2e-4,
    warmup_epochs: Annotated[float, typer.Option(min=0, help="Linear warm-up.")] = 4.0,
    mask_ratio: Annotated[float, typer.Option(min=0, max=1, help="Share of masked patches.")] = 0.8,
    clip_seconds: Annotated[float, typer.Option(min=0.1, help="Every clip is brought to this length.")] = 10.0,
    recipe: Annotated[
        list[str] | None, typer.Option(help="Another choice of the recipe, NAME=VALUE; may be repeated.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, show_default="one a core", help="Of torch.")] = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Pre-train a backbone by masked reconstruction of the training clips; a stopped one goes on where it was.

    The file is what --weights takes everywhere else. Test clips are not heard.

    Example: asdbench pretrain --backbone audiomae --data ~/dcase --protocol paper --out audiomae.pt
    """
    from harness import verbs
    from harness.cli.console import note, say, show, telling
    from harness.tables import count, plain

    with telling() as told:
        row = verbs.pretrain(
            data, protocol=protocol, backbone=backbone, out=out, weights=weights, options=options_of(option), seed=seed,
            recipe={
                "epochs": epochs, "batch_size": batch_size, "base_learning_rate": base_learning_rate,
                "warmup_epochs": warmup_epochs, "mask_ratio": mask_ratio, "clip_seconds": clip_seconds,
                **options_of(recipe, flag="--recipe"),
            },
            threads=threads, ground_truth=ground_truth, skip_bad=skip_bad, places=places_of(db, None), told=told,
        )  # fmt: skip
    columns = [plain("backbone"), plain("protocol"), count("clips"), count("epochs"), plain("loss"), plain("out")]
    show(form, columns, [row], title="Pre-trained", document=row)
    if row["padding"] > PADDED:
        note(f"{row['padding']:.0%} of the input is padding: --option frames=... would make the model's input shorter.")
    if form == "text":
        done = "It was done already." if row["status"] == "already" else ""
        say(f"sha256 {row['sha256']}. MLflow run {row['run_id']}. {done}".rstrip())


@tabular
def check_backbone(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone: see `asdbench ls backbones`, or hf:FOLDER.")],
    weights: Weights = "",
    option: Options = None,
    seconds: Annotated[float, typer.Option(help="Length of the clips of most lines.")] = 10.0,
    threads: Threads = 1,
    form: Form = "text",
) -> None:
    """Check a backbone against the contract, line by line; exit 1 where a line fails.

    Example: asdbench check-backbone tiny
    """
    from harness import verbs
    from harness.cli.console import note, say, show
    from harness.tables import plain

    report = verbs.check_backbone(
        name, weights=weights, options=options_of(option), seconds=seconds, threads=threads,
        listen=lambda line: note(f"{line.name}: {line.status}"),
    )  # fmt: skip
    columns = [plain("name", "check"), plain("status"), plain("found"), plain("why", "why it matters")]
    show(form, columns, report["rows"], title=f"Backbone {name}", document=report)
    if not report["passed"]:
        failed = ", ".join(row["name"] for row in report["rows"] if row["status"] == "fail")
        note(f"{name} does not meet the contract: {failed}.", style="red")
        raise typer.Exit(1)
    if form == "text":
        say(checked_sentence(name, report["rows"]), style="green")


def checked_sentence(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Say that a backbone meets the contract, and which checks could not be made here.

    Args:
        name: of the backbone.
        rows: its checks, none of which failed.
    """
    from harness.tables import how_many

    passed = sum(row["status"] == "pass" for row in rows)
    skipped = [row["name"] for row in rows if row["status"] == "skip"]
    said = f"{name} meets the contract: {how_many(passed, 'check')} passed, none failed"
    return f"{said}; not checked here: {', '.join(skipped)}." if skipped else f"{said}."


@tabular
def embed(
    root: Root,
    backbone: Annotated[str, typer.Option(help="By name; see `asdbench ls backbones`.")],
    out: Annotated[Path, typer.Option(help="The .npz to write: names of clips as `files`, embeddings as `vectors`.")],
    protocol: Annotated[str, typer.Option(show_default="all that are there", help="Only its clips.")] = "",
    weights: Weights = "",
    option: Options = None,
    seed: Seed = 0,
    clip_seconds: Annotated[
        float, typer.Option(**span("clip_seconds"), help="Every clip is brought to this length.")
    ] = 10.0,
    fit: Annotated[Literal["repeat", "pad"], typer.Option(help="What becomes of a shorter clip.")] = "repeat",
    skip_bad: SkipBad = False,
    threads: Threads = 1,
    form: Form = "text",
) -> None:
    """Write the embeddings of recordings to a file, which is a backbone (emb:FILE) and a root of its own.

    Example: asdbench embed ~/dcase --backbone tiny --out tiny.npz
    """
    from harness import verbs
    from harness.cli.console import show, telling
    from harness.tables import count, plain

    with telling() as told:
        row = verbs.embed(
            root, backbone=backbone, out=out, protocol=protocol, weights=weights, options=options_of(option), seed=seed,
            clip_seconds=clip_seconds, fit=fit, skip_bad=skip_bad, threads=threads, told=told,
        )  # fmt: skip
    columns = [plain("out"), plain("backbone"), count("clips"), count("dim"), count("bytes"), plain("sha256")]
    show(form, columns, [row], title="Embeddings", document=row)
