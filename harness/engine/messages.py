"""What a worker reports to the driver while it runs a trial, and the one sign that goes the other way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.contract import EpochReport

if TYPE_CHECKING:
    from harness.studies.study_file import PruningTable

Report = Callable[[dict[str, Any]], None]
EPOCHS, ANSWER = "epochs", "answer"  # keys of a report: epochs that ended, and at last how the trial ended
LEAVING = "leaving"  # with an answer: the worker's process ends as soon as the driver has it
LAST = "last"  # with the last epoch of the recipe
SIGNAL, EPOCH = "signal", "epoch"  # of an epoch at which trials are compared: training loss over guessing's, and which


@dataclass(frozen=True)
class Pruned:
    """The answer of a trial that was stopped early.

    Attributes:
        reason: for example "after epoch 4 at 0.913 of guessing's loss".
    """

    reason: str


def signal(report: EpochReport) -> float:
    """Return an epoch's training loss as a share of guessing's: 1 is guessing, 0 is perfect.

    Top-M makes more classes the larger M is, and a loss over more classes is larger: log(classes), the loss of equal
    probabilities, makes trials of different M comparable. Where there is one class there is nothing to learn: 0.
    """
    return report.loss / math.log(report.classes) if report.classes > 1 else 0.0


def epoch_result(report: EpochReport, *, pruning: PruningTable | None = None, last: int = 0) -> dict[str, Any]:
    """Return what a worker reports of an epoch: with the signal where others are compared with it.

    Args:
        report: of the epoch.
        pruning: of the study.
        last: epochs of the recipe; the last one's signal would stop a trial that has paid for everything.
    """
    result: dict[str, Any] = {EPOCHS: [report]}
    if report.epoch == last:
        return {**result, LAST: True}
    if pruning is None or report.epoch % pruning.every or report.epoch >= last:
        return result
    return {**result, EPOCH: report.epoch, SIGNAL: signal(report)}


def stop_sign(folder: Path, key: str, epoch: int) -> Path:
    """Return the empty file by which the driver tells a trial to stop after an epoch.

    Tune itself could stop the trial, but it would let the worker sleep in the middle of it, with the lock on a shared
    training still held. A trial that looks for this file after each compared epoch ends by itself and lets go.
    """
    return folder / f"{key}-{epoch}"
