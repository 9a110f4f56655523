"""Prints the results of verbs: leaderboards, comparisons, a study's outcome, and so on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answers.columns import STAGES, machine_choice_columns, ordered_stages, regress_columns, select_columns
from harness.cli.console import fits, say, show
from harness.credentials import shown

if TYPE_CHECKING:
    from harness.answers.board import BoardRow
    from harness.answers.compare import ComparedRow
    from harness.answers.importance import ImportanceRow
    from harness.answers.published import PublishedRow
    from harness.answers.selection import SelectedRow
    from harness.gate.checks import Checked
    from harness.gate.regression import Verdict
    from harness.places import Places
    from harness.studies.progress import Outcome
    from harness.tables import Form
    from harness.verbs.gate import Exported, Frozen


NAMES = ("key", "label")
TOP = 50  # rows of a board, or of a study's trials, that are printed unless another number is asked for
SHOWN = 20  # failures that are printed


def show_outcome(outcome: Outcome, places: Places) -> None:
    """Show what a study found, what failed, and where to look next."""
    from harness import verbs

    progress = outcome.progress
    if progress.finished:
        show_leaderboard(verbs.leaderboard(places=places, study=outcome.key, top=TOP), "text")
        say()
        try:
            show_compare(verbs.compare(places=places, study=outcome.key), "text")
        except ValueError as error:  # a study without M = 1 has nothing to compare
            say(str(error))
        say()
    show_front(outcome.front)
    pruned = f", {progress.pruned} pruned" if progress.pruned else ""
    say(
        f"{progress.finished} of {progress.planned} trials finished, {progress.failed} failed{pruned}; "
        f"this run started {progress.started}."
    )
    if outcome.unfinished:
        say(f"Not all were begun: {outcome.unfinished}.")
    for name, reason in list(outcome.failures.items())[:SHOWN]:
        say(f"failed: {name}: {reason}", style="red")
    if len(outcome.failures) > SHOWN:
        say(f"{SHOWN} of {len(outcome.failures):,} failures are shown; all: asdbench study status --json.")
    server = places.tracking.startswith("http")
    look = shown(places.tracking)
    look = look if server else f"{_command('mlflow')} ui --backend-store-uri {look}"
    say(f"Every trial, with curves and artifacts: {look}")
    say(f"The table again: {_command('asdbench')} leaderboard; the comparison: {_command('asdbench')} compare")


def show_status(row: Mapping[str, Any], form: Form) -> None:
    """Show how far a study is, what runs, why trials failed, and what each cost where that was asked for."""
    from harness.cli.console import clock
    from harness.tables import count, plain

    columns = [plain("study"), *(count(n) for n in ("planned", "finished", "failed", "pruned", "running"))]
    if form in {"csv", "markdown"} and "trials" in row:
        show(form, *_costs(row["trials"]), title="Trials")
        return
    show(form, columns, [row], title="Study", document=row)
    if form != "text":
        return
    for cell in row["cells"]:
        say(f"running: {cell['label']} for {clock(cell['seconds'])} ({cell['driver']})")
    for status, what in (("reasons", "failed"), ("pruned_reasons", "pruned")):
        for key, reason in list(row[status].items())[:SHOWN]:
            say(f"{key} {what}: {reason}")
        if len(row[status]) > SHOWN:
            say(f"{SHOWN} of {len(row[status]):,} {what} trials are shown; all: --json.")
    if row.get("trials"):
        show(form, *_costs(row["trials"][:TOP]), title="Trials: seconds by stage, peak memory")
        if len(row["trials"]) > TOP:
            say(f"{TOP} of {len(row['trials']):,} trials are shown; all: --csv.")


def _costs(trials: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    from harness.tables import answering, count, naming, number, plain

    stages = ordered_stages(stage for row in trials for stage in row["seconds"])
    rows = [
        {
            **row,
            "total_seconds": sum(row["seconds"].values()) or None,
            **{f"{stage} s": row["seconds"].get(stage) for stage in stages},
        }
        for row in trials
    ]
    choices = naming(
        plain("kind"), plain("backbone"), count("m", "M"), count("k1", "K1"), count("k2", "K2"), count("seed")
    )
    numbers = [number(f"{stage} s", STAGES.get(stage, stage)) for stage in stages]
    cost = answering(number("total_seconds", "seconds"), count("peak_mb", "peak MiB"))
    return [plain("key"), *choices, plain("status"), *cost, *numbers], rows


def show_front(front: Sequence[Mapping[str, Any]]) -> None:
    """Show the Pareto front of a search with several goals: the trials that no other beats in every goal."""
    from harness.tables import number, percent, plain

    if not front:
        return
    fractions = {"score", "source", "target"}
    columns = [
        percent(name, f"{name} %") if name in fractions else number(name) for name in front[0] if name not in NAMES
    ]
    show("text", [plain("label"), *columns], list(front), title="Best trials: no other is better in every goal")
    say()


def show_leaderboard(rows: Sequence[BoardRow], form: Form, *, machine: str | None = None) -> None:
    """Show a ranking, one table for each protocol and set of recordings, with notes on how to read it."""
    from harness.answers.board import leaderboard_columns, machine_columns, place_columns
    from harness.answers.leaderboard import board_notes

    if form != "text":
        show(form, leaderboard_columns(rows), rows, title="", document={"chance": 0.5, "rows": rows})
        return
    for protocol, data in dict.fromkeys((row["protocol"], row["data"]) for row in rows):
        board = [row for row in rows if (row["protocol"], row["data"]) == (protocol, data)]
        title = f"Leaderboard of {protocol} (recordings {data})" + (f", ranked by {machine}" if machine else "")
        if fits(leaderboard_columns(board), board):
            show(form, leaderboard_columns(board), board, title=title)
        else:
            show(form, leaderboard_columns(board, machines=False), board, title=title)
            columns = [*place_columns(board), *machine_columns(board)]
            show(form, columns, board, title="Harmonic mean of each machine, %")
        ranked = [row for row in board if row["rank"] is not None]
        if ranked and len(ranked) < (ranked[0]["of"] or 0):
            say(f"{len(ranked)} of {ranked[0]['of']:,} rows are shown; more: --top; all: --csv.")
    for note in board_notes(rows):
        say(note)


def show_reference(rows: Sequence[PublishedRow], form: Form) -> None:
    """Show published tables, one row for each system and metric, with the difference of the results recorded here."""
    from harness.answers.columns import reference_columns, reference_lines
    from harness.answers.published import reference_notes

    if form in ("json", "csv"):
        show(form, [], rows, title="")
        return
    for name in dict.fromkeys(row["table"] for row in rows):
        table = [row for row in rows if row["table"] == name]
        lines = reference_lines(table)
        show(form, reference_columns(lines), lines, title=f"Published: {name}, % (recorded here minus published)")
        if form == "text":
            for note in reference_notes(table):
                say(note)
    if form == "text" and all(row["recorded"] is None for row in rows):
        say("None of these cells is recorded here on the full official recordings.")


def show_compare(rows: Sequence[ComparedRow], form: Form, *, mattered: Sequence[ImportanceRow] = ()) -> None:
    """Show how every M did against M = 1, say it in words, and show how much each choice mattered."""
    from harness.answers.columns import compare_columns

    document = {"rows": rows, "importance": mattered}
    show(form, compare_columns(rows), rows, title="Top-M against Top-1", document=document)
    if form == "text":
        for row in rows:
            say(row["sentence"])
        if mattered:
            show_importance(mattered, form)


def show_importance(rows: Sequence[ImportanceRow], form: Form) -> None:
    """Show how much of the scores' variance goes with each choice, and say it in words."""
    from harness.answers.importance import importance_columns

    drawn = "; intervals over trainings, beyond chance" if any(row["ci_low"] is not None for row in rows) else ""
    title = f"What mattered: share of the scores' variance{drawn}"
    show(form, importance_columns(rows), rows, title=title)
    if form == "text":
        for row in rows:
            say(row["sentence"])
        if rows and all(row["importance"] is None for row in rows):
            say("PED-ANOVA is left out of so many scores; --study, --protocol and --backbone take some of them.")


