"""The report: one self-contained HTML page with the answer in words, then the figures and tables behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backbones.training.recipe import FinetuneRecipe
from harness.answers.question import EVERYTHING, Question
from harness.credentials import shown
from harness.errors import HarnessError
from harness.files import write_whole
from harness.report import drawings, sheets
from harness.report.evidence import Board, Evidence, gather
from harness.report.forest import forest
from harness.report.mattered import mattered
from harness.report.verdict import finding, lead, verdict
from harness.stores.results import Results
from harness.tables import how_many, without_controls

if TYPE_CHECKING:
    from harness.stores.tracker import Tracker

TEMPLATES = Path(__file__).parent / "templates"
ARTIFACT = "report.html"
LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` serves unless it is told otherwise
WHOLE = re.compile(r"\b(Top-\w+)")
TICKED = re.compile(r"`([^`]+)`")
DEMO = "demo"
VERSIONS = ("asdbench", "torch", "numpy", "scikit-learn", "ray", "optuna", "mlflow")
COMMIT = re.compile(r"[0-9a-f]{40}(\+changes)?")


class Written(TypedDict):
    """The result of writing the page; `run_id` is the MLflow run that it was logged to."""

    out: str | None
    bytes: int
    boards: int
    rows: int
    run_id: str | None
    verdicts: list[str]
    sentences: list[str]


def report(
    results: Results,
    out: Path | None = None,
    question: Question = EVERYTHING,
    *,
    comparisons: int | None = None,
    tracking: str = "",
    tracker: Tracker | None = None,
) -> Written:
    """Write what is recorded as one page, and log it to the study's run where a study is named.

    Args:
        results: the results tables.
        out: the page's file, replaced whole; None writes none.
        question: which trials, and how the comparisons' bootstrap draws.
        comparisons: number of families to compare on each board; see `harness.report.evidence.gather`.
        tracking: MLflow's address, shown without its password.
        tracker: logs the page and gives the runs' addresses for links; None does neither.

    Returns:
        The page's path and size, and the sentences of its comparisons.

    Raises:
        HarnessError: nothing is recorded, nothing of that name, or the file cannot be written.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise HarnessError(f"A report is one HTML file, so --out must end in .html, but got {str(out)!r}.")
    evidence = gather(results, question, comparisons=comparisons)
    page = render(evidence, tracking=tracking, tracker=tracker)
    if out is not None:
        _write(out, page)
    run_id = evidence.study["run_id"] if evidence.study and tracker else None
    if tracker is not None and run_id:
        tracker.log_text(run_id, {ARTIFACT: page})
    return {
        "out": str(out) if out is not None else None,
        "bytes": len(page.encode()),
        "boards": len(evidence.boards),
        "rows": sum(len(board.rows) for board in evidence.boards),
        "run_id": run_id,
        "verdicts": [verdict(board.compared, why_not=board.not_compared).sentence for board in evidence.boards],
        "sentences": [row["sentence"] for board in evidence.boards for row in board.compared],
    }


def render(
    evidence: Evidence, *, tracking: str = "", tracker: Tracker | None = None, written: datetime | None = None
) -> str:
    """Return the page as text. Opening it loads nothing else.

    Names come from studies and recordings of anybody, so all text is escaped. In addition, the page's content security
    policy allows no script but its own.

    Args:
        evidence: what is shown.
        tracking: where MLflow keeps the runs.
        tracker: gives the runs' addresses on a tracking server.
        written: the time that the page states; None is now.
    """
    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    templates.filters["code"] = _with_code
    templates.filters["whole"] = _with_whole_names
    boards = [_board(board, place, evidence) for place, board in enumerate(evidence.boards, start=1)]
    title = "Does Top-M pseudo-labeling beat Top-1?"
    page = templates.get_template("report.html.j2").render(
        title=f"{evidence.study['name']}: {title[0].lower()}{title[1:]}" if evidence.study else title,
        scope=_scope(evidence),
        contents=_contents(boards, evidence),
        boards=boards,
        more_boards=evidence.more_boards,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        study=_study(evidence.study) if evidence.study else None,
        provenance=_provenance(evidence),
        commands=_commands(evidence),
        version=version("asdbench"),
        written=f"{written or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **_runs(evidence, tracking, tracker),
    )
    # names may hold lone surrogates, which cannot be encoded, and control characters, which could act on a terminal
    return without_controls(page.encode(errors="replace").decode())


