"""Reports from a worker to the driver while a trial runs, and the stop file by which the driver stops a trial early.

The driver is the process that runs the study; a worker is a Ray process that runs its trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a worker shall start without torch, see `harness.engine.trainable`
    from backbones.contract import EpochReport
    from harness.studies.study_file import PruningTable

Report = Callable[[dict[str, Any]], None]
EPOCHS, ANSWER = "epochs", "answer"  # keys of a report: epochs that ended, and at last how the trial ended
LEAVING = "leaving"  # key beside ANSWER: the worker's process exits as soon as the driver has received the report
LAST = "last"  # key beside the last epoch of the recipe
SIGNAL, EPOCH = "signal", "epoch"  # keys of a report at whose epoch trials are compared, see `signal`


@dataclass(frozen=True)
class Pruned:
    """The answer of a trial that was stopped early.

    Attributes:
        reason: for example "after epoch 4 at 0.913 of guessing's loss" (`signal`).
    """

    reason: str


def signal(report: EpochReport) -> float:
    """Return an epoch's training loss divided by log(classes), the cross-entropy of guessing: 1 is guessing, 0 perfect.

    A larger M gives more classes, and so a larger loss; the division makes trials of different M comparable. With a
    single class there is nothing to learn, and the signal is 0.
    """
    return report.loss / math.log(report.classes) if report.classes > 1 else 0.0


def epoch_result(report: EpochReport, *, pruning: PruningTable | None = None, last: int = 0) -> dict[str, Any]:
    """Return a worker's report of an epoch, with the signal if trials are compared at this epoch.

    Args:
        report: of the epoch.
        pruning: of the study; None compares no trials.
        last: number of the recipe's last epoch. It has no signal: stopping a trial there would save nothing.
    """
    result: dict[str, Any] = {EPOCHS: [report]}
    if report.epoch == last:
        return {**result, LAST: True}
    if pruning is None or report.epoch % pruning.every or report.epoch >= last:
        return result
    return {**result, EPOCH: report.epoch, SIGNAL: signal(report)}


def stop_sign(folder: Path, key: str, epoch: int) -> Path:
    """Return the path of the empty file that the driver creates to stop a trial after an epoch.

    The trial looks for it after each epoch at which trials are compared, and then ends by itself, releasing its locks.
    If Tune stopped it, the worker would be suspended while it still holds the lock on a training that another trial
    waits for.
    """
    return folder / f"{key}-{epoch}"
