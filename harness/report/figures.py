"""Matplotlib figures of leaderboard rows, shared by the report page, notebooks and MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.answers.board import row_namer
from harness.answers.question import details, differing
from harness.errors import HarnessError
from harness.pictures.candidates import CHANCE, CURVES
from harness.report.evidence import curve_families
from harness.tables import Row, brief, printable

MARKERS = "os^Dvp"  # one for each backbone, so that they can be told apart without colour
LINES = len(CURVES) - 1  # backbones with a colour of their own; all further ones share the last colour
SIZE = (4.4, 3.2)  # inches, small, so that letters stay legible where a phone shows the whole width
LETTERS = 9  # points
LINE = 0.17  # inches, height of a line of the legend
MARKED = 30  # most points for which M is written beside them; more would overlap
NEAR_CHANCE = 60.0  # percent; if a curve falls below, the line of chance (50) is shown too
READABLE = 0.6  # of the range of shades; on darker cells numbers are white
SHORT = 44  # most letters of a name in a figure; tables have it whole
REACH = 0.5  # of the range of an M-curve's points: how far beyond them its axis shows intervals
LEAST_REACH = 2.0  # percent, the same where the points hardly differ
# where the number beside a point may stand, in points of the letters' size: where it covers least is taken
BESIDE = ((5, 3), (-9, 3), (5, -10), (-9, -10), (-2, 7), (-2, -14), (13, -3), (-17, -3))
DODGE = 0.06  # horizontal offset between curves, in units of M, so that intervals do not overlap
MEASURES = (("purity", "purity"), ("recall_at_m", "recall at M"), ("confidence", "mean confidence"))

Rows = Sequence[Row]
Sign: TypeAlias = tuple[Artist, str]  # an entry of a legend: the artist, and its label


def spread_of(row: Row) -> tuple[float | None, float | None]:
    """Return a row's interval in percent: its own where it has one, else a standard deviation over seeds."""
    score = row["official_score"]
    if row.get("ci_low") is not None and row.get("ci_high") is not None:
        return 100 * row["ci_low"], 100 * row["ci_high"]
    spread = row["official_score_std"]
    return (None, None) if spread is None else (100 * (score - spread), 100 * (score + spread))


def curve_limits(rows: Rows) -> tuple[float, float]:
    """Return the ends of an M-curve's axis in percent: of its means and references, not of intervals far beyond them.

    With two seeds an honest interval may be ten times as wide as all that is discussed, and would flatten it.
    """
    families = dict(list(curve_families(rows).items())[:LINES])
    shown = [row for family in families.values() for row in family]
    frozen = [row for row in rows if row["kind"] == "frozen" and row["backbone"] in families]
    levels = [100 * row["official_score"] for row in (*shown, *frozen) if row["official_score"] is not None]
    if min(levels) < NEAR_CHANCE:
        levels.append(50.0)
    low, high = min(levels), max(levels)
    reach = max(REACH * (high - low), LEAST_REACH)
    ends = [end for row in shown for end in spread_of(row) if end is not None]
    margin = 0.1 * reach  # so that no marker lies on the edge
    return max(low - reach, min(ends, default=low)) - margin, min(high + reach, max(ends, default=high)) + margin


def goes_on(rows: Rows) -> bool:
    """Tell whether an interval of the M-curve goes on beyond its axis."""
    families = list(curve_families(rows).values())[:LINES]
    if not families:
        return False
    low, high = curve_limits(rows)
    ends = [end for family in families for row in family for end in spread_of(row) if end is not None]
    return any(end < low or end > high for end in ends)


def m_curve_figure(rows: Rows) -> Figure:
    """Draw the official score in percent over M, a line a backbone, with intervals; frozen encoders and chance dashed.

    Intervals that go on beyond the axis (`curve_limits`) end at its edge in an arrow.

    Args:
        rows: of one board of the leaderboard, best first.

    Raises:
        HarnessError: no row was fine-tuned with an M, or the rows are of several boards.
    """
    families = curve_families(_one_board(rows))
    if not families:
        raise HarnessError("An M-curve needs fine-tuned rows with an M and an official score, but there is none.")
    figure, axes = _axes("M, attributes joined in a pseudo-label", "official score, %")
    shown = list(families.items())[:LINES]
    signs: list[Sign] = []
    lowest = math.inf
    limits = curve_limits(rows)
    for place, (backbone, family) in enumerate(shown):
        score = np.array([100 * row["official_score"] for row in family])
        ends = np.array(
            [[at if end is None else end for end in spread_of(row)] for row, at in zip(family, score, strict=True)]
        )
        away = np.abs(np.clip(ends, *limits) - score[:, None]).T  # (m, 2) -> (2, m)
        beside = DODGE * (place - (len(shown) - 1) / 2)
        drawn = axes.errorbar(
            [row["m"] + beside for row in family], score, yerr=away, marker=MARKERS[place], color=CURVES[place],
            markersize=5, linewidth=1.5, capsize=2,
        )  # fmt: skip
        for row, (low, high) in zip(family, ends, strict=True):
            arrows = (["v"] if low < limits[0] else []) + (["^"] if high > limits[1] else [])
            for arrow in arrows:
                edge = limits[arrow == "^"]
                axes.plot([row["m"] + beside], [edge], arrow, color=CURVES[place], markersize=6, clip_on=False)
        signs.append((drawn[0], _short(family_name(family[0], shown))))
        known = [row["official_score"] for row in rows if row["kind"] == "frozen" and row["backbone"] == backbone]
        frozen = max((100 * value for value in known if value is not None), default=None)
        if frozen is not None:
            level = axes.axhline(frozen, color=CURVES[place], linestyle="--", linewidth=1.2)
            signs.append((level, f"{printable(backbone, longest=SHORT - 16)}, frozen: {frozen:.2f}"))
        lowest = min(lowest, score.min(), frozen if frozen is not None else math.inf)
    if lowest < NEAR_CHANCE:
        signs.append((axes.axhline(50, color=CHANCE, linestyle=":", linewidth=1.2), "chance"))
    axes.set_ylim(*limits)
    axes.set_xticks(sorted({row["m"] for _, family in shown for row in family}))
    _legend(figure, signs)
    return figure


