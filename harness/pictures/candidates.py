"""Pictures of a trial's candidates; every figure of a trial as PNG bytes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from labeling.contract import RankedCandidates

# Okabe and Ito's palette: apart for colour-blind readers too
NORMAL, ANOMALY, CHANCE = "#0072B2", "#D55E00", "#777777"
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
COLUMNS = 4
OTHERS = "#BBBBBB"
CELL = 0.86  # of a machine type's square, the rest is margin


def candidate_planes(ranked: Mapping[str, RankedCandidates], planes: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Draw each machine type's clips in the plane of their features, coloured by their best candidate.

    The six most frequent best candidates of a machine type have a colour each, all others are grey.

    Args:
        ranked: candidates by machine type.
        planes: (n, 2) of the same clips by machine type; (0, 2) where no features were read: its square has no clips.
    """
    columns = min(COLUMNS, len(ranked))
    rows = -(-len(ranked) // columns)
    # one pair of axes for all: a pair for each would take longer than all the drawing
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1 - 0.4 / (2.6 * rows + 0.4)))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(-rows, 0)
    figure.suptitle("Features in two principal components, coloured by best candidate", fontsize=10)
    for place, (machine, each) in enumerate(ranked.items()):
        best, points = each.names[:, 0], planes[machine]
        left, bottom = place % columns, -1 - place // columns
        said = f"{machine} ({each.case}, {len(set(best.tolist()) - {''})} best candidates)"
        axes.text(left + 0.5, bottom + 0.96, said, ha="center", va="center", fontsize=7)
        if not len(points):
            axes.text(left + 0.5, bottom + 0.5, "no features were read", ha="center", fontsize=7, color=CHANCE)
            continue
        at = _fitted(points) * CELL + (left + (1 - CELL) / 2, bottom + 0.04)
        frequent = [name for name, _ in Counter(sorted(best.tolist())).most_common(len(CURVES)) if name]
        for colour, chosen in (
            (OTHERS, ~np.isin(best, frequent)),
            *((colour, best == name) for name, colour in zip(frequent, CURVES, strict=False)),
        ):
            axes.plot(*at[chosen].T, ".", color=colour, markersize=2.5)
    return figure


def confidence_by_rank(ranked: Mapping[str, RankedCandidates]) -> Figure:
    """Draw the mean confidence of the first, second, ... candidate, a line a machine type.

    Args:
        ranked: candidates by machine type. Clips that keep their own attribute, or have no candidate, do not count.
    """
    figure = Figure(figsize=(6.4, 4.2))
    axes = figure.add_axes((0.1, 0.12, 0.6, 0.8))
    for place, (machine, candidates) in enumerate(ranked.items()):
        guessed = ~candidates.labeled & (candidates.names[:, 0] != "")
        if guessed.any():
            means = candidates.confidence[guessed].mean(axis=0)  # (n, k) -> (k,)
            style = "-" if place < len(CURVES) else "--" if place < 2 * len(CURVES) else ":"
            axes.plot(np.arange(1, len(means) + 1), means, style, color=CURVES[place % len(CURVES)], label=machine)
    axes.set_ylim(0, 1)
    axes.set_xlabel("rank of the candidate")
    axes.set_ylabel("mean confidence of clips that take pseudo-labels")
    if axes.lines:
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    else:
        axes.text(0.5, 0.5, "no clip takes a pseudo-label", ha="center", color=CHANCE, transform=axes.transAxes)
    return figure


def _fitted(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bring points into the unit square, both axes by their own span: (n, 2) -> (n, 2)."""
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    return np.where(span > 0, (points - low) / np.where(span > 0, span, 1.0), 0.5)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    held = io.BytesIO()
    FigureCanvasAgg(figure).print_png(held)  # type: ignore[no-untyped-call]  # matplotlib has no type there
    return held.getvalue()
