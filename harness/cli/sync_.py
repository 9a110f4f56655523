"""The verb about taking in what MLflow has: one function, one call into the library."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import Csv, Db, Json, Markdown, form_of, places_of


def sync(
    source: Annotated[
        str | None, typer.Option("--from", help="Another database or tracking server [default: --db's own runs].")
    ] = None,
    rewrite: Annotated[bool, typer.Option("--rewrite", help="Write rows that are there already, too.")] = False,
    db: Db = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """Rebuild the results tables from MLflow's runs, or take in the trials of another server.

    A trial that is there already is not taken twice; a run that is malformed is refused, and said so.

    Example: asdbench sync --from http://mlflow.example.org:5000
    """
    from harness.cli.console import say, show, telling
    from harness.tables import plain
    from harness.verbs import all_ as verbs

    with telling() as told:
        found = verbs.sync(source, rewrite=rewrite, places=places_of(db, None), told=told)
    form = form_of(as_json, as_csv, as_markdown)
    columns = [plain("run_id", "refused run"), plain("name"), plain("reason")]
    if form != "text" or found["rows"]:
        show(form, columns, found["rows"], title="Refused", document=found)
    if form == "text":
        say(
            f"From {found['from']}: {found['taken']} trials taken in, {found['there']} there already, "
            f"{found['unfinished']} unfinished, {found['refused']} refused; {found['studies']} studies."
        )