def machine_heat_map(rows: Rows) -> Figure:
    """Draw each row's harmonic mean of each machine in percent: a shade and the number.

    Args:
        rows: of one board of the leaderboard.

    Raises:
        HarnessError: no row has machines, or the rows are of several boards.
    """
    shown = [row for row in _one_board(rows) if row["machines"]]
    if not shown:
        raise HarnessError("A heat map needs rows with numbers of machines, but there is none.")
    names = sorted({name for row in shown for name in row["machines"]})
    called = row_namer(shown)
    values = np.array(
        [[100 * row["machines"].get(name, np.nan) for name in names] for row in shown]
    )  # (rows, machines)
    figure = Figure(figsize=(2.4 + 0.75 * len(names), 1.2 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="Blues")
    axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(shown)), [_short(called(row)) for row in shown], fontsize=8)
    _as_it_is([*axes.get_xticklabels(), *axes.get_yticklabels()])
    low, high = np.nanmin(values), np.nanmax(values)
    dark = low + READABLE * (high - low)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > dark else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, label="harmonic mean, %")
    return figure


def source_against_target(rows: Rows) -> Figure:
    """Draw the target domain's AUC over the source domain's, both in percent, a point a row.

    Args:
        rows: of one board of the leaderboard.

    Raises:
        HarnessError: no row has both (the years before 2022 have no AUC by domain), or the rows are of several boards.
    """
    shown = [row for row in _one_board(rows) if row["s_auc"] is not None and row["t_auc"] is not None]
    if not shown:
        raise HarnessError("Source against target needs rows with an AUC of both domains, but there is none.")
    figure, axes = _axes("source AUC, %", "target AUC, %")
    signs = _scatter(axes, shown, lambda row: 100 * row["s_auc"], lambda row: 100 * row["t_auc"])
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    (diagonal,) = axes.plot(ends, ends, "--", color=CHANCE, linewidth=1)
    _legend(figure, [*signs, (diagonal, "source = target")])
    return figure


def quality_against_score(rows: Rows, measure: str = "purity") -> Figure:
    """Draw the official score over the quality of the pseudo-labels, both in percent.

    Args:
        rows: of one board of the leaderboard, as `harness.report.evidence.with_details` returns them.
        measure: purity or recall_at_m, where the truth was known; confidence, which every trial has.

    Raises:
        HarnessError: there is no such measure, no row has it, or the rows are of several boards.
    """
    names = dict(MEASURES)
    if measure not in names:
        raise HarnessError(f"measure must be one of {', '.join(names)}, but got {measure!r}.")
    shown = [
        row for row in _one_board(rows) if row.get(measure) is not None and row["official_score"] is not None
    ]  # fmt: skip
    if not shown:
        raise HarnessError(
            f"Label quality needs rows with {measure}, but there is none; pass them through `with_details`, "
            "and judge labels with --truth, or draw confidence."
        )
    figure, axes = _axes(f"{names[measure]} of pseudo-labels, %", "official score, %")
    _legend(figure, _scatter(axes, shown, lambda row: 100 * row[measure], lambda row: 100 * row["official_score"]))
    return figure


