"""The speed table: ratios of ours to a named reference, measured in one run; each row is printed as it is measured.

The environment's ROWS picks rows, as in `make bench ROWS="knn labels"`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import pytest

HEADINGS = ("what", "ours", "reference", "its time", "ratio", "required", "reached")
WIDTHS = (66, 9, 33, 9, 7, 8, 7)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the rows that ROWS asks for; tests of other folders stay as they are.

    Raises:
        pytest.UsageError: a word of ROWS fits no row.
    """
    words = os.environ.get("ROWS", "").lower().split()
    rows = [item for item in items if HERE in item.path.parents and item.get_closest_marker("speed")]
    if not words or not rows:
        return
    texts = {item.nodeid: text_of(item) for item in rows}
    if lost := [word for word in words if not any(fits(word, text) for text in texts.values())]:
        files = sorted({item.path.stem.removeprefix("test_").removesuffix("_speed") for item in rows})
        raise pytest.UsageError(f"ROWS must name rows, but none fits {', '.join(lost)}; there are: {', '.join(files)}.")
    left = [item for item in rows if not any(fits(word, texts[item.nodeid]) for word in words)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def text_of(item: pytest.Item) -> str:
    """Return what is known of a row before it is measured: its file, the test's name and what the test says."""
    return f"{item.path.stem} {item.name} {getattr(item, 'function', item).__doc__ or ''}".lower()


def fits(word: str, text: str) -> bool:
    """Tell whether a word of ROWS means a row: "labels" is found in "labeling", too."""
    return (word.removesuffix("s") or word) in text


@dataclass
class Bench:
    """Prints a row as soon as it is measured; one that misses its ratio fails its test.

    Attributes:
        rows: so far.
        show: is given each row as a line.
    """

    show: Callable[[str], None] = print
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *row: str) -> None:
        """Keep a row, and show it; the first one under the headings."""
        if not self.rows:
            self.show("\n" + line(HEADINGS))
        self.rows.append(row)
        self.show(line(row))

    def skip(self, what: str, why: str) -> None:
        """Leave a row out, in words, and skip the rest of its test."""
        self.add(what, "skipped", why)
        pytest.skip(why)

    def row(
        self, what: str, ours_seconds: float, reference_name: str, reference_seconds: float, required_ratio: float
    ) -> float:
        """Add a ratio, how many times faster ours is; it must reach the required one."""
        ratio = reference_seconds / ours_seconds
        kept = ratio >= required_ratio
        ours, theirs = _shown(ours_seconds), _shown(reference_seconds)
        self.add(what, ours, reference_name, theirs, f"{ratio:.2f}", f"{required_ratio:g}", "yes" if kept else "NO")
        assert kept, f"{what}: {ratio:.2f} times {reference_name}, but {required_ratio:g} is required"
        return ratio

    def limit(self, what: str, value: float, most: float, unit: str) -> None:
        """Add a figure with an upper limit instead of a reference."""
        kept = value <= most
        self.add(what, f"{value:.3g} {unit}", "limit", f"{most:g} {unit}", "", "", "yes" if kept else "NO")
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
    """The table, and at its end how long it took."""
    found, began = Bench(lambda text: print(text, flush=True)), perf_counter()  # noqa: T201 - a table for the terminal
    yield found
    found.show(f"{len(found.rows)} rows in {(perf_counter() - began) / 60:.1f} minutes")


def line(row: tuple[str, ...]) -> str:
    """Return a row as a line of columns."""
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(row, WIDTHS, strict=False)).rstrip()


def _shown(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
