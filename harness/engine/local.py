"""Ray Tune on one machine: no reservations, and trials take the workers that Ray has started beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.air.execution import FixedResourceManager
from ray.tune import tune as running
from ray.tune.execution.tune_controller import TuneController


class LocalController(TuneController):  # type: ignore[misc]  # ray ships no types
    """Counts the machine's cores itself, and asks for workers with the driver's environment.

    A reservation runs a task, and an environment of its own a new process; either costs a study its prepared workers.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "resource_manager_factory": FixedResourceManager})
        self._class_cache = _Classes()

    def _cleanup_trials(self) -> None:
        """Let go of the workers, which end by that; Tune would wait seconds for each to say that it has."""
        self._actor_manager.cleanup()


class _Classes:
    def __init__(self) -> None:
        self.made = dict[type, Any]()

    def get(self, trainable: type) -> Any:
        """Return a trainable as a remote class."""
        if trainable not in self.made:
            self.made[trainable] = ray.remote(trainable)
        return self.made[trainable]


@contextmanager
def on_one_machine() -> Iterator[None]:
    """Let Tune run here by `LocalController`; `Tuner` has no option for it."""
    running.TuneController = LocalController
    try:
        yield
    finally:
        running.TuneController = TuneController
