"""Charts of the report page: SVG that follows the page's colours, is read by screen readers and prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup, escape

# small, so that letters stay legible where a phone shows the whole width in 330 px
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 44
TICKS = 6
SERIES = 6  # colours and shapes that stay apart
DODGE = 3.5  # between series at the same place
TEXT_WIDTH = 26  # of a tick's text
MARK_WIDTH, LINE = 15, 12  # of the letters beside a point
INTERVAL_WIDTH, INTERVAL_HEIGHT = 150, 18


@dataclass(frozen=True)
class Point:
    """A place in a chart, in the units of its axes.

    Attributes:
        x: across.
        y: up.
        low: of the interval in y; None draws none.
        high: of the same.
        series: which colour and shape, 0 to 5.
        hollow: drawn as an outline: what was not fine-tuned.
        name: what it is, in words.
        mark: a few letters beside it.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    hollow: bool = False
    name: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Scale:
    """How values of an axis become places: linear, or logarithmic for what spans orders of magnitude."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an SVG element; attributes and text are escaped, children made here are not escaped twice.

    Args:
        name: of the element.
        children: text or other elements.
        attributes: `_` stands for `-`; `cls` for `class`; None leaves one out.
    """
    said = Markup("").join(
        Markup(' {}="{}"').format("class" if key == "cls" else key.replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, said, inner)


def line_chart(
    lines: Sequence[Sequence[Point]],
    *,
    name: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[float, str, int | None]] = (),
) -> Markup:
    """Draw lines through points with their intervals.

    Args:
        lines: one a series.
        name: unique in the page; ids are made of it.
        title: of the chart.
        description: what it shows, for who cannot see it.
        x_label: with unit.
        y_label: with unit.
        levels: horizontal lines: value, text, series (None for grey).
    """
    points = [point for line in lines for point in line]
    values = [v for p in points for v in (p.y, p.low, p.high) if v is not None] + [level for level, _, _ in levels]
    xs = sorted({p.x for p in points})
    x = Scale(*_padded(xs[0], xs[-1], share=0.06), LEFT, WIDTH - RIGHT)
    y = Scale(*_padded(min(values), max(values)), HEIGHT - BOTTOM, TOP)
    labels = {"x_label": x_label, "y_label": y_label}
    drawn = [*_frame(x, y, x_ticks=_apart(xs, x), y_ticks=ticks(y.low, y.high), **labels)]
    drawn += [_level(y.at(level), series) for level, _, series in levels]
    for place, line in enumerate(lines):
        shift = DODGE * (place - (len(lines) - 1) / 2)
        path = " ".join(f"{x.at(p.x) + shift:.1f},{y.at(p.y):.1f}" for p in line)
        drawn.append(element("polyline", points=path, cls=f"line s{line[0].series}"))
        drawn += [_mark(p, x.at(p.x) + shift, y) for p in line]
    # above all lines, between the first two places of the axis, where no whisker stands
    middle = (x.at(xs[0]) + x.at(xs[1])) / 2 if len(xs) > 1 else x.end - TEXT_WIDTH
    drawn += [
        element("text", text, x=middle, y=y.at(level) - 4, cls="note", text_anchor="middle")
        for level, text, _ in levels
        if text
    ]
    return _chart(drawn, name=name, title=title, description=description)


def scatter_chart(
    points: Sequence[Point],
    *,
    name: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    diagonal: str = "",
    log_x: bool = False,
) -> Markup:
    """Draw points.

    Args:
        points: what is drawn.
        name: unique in the page.
        title: of the chart.
        description: what it shows, for who cannot see it.
        x_label: with unit.
        y_label: with unit.
        diagonal: text of the line on which x equals y; both axes then share their range.
        log_x: a logarithmic axis; every x must be positive.
    """
    xs, ys = [p.x for p in points], [p.y for p in points]
    if diagonal:
        xs = ys = xs + ys
    span = (min(xs) / 1.4, max(xs) * 1.4) if log_x else _padded(min(xs), max(xs))
    x = Scale(*span, LEFT, WIDTH - RIGHT, log=log_x)
    y = Scale(*_padded(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    x_ticks = log_ticks(x.low, x.high) if log_x else ticks(x.low, x.high)
    labels = {"x_label": x_label, "y_label": y_label}
    drawn = [*_frame(x, y, x_ticks=_apart(x_ticks, x), y_ticks=ticks(y.low, y.high), **labels)]
    if diagonal:
        ends = {"x1": x.at(x.low), "y1": y.at(x.low), "x2": x.at(x.high), "y2": y.at(x.high)}
        drawn.append(element("line", cls="level", **ends))
        drawn.append(element("text", diagonal, x=LEFT + 6, y=TOP + 10, cls="note"))
    points = _legible(points, x, y)
    drawn += [_mark(p, x.at(p.x), y) for p in sorted(points, key=lambda p: not p.hollow)]
    return _chart(drawn, name=name, title=title, description=description)


def interval(delta: float, low: float, high: float, *, span: float) -> Markup:
    """Draw a difference with its interval around zero, small enough for a table's cell.

    Args:
        delta: the difference.
        low: of its interval.
        high: of its interval.
        span: what the half width stands for, shared by the rows of a table.
    """
    middle, y = INTERVAL_WIDTH / 2, INTERVAL_HEIGHT / 2
    a, b, c = (middle + max(-1.0, min(1.0, value / span)) * (middle - 6) for value in (low, delta, high))
    return element(
        "svg",
        element("line", x1=middle, x2=middle, y1=0, y2=INTERVAL_HEIGHT, cls="zero"),
        element("line", x1=a, x2=c, y1=y, y2=y, cls="whisker s0"),
        element("circle", cx=b, cy=y, r=4, cls="mark s0"),
        viewBox=f"0 0 {INTERVAL_WIDTH} {INTERVAL_HEIGHT}", cls="interval", aria_hidden="true",
    )  # fmt: skip


def key(series: int, *, hollow: bool = False) -> Markup:
    """Draw the sign of a series for a legend."""
    point = _shape(series, 8, 8, hollow=hollow)
    return element("svg", point, viewBox="0 0 16 16", cls="key", aria_hidden="true")


def ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Return round values within a range, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**n for n in powers for f in (1, 2, 5) if low <= f * 10.0**n <= high]


def _chart(drawn: Sequence[Markup], *, name: str, title: str, description: str) -> Markup:
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-text"),
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", cls="chart", role="img", aria_labelledby=f"{name}-title {name}-text",
    )  # fmt: skip


