"""The report's verdict in one sentence, and what stands around it: the best rows, and hints for reading the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.answers.board import row_namer
from harness.answers.columns import p_value
from harness.answers.compare import SURE, ComparedRow
from harness.answers.question import details, differing
from harness.report.evidence import DetailedRow
from harness.tables import Row, in_percent

# a comparison's finding, which is also the CSS class of what shows it
BETTER, WORSE, OPEN = "better", "worse", "open"
MIXED = "mixed"  # of a board on which some comparisons are better and others worse


@dataclass(frozen=True)
class Verdict:
    """The answer to the page's question for one board.

    Attributes:
        cls: CSS class: better, worse, mixed, or open if nothing is significant.
        word: the answer in a word or two: "Yes", "No", "It depends", "No difference shown".
        sentence: the answer with its number.
        reading: how to read it, in small print; may be empty.
    """

    cls: str
    word: str
    sentence: str
    reading: str


def finding(row: ComparedRow) -> str:
    """Return whether M is significantly better or worse than M = 1 in a comparison, or neither ("open")."""
    if row["p_corrected"] < SURE and row["ci_low"] * row["ci_high"] > 0:
        return BETTER if row["delta"] > 0 else WORSE
    return OPEN


def compared_namer(compared: Sequence[ComparedRow]) -> Callable[[Row], str]:
    """Return a function that names a comparison's M and every column in which the comparisons differ, but the backbone.

    Example: "M = 3, soft, knn".
    """
    named = differing(compared)
    return lambda row: ", ".join(filter(None, [f"M = {row['m']}", details(row, named)]))


def verdict(compared: Sequence[ComparedRow], *, why_not: str = "") -> Verdict:
    """Answer the page's question for one board.

    Args:
        compared: its comparisons.
        why_not: why there is none, where there is none.
    """
    if not compared:
        return Verdict(OPEN, "Not compared", why_not, "")
    found: dict[str, list[ComparedRow]] = {BETTER: [], WORSE: [], OPEN: []}
    for row in compared:
        found[finding(row)].append(row)
    better, worse, still = (found[name] for name in (BETTER, WORSE, OPEN))
    name, count = compared_namer(compared), len(compared)
    if not better and not worse:
        largest = max(compared, key=lambda row: abs(row["delta"]))
        one = "The one comparison of Top-M with Top-1 shows no difference"
        none = f"None of {count} comparisons of Top-M with Top-1 shows a difference"
        said = f"{one if count == 1 else none}; {_largest(largest, name, count)}."
        return Verdict(OPEN, "No difference shown", said, _reading(count))
    parts = [
        f"Top-M {verb} Top-1 {_in_how_many(rows, count)}, {_by(rows, name)}"
        for rows, verb in ((better, "beats"), (worse, "loses to"))
        if rows
    ]
    if still:
        parts.append(
            "the other shows no difference" if len(still) == 1 else f"the other {len(still)} show no difference"
        )
    cls, word = (MIXED, "It depends") if better and worse else (BETTER, "Yes") if better else (WORSE, "No")
    return Verdict(cls, word, "; ".join(parts) + ".", _reading(count))


def _in_how_many(rows: Sequence[ComparedRow], count: int) -> str:
    if count == 1:
        return "in the one comparison"
    return f"in all {count} comparisons" if len(rows) == count else f"in {len(rows)} of {count} comparisons"


def _by(rows: Sequence[ComparedRow], name: Callable[[Row], str]) -> str:
    """Say the largest of significant differences: "by up to 6.55 points (beats, M = 3, soft; 95 % CI +4.0 to +8.9)"."""
    largest = max(rows, key=lambda row: abs(row["delta"]))
    upto = "" if len(rows) == 1 else "up to "
    return f"by {upto}{in_percent(abs(largest['delta']))} points ({_who(largest, name)}; {_span(largest)})"


def _largest(row: ComparedRow, name: Callable[[Row], str], count: int) -> str:
    what = "it is" if count == 1 else "the largest is"
    points = in_percent(row["delta"], signed=True)
    return f"{what} {points} points ({_who(row, name)}; {_span(row)}, corrected p = {p_value(row['p_corrected'])})"


def _who(row: ComparedRow, name: Callable[[Row], str]) -> str:
    return f"{row['backbone']}, {name(row)}"


def _span(row: ComparedRow) -> str:
    return f"95 % CI {in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}"


def _reading(count: int) -> str:
    largest = " The largest of several estimates tends to be too large." if count > 1 else ""
    return (
        f"Differences of the official score in points of percent; a difference counts if its interval leaves out zero "
        f"and its p-value, corrected for the number of M tried, is below {SURE}.{largest}"
    )


def lead(rows: Sequence[DetailedRow]) -> str:
    """Say in words what ranks first, and the scores of the references that it should beat."""
    name = row_namer(rows)
    best = {
        kind: next((row for row in rows if row["kind"] == kind and row["official_score"] is not None), None)
        for kind in ("trial", "frozen", "level")
    }
    said = []
    if first := best["trial"]:
        spread = first["official_score_std"]
        seeds = f"one seed: {first['trials']} trial" if first["trials"] == 1 else f"{first['trials']} trials"
        sure = f" ± {in_percent(spread)}" if spread is not None else ""
        said.append(
            f"Best fine-tuned: {name(first)} with {in_percent(first['official_score'])}{sure} ({seeds})"
            + (", picked on the test set that it reports" if first.get("chosen_on_test") else "")
        )
    if frozen := best["frozen"]:
        said.append(f"best without fine-tuning: {frozen['backbone']} with {in_percent(frozen['official_score'])}")
    if level := best["level"]:
        said.append(f"loudness alone: {in_percent(level['official_score'])}")
    return "; ".join(said)[:1].upper() + "; ".join(said)[1:] + "." if said else "No row here has an official score."
