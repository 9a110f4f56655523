"""Where fine-tuning keeps its state between epochs, so that a trial that was cut goes on where it stopped."""

from __future__ import annotations

import time
from pathlib import Path

from backbones.training.checkpoint import TrainingCheckpoint

FOLDER = "checkpoints"
KEPT_DAYS = 7  # for which the checkpoint of a trial that was pruned or given up stays


def training_checkpoint(cache: Path, key: str) -> TrainingCheckpoint:
    """Return the checkpoint of a trial by its key, and delete other trials' checkpoints that are older than a week.

    Args:
        cache: folder of the cache.
        key: the trial's key.
    """
    folder = cache / FOLDER
    path = folder / f"{key}.pt"
    sweep(folder, days=KEPT_DAYS, keep=path)
    return TrainingCheckpoint(path)


def forget_training(cache: Path, key: str) -> None:
    """Remove a trial's checkpoint: the trial has ended, or will not be tried again."""
    TrainingCheckpoint(cache / FOLDER / f"{key}.pt").remove()


def sweep(folder: Path, *, days: float, keep: Path | None = None) -> None:
    """Remove checkpoints, half-written ones too, that were not written to for this many days, except `keep`."""
    for path in (*folder.glob("*.pt"), *folder.glob(".*.part")):
        try:
            old = time.time() - path.stat().st_mtime > days * 86_400
        except FileNotFoundError:  # another process was quicker
            continue
        if old and path != keep and not path.is_dir():  # a folder of that name is not a checkpoint
            path.unlink(missing_ok=True)
