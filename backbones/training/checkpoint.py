"""Training that goes on where it was cut: one file, written whole, which only the same training takes up again."""

from __future__ import annotations

import copy
import fcntl
import glob
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from backbones.contract import BackboneError
from backbones.files import read_file, what_is
from backbones.pickled import read_pickled

logger = logging.getLogger(__name__)
Loaded = TypeVar("Loaded")

FORMAT = 1  # raise it when what a checkpoint holds changes
MOST_SHARE = 0.05  # of the time that writing may take
ODD = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)  # of a state of other names or shapes


@dataclass
class TrainingCheckpoint:
    """Where the state of a training run is kept.

    A file that is damaged, or that another run wrote, is passed over with a warning and later replaced: what it would
    have saved is time, and starting over gives the same numbers. It lies in a cache that others may write to, so it is
    read as strangers' checkpoints are, without running anything (`backbones.pickled`), and is written for its owner
    alone.

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
        if what_is(self.path) == "does not exist":
            return None
        try:
            content = read_pickled(read_file(self.path).data, self.path)
        except BackboneError as error:
            logger.warning("%s is damaged, so training starts over: %s", self.path, error)
            return None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("key") != key:
            logger.warning("%s was left by another training, so this one starts over.", self.path)
            return None
        state = content.get("state")
        if not isinstance(state, dict):
            logger.warning("%s is damaged, so training starts over: it holds no state.", self.path)
            return None
        return state

    def take_up(
        self, key: str, load: Callable[[dict[str, Any]], Loaded], state: Callable[[], dict[str, Any]]
    ) -> Loaded | None:
        """Go on from the state that a run left; None where there is none, or none that fits.

        Args:
            key: digest of all that the run's numbers depend on.
            load: takes up a state.
            state: gives the present one, which comes back where the file's does not fit to its end.
        """
        if (left := self.open(key)) is None:
            return None
        before = copy.deepcopy(state())
        try:
            return load(left)
        except ODD as error:
            logger.warning("%s is damaged, so training starts over: %s", self.path, type(error).__name__)
            load(before)
            return None

    def is_due(self) -> bool:
        """Tell whether it is time to write."""
        return time.monotonic() >= self._next

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a state beside the file and rename it: whoever reads sees all of it or the one before."""
        if (there := what_is(self.path)) not in ("does not exist", "is a file"):
            raise BackboneError(f"The state of a training must be kept in {self.path}, but that {there}; move it away.")
        began = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        save_whole({"format": FORMAT, "key": self._key, "state": dict(state)}, self.path, mode=0o600)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self.every_seconds, took / MOST_SHARE if self.every_seconds else 0.0)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if what_is(self.path) != "is a folder":
            self.path.unlink(missing_ok=True)


def save_whole(content: Mapping[str, Any], path: Path, *, mode: int = 0o666) -> None:
    """Save tensors and plain containers under a path, all of them or nothing.

    Args:
        content: what to save.
        path: of the file.
        mode: who may read and write it, before the process's umask.
    """
    _clear_unfinished(path)
    beside = path.with_name(f".{path.name}.{time.monotonic_ns():x}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:  # a path would put its name into the file: equal contents differ
            with suppress(OSError):  # a disk without such locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed, however this process ends
            torch.save(dict(content), file)
            file.flush()
            beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _clear_unfinished(path: Path) -> None:
    """Remove what processes that were killed have left of the same file: halves of it that nobody holds."""
    for half in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # held, or gone meanwhile
            descriptor = os.open(half, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                half.unlink()
            finally:
                os.close(descriptor)


def digest_of(model: nn.Module, *parts: object) -> str:
    """Return 32 hexadecimal digits that stand for a model's weights and whatever else a run depends on."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for part in (torch.__version__, *parts):
        total.update(b"\0" + (part if isinstance(part, bytes) else repr(part).encode()))
    return total.hexdigest()
