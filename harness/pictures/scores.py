"""Pictures of one scorer's scores: histograms, ROC curves, source against target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.contract import MachineMetrics
from benchmarks.metrics.roc import MAX_FPR
from harness.pictures.candidates import ANOMALY, CHANCE, COLUMNS, CURVES, NORMAL

PARTIAL = "#F0E442"  # of the palette's colours the one that lines stand out from
CELL = 0.82  # of a machine type's square, the rest is margin
BINS = 20
CONDITIONS = (("normal", NORMAL), ("anomaly", ANOMALY))
UNKNOWN = "not known"  # stands for the condition of clips that do not say whether they are normal
DOMAINS = (("source", "-"), ("target", "--"))


def score_pictures(scored: pd.DataFrame, metrics: Sequence[MachineMetrics], scorer: str) -> dict[str, Figure]:
    """Draw everything about one scorer's scores, by the name that a file of it begins with.

    Where no clip says whether it is normal, there are the histograms alone.

    Args:
        scored: test clips with the column `score_<scorer>`.
        metrics: of that scorer.
        scorer: its name.
    """
    if scored["condition"].isna().all():
        return {"scores": score_histograms(scored, scorer)}
    return {
        "scores": score_histograms(scored, scorer),
        "roc": roc_curves(scored, scorer),
        "domains": source_against_target(metrics, scorer),
    }


def score_histograms(scored: pd.DataFrame, scorer: str) -> Figure:
    """Draw a histogram a machine type, a colour a condition: source clips are filled, target ones lines.

    Args:
        scored: test clips with the column `score_<scorer>`; clips without a domain are drawn as source ones.
        scorer: its name.
    """
    machines = list(scored.groupby(["dataset", "machine"], sort=True))
    conditions = (*CONDITIONS, (UNKNOWN, CHANCE)) if scored["condition"].isna().any() else CONDITIONS
    axes, figure = _squares(len(machines), f"Anomaly scores of {scorer}, higher = more anomalous")
    for place, ((dataset, machine), clips) in enumerate(machines):
        left, bottom = _square(axes, place, f"{machine} ({dataset})")
        values, domains = clips[f"score_{scorer}"].to_numpy(dtype=float), _domains(clips)
        said = clips["condition"].astype(object).where(clips["condition"].notna(), UNKNOWN).to_numpy(object)
        edges = np.histogram_bin_edges(values, bins=BINS)
        kinds = [
            (
                np.histogram(values[(said == condition) & (domains == domain)], edges)[0],
                *look,
            )
            for condition, colour in conditions
            for domain, look in (("source", (colour, True)), ("target", (colour, False)))
        ]
        highest = max(1, *(int(heights.max()) for heights, _, _ in kinds))
        along = left + np.linspace(0, CELL, BINS + 1)
        for heights, colour, filled in kinds:
            level = bottom + heights * (CELL / highest)
            axes.stairs(level, along, baseline=bottom, fill=filled, color=colour, alpha=0.5 if filled else 1.0, lw=1.0)
        for at, edge, side in ((left, edges[0], "left"), (left + CELL, edges[-1], "right")):
            axes.text(at, bottom - 0.01, f"{edge:.3g}", ha=side, va="top", fontsize=5)
    for condition, colour in conditions:
        axes.plot([], [], color=colour, linewidth=6, alpha=0.5, label=f"{condition}, source")
        axes.plot([], [], color=colour, label=f"{condition}, target")
    _legend(axes)
    return figure


def roc_curves(scored: pd.DataFrame, scorer: str) -> Figure:
    """Draw the ROC curve of each machine type, all its sections together, with the region of the partial AUC marked.

    A line a domain sets its normal clips against all anomalies, as official metrics do from 2022 on; one line where the
    year has no domains.

    Args:
        scored: test clips with the column `score_<scorer>`; those without a condition are passed over.
        scorer: its name.
    """
    machines = list(scored.dropna(subset=["condition"]).groupby(["dataset", "machine"], sort=True))
    axes, figure = _squares(len(machines), f"ROC of {scorer}; the partial AUC is of the marked region, up to {MAX_FPR}")
    for place, ((dataset, machine), clips) in enumerate(machines):
        corner = _square(axes, place, f"{machine} ({dataset})")
        axes.fill_between([corner[0], corner[0] + MAX_FPR * CELL], corner[1], corner[1] + CELL, color=PARTIAL, lw=0)
        frame = np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (1, 1)])
        axes.plot(*(frame * CELL + corner).T, color=CHANCE, linewidth=0.6)
        for points, style in _curves(clips, f"score_{scorer}"):
            axes.plot(*(points * CELL + corner).T, style, color=NORMAL if style == "-" else ANOMALY, linewidth=1.2)
    for domain, style in DOMAINS:
        axes.plot([], [], style, color=NORMAL if style == "-" else ANOMALY, label=f"normal clips of {domain}")
    _legend(axes)
    return figure


def source_against_target(metrics: Sequence[MachineMetrics], scorer: str) -> Figure:
    """Draw the target AUC of each section over its source AUC, a colour a machine type.

    Args:
        metrics: of one scorer; a section without both AUCs is passed over.
        scorer: its name.
    """
    figure = Figure(figsize=(5.6, 4.2))
    axes = figure.add_axes((0.12, 0.12, 0.6, 0.78))
    axes.set_title(f"Source against target AUC of {scorer}", fontsize=10)
    axes.plot([0, 1], [0, 1], color=CHANCE, linewidth=0.8)
    for half in (axes.axhline, axes.axvline):
        half(0.5, color=CHANCE, linestyle=":", linewidth=0.8)
    names = list(dict.fromkeys((each.dataset, each.machine) for each in metrics))
    drawn = []
    for place, (dataset, machine) in enumerate(names):
        points = [
            (each.s_auc, each.t_auc)
            for each in metrics
            if (each.dataset, each.machine) == (dataset, machine) and each.s_auc is not None and each.t_auc is not None
        ]
        if points:
            marker = "osD^v<>"[place // len(CURVES) % 7]
            colour = CURVES[place % len(CURVES)]
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=f"{machine} ({dataset})")
            drawn += [value for point in points for value in point]
    low, high = (min(drawn), max(drawn)) if drawn else (0.0, 1.0)
    axes.set_xlim(max(0.0, min(low, 0.5) - 0.05), min(1.0, max(high, 0.5) + 0.05))
    axes.set_ylim(axes.get_xlim())
    axes.set_xlabel("source AUC")
    axes.set_ylabel("target AUC")
    if drawn:
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    else:
        axes.text(0.5, 0.5, "no section has both", ha="center", color=CHANCE, transform=axes.transAxes)
    return figure


def _squares(number: int, title: str) -> tuple[Axes, Figure]:
    """Return one pair of axes with a unit square for each machine type, rows of them downwards, and their figure."""
    columns, rows = max(1, min(COLUMNS, number)), max(1, -(-number // COLUMNS))
    height = 2.4 * rows + 0.6
    figure = Figure(figsize=(max(2.4 * columns, 5.0), height))
    # one pair of axes for all: a pair for each would take longer than all the drawing
    axes = figure.add_axes((0.0, 0.0, 1.0, 1 - 0.6 / height))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(-rows, 0)
    figure.suptitle(title, fontsize=9, y=1 - 0.1 / height, va="top")
    return axes, figure


def _square(axes: Axes, place: int, title: str) -> NDArray[np.float64]:
    """Write the title of a machine type's square, and return its lower left corner: (2,)."""
    corner = np.array([place % COLUMNS + 0.12, -1 - place // COLUMNS + 0.06])
    axes.text(corner[0] + CELL / 2, corner[1] + CELL + 0.03, title, ha="center", fontsize=7)
    return corner


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=6, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False)


def _domains(clips: pd.DataFrame) -> NDArray[Any]:
    """Return the domain of each clip, "source" where the year has none: (n,)."""
    return clips["domain"].astype(object).where(clips["domain"].notna(), "source").to_numpy(object)


def _curves(clips: pd.DataFrame, column: str) -> list[tuple[NDArray[np.float64], str]]:
    """Return ((g, 2) points of false and true positive rate, line style) of each domain that has normal clips."""
    anomalous = (clips["condition"] == "anomaly").to_numpy(dtype=bool)
    scores = clips[column].to_numpy(dtype=float)
    domains = _domains(clips)
    curves = []
    for domain, style in DOMAINS:
        normal = scores[~anomalous & (domains == domain)]
        anomaly = scores[anomalous]
        if normal.size and anomaly.size:
            limits = np.unique(np.concatenate([normal, anomaly]))[::-1]  # a point a distinct score, so ties slope
            rates = [1 - np.searchsorted(np.sort(each), limits, "left") / each.size for each in (normal, anomaly)]
            curves.append((np.vstack([(0.0, 0.0), np.stack(rates, axis=1)]), style))
    return curves
