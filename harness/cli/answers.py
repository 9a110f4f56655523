"""The command line's answers: leaderboard, comparison, published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    BackboneFilter,
    Db,
    Form,
    ProtocolFilter,
    ScorerName,
    Seed,
    StudyName,
    places_of,
    recorded_in,
    tabular,
)

TOP = 50  # as `harness.cli.show.TOP`, which imports more than `--help` needs


@tabular
def leaderboard(
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    machine: Annotated[str | None, typer.Option(help="Rank by this machine type.")] = None,
    scorer: ScorerName = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=f"{TOP} in a table", help="Only each board's best, and its frozen and level row."
        ),
    ] = None,
    references: Annotated[
        bool, typer.Option(show_default="on", help="Show chance and published results beside what was run.")
    ] = True,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Rank everything that is recorded, in tiers that the data can tell apart, with reference rows beside it.

    Example: asdbench leaderboard --study demo --markdown
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.show import show_leaderboard

    if top is None and form in ("text", "markdown"):
        top = TOP
    rows = verbs.leaderboard(
        places=places, study=study, protocol=protocol, backbone=backbone, machine=machine, scorer=scorer,
        top=top, references=references,
    )  # fmt: skip
    show_leaderboard(rows, form, machine=machine)


@tabular
def compare(
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    scorer: ScorerName = None,
    every: Annotated[bool, typer.Option("--all", help="Every family, not only the 50 with the best scores.")] = False,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
    seed: Seed = 0,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Compare Top-M with Top-1, paired, with intervals and corrected p-values.

    Example: asdbench compare --study demo
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.answers.compare import FAMILIES
    from harness.cli.show import show_compare

    rows = verbs.compare(
        places=places, study=study, protocol=protocol, backbone=backbone, scorer=scorer,
        families=None if every else FAMILIES, resamples=resamples, seed=seed,
    )  # fmt: skip
    mattered = verbs.importance(
        places=places, study=study, protocol=protocol, backbone=backbone, scorer=scorer,
        resamples=resamples, seed=seed,
    ) if form in ("text", "json") else []  # fmt: skip
    show_compare(rows, form, mattered=mattered)


@tabular
def importance(
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    scorer: ScorerName = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the intervals' bootstrap.")] = 1000,
    seed: Seed = 0,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Say what mattered: how much of the scores' variance goes with M, K1, K2, backbone, labels, scorer and seed.

    Example: asdbench importance --study demo
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.show import show_importance

    rows = verbs.importance(
        places=places, study=study, protocol=protocol, backbone=backbone, scorer=scorer,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    show_importance(rows, form)


@tabular
def reference(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default="all", help="paper, official_baseline, asdkit, rmis or dcase2026."),
    ] = None,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Show published tables beside the same cells recorded here, with the difference.

    Example: asdbench reference paper
    """
    from harness import verbs
    from harness.cli.show import show_reference

    show_reference(verbs.reference(name, places=places_of(db, None)), form)


@tabular
def report(
    out: Annotated[Path, typer.Option("--out", help="The page's file; one that is there is replaced.")],
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    scorer: ScorerName = None,
    comparisons: Annotated[
        int | None,
        typer.Option(
            min=0, show_default="one a backbone; above 1,000 trials the best", help="Families compared a board."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the comparisons' bootstrap.")] = 1000,
    seed: Seed = 0,
    log: Annotated[
        bool, typer.Option("--log/--no-log", show_default="on", help="Log the page to the study's MLflow run.")
    ] = True,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Write one self-contained HTML page: the answer in words, figures, tables, how to reproduce it.

    Example: asdbench report --out report.html --study demo
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.console import say, show
    from harness.tables import count, how_many, plain

    found = verbs.report(
        out, study=study, protocol=protocol, backbone=backbone, scorer=scorer, comparisons=comparisons,
        resamples=resamples, seed=seed, log=log, places=places,
    )  # fmt: skip
    if form != "text":
        columns = [plain("out"), count("bytes"), count("boards"), count("rows"), plain("run_id")]
        show(form, columns, [found], title="Report", document=found)
        return
    for sentence in found["sentences"]:
        say(sentence)
    say(f"{found['out']}: {found['bytes'] / 1000:,.0f} kB, {how_many(found['rows'], 'row')}. Open it in any browser.")
    if found["run_id"]:
        say(f"Logged to MLflow run {found['run_id']} as report.html.")
