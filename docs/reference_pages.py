"""Write the pages that say every setting and every command, from the tables and verbs themselves.

Example: python docs/reference_pages.py          # writes docs/settings.md and docs/commands.md
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from inspect import getdoc
from pathlib import Path
from typing import Any

import typer

from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import Protocol, Withheld
from benchmarks.protocols import KEYS
from harness.cli.main import VERBS, app
from harness.studies import study_file

FOLDER = Path(__file__).parent
MADE = "<!-- Made by docs/reference_pages.py. Do not edit. -->"
SAID = FOLDER / "settings.toml"
TABLES = {  # heading -> the table's class
    "The study itself": study_file.StudyFile,
    "[space]": study_file.SpaceTable,
    "[backbones.NAME]": study_file.BackboneTable,
    "[recipe]": study_file.RecipeTable,
    "[labeling]": study_file.LabelingTable,
    "[sampler]": study_file.SamplerTable,
    "[pruning]": study_file.PruningTable,
    "[resources]": study_file.ResourcesTable,
}
HIDDEN = ("help",)
EVERYWHERE = ("json", "csv", "markdown", "wide", "columns")


def settings_page() -> str:
    """Return the page of a study file's settings."""
    schema = study_file.StudyFile.model_json_schema()
    parts = [
        "# All settings",
        MADE,
        "Every key of a [study file](study_files.md), table by table. What is not said has its default, which in "
        "`[recipe]` is the paper's. A number outside its bounds is refused in one sentence.",
    ]
    sentences = tomllib.loads(SAID.read_text(encoding="utf-8")) | {"RecipeTable": attributes(FinetuneRecipe)}
    for heading, documented in TABLES.items():
        name = documented.__name__
        table = schema if name == "StudyFile" else schema["$defs"][name]
        said = sentences[name]
        parts += [f"## {heading}", introduction(documented)]
        rows = ["| setting | value | default | what it is |", "| --- | --- | --- | --- |"]
        for key, field in table["properties"].items():
            needed = key in table.get("required", ())
            rows.append(f"| `{key}` | {value(field)} | {default(field, needed=needed)} | {said[key]} |")
        parts.append("\n".join(rows))
    for heading, keys, documented in (
        ("[protocol]", KEYS, Protocol),
        ("withhold, a list of tables in [protocol]", tuple(Withheld.__dataclass_fields__), Withheld),
    ):
        said = attributes(documented)
        rows = ["| setting | what it is |", "| --- | --- |", *(f"| `{key}` | {said[key]} |" for key in keys)]
        parts += [f"## {heading}", introduction(documented), "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def attributes(documented: type) -> dict[str, str]:
    """Return what the docstring of a class says of each of its attributes."""
    said: dict[str, str] = {}
    name = ""
    for line in (getdoc(documented) or "").partition("Attributes:\n")[2].splitlines():
        begun = re.match(r" {4}(\w+): (.*)", line)
        if begun:
            name, said[begun[1]] = begun[1], cell(begun[2])
        elif name and line.startswith(" " * 8):
            said[name] += " " + cell(line.strip())
    return said


def introduction(documented: type) -> str:
    """Return the docstring of a class up to its attributes, as Markdown."""
    return (getdoc(documented) or "").partition("Attributes:\n")[0].strip()


def value(field: Mapping[str, Any]) -> str:
    """Say what a setting may be, from its JSON schema."""
    return cell(" or ".join(dict.fromkeys(_kinds(field))))


def _kinds(field: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in field:
        for each in field["anyOf"]:
            yield from _kinds(each)
    elif "enum" in field:
        yield " or ".join(f"`{word}`" for word in field["enum"])
    elif "const" in field:
        yield f"`{field['const']}`"
    elif field.get("type") == "array":
        yield f"list of: {value(field['items'])}"
    elif field.get("type") in ("integer", "number"):
        yield ("whole number" if field["type"] == "integer" else "number") + _bounds(field)
    elif "$ref" in field or field.get("type") == "object":
        yield "table"
    elif field.get("type") != "null":
        yield {"string": "text", "boolean": "true or false"}[field["type"]]


def _bounds(field: Mapping[str, Any]) -> str:
    low = f"above {field['exclusiveMinimum']:g}" if "exclusiveMinimum" in field else ""
    low = f"from {field['minimum']:g}" if "minimum" in field else low
    return f" {low} to {field['maximum']:,.12g}" if low and "maximum" in field else ""


def default(field: Mapping[str, Any], *, needed: bool) -> str:
    """Say a setting's default."""
    if needed:
        return "must be said"
    kept = field.get("default")
    if kept is None or kept == "" or isinstance(kept, dict):
        return "–"
    words = {True: "true", False: "false"}
    return f"`{words[kept]}`" if isinstance(kept, bool) else f"`{kept}`"


def commands_page() -> str:
    """Return the page of all commands with their options."""
    parts = [
        "# Commands",
        MADE,
        "Every command, as `asdbench COMMAND --help` says it. Those that print a table also take `--json` (fractions, "
        "stable field names), `--csv`, `--markdown`, `--wide` (every column, however wide) and `--columns` (these "
        "columns beside those that name a row: headings, joined by commas).",
    ]
    group: Any = typer.main.get_command(app)
    for panel, verbs in VERBS.items():
        parts.append(f"## {panel}")
        for name in verbs:
            for title, command in leaves(group.commands[name], name):
                parts += [f"### asdbench {title}", *_command(title, command)]
    return "\n\n".join(parts) + "\n"


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a command, or those of a group, with their names."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, each in command.commands.items():
        yield from leaves(each, f"{name} {inner}")


def _command(title: str, command: Any) -> Iterator[str]:
    text, _, example = (command.help or "").partition("Example:")
    yield " ".join(text.split())
    arguments = [named(each) for each in command.params if each.param_type_name == "argument"]
    yield f"```text\n{' '.join(['asdbench', title, *arguments, '[options]'])}\n\nexample: {example.strip()}\n```"
    rows = []
    for each in command.params:
        option = each.param_type_name == "option"
        if each.name in HIDDEN or (option and each.opts[0].removeprefix("--") in EVERYWHERE):
            continue
        names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts)) if option else ""
        rows.append(f"| {names or f'`{named(each)}`'} | {_shown(each)} | {cell(each.help or '')} |")
    if rows:
        yield "\n".join(["| argument or option | default | what it is |", "| --- | --- | --- |", *rows])


def named(argument: Any) -> str:
    """Return how help calls an argument."""
    return str(argument.metavar or argument.name.upper())


def _shown(parameter: Any) -> str:
    if parameter.required:
        return "must be said"
    if isinstance(parameter.show_default, str):
        return cell(parameter.show_default.strip("()"))
    kept = parameter.default
    if (
        kept is None or kept is False or callable(kept) or kept in ("", (), [])
    ):  # 0 is a default, though it equals False
        return "–"
    return "on" if kept is True else f"`{kept}`"


def cell(text: str) -> str:
    """Return a text as it can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
