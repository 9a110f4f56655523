"""How costs grow with size: exponents fitted on logarithms, kept as JSON, judged against linear growth."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LINEAR = 1.15  # an exponent up to this is linear: times of two runs differ by some ten percent
ON_A_SERVER = "PostgreSQL"  # in the name of sizes whose work a server shares
LEAST_SECONDS, LEAST_MB = 0.5, 30.0  # below these a cost is noise and constants, not growth


@dataclass(frozen=True)
class Growth:
    """How one quantity of a stage grows.

    Attributes:
        fitted: exponent by least squares over all sizes, of what is at least worth measuring; None with fewer than two.
        last: exponent between the two largest sizes, which constants hide least.
    """

    fitted: float | None
    last: float | None

    @property
    def linear(self) -> bool:
        """Tell whether neither exponent is above linear."""
        return all(each is None or each <= LINEAR for each in (self.fitted, self.last))


def growth(costs: Mapping[int, float], *, least: float) -> Growth:
    """Fit cost = a * size ** exponent: size -> cost.

    Args:
        costs: by size.
        least: costs below are left out, since constants are most of them.
    """
    points = sorted((size, cost) for size, cost in costs.items() if cost >= least)
    if len(points) < 2:
        return Growth(None, None)
    sizes, values = (np.log(np.array(each, dtype=np.float64)) for each in zip(*points, strict=True))
    (size, cost), (larger, dearer) = points[-2:]
    last = math.log(dearer / cost) / math.log(larger / size)
    return Growth(float(np.polyfit(sizes, values, 1)[0]), last)


@dataclass
class Sheet:
    """Costs by stage and size, in a JSON file that several runs fill.

    Attributes:
        path: of the file.
        what: what the sizes count: "clips", "trials", or "trials on PostgreSQL".
    """

    path: Path
    what: str
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what earlier runs measured."""
        self.stages = kept(self.path).get(self.what, {})

    def put(self, stage: str, size: int, cost: Mapping[str, Any]) -> None:
        """Keep a cost."""
        self.stages.setdefault(stage, {})[str(size)] = dict(cost)
        keep(self.path, self.what, self.stages)

    def sizes(self, stage: str) -> list[int]:
        """Return the sizes at which a stage was measured."""
        return sorted(map(int, self.stages.get(stage, {})))

    def growths(self, stage: str) -> dict[str, Growth]:
        """Return how a stage's processor time and its memory grow."""
        return growths(self.stages.get(stage, {}), seconds=self.seconds)

    @property
    def seconds(self) -> str:
        """Return which seconds count: the clock's where a server does part of the work, else the processor's."""
        return "wall_seconds" if ON_A_SERVER in self.what else "cpu_seconds"


def kept(path: Path) -> dict[str, Any]:
    """Return what earlier runs left in a file; nothing where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def keep(path: Path, what: str, found: Mapping[str, Any]) -> None:
    """Put what was measured beside what the file has of other things."""
    whole = kept(path) | {what: found, "cores": os.cpu_count()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")


def growths(costs: Mapping[str, Mapping[str, Any]], *, seconds: str = "cpu_seconds") -> dict[str, Growth]:
    """Return how time and memory grow, of one stage's costs by size."""
    return {
        "time": growth({int(size): cost[seconds] for size, cost in costs.items()}, least=LEAST_SECONDS),
        "memory": growth({int(size): memory_of(cost) for size, cost in costs.items()}, least=LEAST_MB),
    }


def memory_of(cost: Mapping[str, Any]) -> float:
    """Return the memory that counts: a stage's own where it maps files."""
    return float(cost["peak_mb"] if cost["private_mb"] is None else cost["private_mb"])


def above_linear(found: Mapping[str, Growth], named: Sequence[str] = ()) -> list[str]:
    """Return the quantities that grow faster than linearly and are not named."""
    return [name for name, each in found.items() if not each.linear and name not in named]
