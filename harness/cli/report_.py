"""The verb that writes the report page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    BackboneFilter,
    Csv,
    Db,
    Json,
    Markdown,
    ProtocolFilter,
    ScorerName,
    Seed,
    StudyName,
    form_of,
    places_of,
)


def report(
    out: Annotated[Path, typer.Option("--out", help="The page's file; one that is there is replaced.")],
    study: StudyName = None,
    protocol: ProtocolFilter = None,
    backbone: BackboneFilter = None,
    scorer: ScorerName = None,
    comparisons: Annotated[
        int | None,
        typer.Option(min=0, help="Families compared a board [default: one a backbone; above 1,000 trials the best]."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the comparisons' bootstrap.")] = 1000,
    seed: Seed = 0,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Log the page to the study's MLflow run.")] = True,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """Write one self-contained HTML page: the answer in words, figures, tables, how to reproduce it.

    Example: asdbench report --out report.html --study demo
    """
    from harness.cli.console import say, show
    from harness.tables import count, plain
    from harness.verbs import all_ as verbs

    form = form_of(as_json, as_csv, as_markdown)
    found = verbs.report(
        out, study=study, protocol=protocol, backbone=backbone, scorer=scorer, comparisons=comparisons,
        resamples=resamples, seed=seed, log=log, places=places_of(db, None),
    )  # fmt: skip
    if form != "text":
        columns = [plain("out"), count("bytes"), count("boards"), count("rows"), plain("run_id")]
        show(form, columns, [found], title="Report", document=found)
        return
    for sentence in found["sentences"]:
        say(sentence)
    say(f"{found['out']}: {found['bytes'] / 1000:,.0f} kB, {found['rows']} rows. Open it in any browser.")
    if found["run_id"]:
        say(f"Logged to MLflow run {found['run_id']} as report.html.")