def _board(board: Board, place: int, evidence: Evidence) -> dict[str, Any]:
    rows = board.rows
    honest, *others = [row["sentence"] for row in board.selected] or [""]
    return {
        "place": f"board{place}",
        "heading": f"Protocol {board.protocol}" if len(_protocols(evidence)) > 1 else "What is behind it",
        "data": board.data,
        "verdict": verdict(board.compared, why_not=board.not_compared),
        "lead": lead(rows),
        "forest": forest(board.compared),
        "answers": [(finding(row), row["sentence"]) for row in board.compared],
        "not_compared": board.not_compared if board.compared else "",
        "selected": honest,
        "more_selected": others,
        "figures": drawings.figures(rows, place=place),
        "mattered": mattered(evidence.mattered, board, place=place),
        "sheets": [
            *sheets.compared(board, place=place, resamples=evidence.question.resamples),
            *sheets.ranking(board, place=place),
            *sheets.selected(board, place=place),
            *sheets.machines(board, place=place),
            *sheets.labels(board, place=place),
            *sheets.cost(board, place=place),
        ],
    }


def _scope(evidence: Evidence) -> str:
    """Say how many trials, scorers and seeds the page shows; a trial with two scorers has two rows and is one trial."""
    rows = [row for board in evidence.boards for row in board.rows]
    trials = {key for row in rows for key in row["keys"]}
    scorers = {row["scorer"] for row in rows if row["keys"] and row["backbone"] is not None}
    seeds = {seed for row in rows for seed in row["seeds"]}
    named = ", ".join(f"{what} {name}" for what, name in evidence.question.names().items() if name)
    counts = [how_many(len(trials), "finished trial"), *([how_many(len(scorers), "scorer")] if scorers else [])]
    what = f"{named[:1].upper()}{named[1:]}" if named else "Everything recorded"
    return f"{what}: {', '.join([*counts, how_many(len(seeds), 'seed')])}."


def _contents(boards: Sequence[Mapping[str, Any]], evidence: Evidence) -> list[tuple[str, str]]:
    return [
        ("answer", "The answer"),
        *((board["place"], board["heading"]) for board in boards),
        ("runs", "MLflow's runs"),
        *([("study", "The study")] if evidence.study else []),
        ("again", "How to reproduce"),
    ]


def _runs(evidence: Evidence, tracking: str, tracker: Tracker | None) -> dict[str, Any]:
    server = tracking.startswith(("http://", "https://"))

    def address(run_id: str | None) -> str | None:
        if not run_id:
            return None
        if tracking and not server and evidence.experiment is not None:
            return f"{LOCAL}/#/experiments/{evidence.experiment}/runs/{run_id}"
        return tracker.address(run_id) if tracker is not None else None

    more = sum(board.more_trials for board in evidence.boards)
    said = (
        "Each run holds a trial's curves, clip scores, pseudo-labels and pictures."
        + (
            ""
            if server or not tracking
            else " This database is shown by MLflow's own pages: while this command runs, "
            f"on the machine that holds it, the links below lead there ({LOCAL})."
        )
        + (f" {more:,} more trials are recorded than are listed here." if more else "")
    )
    study_run = evidence.study["run_id"] if evidence.study else None
    return {
        "runs_said": said,
        "ui_command": "" if server or not tracking else f"mlflow ui --backend-store-uri {shlex.quote(shown(tracking))}",
        "study_link": address(study_run),
        "runs": [
            sheets.runs(board, place=place, address=address)
            for place, board in enumerate(evidence.boards, start=1)
            if board.trials
        ],
    }


