"""The report's figures for a notebook: leaderboard rows in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.answers.board import row_name
from harness.errors import HarnessError
from harness.pictures.candidates import CHANCE, CURVES
from harness.report.drawings import MEASURES, spread_of
from harness.report.evidence import curve_families

MARKERS = "os^Dvp"
SIZE = (6.4, 4.2)  # inches
READABLE = 0.6  # of the shades; darker cells take white numbers

Rows = Sequence[Mapping[str, Any]]


def m_curve_figure(rows: Rows) -> Figure:
    """Draw the official score in percent over M, a line a backbone, with intervals; frozen encoders dotted.

    Args:
        rows: of one board of the leaderboard, best first.

    Raises:
        HarnessError: no row was fine-tuned with an M, or the rows are of several boards.
    """
    families = curve_families(_one_board(rows))
    if not families:
        raise HarnessError("An M-curve needs fine-tuned rows with an M and an official score, but there is none.")
    figure, axes = _axes("M, attributes joined in a pseudo-label", "official score, %")
    for place, (backbone, family) in enumerate(families.items()):
        score = np.array([100 * row["official_score"] for row in family])
        ends = np.array(
            [[at if end is None else end for end in spread_of(row)] for row, at in zip(family, score, strict=True)]
        )
        away = np.abs(ends - score[:, None]).T  # (m, 2) -> (2, m)
        axes.errorbar(
            [row["m"] for row in family], score, yerr=away, label=backbone, marker=MARKERS[place % len(MARKERS)],
            color=_colour(place), capsize=3,
        )  # fmt: skip
        frozen = [row["official_score"] for row in rows if row["kind"] == "frozen" and row["backbone"] == backbone]
        if known := [value for value in frozen if value is not None]:
            axes.axhline(100 * max(known), color=_colour(place), linestyle=":", label=f"{backbone}, frozen")
    axes.axhline(50, color=CHANCE, linestyle="--", label="chance")
    axes.legend(fontsize=8)
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
    values = np.array(
        [[100 * row["machines"].get(name, np.nan) for name in names] for row in shown]
    )  # (rows, machines)
    figure = Figure(figsize=(2.4 + 0.75 * len(names), 1.2 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(shown)), [row_name(row) for row in shown], fontsize=8)
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
        HarnessError: no row has both, as the years before 2022, or the rows are of several boards.
    """
    shown = [row for row in _one_board(rows) if row["s_auc"] is not None and row["t_auc"] is not None]
    if not shown:
        raise HarnessError("Source against target needs rows with an AUC of both domains, but there is none.")
    figure, axes = _axes("source AUC, %", "target AUC, %")
    _scatter(axes, shown, lambda row: row["s_auc"], lambda row: row["t_auc"])
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, "--", color=CHANCE, linewidth=1, label="source = target")
    axes.legend(fontsize=8)
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
    _scatter(axes, shown, lambda row: row[measure], lambda row: row["official_score"])
    axes.legend(fontsize=8)
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
    _scatter(axes, shown, lambda row: row["seconds"] / 100, lambda row: row["official_score"])
    axes.legend(fontsize=8)
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
    figure = Figure(figsize=(SIZE[0], 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    delta = 100 * np.array([row["delta"] for row in rows])
    ends = 100 * np.array([[row["ci_low"], row["ci_high"]] for row in rows])  # (n, 2)
    places = np.arange(len(rows))
    axes.errorbar(delta, places, xerr=np.abs(ends - delta[:, None]).T, fmt="o", color=_colour(0), capsize=3)
    axes.axvline(0, color=CHANCE, linestyle="--")
    axes.set_yticks(places, [_compared_name(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("official score of M minus that of M = 1, points")
    return figure


def _compared_name(row: Mapping[str, Any]) -> str:
    labels = "" if row["labels"] == "paper" else f", {row['labels']} labels"
    numbers = "".join(f", K{n} = {row[f'k{n}']}" for n in (1, 2) if row[f"k{n}"] is not None)
    return f"{row['backbone']}, M = {row['m']}{numbers}{labels}, {row['scorer']}, {row['dataset']}"


def _one_board(rows: Rows) -> Rows:
    boards = sorted({f"{row['protocol']} ({row['data']})" for row in rows})
    if len(boards) > 1:
        raise HarnessError(
            f"A figure shows rows of one protocol on the same recordings, but got {'; '.join(boards)}; choose one."
        )
    return rows


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _scatter(
    axes: Axes, rows: Rows, x: Callable[[Mapping[str, Any]], float], y: Callable[[Mapping[str, Any]], float]
) -> None:
    names = list(dict.fromkeys((row["backbone"] or row["kind"], row["kind"] == "trial") for row in rows))
    order = list(dict.fromkeys(name for name, _ in names))
    for name, tuned in names:
        chosen = [row for row in rows if (row["backbone"] or row["kind"], row["kind"] == "trial") == (name, tuned)]
        place = order.index(name)
        axes.plot(
            [100 * x(row) for row in chosen], [100 * y(row) for row in chosen], MARKERS[place % len(MARKERS)],
            color=_colour(place), markerfacecolor=_colour(place) if tuned else "none",
            label=name if tuned or chosen[0]["backbone"] is None else f"{name}, {chosen[0]['kind']}",
        )  # fmt: skip
        for row in chosen:
            if row["m"] is not None:
                at = (100 * x(row), 100 * y(row))
                axes.annotate(str(row["m"]), at, xytext=(4, 3), textcoords="offset points", fontsize=7)


def _colour(place: int) -> str:
    return CURVES[place % len(CURVES)]
