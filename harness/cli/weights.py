"""The verbs about released weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Form, Verb, tabular

weights_app = typer.Typer(no_args_is_help=True, help="Released weights: list, download and examine them.")


@weights_app.command("ls", cls=Verb)
@tabular
def weights_ls(form: Form = "text") -> None:
    """List the released files of BEATs and AudioMAE: size, sum, licence, and which are here.

    They are looked for in the folder that ASDBENCH_WEIGHTS names, and in weights/ of the cache.

    Example: asdbench weights ls
    """
    from harness import verbs
    from harness.cli.console import note, show
    from harness.tables import Column, answering, count, naming, plain

    short = Column("sha256", lambda row: f"{row['sha256'][:12]}..." if row["sha256"] else "not published")
    columns = [
        *naming(plain("name")), plain("backbone"), plain("stage"), *answering(plain("status")), count("bytes"), short,
        plain("licence"),
    ]  # fmt: skip
    show(form, columns, verbs.weights_ls(), title="Released weights")
    if form == "text":
        note('Bring one: asdbench weights download NAME. A study names it so: weights = "NAME".')


@weights_app.command("download", cls=Verb)
@tabular
def weights_download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `asdbench weights ls` lists it.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", show_default="ASDBENCH_WEIGHTS, else weights/ of the cache", help="Folder that gets it."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", show_default="the known mirrors", help="Another place on the hub, ORG/NAME@REVISION."),
    ] = None,
    form: Form = "text",
) -> None:
    """Download a released file and check its sum; a stopped download goes on where it was.

    Example: asdbench weights download BEATs_iter3_plus_AS2M
    """
    from harness import verbs
    from harness.cli.console import note, show, telling
    from harness.tables import count, plain

    with telling() as told:
        row = verbs.weights_download(name, to=to, source=source, told=told)
    columns = [plain("name"), plain("path"), count("bytes"), plain("sha256"), plain("source"), plain("fetched")]
    show(form, columns, [row], title="Downloaded" if row["fetched"] else "It was here already", document=row)
    if to is not None:
        note(f"Studies find it by its name in the folder that ASDBENCH_WEIGHTS names; else write {row['path']}.")


@weights_app.command("check", cls=Verb)
@tabular
def weights_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any file.")],
    form: Form = "text",
) -> None:
    """Say which released file a file is, or what it is instead; exit 1 where no backbone reads it.

    Example: asdbench weights check ~/Downloads/BEATs_iter3_plus_AS2M.pt
    """
    from harness import verbs
    from harness.cli.console import say, show
    from harness.tables import count, plain

    row = verbs.weights_check(file)
    if form == "text":
        say(f"{row['file']} is {row['what'].rstrip('.')}.")
        say(f"{row['bytes']:,} bytes, sha256 {row['sha256']}.")
    else:
        columns = [plain("file"), count("bytes"), plain("sha256"), plain("released"), plain("backbone"), plain("what")]
        show(form, columns, [row], title="What it is", document=row)
    if row["backbone"] is None:
        raise typer.Exit(1)