def _frame(
    x: Scale, y: Scale, *, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str
) -> list[Markup]:
    bottom = HEIGHT - BOTTOM
    drawn = []
    for value in y_ticks:
        at = y.at(value)
        drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, cls="grid"))
        drawn.append(element("text", f"{value:g}", x=LEFT - 7, y=at + 4, cls="tick", text_anchor="end"))
    for value in x_ticks:
        at = x.at(value)
        drawn.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, cls="axis"))
        drawn.append(element("text", f"{value:g}", x=at, y=bottom + 17, cls="tick", text_anchor="middle"))
    drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, cls="axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(element("text", x_label, x=middle, y=HEIGHT - 8, cls="label", text_anchor="middle"))
    turned = f"translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)"
    drawn.append(element("text", y_label, transform=turned, cls="label", text_anchor="middle"))
    return drawn


def _level(at: float, series: int | None) -> Markup:
    colour = "" if series is None else f" s{series}"
    return element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, cls=f"level{colour}")


def _mark(point: Point, x: float, y: Scale) -> Markup:
    drawn = []
    if point.low is not None and point.high is not None:
        low, high = y.at(point.low), y.at(point.high)
        drawn.append(element("line", x1=x, x2=x, y1=low, y2=high, cls=f"whisker s{point.series}"))
    drawn.append(_shape(point.series, x, y.at(point.y), hollow=point.hollow))
    if point.mark:
        drawn.append(element("text", point.mark, x=x + 7, y=y.at(point.y) - 5, cls="note"))
    return element("g", element("title", point.name), *drawn)


def _shape(series: int, x: float, y: float, *, hollow: bool) -> Markup:
    """Draw a series' own shape, so that colour is not all that tells series apart."""
    cls = f"{'hollow' if hollow else 'mark'} s{series}"
    if series == 0:
        return element("circle", cx=x, cy=y, r=4.5, cls=cls)
    if series == 1:
        return element("rect", x=x - 4, y=y - 4, width=8, height=8, cls=cls)
    corners: dict[int, list[tuple[float, float]]] = {
        2: [(0, -5.5), (5, 4), (-5, 4)],
        3: [(0, -6), (6, 0), (0, 6), (-6, 0)],
        4: [(0, 5.5), (5, -4), (-5, -4)],
        5: [(-5, -2), (0, -5.5), (5, -2), (3.2, 4.5), (-3.2, 4.5)],
    }
    path = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners[series])
    return element("polygon", points=path, cls=cls)


def _padded(low: float, high: float, share: float = 0.08) -> tuple[float, float]:
    """Widen a range, so that no point stands on the frame; a single value gets a range of its own."""
    pad = share * (high - low) or max(1.0, 0.05 * abs(high))
    return low - pad, high + pad


def _legible(points: Sequence[Point], x: Scale, y: Scale) -> list[Point]:
    """Leave out the letters that would cover those of a point before."""
    kept: list[Point] = []
    for point in points:
        near = any(
            other.mark and abs(x.at(other.x) - x.at(point.x)) < MARK_WIDTH and abs(y.at(other.y) - y.at(point.y)) < LINE
            for other in kept
        )
        kept.append(replace(point, mark="") if near else point)
    return kept


def _apart(values: Sequence[float], scale: Scale) -> list[float]:
    """Leave out ticks whose texts would touch."""
    kept = list(values[:1])
    for value in values[1:]:
        if scale.at(value) - scale.at(kept[-1]) >= TEXT_WIDTH * (0.6 if value < 10 else 0.8):
            kept.append(value)
    return kept


def _number(value: Any) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value
