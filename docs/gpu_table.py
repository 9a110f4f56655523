"""Print the speed that `make gpu` measured as a Markdown table.

Example: python docs/gpu_table.py .asdbench/gpu_speed.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HEADINGS = ("model", "work", "attention", "clips at once", "clips a second", "of the matrix rate", "peak memory")


def table(content: dict) -> str:
    """Return the rows as Markdown, and under them the device that they were measured on."""
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- | --- | --- " + "| ---: " * 4 + "|"]
    for row in content["rows"]:
        memory = f"{row['peak_gb']:.1f} GiB" if row["peak_gb"] else ""
        cells = (
            row["model"], row["work"], row["way"], f"{row['clips']}", f"{row['clips_per_second']:,.0f}",
            f"{row['share']:.0%}", memory,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    rate = content["matrix_rate"] / 1e12
    return "\n".join(
        [*lines, "", f"{content['device']}, torch {content['torch']}: {rate:,.0f}e12 operations a second in bfloat16."]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="what make gpu wrote")
    print(table(json.loads(parser.parse_args().file.read_text())))  # noqa: T201
