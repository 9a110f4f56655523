"""Write what `make scale` measured as tables into docs/full_size.md.

Example: python docs/full_size_table.py .asdbench/full_size.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "full_size.md"
BEGIN, END = "<!-- table: python docs/full_size_table.py .asdbench/full_size.json -->", "<!-- end of table -->"
WHATS = ("clips", "trials", "trials on PostgreSQL")
LEAST = {"cpu_seconds": 0.5, "wall_seconds": 0.5, "mb": 30.0}  # costs below are mostly constants, and give no exponent


def table(content: dict[str, Any]) -> str:
    """Return a table for clips, one a kind of store for recorded trials, and one of nodes, as far as measured."""
    parts = [_table(content[what], what) for what in WHATS if content.get(what)]
    return "\n\n".join([*parts, *([_nodes(content["nodes"])] if content.get("nodes") else [])])


def _nodes(found: dict[str, dict[str, float]]) -> str:
    """Return the table of a study of trials that only wait, on one node and on several."""
    headings = ("nodes", "workers", "trials a second", "could be", "driver, s a trial", "statements", "commits a trial")
    lines = [f"| {' | '.join(headings)} |", f"|{' ---: |' * len(headings)}"]
    for nodes, each in found.items():
        lines.append(
            f"| {nodes} | {each['workers']} | {each['trials_a_second']:.2f} | {each['workers'] / each['wait']:.2f} | "
            f"{each['driver_seconds_a_trial']:.2f} | {each['statements']:.0f} | {each['commits']:.1f} |"
        )
    return "\n".join(lines)


def _table(stages: dict[str, dict[str, Any]], what: str) -> str:
    seconds = "wall_seconds" if "PostgreSQL" in what else "cpu_seconds"  # a server does part of the work there
    sizes = sorted({int(size) for costs in stages.values() for size in costs})
    headings = ["stage", *(f"{size:,} {what}" for size in sizes), "exponent of time", "of memory"]
    lines = [f"| {' | '.join(headings)} |", f"| --- |{' ---: |' * (len(headings) - 1)}"]
    for stage, costs in stages.items():
        points = [{"size": int(size), "mb": _memory(cost), **cost} for size, cost in costs.items()]
        shown = [_cost(costs.get(str(size)), seconds) for size in sizes]
        exponents = [_exponent(points, name) for name in (seconds, "mb")]
        lines.append(f"| {' | '.join([stage.replace('_', ' '), *shown, *exponents])} |")
    return "\n".join(lines)


def _cost(cost: dict[str, Any] | None, seconds: str) -> str:
    return "" if cost is None else f"{cost[seconds]:.1f} s, {_memory(cost):,.0f} MiB"


def _memory(cost: dict[str, Any]) -> float:
    return float(cost["peak_mb"] if cost["private_mb"] is None else cost["private_mb"])


def _exponent(points: list[dict[str, Any]], name: str) -> str:
    """Fit a power law on logarithms by least squares; empty where fewer than two costs are worth it."""
    known = [(math.log(each["size"]), math.log(each[name])) for each in points if each[name] >= LEAST[name]]
    if len(known) < 2:
        return ""
    middle = [sum(values) / len(known) for values in zip(*known, strict=True)]
    up = sum((size - middle[0]) * (cost - middle[1]) for size, cost in known)
    return f"{up / sum((size - middle[0]) ** 2 for size, _ in known) + 0.0:.2f}"


def write(page: Path, content: dict[str, Any]) -> None:
    """Replace the tables of a page, between its two comments, by what was measured."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{table(content)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="what make scale wrote")
    write(PAGE, json.loads(parser.parse_args().file.read_text()))
