"""Pictures of log-mel features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

PANELS = ("input", "what is left visible", "reconstruction")


def reconstruction_picture(titles: Sequence[str], panels: Sequence[NDArray[np.float32]]) -> Figure:
    """Draw input, masked input and reconstruction side by side, a row a clip.

    Args:
        titles: (b,) what each clip is.
        panels: three of (b, frames, 128) normalised log-mel; NaN is drawn grey.
    """
    rows = len(titles)
    height = 1.8 * rows + 0.5
    figure = Figure(figsize=(11.0, height))
    figure.subplots_adjust(left=0.03, right=0.99, bottom=0.02, top=1 - 0.5 / height, wspace=0.03, hspace=0.25)
    for row, title in enumerate(titles):
        low, high = np.percentile(panels[0][row], (1, 99))
        for column, (name, panel) in enumerate(zip(PANELS, panels, strict=True)):
            axes = figure.add_subplot(rows, len(PANELS), row * len(PANELS) + column + 1)
            axes.set_facecolor("#999999")
            image = np.ma.masked_invalid(panel[row].T)
            axes.imshow(image, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="magma")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(name, fontsize=9)
            if column == 0:
                axes.set_ylabel(title, fontsize=7)
    return figure
