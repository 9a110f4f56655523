"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from harness.bounds import span

if TYPE_CHECKING:
    from harness.places import Places
    from harness.tables import Form as Form  # noqa: PLC0414  # handed on to the verbs
else:
    Form = str  # importing harness.tables would load rich, which slows `--help`

Root = Annotated[
    Path,
    typer.Argument(
        metavar="ROOT", help="Folder with recordings, WAV or FLAC: in the official layout, or your own with their csv."
    ),
]
Data = Annotated[Path, typer.Option("--data", envvar="ASDBENCH_DATA", help="Folder with the recordings.")]
GroundTruth = Annotated[
    Path | None, typer.Option("--ground-truth", help="Your copy of the official files about evaluation clips.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be used; count them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: fractions, every field.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV: fractions, every field.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print a markdown table.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show every column, however wide the table becomes.")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", help="Show these columns beside those that name a row: headings, joined by commas."),
]
Db = Annotated[
    str | None,
    typer.Option("--db", show_default="mlflow.db here", help="Database of MLflow's runs and the results."),
]
Optuna = Annotated[
    str | None, typer.Option("--optuna", show_default="beside --db", help="Database of Optuna's studies.")
]
ProtocolName = Annotated[str, typer.Option("--protocol", help="What trains and what is scored; see `asdbench ls`.")]
M = Annotated[int, typer.Option("--m", **span("m"), help="Attributes joined in a pseudo-label.")]
K1 = Annotated[int, typer.Option("--k1", **span("k1"), help="Nearest labeled neighbours of a clip.")]
K2 = Annotated[int, typer.Option("--k2", **span("k2"), help="Clusters of K-means.")]
Fusion = Annotated[
    Literal["composite", "set", "soft"], typer.Option("--fusion", help="How M attributes become a target.")
]
Labels = Annotated[
    str,
    typer.Option(
        "--labels",
        help="paper (its method), truth (upper bound), or what stands alone: machine, gmm, ward, iterated, your own.",
    ),
]
Truth = Annotated[
    Path | None, typer.Option("--truth", help="Folder with released attributes, by which the labels are judged.")
]
Seed = Annotated[int, typer.Option("--seed", **span("seed"), help="Of everything that draws.")]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        help="A checkpoint: a path, a name in ASDBENCH_WEIGHTS, or of `asdbench weights ls`.",
    ),
]
Threads = Annotated[int, typer.Option("--threads", **span("threads"), help="Of torch.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="An option of the backbone, NAME=VALUE; may be repeated.")
]
MinConfidence = Annotated[
    float,
    typer.Option("--min-confidence", **span("min_confidence"), help="Under which a sample-wise label is not retained."),
]
Below = Annotated[Literal["drop", "machine"], typer.Option("--below", help="What becomes of such a clip.")]
StudyName = Annotated[str | None, typer.Option("--study", help="Only this study's trials, by name or key.")]
ScorerName = Annotated[str | None, typer.Option("--scorer", help="Only this scorer's rows.")]
BackboneFilter = Annotated[str | None, typer.Option("--backbone", help="Only this backbone's rows.")]
ProtocolFilter = Annotated[str | None, typer.Option("--protocol", help="Only this protocol's rows.")]


def places_of(db: str | None, optuna: str | None) -> Places:
    """Return the stores that options and environment name."""
    from harness.places import find_places

    return find_places(tracking=db, optuna=optuna)


def recorded_in(db: str | None, optuna: str | None = None) -> Places:
    """Return the stores of a verb that reads what is recorded; call it first, since what imports takes seconds.

    Raises:
        HarnessError: nothing was recorded there yet.
    """
    from harness.places import demand_recorded

    places = places_of(db, optuna)
    demand_recorded(places)
    return places


class Journey(TyperGroup):
    """The whole command: `--help` and completion list its verbs in the order in which a new user needs them."""

    order: Sequence[str] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs."""
        there = super().list_commands(ctx)
        return sorted(there, key=lambda name: self.order.index(name) if name in self.order else len(self.order))


class Verb(TyperCommand):
    """A Typer command that is never silent for long, and whose usage shows an argument as `STUDY`, not `{STUDY}`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for each in self.params:
            if each.metavar is None and (getattr(each, "min", None), getattr(each, "max", None)) != (None, None):
                each.metavar = "N"  # its bounds stand behind it; "<int range>" would take the room of the help's words

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line after the verb's name."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, and show what it does where that takes more than a moment."""
        from harness.cli.console import displaying

        with displaying(str(ctx.info_name)):
            return super().invoke(ctx)


def tabular(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb that prints tables the options --wide and --columns.

    If the verb has a parameter `form`, it also gets --json, --csv and --markdown, which set that parameter.
    """
    signature = inspect.signature(verb, eval_str=True)
    formed = "form" in signature.parameters

    @functools.wraps(verb)
    def looked_at(
        *, wide: bool, columns: str | None, as_json: bool = False, as_csv: bool = False, as_markdown: bool = False,
        **chosen: object,
    ) -> None:  # fmt: skip
        from harness.cli.console import looking

        if formed:
            chosen["form"] = form_of(as_json, as_csv, as_markdown)
        with looking(wide=wide, columns=columns):
            verb(**chosen)

    forms = (("as_json", False, Json), ("as_csv", False, Csv), ("as_markdown", False, Markdown)) if formed else ()
    added = (*forms, ("wide", False, Wide), ("columns", None, Columns))
    parameters = [
        *(parameter for name, parameter in signature.parameters.items() if name != "form"),
        *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
          for name, default, kind in added),
    ]  # fmt: skip
    looked_at.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    return looked_at


def form_of(as_json: bool, as_csv: bool, as_markdown: bool) -> Form:
    """Return the form that the options --json, --csv and --markdown ask for; "text" without any."""
    chosen: list[Form] = []
    chosen += ["json"] if as_json else []
    chosen += ["csv"] if as_csv else []
    chosen += ["markdown"] if as_markdown else []
    if len(chosen) > 1:
        raise typer.BadParameter("one of --json, --csv and --markdown can be asked for, not several.")
    return chosen[0] if chosen else "text"


def options_of(pairs: list[str] | None, *, flag: str = "--option") -> dict[str, Any]:
    """Read NAME=VALUE pairs. Values such as 3, 0.5 and true become int, float and bool; others stay text."""
    options: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{flag} must be NAME=VALUE, but got {pair!r}.")
        options[name] = _typed(value)
    return options


def _typed(value: str) -> int | float | bool | str:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