def _study(study: Mapping[str, Any]) -> dict[str, Any]:
    content = study["content"]
    facts = [
        ("Name", study["name"]), ("Key", study["key"]), ("Protocol", study["protocol"]),
        ("Trials planned", f"{int(study['planned']):,}"), ("First run", f"{study['created']} UTC"),
        ("MLflow run", study["run_id"]),
    ]  # fmt: skip
    if isinstance(content, Mapping):
        space = content.get("space", {})
        facts += [(f"Space: {name}", ", ".join(map(str, values))) for name, values in space.items() if values]
        facts += [("Seeds", ", ".join(map(str, content.get("seeds", ()))))]
        facts += [("Recipe", _recipe(content.get("recipe", {})))]
    shown = content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return {"facts": facts, "configuration": shown}


def _recipe(recorded: Mapping[str, Any]) -> str:
    """Say a recipe by what is not the paper's in it; the whole one stands in the configuration below."""
    paper = {field.name: field.default for field in fields(FinetuneRecipe)}
    words = {None: "none", True: "yes", False: "no"}
    own = [
        f"{name} = {words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in recorded.items()
        if name not in paper or paper[name] != value
    ]
    return f"the paper's, but {', '.join(own)}" if own else "the paper's"


def _provenance(evidence: Evidence) -> list[tuple[str, str]]:
    trials = [trial for board in evidence.boards for trial in board.trials]

    def different(name: str) -> str:
        return ", ".join(
            str(value) for value in sorted({trial[name] for trial in trials if trial[name] not in ("", None)})
        )

    return [
        ("Code", different("code") or "not recorded"),
        ("Seeds", different("seed") or "none"),
        ("Training recordings", different("train_data") or "none"),
        ("Test recordings", different("test_data") or "none"),
        ("Versions of this page's writer", ", ".join(f"{name} {version(name)}" for name in VERSIONS)),
    ]


def _commands(evidence: Evidence) -> str:
    codes = {trial["code"] for board in evidence.boards for trial in board.trials}
    commits = sorted(code for code in codes if COMMIT.fullmatch(code))
    lines = []
    if len(commits) == 1:
        lines.append(f"git checkout {commits[0].partition('+')[0]}" + _edited(commits[0]))
    lines.append("make setup")
    if evidence.study:
        name = str(evidence.study["name"])
        ships = (files("benchmarks") / "studies" / f"{name}.toml").is_file()
        file = name if ships else shlex.quote(f"{name}.toml")
        lines += [] if ships else [f"# {file}: a study file with the configuration above"]
        # the demonstration generates its recordings; other studies need the user's
        lines.append("asdbench demo" if name == DEMO else f"asdbench study run {file} --data ROOT")
    chosen = " ".join(f"--{what} {shlex.quote(name)}" for what, name in evidence.question.names().items() if name)
    chosen = f" {chosen}" if chosen else ""
    lines += [
        f"asdbench leaderboard{chosen}",
        f"asdbench compare{chosen}",
        f"asdbench report --out report.html{chosen}",
    ]
    return "\n".join(lines)


def _with_code(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    parts = TICKED.split(text)  # what stands between backticks has the odd places
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def _with_whole_names(text: str) -> Markup:
    """Escape a heading in which no line breaks between "Top-" and its number."""
    parts = WHOLE.split(text)  # the names have the odd places
    return Markup("").join(
        Markup('<span class="whole">{}</span>').format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _edited(code: str) -> str:
    return "  # it had uncommitted changes" if code.endswith("+changes") else ""


def _protocols(evidence: Evidence) -> list[str]:
    return [board.protocol for board in evidence.boards]


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _write(out: Path, page: str) -> None:
    try:
        write_whole(out, page.encode())
    except OSError as error:
        raise HarnessError(
            f"--out must name a file in a folder that can be written, but {str(out)!r} cannot: {error.strerror}."
        ) from error
