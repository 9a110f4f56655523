"""The speed table: ratios of ours to a named reference, measured in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import pytest
from rich.console import Console
from rich.table import Table

WIDTH = 150


@dataclass
class Bench:
    """Collects rows; a row that misses its ratio fails its test, and the table is printed all the same."""

    rows: list[tuple[str, ...]] = field(default_factory=list)

    def row(
        self, what: str, ours_seconds: float, reference_name: str, reference_seconds: float, required_ratio: float
    ) -> float:
        """Add a ratio, how many times faster ours is; it must reach the required one."""
        ratio = reference_seconds / ours_seconds
        kept = ratio >= required_ratio
        self.rows.append(
            (
                what,
                _shown(ours_seconds),
                reference_name,
                _shown(reference_seconds),
                f"{ratio:.2f}",
                f"{required_ratio:g}",
                "yes" if kept else "NO",
            )
        )
        assert kept, f"{what}: {ratio:.2f} times {reference_name}, but {required_ratio:g} is required"
        return ratio

    def limit(self, what: str, value: float, most: float, unit: str) -> None:
        """Add a figure with an upper limit instead of a reference."""
        kept = value <= most
        self.rows.append((what, f"{value:.3g} {unit}", "limit", f"{most:g} {unit}", "", "", "yes" if kept else "NO"))
        assert kept, f"{what}: {value:.3g} {unit}, but at most {most:g} {unit} are allowed"

    @staticmethod
    def best_of(repeats: int, run: Callable[[], object]) -> float:
        """Return the shortest of several timings in seconds: the one that other work disturbed least."""
        timings = []
        for _ in range(repeats):
            began = perf_counter()
            run()
            timings.append(perf_counter() - began)
        return min(timings)


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """The table that is printed when all speed tests have run."""
    found = Bench()
    yield found
    table = Table(title="Speed: how many times faster than the reference, one run")
    for heading in ("what", "ours", "reference", "its time", "ratio", "required", "reached"):
        table.add_column(heading, overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    Console(width=WIDTH).print(table)


def _shown(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
