"""Smallest and largest value of each number in study files and on the command line, in one table for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError

WHOLE_MOST = 1_000_000  # largest whole number, if BOUNDS has no other; more epochs, say, would run for years


@dataclass(frozen=True)
class Bound:
    """The range of a number, ends included.

    Attributes:
        low: smallest value.
        high: largest value.
        whole: whether only whole numbers are allowed.
        above: whether `low` itself is excluded.
    """

    low: float = 1
    high: float = WHOLE_MOST
    whole: bool = True
    above: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether a value is a number within the bounds; False for NaN, infinity, text and bool."""
        kinds = int if self.whole else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and (self.low < value <= self.high if self.above else self.low <= value <= self.high)
        )

    def said(self) -> str:
        """Return the rule in words: "a whole number from 1 to 1,000,000"."""
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} {'above' if self.above else 'from'} {_shown(self.low)} to {_shown(self.high)}"


def _above_zero(high: float) -> Bound:
    return Bound(0, high, whole=False, above=True)


SEED = Bound(0, 2**32 - 1)  # what NumPy's and scikit-learn's generators take
BOUNDS = {
    "seed": SEED,
    "learning_rate": _above_zero(100),
    "weight_decay": Bound(0, 100, whole=False),
    "warmup_epochs": Bound(0, WHOLE_MOST, whole=False),
    "clip_seconds": Bound(0.1, 3600, whole=False),  # the shortest that gives an encoder a patch; an hour is 230 MB
    "time_mask": Bound(0),
    "mel_mask": Bound(0),
    "masks": Bound(0, 1000),
    "gradient_clip": _above_zero(1e12),
    "layer_decay": _above_zero(1),
    "gradient_decay": _above_zero(1),
    "freeze_layers": Bound(0, 1000),
    "lora_rank": Bound(0, 10_000),
    "lora_alpha": _above_zero(1e12),
    "mixup": Bound(0, 1000, whole=False),
    "adam_eps": Bound(0, 0.1, whole=False, above=True),
    "projection_dim": Bound(1, 100_000),
    "projection_hidden": Bound(0, 100_000),
    "min_confidence": Bound(0, 1, whole=False),
    "hours": _above_zero(87_600),  # ten years
    "minutes": _above_zero(525_600),  # a year
    "memory_gb": _above_zero(1_000_000),
    "cpus": Bound(0.001, 10_000, whole=False),  # Ray counts in ten thousandths
    "gpus": Bound(0, 10_000, whole=False),
    "threads": Bound(1, 1024),
    "workers": Bound(1, 10_000),
    "retries": Bound(0, 1000),
    "population": Bound(2, 10_000),
    "reduction": Bound(1, 1000, whole=False, above=True),
}


def bound_of(name: str, *, whole: bool = True) -> Bound:
    """Return the bounds of a number by its name; without an entry in BOUNDS, 1 to a million if whole, else from 0.

    Args:
        name: of the number, such as "epochs".
        whole: whether it is a whole number; only used if BOUNDS has no entry.
    """
    return BOUNDS.get(name, Bound() if whole else Bound(0, whole=False))


def checked(name: str, value: Any) -> None:
    """Refuse a number outside its bounds.

    Raises:
        HarnessError: it is outside; the sentence names the number, the rule and the value.
    """
    bound = bound_of(name)
    if not bound.holds(value):
        raise HarnessError(f"{name} must be {bound.said()}, but got {shortened(repr(value))}.")


def span(name: str) -> dict[str, Any]:
    """Return a number's bounds as keyword arguments `min` and `max` of `typer.Option`."""
    bound = bound_of(name)
    return {"min": int(bound.low), "max": int(bound.high)} if bound.whole else {"min": bound.low, "max": bound.high}


def shortened(text: str, *, most: int = 120) -> str:
    """Return a text as one line, with its middle left out if it is longer than `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most * 2 // 3]}...{line[-most // 4 :]}"


def _shown(value: float) -> str:
    return f"{int(value):,}" if math.floor(value) == value and abs(value) < 1e12 else f"{value:g}"