def _command(name: str) -> str:
    """Return the command that runs a program of this Python environment from the current folder."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def show_select(rows: Sequence[SelectedRow], form: Form) -> None:
    """Show what choosing on other machines gives, beside choosing on the test set, and say it in words."""
    show(form, select_columns(rows), rows, title="M, K1, K2 chosen without the machine that they are reported on")
    if form != "text":
        return
    machines = [
        {"backbone": row["backbone"], "dataset": row["dataset"], "chosen_on": row["chosen_on"], **each}
        for row in rows
        for each in row["machines"]
    ]
    show(form, machine_choice_columns(machines), machines, title="What was chosen for each machine, harmonic means")
    for row in rows:
        say(row["sentence"])


def show_freeze(frozen: Frozen, form: Form) -> None:
    """Show what was frozen, in words, with the checksum to publish."""
    from harness.tables import plain

    if form != "text":
        show(form, [plain("file"), plain("sha256")], [frozen], title="Frozen choice", document=frozen)
        return
    say(frozen["sentence"])
    say(f"{frozen['file']} is written; publish its sum so that anybody can tell it was not changed: {frozen['sha256']}")
    say(f"Later: asdbench select --check {frozen['file']} --data ROOT")


def show_check(checked: Checked, form: Form) -> None:
    """Show what a frozen choice scored against what it promised, and say whether it held."""
    from harness.answers.columns import check_columns
    from harness.tables import moment

    title = f"{checked['file']}, frozen {moment(checked['frozen'])}, sum {checked['sha256'][:12]}"
    show(form, check_columns(), checked["rows"], title=title, document=checked)
    if form != "text":
        return
    for row in checked["rows"]:
        say(row["sentence"])
    words = {"held": "Held.", "failed": "Did not hold.", "unclear": "Cannot tell."}
    say(words[checked["verdict"]], style="green" if checked["held"] else "red")


def show_regress(document: Verdict, form: Form) -> None:
    """Show a verdict, machine by machine, and say it in words."""
    rows = document["rows"]
    title = f"{document['candidate']} against {document['baseline']}, margin {100 * document['margin']:g} points"
    show(form, regress_columns(rows), rows, title=title, document=document)
    if form != "text":
        return
    for sentence in (*document["notes"], *document["sentences"]):
        say(sentence)
    accepted = document["accepted"]
    say("Accepted." if accepted else "Refused.", style="green" if accepted else "red")


def show_baseline(document: Exported, form: Form) -> None:
    """Show what an exported baseline holds."""
    from harness.tables import Column, how_many, plain

    columns = [plain("setting"), Column("seeds", lambda row: ", ".join(map(str, row["seeds"])))]
    title = (
        f"{document['file']}: {document['backbone']} on {document['protocol']}, {how_many(document['clips'], 'clip')}"
    )
    show(form, columns, document["rows"], title=title, document=document)
