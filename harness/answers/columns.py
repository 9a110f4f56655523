"""How selections, verdicts and exported baselines are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.console import say, show

if TYPE_CHECKING:
    from harness.tables import Column, Form

SHOWN = {
    "accepted": "not worse",
    "worse": "worse",
    "unclear": "cannot tell",
}  # of a machine type, which decides nothing


def select_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a selection, with the year where there are several."""
    from harness.tables import Column, count, in_percent, percent, plain

    def span(low: str, high: str) -> Column:
        return Column(
            "95 % interval",
            lambda row: (
                f"{in_percent(row[low], signed=low != 'ci_low')} to {in_percent(row[high], signed=low != 'ci_low')}"
            ),
            right=True,
        )

    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        plain("labels"),
        plain("scorer"),
        plain("chosen_on", "chosen on"),
        count("cells"),
        percent("official_score", "left out %"),
        span("ci_low", "ci_high"),
        Column("best on its own test set", lambda row: _cell(row["best"])),
        percent("optimistic_score", "own test set %"),
        percent("optimism", "optimism, points", signed=True),
        span("optimism_ci_low", "optimism_ci_high"),
    ]


def machine_choice_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of what was chosen for each machine type."""
    from harness.tables import Column, percent, plain

    return [
        plain("backbone"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        plain("chosen_on", "chosen on"),
        plain("machine"),
        Column("chosen without it", _cell),
        percent("h_mean", "left out %"),
        percent("h_mean_of_best", "best cell %"),
    ]


def show_select(rows: Sequence[Mapping[str, Any]], form: Form) -> None:
    """Show what choosing on other machines gives, beside choosing on the test set, and say it in words."""
    show(form, select_columns(rows), rows, title="M, K1, K2 chosen without the machine that they are reported on")
    if form != "text":
        return
    machines = [
        {**{name: row[name] for name in ("backbone", "dataset", "chosen_on")}, **each}
        for row in rows
        for each in row["machines"]
    ]
    show(form, machine_choice_columns(machines), machines, title="What was chosen for each machine, harmonic means")
    for row in rows:
        say(row["sentence"])


def regress_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of a verdict, with the year where there are several."""
    from harness.tables import Column, in_percent, percent, plain

    return [
        plain("setting"),
        *([plain("dataset")] if len({row["dataset"] for row in rows}) > 1 else []),
        Column("machine", lambda row: row["machine"] or "official score"),
        percent("baseline_score", "baseline %"),
        percent("candidate_score", "candidate %"),
        percent("delta", "difference, points", signed=True),
        Column(
            "90 % interval",
            lambda row: f"{in_percent(row['low'], signed=True)} to {in_percent(row['high'], signed=True)}",
            right=True,
        ),
        Column("verdict", _verdict),
    ]


def show_regress(document: Mapping[str, Any], form: Form) -> None:
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


def show_baseline(document: Mapping[str, Any], form: Form) -> None:
    """Show what an exported baseline holds."""
    from harness.tables import Column, plain

    columns = [plain("setting"), Column("seeds", lambda row: ", ".join(map(str, row["seeds"])))]
    title = f"{document['file']}: {document['backbone']} on {document['protocol']}, {document['clips']} clips"
    show(form, columns, document["rows"], title=title, document=document)


def _cell(row: Mapping[str, Any]) -> str:
    from harness.answers.grids import shown_cell

    return shown_cell([row[name] for name in ("m", "k1", "k2", "fusion")])


def _verdict(row: Mapping[str, Any]) -> str:
    if row["machine"] is not None:
        return SHOWN[str(row["verdict"])]
    return {"accepted": "accepted", "worse": "refused: worse", "unclear": "refused: cannot tell"}[str(row["verdict"])]
