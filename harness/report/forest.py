"""The forest plot of the report: every comparison of Top-M with Top-1, a line each, around zero.

It is a table whose cells hold small drawings in percent of their width, so that it fills any window and its text is as
large as the page's, on a phone, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from harness.answers.columns import p_value
from harness.answers.compare import ComparedRow
from harness.report.verdict import OPEN, compared_namer, finding
from harness.tables import in_percent

EDGE = 4.0  # percent of the width that stays free on either side, for arrows and the last tick's number
WIDER = 3.0  # times the median half-width of intervals up to which the axis reaches; wider ones end in arrows
TICKS = 3  # most on either side of zero
MIDDLE = 50.0  # percent of the width at which zero lies
ARROW = 2.0  # percent of the width, of an arrow where an interval goes on


@dataclass(frozen=True)
class Bough:
    """A line of the forest: one comparison.

    Attributes:
        cls: CSS class of what it found: better, worse or open.
        backbone: its name.
        rest: M, and all in which comparisons differ.
        drawn: estimate and interval.
        points: the estimate in points of percent.
        span: the interval.
        p: the corrected p-value.
    """

    cls: str
    backbone: str
    rest: str
    drawn: Markup
    points: str
    span: str
    p: str


@dataclass(frozen=True)
class Forest:
    """The plot: its lines, and the numbers below them."""

    lines: list[Bough]
    axis: Markup


def forest(compared: Sequence[ComparedRow]) -> Forest | None:
    """Return the forest plot of a board's comparisons; None where there is none."""
    if not compared:
        return None
    name, reach = compared_namer(compared), _reach(compared)
    ticks = _ticks(reach)
    lines = [
        Bough(
            cls=finding(row),
            backbone=str(row["backbone"]),
            rest=name(row),
            drawn=_interval(row, reach, ticks),
            points=in_percent(row["delta"], signed=True),
            span=f"{in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}",
            p=p_value(row["p_corrected"]),
        )
        for row in compared
    ]
    return Forest(lines, _axis(ticks, reach))


def _reach(compared: Sequence[ComparedRow]) -> float:
    """Return how far the axis reaches to either side of zero, so that one very wide interval does not hide the rest."""
    ends = np.array([[row["ci_low"], row["ci_high"]] for row in compared])
    estimates = np.array([row["delta"] for row in compared])
    widest = float(np.abs(ends).max())
    usual = float(np.abs(estimates).max() + WIDER * np.median(ends[:, 1] - ends[:, 0]) / 2)
    return max(min(widest, usual), 0.001)


def _ticks(reach: float) -> list[float]:
    """Return round values to either side of zero, in fractions."""
    least = reach / TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= least * (1 - 1e-9))
    most = math.floor(reach / step * (1 + 1e-9))
    return [step * place for place in range(-most, most + 1)]


def _at(value: float, reach: float) -> float:
    """Return where a value lies, in percent of the drawing's width."""
    return MIDDLE + max(-1.0, min(1.0, value / reach)) * (MIDDLE - EDGE)


def _interval(row: ComparedRow, reach: float, ticks: Sequence[float]) -> Markup:
    low, high, middle = (_at(row[name], reach) for name in ("ci_low", "ci_high", "delta"))
    grid = "".join(f'<line x1="{_at(tick, reach):.2f}%" x2="{_at(tick, reach):.2f}%" y1="0" y2="100%" '
                   f'class="{"zero" if abs(tick) < 1e-12 else "grid"}"></line>' for tick in ticks)  # fmt: skip
    arrows = "".join(
        f'<line x1="{end:.2f}%" x2="{end + back:.2f}%" y1="50%" y2="{y}%" class="span"></line>'
        for end, goes_on, back in ((low, row["ci_low"] < -reach, ARROW), (high, row["ci_high"] > reach, -ARROW))
        if goes_on
        for y in (25, 75)
    )
    inside = "hollow" if finding(row) == OPEN else "full"  # what was found is told by shape, too
    drawn = (
        f'<svg class="bough" aria-hidden="true">{grid}'
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%" class="span"></line>{arrows}'
        f'<circle cx="{middle:.2f}%" cy="50%" r="4.5" class="{inside}"></circle></svg>'
    )
    return Markup(drawn)  # noqa: S704 - numbers alone


def _axis(ticks: Sequence[float], reach: float) -> Markup:
    texts = "".join(f'<text x="{_at(tick, reach):.2f}%" y="12" text-anchor="middle">{_number(tick)}</text>'
                    for tick in ticks)  # fmt: skip
    return Markup(f'<svg class="boughs" aria-hidden="true">{texts}</svg>')  # noqa: S704 - numbers alone


def _number(tick: float) -> str:
    value = round(100 * tick, 6) + 0.0
    return f"{value:+g}" if value else "0"
