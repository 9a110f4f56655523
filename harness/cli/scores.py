"""The verbs about scores: `detect`, `score` and `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import Db, Form, GroundTruth, Seed, Threads, places_of, recorded_in, tabular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.tables import Column


@tabular
def detect(
    trial: Annotated[
        str,
        typer.Argument(metavar="TRIAL", help="A trial's key, its first digits or its MLflow run; a study with --best."),
    ],
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with new clips, WAV or FLAC; or one clip.")],
    best: Annotated[bool, typer.Option("--best", help="TRIAL is a study: take its best trial.")] = False,
    machine: Annotated[
        str,
        typer.Option("--machine", show_default="by csv, folders, names", help="Machine type of all clips."),
    ] = "",
    section: Annotated[
        str, typer.Option("--section", show_default="by names, or the only one", help="Section of all clips.")
    ] = "",
    scorer: Annotated[
        str | None, typer.Option("--scorer", show_default="the trial's first", help="By which, as recorded.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", show_default="the cache", help="Recordings that a frozen trial was recorded with."),
    ] = None,
    threads: Threads = 1,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Score new clips, labelled or not, as a finished trial scored its own: the most anomalous first.

    A clip is called anomalous above the official threshold, which comes from training clips alone.

    Example: asdbench detect 3f9c ~/new_clips --machine press
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.console import note, say, show, telling
    from harness.tables import Column, answering, count, naming, plain

    with telling() as told:
        document = verbs.detect(
            trial, root, best=best, machine=machine, section=section, scorer=scorer, data=data, threads=threads,
            places=places, told=told,
        )  # fmt: skip
    rows = document["rows"]
    columns = [
        *naming(count("rank", "#"), plain("file")),
        *answering(Column("score / threshold", _in_thresholds, right=True), plain("decision")),
        *_alike(("score", "threshold"), rows),
        plain("machine"),
        *([plain("section")] if len({row["section"] for row in rows}) > 1 else []),
        plain("nearest", "nearest normal clip"),
        *([_marked("in_training", "in training")] if any(row["in_training"] for row in rows) else []),
    ]
    show(form, columns, rows, title=f"New clips by {document['label']}, {document['scorer']}", document=document)
    for each in document["unheard"]:
        note(f"Not scored: {each['file']}: {each['why']}")
    for sentence in document["notes"]:
        note(sentence)
    for why in sorted({f"{row['machine']}: no decision, since {row['why']}" for row in rows if row["why"]}):
        note(why)
    if form == "text":
        say(detected_sentence(rows, len(document["unheard"])))


def detected_sentence(rows: Sequence[Mapping[str, Any]], unheard: int) -> str:
    """Say how many clips lie above their threshold; training clips by themselves, since a share of them always does.

    Args:
        rows: the scored clips.
        unheard: number of clips that were not scored.
    """
    from harness.scoring.thresholds import QUANTILE
    from harness.tables import how_many

    new, trained = ([row for row in rows if row["in_training"] is there] for there in (False, True))
    said = [f"{how_many(len(rows), 'clip')} scored", _above(new, "new " if trained else "")]
    if trained:
        share = f"{100 * (1 - QUANTILE):.0f} %"
        said.append(f"{_above(trained, 'training ')}, as about {share} of all training clips are by its definition")
    if not new:
        del said[1]
    left = f"; {how_many(unheard, 'clip')} {'was' if unheard == 1 else 'were'} not scored" if unheard else ""
    return f"{', '.join(said)}{left}."


def _above(rows: Sequence[Mapping[str, Any]], which: str) -> str:
    judged = [row for row in rows if row["decision"] is not None]
    if not judged:
        return f"no {which}clip has a threshold" if which else "none has a threshold"
    above = sum(row["decision"] == "anomalous" for row in judged)
    return f"{above} of {len(judged)} {which}clips with a threshold {'is' if above == 1 else 'are'} above it"


def _in_thresholds(row: Mapping[str, Any]) -> str:
    """Print a score in units of its threshold, by which clips are sorted; nothing where that has no meaning."""
    from harness.tables import NOTHING

    threshold = row["threshold"]
    return f"{row['score'] / threshold:,.2f}" if threshold is not None and threshold > 0 else NOTHING


def _alike(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return columns of numbers of any scale, all in one notation: with exponents if any number needs one."""
    from harness.tables import NOTHING, Column

    sizes = [abs(row[name]) for row in rows for name in names if row[name]]
    form = ".4e" if sizes and (min(sizes) < 1e-3 or max(sizes) >= 1e5) else ".4f"

    def made(name: str) -> Column:
        return Column(name, lambda row: NOTHING if row[name] is None else f"{row[name]:{form}}", right=True)

    return [made(name) for name in names]


