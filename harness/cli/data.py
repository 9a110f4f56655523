"""The verbs about recordings, and `sync`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    Db,
    Form,
    GroundTruth,
    Root,
    Seed,
    SkipBad,
    Verb,
    places_of,
    tabular,
)

if TYPE_CHECKING:
    from harness.tables import Column

# effect of a problem on a study, the worst first -> the words for one and for several
EFFECTS = {
    "stops": ("stops a study", "stop a study"),
    "changes numbers": ("changes numbers", "change numbers"),
    "harmless": ("is harmless", "are harmless"),
}
MOST_SHOWN = 20  # different values of one kind of problem

data_app = typer.Typer(no_args_is_help=True, help="Recordings: count, examine, download and generate them.")

DatasetName = Annotated[str | None, typer.Option("--dataset", help="Only this one, for example dcase2023, or own.")]


@data_app.command("index", cls=Verb)
@tabular
def data_index(
    root: Root,
    dataset: DatasetName = None,
    ground_truth: GroundTruth = None,
    skip_bad: SkipBad = False,
    form: Form = "text",
) -> None:
    """Count the clips of a root by machine type, section, split, domain and condition.

    Example: asdbench data index ~/dcase --dataset dcase2025
    """
    from harness import verbs
    from harness.cli.console import show
    from harness.tables import count, how_many, plain

    document = verbs.data_index(root, dataset=dataset, ground_truth=ground_truth, skip_bad=skip_bad)
    years = len({row.get("dataset") for row in document["rows"]}) > 1
    columns = [
        *([plain("dataset")] if years else []),
        *(plain(name) for name in ("machine", "part", "section", "split", "domain", "condition")),
        count("clips"),
        count("labeled"),
    ]
    left_out = f", {how_many(document['skipped'], 'bad file')} left out" if document["skipped"] else ""
    title = f"{how_many(document['clips'], 'clip')} in {root}{left_out}"
    show(form, columns, document["rows"], title=title, document=document)


@data_app.command("doctor", cls=Verb)
@tabular
def data_doctor(
    root: Root,
    dataset: DatasetName = None,
    protocol: Annotated[str | None, typer.Option(help="Exit with status 1 if this one could not run.")] = None,
    ground_truth: GroundTruth = None,
    workers: Annotated[int | None, typer.Option(min=1, show_default="one a core", help="Processes that read.")] = None,
    form: Form = "text",
) -> None:
    """Read every recording: what is there, what is missing or wrong, and what to do about it.

    Example: asdbench data doctor ~/dcase --protocol paper
    """
    from harness import verbs
    from harness.cli.console import note, say, show, telling
    from harness.tables import Column, count, how_many, plain

    with telling() as told:
        document = verbs.data_doctor(
            root, dataset=dataset, protocol=protocol, ground_truth=ground_truth, workers=workers, told=told
        )
    problems = document["problems"]
    if form == "text":
        there = Column("machine types", lambda row: ", ".join(row["machines"]) or "none")
        columns = [plain("dataset"), plain("part"), plain("layout"), count("clips"), there]
        show(form, columns, document["parts"], title=f"What is in {root}")
        if not problems:
            say("Nothing is wrong.")
        else:
            rows = _by_value(problems)
            shown = [row for row in rows if row["place"] < MOST_SHOWN]
            show(form, _problem_columns(), shown, title=_in_short(problems))
            more = f" Not shown: {how_many(len(rows) - len(shown), 'more value')}." if len(shown) < len(rows) else ""
            first = "The example is the first of several." if any(row["count"] > 1 for row in shown) else ""
            if first or more:
                say(f"{first}{more} Every file: --csv or --json.".strip())
    else:
        columns = [plain("effect"), plain("kind"), plain("sentence", "what, and what to do")]
        show(form, columns, problems, title="Problems", document=document)
    verdict = document["protocol"]
    if verdict is not None:
        could = "could run" if verdict["runs"] else "could not run"
        note(f"Protocol {verdict['name']} {could}. {verdict['why']}".strip())
        if not verdict["runs"]:
            raise typer.Exit(1)


def _by_value(problems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each kind of problem, the worst first, and for each value that wants mending by itself.

    A row has their number and the sentence of the first one; `place` counts the values of a kind from 0.
    """
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for problem in problems:
        of_kind = found.setdefault((problem["effect"], problem["kind"]), {})
        of_kind.setdefault(problem["value"], []).append(problem["sentence"])
    effects = list(EFFECTS)
    worst = sorted(found, key=lambda each: (effects.index(each[0]), -sum(map(len, found[each].values()))))
    return [
        {"effect": effect, "kind": kind, "count": len(sentences), "example": sentences[0], "place": place}
        for effect, kind in worst
        for place, sentences in enumerate(sorted(found[effect, kind].values(), key=len, reverse=True))
    ]


def _problem_columns() -> list[Column]:
    from harness.tables import answering, count, naming, plain

    return [
        *naming(plain("effect"), plain("kind")),
        count("count"),
        *answering(plain("example", "for example, and what to do")),
    ]


