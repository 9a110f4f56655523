"""Training that goes on where it was cut: one file, written whole, which only the same training takes up again."""

from __future__ import annotations

import hashlib
import logging
import pickle
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)

FORMAT = 1  # raise it when what a checkpoint holds changes
MOST_SHARE = 0.05  # of the time that writing may take
DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


@dataclass
class TrainingCheckpoint:
    """Where the state of a training run is kept.

    A file that is damaged, or that another run wrote, is passed over with a warning and later replaced: what it would
    have saved is time, and starting over gives the same numbers.

    Attributes:
        path: of the file; its folder is made.
        every_seconds: of training between two writes, so that what is quick pays nothing; a longer time where writing
            is slow, so that it stays below a twentieth of the whole. A run that is killed loses that much at most, in
            fine-tuning up to the end of the epoch before.
    """

    path: Path
    every_seconds: float = 30.0
    _key: str = field(default="", repr=False)
    _next: float = field(default=0.0, repr=False)

    def open(self, key: str) -> dict[str, Any] | None:
        """Return the state that a run left, or None where there is none; from then on the clock runs.

        Args:
            key: digest of all that the run's numbers depend on.
        """
        self._key = key
        self._next = time.monotonic() + self.every_seconds
        if not self.path.is_file():
            return None
        try:
            content = _load(self.path)
        except DAMAGE as error:
            logger.warning("%s is damaged (%s), so training starts over.", self.path, _first_line(error))
            return None
        if content.get("format") != FORMAT or content.get("key") != key:
            logger.warning("%s was left by another training, so this one starts over.", self.path)
            return None
        state: dict[str, Any] = content["state"]
        return state

    def is_due(self) -> bool:
        """Tell whether it is time to write."""
        return time.monotonic() >= self._next

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a state beside the file and rename it: whoever reads sees all of it or the one before."""
        began = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_whole({"format": FORMAT, "key": self._key, "state": dict(state)}, self.path)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self.every_seconds, took / MOST_SHARE if self.every_seconds else 0.0)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)


def save_whole(content: Mapping[str, Any], path: Path) -> None:
    """Save tensors and plain containers under a path, all of them or nothing."""
    beside = path.with_name(f".{path.name}.{time.monotonic_ns():x}.part")
    try:
        with beside.open("wb") as file:  # a path would put its name into the file, so that equal contents differ
            torch.save(dict(content), file)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def digest_of(model: nn.Module, *parts: object) -> str:
    """Return 32 hexadecimal digits that stand for a model's weights and whatever else a run depends on."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for part in (torch.__version__, *parts):
        total.update(b"\0" + (part if isinstance(part, bytes) else repr(part).encode()))
    return total.hexdigest()


def _load(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:  # torch itself does not compare the sums that it writes
        if (broken := file.testzip()) is not None:
            raise ValueError(f"the sum of {broken} does not fit")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
