"""Where fine-tuning keeps its state between epochs, so that a trial that was cut goes on where it stopped."""

from __future__ import annotations

import time
from pathlib import Path

from backbones.training.checkpoint import TrainingCheckpoint

FOLDER = "checkpoints"
KEPT_DAYS = 7  # of what a trial left that nobody took up again: pruned, or given up


def training_checkpoint(cache: Path, key: str) -> TrainingCheckpoint:
    """Return the checkpoint of a trial by its key; old ones of others that nobody took up go.

    Args:
        cache: folder of the cache.
        key: stands for all that the training reads.
    """
    folder = cache / FOLDER
    path = folder / f"{key}.pt"
    sweep(folder, days=KEPT_DAYS, keep=path)
    return TrainingCheckpoint(path)


def forget_training(cache: Path, key: str) -> None:
    """Remove a trial's checkpoint: it has been answered, or will not be made again."""
    TrainingCheckpoint(cache / FOLDER / f"{key}.pt").remove()


def sweep(folder: Path, *, days: float, keep: Path | None = None) -> None:
    """Remove checkpoints of trials, and halves of them, but one, that nobody has written to for so many days."""
    for path in (*folder.glob("*.pt"), *folder.glob(".*.part")):
        try:
            old = time.time() - path.stat().st_mtime > days * 86_400
        except FileNotFoundError:  # another process was quicker
            continue
        if old and path != keep and not path.is_dir():  # a folder of that name is none of ours
            path.unlink(missing_ok=True)
