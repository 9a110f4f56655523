"""Figures of the report page, with captions and text descriptions for screen readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

from markupsafe import Markup
from matplotlib.figure import Figure

from harness.answers.board import row_namer
from harness.answers.question import details, differing
from harness.errors import HarnessError
from harness.report.evidence import DetailedRow, curve_families, labeled_rows, trained_rows
from harness.report.figures import (
    LINES,
    MEASURES,
    cost_against_score,
    family_name,
    goes_on,
    m_curve_figure,
    quality_against_score,
    source_against_target,
    spread_of,
)
from harness.report.inline import inline_svg
from harness.tables import Row, brief, in_percent
from harness.trials.axes import study_axes

TOLD = 30  # most points that a text description lists
READING = "Numbers beside points are M; hollow ones were not fine-tuned here."

Rows = Sequence[Row]
DetailedRows: TypeAlias = Sequence[DetailedRow]


@dataclass(frozen=True)
class Drawn:
    """A figure of the page with its caption."""

    title: str
    said: str
    chart: Markup


def figures(rows: DetailedRows, *, place: int) -> list[Drawn]:
    """Return the figures of a board, leaving out those for which its rows have no data."""
    scored = [row for row in rows if row["kind"] != "chance"]  # its score of 50 would stretch every axis
    labeled, trained = labeled_rows(scored), trained_rows(scored)
    measure, said = next(
        ((name, said) for name, said in MEASURES if any(row.get(name) is not None for row in labeled)), MEASURES[-1]
    )
    judged = (
        "in place of their quality, since no truth was named to judge them by"
        if measure == "confidence"
        else "as far as the truth was known"
    )
    several: list[Row] = [row for family in curve_families(scored).values() if len(family) > 1 for row in family]
    flat: list[Row] = [row for row in scored if row["kind"] == "frozen"] if several else []
    drawn: list[tuple[str, Callable[[Rows], Figure], Rows, str, str]] = [
        (
            "Official score over M", m_curve_figure, [*several, *flat], _curve_said(scored), _curve_told(several),
        ),
        (
            "Source against target", source_against_target, _spread_out(scored, "s_auc"),
            f"Harmonic means over machines. Below the dashed line a row hears anomalies less well after a change of "
            f"domain. {READING}", _told(scored, "s_auc", "t_auc"),
        ),
        (
            "Label quality against score", partial(quality_against_score, measure=measure),
            _within_backbones(labeled, measure),
            f"The {said} of pseudo-labels, {judged}; the score is the best with these labels. {READING}",
            _told(labeled, measure, "official_score"),
        ),
        (
            "Cost against score", cost_against_score, _spread_out(trained, "seconds"),
            f"Seconds of a trial, on a logarithmic axis; the score is the best of its scorers. {READING}",
            _told(trained, "seconds", "official_score"),
        ),
    ]  # fmt: skip
    found = []
    for number, (title, draw, shown, said, told) in enumerate(drawn, start=1):
        try:
            figure = draw(shown)
        except HarnessError:  # no row has the data of this figure
            continue
        name = f"figure{place}-{number}"
        found.append(Drawn(title, said, inline_svg(figure, name=name, title=title, description=told)))
    return found


def _spread_out(rows: DetailedRows, name: str) -> DetailedRows:
    """Return the rows if they differ in a number and in their score: points in one line show no relation."""
    there = [row for row in cast("Rows", rows) if row.get(name) is not None and row["official_score"] is not None]
    apart = (len({in_percent(row[each]) for row in there}) for each in (name, "official_score"))
    return rows if min(apart) > 1 else []


def _within_backbones(rows: DetailedRows, name: str) -> DetailedRows:
    """Return the rows if a number differs between rows of one backbone, and with it the score.

    What differs between backbones alone, as confidence does that does not depend on M, shows no relation to the score.
    """
    there = [row for row in cast("Rows", rows) if row.get(name) is not None and row["official_score"] is not None]
    values: dict[object, set[str]] = {}
    for row in there:
        values.setdefault(row["backbone"], set()).add(in_percent(row[name]))
    return _spread_out(rows, name) if any(len(found) > 1 for found in values.values()) else []


def _curve_said(rows: Rows) -> str:
    families = curve_families(rows)
    shown = [row for family in families.values() for row in family]
    bars = (
        ", bars their 95 % intervals" if any(row.get("ci_low") is not None for row in shown)
        else ", bars a standard deviation over seeds" if any(row["official_score_std"] is not None for row in shown)
        else "; with one seed there is no interval"
    )  # fmt: skip
    beyond = " (an arrow: it goes on beyond the axis)" if goes_on(rows) else ""
    more = f" {len(families) - LINES} more backbones are in the table alone." if len(families) > LINES else ""
    shared = f" The best family of each backbone{_shared(families, rows)}." if families else ""
    return (
        f"Points are means over seeds{bars}{beyond}; "
        f"whether two M differ is for the table of differences, which pairs them.{shared}{more}"
    )


def _shared(families: Mapping[str, Sequence[Row]], rows: Rows) -> str:
    """Say what all curves have in common, of that in which the rows of the board differ: ", with K1 = 15, knn"."""
    firsts = [family[0] for family in families.values()]
    apart, board = differing(firsts), differing(rows)
    axes = [axis.name for axis in study_axes(but=["backbone", "m"]) if axis.number or axis.name == "fusion"]
    said = details(firsts[0], [name for name in (*axes, "scorer") if name in board and name not in apart])
    return f", with {said}" if said else ""


def _curve_told(rows: Rows) -> str:
    """Describe the M-curve for a screen reader: every point with its interval."""
    said = []
    shown = list(curve_families(rows).items())[:LINES]
    for _, family in shown:
        points = []
        for row in family:
            low, high = spread_of(row)
            span = "" if low is None else f" ({low:.2f} to {high:.2f})"
            points.append(f"M = {row['m']}: {in_percent(row['official_score'])}{span}")
        said.append(f"{brief(family_name(family[0], shown))}: {'; '.join(points)}.")
    return " ".join(said)


def _told(rows: Rows, x: str, y: str) -> str:
    """Describe a scatter plot for a screen reader: its first points."""
    there = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    called = row_namer(there)
    shown = [f"{brief(called(row))}: {_number(row, x)}, {_number(row, y)}" for row in there[:TOLD]]
    more = f" And {len(there) - TOLD} more." if len(there) > TOLD else ""
    return f"Each point: {x.replace('_', ' ')}, {y.replace('_', ' ')}. {'; '.join(shown)}.{more}"


def _number(row: Row, name: str) -> str:
    return f"{row[name]:.1f} s" if name == "seconds" else in_percent(row[name])
