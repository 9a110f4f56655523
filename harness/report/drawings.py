"""Figures of the report page, with captions and text descriptions for screen readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from harness.answers.board import row_name
from harness.errors import HarnessError
from harness.report.evidence import curve_families
from harness.report.figures import (
    LINES,
    MEASURES,
    cost_against_score,
    m_curve_figure,
    quality_against_score,
    source_against_target,
    spread_of,
)
from harness.report.inline import inline_svg
from harness.tables import Row, brief, in_percent

TOLD = 30  # most points that a text description lists
READING = "Numbers beside points are M; hollow ones were not fine-tuned here."

Rows = Sequence[Row]


@dataclass(frozen=True)
class Drawn:
    """A figure of the page with its caption."""

    title: str
    said: str
    chart: Markup


def figures(rows: Rows, *, place: int) -> list[Drawn]:
    """Return the figures of a board, leaving out those for which its rows have no data."""
    scored = [row for row in rows if row["kind"] != "chance"]  # its score of 50 would stretch every axis
    measure, said = next(
        ((name, said) for name, said in MEASURES if any(row.get(name) is not None for row in scored)), MEASURES[-1]
    )
    judged = (
        "in place of their quality, since no truth was named to judge them by"
        if measure == "confidence"
        else "as far as the truth was known"
    )
    drawn: list[tuple[str, Callable[[Rows], Figure], str, str]] = [
        ("Official score over M", m_curve_figure, _curve_said(scored), _curve_told(scored)),
        (
            "Source against target", source_against_target,
            f"Harmonic means over machines. Below the dashed line a row hears anomalies less well after a change of "
            f"domain. {READING}", _told(scored, "s_auc", "t_auc"),
        ),
        (
            "Label quality against score", partial(quality_against_score, measure=measure),
            f"The {said} of pseudo-labels, {judged}. {READING}", _told(scored, measure, "official_score"),
        ),
        (
            "Cost against score", cost_against_score, f"Seconds of a trial, on a logarithmic axis. {READING}",
            _told(scored, "seconds", "official_score"),
        ),
    ]  # fmt: skip
    found = []
    for number, (title, draw, said, told) in enumerate(drawn, start=1):
        try:
            figure = draw(scored)
        except HarnessError:  # no row has the data of this figure
            continue
        name = f"figure{place}-{number}"
        found.append(Drawn(title, said, inline_svg(figure, name=name, title=title, description=told)))
    return found


def _curve_said(rows: Rows) -> str:
    families = curve_families(rows)
    own = any(row.get("ci_low") is not None for family in families.values() for row in family)
    more = f" {len(families) - LINES} more backbones are in the table alone." if len(families) > LINES else ""
    return (
        f"Points are means over seeds, bars {'their 95 % intervals' if own else 'a standard deviation over seeds'}; "
        f"whether two M differ is for the table of differences, which pairs them.{more}"
    )


def _curve_told(rows: Rows) -> str:
    """Describe the M-curve for a screen reader: every point with its interval."""
    said = []
    for backbone, family in list(curve_families(rows).items())[:LINES]:
        points = []
        for row in family:
            low, high = spread_of(row)
            span = "" if low is None else f" ({low:.2f} to {high:.2f})"
            points.append(f"M = {row['m']}: {in_percent(row['official_score'])}{span}")
        said.append(f"{brief(backbone)}: {'; '.join(points)}.")
    return " ".join(said)


def _told(rows: Rows, x: str, y: str) -> str:
    """Describe a scatter plot for a screen reader: its first points."""
    there = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    shown = [f"{brief(row_name(row))}: {_number(row, x)}, {_number(row, y)}" for row in there[:TOLD]]
    more = f" And {len(there) - TOLD} more." if len(there) > TOLD else ""
    return f"Each point: {x.replace('_', ' ')}, {y.replace('_', ' ')}. {'; '.join(shown)}.{more}"


def _number(row: Row, name: str) -> str:
    return f"{row[name]:.1f} s" if name == "seconds" else in_percent(row[name])
