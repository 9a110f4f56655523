"""The report's section on what mattered: how much of the scores' variance goes with each choice of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.answers.importance import ImportanceRow, importance_columns
from harness.report.evidence import Board
from harness.report.sheets import Cell, Heading, Line, Sheet

WIDTH, HEIGHT = 150, 18  # of a bar's drawing
DRAWN = "0 to 100 %"
PED_ANOVA = "PED-ANOVA: how well a choice tells the best tenth of the scores from the rest, of all choices together."
LEFT_OUT = "PED-ANOVA is left out of pages of so many scores; asdbench importance has it."
NAMED = 3  # most choices that the first sentence names


@dataclass(frozen=True)
class Mattered:
    """The section of one board: a sentence, and a table with a bar for each choice."""

    lead: str
    sheet: Sheet


def mattered(rows: Sequence[ImportanceRow], board: Board, *, place: int) -> Mattered | None:
    """Return a board's section; None if it has no rows.

    Args:
        rows: of all boards.
        board: whose section.
        place: of the board.
    """
    own = [row for row in rows if (row["protocol"], row["data"]) == (board.protocol, board.data)]
    if not own:
        return None
    columns = [column for column in importance_columns(own) if column.heading != "protocol"]
    names = [column.heading for column in columns]
    at = names.index("by chance %") + 1
    headings = [Heading(column.heading, column.right, column.heading == "p") for column in columns]
    headings.insert(at, Heading(DRAWN, right=False, rising=False))
    lines = []
    for row in own:
        cells = [Cell(column.fill(row), "right" if column.right else "") for column in columns]
        cells.insert(at, Cell(_bar(row)))
        lines.append(Line(cells))
    interval = "interval: other trainings, without the part of chance; " if own[0]["ci_low"] is not None else ""
    said = (
        f"Share of the variance of {own[0]['trials']:,} official scores ({own[0]['trainings']:,} trainings) that lies "
        f"between a choice's values, eta squared; {interval}p: whole trainings shuffled. The tick is what chance "
        "gives. "
    ) + (PED_ANOVA if any(row["importance"] is not None for row in own) else LEFT_OUT)
    sheet = Sheet(
        name=f"mattered{place}", heading="What mattered", title="How much each choice explains.", said=said,
        headings=headings, rows=lines, named=names.index("choice"),
    )  # fmt: skip
    return Mattered(_lead(own), sheet)


def _lead(rows: Sequence[ImportanceRow]) -> str:
    """Name the choices that mattered more than chance explains, and say how many did not."""
    sure = [row for row in rows if row["p_value"] < 0.05]
    if not sure:
        return "No choice explains more of the scores' variance than shuffled scores do."
    named = [f"{row['heading']} explains {100 * row['share']:.0f} %" for row in sure[:NAMED]]
    rest = [row["heading"] for row in rows if row not in sure]
    of = f"{', '.join(named)} of the variance between scores"
    return f"{of[0].upper()}{of[1:]}" + (f"; no more than chance: {', '.join(rest)}." if rest else ".")


def _bar(row: ImportanceRow) -> Markup:
    """Draw a share as a bar, its interval as a line, and what chance gives as a tick."""
    middle = HEIGHT / 2
    drawn = (
        '<svg viewBox="0 0 {width} {height}" class="interval" aria-hidden="true">'
        '<rect x="0" y="4" width="{share:.1f}" height="10" class="fill-s1"></rect>'
        '<line x1="{chance:.1f}" x2="{chance:.1f}" y1="0" y2="{height}" class="zero"></line>'
    )
    if row["ci_low"] is not None and row["ci_high"] is not None:
        drawn += '<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" class="stroke-s0"></line>'
    ends = {name: WIDTH * (row[name] or 0.0) for name in ("share", "ci_low", "ci_high", "by_chance")}
    return Markup(  # noqa: S704 - numbers alone
        (drawn + "</svg>").format(
            width=WIDTH,
            height=HEIGHT,
            middle=middle,
            share=ends["share"],
            chance=ends["by_chance"],
            low=ends["ci_low"],
            high=ends["ci_high"],
        )
    )