def cost_against_score(rows: Rows) -> Figure:
    """Draw the official score in percent over the seconds of a trial, on a logarithmic axis.

    Args:
        rows: of one board of the leaderboard.

    Raises:
        HarnessError: no row has both, or the rows are of several boards.
    """
    shown = [row for row in _one_board(rows) if row.get("seconds") and row["official_score"] is not None]
    if not shown:
        raise HarnessError("Cost against score needs rows with seconds and an official score, but there is none.")
    figure, axes = _axes("seconds a trial", "official score, %")
    axes.set_xscale("log")
    _legend(figure, _scatter(axes, shown, lambda row: row["seconds"], lambda row: 100 * row["official_score"]))
    low, high = axes.get_xlim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axes.xaxis.set_major_locator(FixedLocator([f * 10.0**n for n in powers for f in (1, 2, 5)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.set_xlim(low, high)
    return figure


def compare_figure(rows: Rows) -> Figure:
    """Draw what each M gains over M = 1 in points, with its 95 % interval around zero.

    Args:
        rows: of `harness.verbs.answers.compare`.

    Raises:
        HarnessError: there is none.
    """
    if not rows:
        raise HarnessError("A figure of comparisons needs one, but there is none.")
    figure = Figure(figsize=(1.5 * SIZE[0], 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    delta = 100 * np.array([row["delta"] for row in rows])
    ends = 100 * np.array([[row["ci_low"], row["ci_high"]] for row in rows])  # (n, 2)
    places = np.arange(len(rows))
    axes.errorbar(delta, places, xerr=np.abs(ends - delta[:, None]).T, fmt="o", color=CURVES[0], capsize=3)
    axes.axvline(0, color=CHANCE, linestyle="--")
    named = differing(rows)
    names = [", ".join(filter(None, [f"{row['backbone']}, M = {row['m']}", details(row, named)])) for row in rows]
    axes.set_yticks(places, [brief(name) for name in names], fontsize=8)
    _as_it_is(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.set_xlabel("official score of M minus that of M = 1, points")
    return figure


def family_name(row: Row, shown: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """Name a curve: its backbone, and what differs between the families of the curves shown."""
    said = details(row, differing(family[0] for _, family in shown))
    return f"{row['backbone']} ({said})" if said else str(row["backbone"])


def _short(name: str) -> str:
    return printable(name, longest=SHORT)


def _one_board(rows: Rows) -> Rows:
    boards = sorted({f"{row['protocol']} ({row['data']})" for row in rows})
    if len(boards) > 1:
        raise HarnessError(
            f"A figure shows rows of one protocol on the same recordings, but got {'; '.join(boards)}; choose one."
        )
    return rows


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=150, layout="constrained")
    figure.patch.set_alpha(0)  # transparent: the page shows its own background
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=LETTERS)
    axes.set_xlabel(x_label, fontsize=LETTERS)
    axes.set_ylabel(y_label, fontsize=LETTERS)
    return figure, axes


def _scatter(axes: Axes, rows: Rows, x: Callable[[Row], float], y: Callable[[Row], float]) -> list[Sign]:
    """Draw a point a row, a colour and shape a backbone, hollow where nothing was trained; return the legend."""
    backbones = list(dict.fromkeys(row["backbone"] for row in rows if row["kind"] in ("trial", "frozen")))
    signs: dict[int, Sign] = {}
    for row in rows:
        place = min(backbones.index(row["backbone"]), LINES) if row["backbone"] in backbones else LINES
        tuned = row["kind"] == "trial"
        inside = CURVES[place] if tuned else "none"
        (point,) = axes.plot(
            [x(row)], [y(row)], MARKERS[place], color=CURVES[place], markersize=6, markerfacecolor=inside
        )
        if place not in signs or (tuned and place < LINES):
            signs[place] = (point, "any other row" if place == LINES else _short(str(row["backbone"])))
    if len(rows) <= MARKED:
        numbered = [(str(row["m"]), x(row), y(row)) for row in rows if row["m"] is not None and row["kind"] == "trial"]
        write_numbers(axes, numbered, [(x(row), y(row)) for row in rows])
    return [signs[place] for place in sorted(signs)]


def write_numbers(
    axes: Axes, numbered: Sequence[tuple[str, float, float]], points: Sequence[tuple[float, float]]
) -> None:
    """Write numbers beside points, each where it covers no point and no number that stands already."""
    letters = axes.figure.dpi / 72  # pixels of a point of letters' size
    axes.autoscale_view()
    taken = [axes.transData.transform(point) / letters for point in points]
    for text, across, up in numbered:
        at = axes.transData.transform((across, up)) / letters
        centres = [at + np.array(offset) + (2.5 * len(text), LETTERS / 3) for offset in BESIDE]
        near = [min(float(np.hypot(*(centre - other))) for other in taken) for centre in centres]
        best = next((n for n, away in enumerate(near) if away > LETTERS), int(np.argmax(near)))
        taken.append(centres[best])
        axes.annotate(text, (across, up), xytext=BESIDE[best], textcoords="offset points", fontsize=LETTERS)


def _legend(figure: Figure, signs: Sequence[Sign]) -> None:
    """Add a legend below a figure, and make room for it."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE * len(signs))
    # the labels are set afterwards, since matplotlib leaves entries out whose label begins with "_"
    blank = [str(place) for place in range(len(signs))]
    drawn = [sign for sign, _ in signs]
    legend = figure.legend(drawn, blank, loc="outside lower left", fontsize=LETTERS, frameon=False)
    for text, (_, name) in zip(legend.get_texts(), signs, strict=True):
        text.set_text(name)
    _as_it_is(legend.get_texts())


def _as_it_is(texts: Iterable[Text]) -> None:
    """Turn off matplotlib's formulas, so that a "$" in a name is shown as it is."""
    for text in texts:
        text.set_parse_math(False)
