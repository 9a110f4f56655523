"""Do recorded studies give the tables that README and the pages show? Says what differs, and exits with 1.

A page's table of a study stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Its columns may be some of
those that `asdbench leaderboard` and `asdbench compare` print, or those of the summary that this script makes;
sentences after `>` are those of `compare`. Example, after `asdbench demo`: python docs/tables.py demo

The same seed gives the same numbers on one machine. Another kind of processor adds in another order, and training makes
more of it: the demonstration's scores moved by up to 0.06 points and the ends of its intervals by up to 0.12 from one
to another. So numbers that are near are accepted, and it is said that they are not the same.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import verbs
from harness.answers.board import leaderboard_columns
from harness.answers.columns import compare_columns
from harness.errors import HarnessError
from harness.places import find_places
from harness.tables import Column

ROOT = Path(__file__).parents[1]
PAGES = {
    "demo": "docs/first_study.md",
    "real": "README.md",
    "real-tuned": "README.md",
    "real-labeled": "docs/what_matters.md",
}
TRAINED = {"all": "fine-tuned", "head": "a head", "projection": "projection"}
LABELS = {"machine": "machine type alone", "truth": "the hidden attributes (upper bound)"}
Table = tuple[list[str], list[list[str]]]  # headings and rows
NEAR = 20  # units of a number's last digit: 0.2 points, 0.02 of a p-value
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d+|(?<=about )\d+")  # measured; whole numbers besides are counts


def main() -> None:
    """Compare the studies that the command line names with their pages, or print their summaries."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("studies", nargs="+", choices=sorted(PAGES))
    options.add_argument("--db", default=None, help="recorded database [default: sqlite:///mlflow.db]")
    options.add_argument("--summary", action="store_true", help="print the summary instead of comparing")
    chosen = options.parse_args()
    wrong: list[str] = []
    near: list[str] = []
    try:
        for study in chosen.studies:
            tables, sentences = produced(study, chosen.db)
            if chosen.summary:
                sys.stdout.write(markdown(tables[-1]))
                continue
            block = block_of(ROOT / PAGES[study], study)
            found = [f"{PAGES[study]}, {study}: {each}" for each in differences(block, tables, sentences)]
            if found and not differences(block, tables, sentences, units=NEAR):
                near += found
            else:
                wrong += found
    except HarnessError as error:
        sys.exit(str(error))
    if wrong:
        sys.exit("\n".join(wrong))
    for line in near:
        sys.stdout.write(f"{line}\n")
    if near:
        sys.stdout.write("The pages show what is recorded but for these last digits, as on another kind of processor\n")
    elif not chosen.summary:
        sys.stdout.write(f"The pages show what is recorded: {', '.join(chosen.studies)}\n")


def produced(study: str, db: str | None) -> tuple[list[Table], list[str]]:
    """Return a recorded study's leaderboard, comparison and summary, and the comparison's sentences."""
    places = find_places(tracking=db)
    rows = verbs.leaderboard(study=study, places=places)
    pairs = verbs.compare(study=study, places=places)
    tables = [filled(leaderboard_columns(rows), rows), filled(compare_columns(pairs), pairs), summary(rows)]
    return tables, [row["sentence"] for row in pairs]


def filled(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what columns print of rows."""
    return [column.heading for column in columns], [[column.fill(row) for column in columns] for row in rows]


def summary(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each system: its official score and machines; values of M that give the same share one."""
    names = list(dict.fromkeys(name for row in rows for name in row["machines"]))
    systems: list[tuple[str, int | None, list[str]]] = []
    for row in sorted((row for row in rows if row["kind"] != "chance"), key=lambda row: row["m"] or 0):
        deviation = f"{100 * (row['official_score_std'] or 0):.2f}"
        spread = "" if deviation == "0.00" else f" ± {deviation}"
        machines = [f"{100 * row['machines'][name]:.2f}" for name in names]
        systems.append((system(row), row["m"], [f"{100 * row['official_score']:.2f}{spread}", *machines]))
    order = list(dict.fromkeys(system(row) for row in rows))
    systems.sort(key=lambda each: order.index(each[0]))
    lines = []
    for (name, numbers), same in groupby(systems, key=lambda each: (each[0], each[2])):
        ms = [m for _, m, _ in same if m is not None]
        lines.append([name + (f", M = {ms[0]}" if ms else "") + (f" to {ms[-1]}" if len(ms) > 1 else ""), *numbers])
    return ["row", "official", *names], lines


def system(row: Mapping[str, Any]) -> str:
    """Name what a row of the leaderboard measured, without its M."""
    if row["kind"] == "level":
        return "level alone"
    if row["kind"] != "trial":
        return f"{row['backbone']}, {row['kind']}"
    labels = LABELS.get(row["labels"] or "")
    return ", ".join(filter(None, [row["backbone"], TRAINED[row["train"] or "all"], labels]))


def block_of(page: Path, name: str) -> str:
    """Return what stands between a page's marks of a study."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise HarnessError(f"{page.name} must have a part between {begin} and {end}, but has none; add it.")
    return text.split(begin)[1].split(end)[0]


def differences(block: str, tables: Sequence[Table], sentences: Sequence[str], *, units: int = 0) -> list[str]:
    """Return what a page says and the recorded study does not, a line each.

    Args:
        block: the page's part.
        tables: what was recorded.
        sentences: of its comparison.
        units: of the last digit, by which measured numbers may differ.
    """
    wrong = [
        f'no comparison says "{line[2:]}"'
        for line in block.splitlines()
        if line.startswith("> ") and not any(same(line[2:], each, units) for each in sentences)
    ]
    for headings, rows in shown_tables(block):
        fitting = [table for table in tables if set(headings) <= set(table[0])]
        if not fitting:
            wrong.append(f"nothing has the columns {', '.join(headings)}")
            continue
        names, known = fitting[0]
        places = [names.index(heading) for heading in headings]
        shown = [" | ".join(row) for row in rows]
        there = [" | ".join(row[at] for at in places) for row in known]
        wrong += [f"not recorded so: | {row} |" for row in shown if not any(same(row, each, units) for each in there)]
        wrong += [f"left out: | {row} |" for row in there if not any(same(each, row, units) for each in shown)]
    return wrong


def same(shown: str, found: str, units: int) -> bool:
    """Tell whether two texts differ in measured numbers alone, and in these by so many units of the last digit."""
    if not units:
        return shown == found
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(found), strict=False)
    return NUMBER.sub("", shown) == NUMBER.sub("", found) and all(
        abs(float(one) - float(other)) <= (units + 0.5) / 10 ** len(one.partition(".")[2]) for one, other in pairs
    )


def shown_tables(block: str) -> list[Table]:
    """Return the tables of a markdown text."""
    found: list[Table] = []
    for is_table, lines in groupby(block.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
            found.append((cells[0], cells[2:]))
    return found


def markdown(table: Table) -> str:
    """Return a table as markdown, numbers to the right."""
    headings, rows = table
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