def _marked(name: str, heading: str) -> Column:
    from harness.tables import Column

    return Column(heading, lambda row: "yes" if row[name] else "")


@tabular
def score(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with anomaly_score_*.csv, in it or in folders below.")
    ],
    dataset: Annotated[str, typer.Option(help="The year whose rule holds, for example dcase2023.")],
    ground_truth: GroundTruth = None,
    part: Annotated[
        Literal["dev", "eval"] | None, typer.Option(help="Only this part, where the folder holds both.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say which clips enter each number.")] = False,
    record: Annotated[
        str | None, typer.Option(metavar="NAME", help="Record the scores on the leaderboard under this name.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Of the bootstrap that intervals come from.")
    ] = 1000,
    seed: Seed = 0,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Measure anybody's anomaly_score_*.csv by a year's official rule, with 95 % intervals.

    Example: asdbench score ~/results --dataset dcase2023 --ground-truth ~/dcase2023_task2_evaluator
    """
    from harness import verbs
    from harness.cli.console import note, say, show
    from harness.tables import how_many, in_percent

    document = verbs.score(
        folder, dataset=dataset, ground_truth=ground_truth, part=part, explain=explain, record=record,
        resamples=resamples, seed=seed, places=places_of(db, None),
    )  # fmt: skip
    title = f"{how_many(document['clips'], 'clip')} of {dataset}/{document['part']}"
    show(form, score_columns(explain=explain), document["rows"], title=title, document=document)
    if form == "text":
        ends = {
            over: [in_percent(document[f"{front}ci_{end}"]) for end in ("low", "high")]
            for front, over in (("", "clips"), ("machines_", "machines"))
            if document[f"{front}ci_low"] is not None
        }
        said = "".join(f", 95 % interval over {over} {' to '.join(pair)}" for over, pair in ends.items())
        say(f"Official score {in_percent(document['official_score'])}{said}.")
        for why in document["undefined"]:
            say(f"Undefined: {why}")
        if "key" in document:
            say(f"Recorded as trial {document['key']}, MLflow run {document['run_id']}.")
    for each in document["notes"]:
        note(each)
    if document["absent"]:
        absent = [f"{each['machine']} {each['section']}" for each in document["absent"]]
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        note(f"The official score is over what is there; no file scores {', '.join(absent[:5])}{more}.")


def score_columns(*, explain: bool) -> list[Column]:
    """Return the columns of a folder's numbers."""
    from harness.tables import Column, in_percent, percent, plain

    def entered(kind: str) -> Column:
        return Column(f"{kind} clips", lambda row: f"{row[kind]:,} of {row[f'{kind}_from']}", right=True)

    def between(row: Mapping[str, Any]) -> str:
        return f"{in_percent(row['ci_low'])} to {in_percent(row['ci_high'])}"

    return [
        *(plain(name) for name in ("machine", "section", "domain", "metric")),
        percent("value", "%"),
        Column("95 % interval", between, right=True),
        *([entered("normal"), entered("anomalous")] if explain else []),
    ]


@tabular
def submit(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A trial's key, its first digits, or its MLflow run.")],
    out: Annotated[Path, typer.Option(help="Folder that gets the files.")],
    scorer: Annotated[str | None, typer.Option(help="By name, where the trial has several.")] = None,
    db: Db = None,
    form: Form = "text",
) -> None:
    """Write a trial's anomaly_score_*.csv and decision_result_*.csv as the official evaluator takes them.

    Example: asdbench submit 3f2a9c --out submission
    """
    places = recorded_in(db)
    from harness import verbs
    from harness.cli.console import note, show
    from harness.tables import Column, count, plain

    document = verbs.submit(key, out=out, scorer=scorer, places=places)
    threshold = Column(
        "threshold", lambda row: "–" if row["threshold"] is None else f"{row['threshold']:.6g}", right=True
    )
    columns = [plain("file"), count("clips"), threshold, count("anomalous", "called anomalous")]
    title = f"Trial {document['key']}, {document['scorer']}, in {out}"
    show(form, columns, document["rows"], title=title, document=document)
    for each in document["notes"]:
        note(each)