def _in_short(problems: Sequence[Mapping[str, Any]]) -> str:
    """Say how many problems there are of each effect: "4 problems: 3 stop a study, 1 is harmless."."""
    from harness.tables import how_many

    counts = Counter(problem["effect"] for problem in problems)
    said = [f"{counts[effect]:,} {words[counts[effect] > 1]}" for effect, words in EFFECTS.items() if counts[effect]]
    return f"{how_many(len(problems), 'problem')}: {', '.join(said)}."


@data_app.command("download", cls=Verb)
@tabular
def data_download(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The year, for example dcase2025.")],
    to: Annotated[Path, typer.Option("--to", help="Folder that gets the year's folder.")],
    machine: Annotated[
        list[str] | None, typer.Option("--machine", "--machines", help="Only this machine type; may be repeated.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="dev, additional or eval; may be repeated.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives after they were unpacked.")] = False,
    form: Form = "text",
) -> None:
    """Download the official archives, verify and unpack them; a stopped download goes on where it was.

    Example: asdbench data download dcase2025 --to ~/dcase --part dev --machine fan
    """
    from harness import verbs
    from harness.cli.console import show, telling
    from harness.tables import count, plain

    with telling() as told:
        document = verbs.data_download(dataset, to, machines=machine, parts=part, keep=keep, told=told)
    columns = [plain("name"), plain("part"), plain("machine"), count("bytes"), plain("fetched"), plain("sha256")]
    title = f"{dataset} in {to}"
    show(form, columns, document["archives"], title=title, document=document)


@data_app.command("generate", cls=Verb)
def data_generate(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder to write to.")],
    dataset: Annotated[str, typer.Option(help="The year whose layout is written, for example dcase2025.")],
    machine: Annotated[list[str] | None, typer.Option(help="Only this machine type; may be repeated.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="dev, additional or eval; may be repeated.")] = None,
    train_source: Annotated[int, typer.Option(min=1, help="Source training clips a section.")] = 40,
    train_target: Annotated[int, typer.Option(min=1, help="Target training clips a section.")] = 10,
    test_per_cell: Annotated[int, typer.Option(min=1, help="Test clips a section, domain and condition.")] = 10,
    seconds: Annotated[
        float | None, typer.Option(min=0.5, max=60, show_default="as long as the year's", help="Length of a clip.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write a small set of generated recordings in a year's own layout.

    Example: asdbench data generate /tmp/made --dataset dcase2025 --machine fan
    """
    from harness import verbs
    from harness.cli.console import say, telling

    with telling() as told:
        verbs.data_generate(
            root, dataset, machines=machine, parts=part or ["dev"], seed=seed, told=told, train_source=train_source,
            train_target=train_target, test_per_cell=test_per_cell, seconds=seconds,
        )  # fmt: skip
    say(f"{dataset} stands in {root}. Count it: asdbench data index {root} --dataset {dataset}")


@data_app.command("own", cls=Verb)
@tabular
def data_own(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with your recordings, WAV or FLAC.")],
    machine: Annotated[
        str, typer.Option("--machine", show_default="guessed from names", help="Machine type of all recordings.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace ROOT/recordings.csv.")] = False,
    form: Form = "text",
) -> None:
    """Write a first csv of your own recordings, guessed from the names of folders and files, for you to mend.

    Example: asdbench data own ~/press
    """
    from harness import verbs
    from harness.cli.console import note, say, show
    from harness.tables import count, plain

    document = verbs.data_own(root, machine=machine, overwrite=overwrite)
    columns = [*(plain(name) for name in ("machine", "split", "domain", "condition")), count("clips")]
    show(form, columns, document["rows"], title="Guessed from names", document=document)
    for sentence in document["left_out"]:
        note(sentence)
    if form == "text":
        say(f"Written: {document['csv']}")
        say(
            "The machine is a folder's name or what files' names begin with; train, test, normal, anomaly, source and "
            "target are taken from names; of clips that do not say it every fourth is a test clip, and what trains is "
            "taken to be normal. Mend the csv where that is wrong: an empty condition of a test clip means not known."
        )
        say(f"Next: {document['next']}")


@tabular
def sync(
    source: Annotated[
        str | None, typer.Option("--from", show_default="--db's own runs", help="Another database or tracking server.")
    ] = None,
    rewrite: Annotated[bool, typer.Option("--rewrite", help="Write rows that are there already, too.")] = False,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Rebuild the results tables from MLflow's runs, or take in the trials of another server.

    A trial that is there already is not taken twice; a run that is malformed is refused, and said so.

    Example: asdbench sync --from http://mlflow.example.org:5000
    """
    from harness import verbs
    from harness.cli.console import say, show, telling
    from harness.tables import how_many, plain

    with telling() as told:
        found = verbs.sync(source, rewrite=rewrite, places=places_of(db, None), told=told)
    columns = [plain("run_id", "refused run"), plain("name"), plain("reason")]
    if form != "text" or found["rows"]:
        show(form, columns, found["rows"], title="Refused", document=found)
    if form == "text":
        say(
            f"From {found['from']}: {how_many(found['taken'], 'trial')} taken in, {found['there']} there already, "
            f"{found['unfinished']} unfinished, {found['refused']} refused; "
            f"{how_many(found['studies'], 'study', 'studies')}."
        )
