"""The verb that checks a backbone."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import Csv, Json, Markdown, Options, Weights, form_of, options_of


def check_backbone(
    name: Annotated[str, typer.Argument(help="A backbone: see `asdbench ls backbones`, or hf:FOLDER.")],
    weights: Weights = "",
    option: Options = None,
    seconds: Annotated[float, typer.Option(help="Length of the clips of most lines.")] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    as_json: Json = False,
    as_csv: Csv = False,
    as_markdown: Markdown = False,
) -> None:
    """Check a backbone against the contract, line by line; exit 1 where a line fails.

    Example: asdbench check-backbone tiny
    """
    from harness.cli.console import note, show
    from harness.tables import plain
    from harness.verbs import all_ as verbs

    form = form_of(as_json, as_csv, as_markdown)
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
