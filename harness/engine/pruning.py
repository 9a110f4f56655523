"""Early stopping of trials that learn worse than others, decided by their training loss alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule

from harness.engine.messages import EPOCH, SIGNAL

if TYPE_CHECKING:
    from harness.studies.study_file import PruningTable


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]  # ray ships no types
    """Runs trials in the order they come, reports which of them the pruning rule stops, and why workers died.

    Args:
        rule: the Ray Tune scheduler that decides which trials stop; None stops none.
        on_stop: called with a trial's id and the epoch after which it shall stop.
        on_death: called with a trial's id and Ray's error when its worker dies, before the searcher is told.
    """

    def __init__(
        self,
        rule: FIFOScheduler | None,
        *,
        on_stop: Callable[[str, int], None],
        on_death: Callable[[str, str], None],
    ) -> None:
        super().__init__()
        self.rule, self.on_stop, self.on_death = rule, on_stop, on_death

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tell the rule of the new trial."""
        if self.rule is not None:
            self.rule.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the rule if the report has a signal; a trial that shall stop ends by itself, see `messages.stop_sign`."""
        if self.rule is not None and SIGNAL in result:
            decision = self.rule.on_trial_result(tune_controller, trial, result)
            if decision == FIFOScheduler.STOP:
                self.on_stop(trial.trial_id, result[EPOCH])
        return str(FIFOScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Say why the worker died."""
        said = Path(trial.error_file or "")  # trial.get_error() reads a copy that Tune makes only later
        self.on_death(trial.trial_id, said.read_text(errors="replace") if said.is_file() else "")

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to pickle: Tune's snapshots are never restored."""
        return {}


def make_scheduler(
    pruning: PruningTable | None,
    *,
    epochs: int,
    on_stop: Callable[[str, int], None],
    on_death: Callable[[str, str], None],
) -> StudyScheduler:
    """Make the scheduler of a study."""
    compared = {"time_attr": EPOCH, "metric": SIGNAL, "mode": "min"}
    rule: FIFOScheduler | None = None
    if pruning is not None and pruning.name == "asha":
        rule = AsyncHyperBandScheduler(
            **compared,
            max_t=max(epochs, pruning.grace) + 1,  # Tune stops a trial that reaches max_t, before it is scored
            grace_period=pruning.grace,
            reduction_factor=pruning.reduction,
            stop_last_trials=False,
        )
    elif pruning is not None:
        rule = MedianStoppingRule(
            **compared,
            grace_period=pruning.grace,
            min_samples_required=pruning.least,
            min_time_slice=math.inf,  # never pause trials: a paused function trainable starts over
        )
    return StudyScheduler(rule, on_stop=on_stop, on_death=on_death)
