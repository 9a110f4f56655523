"""Published results, each beside the result of the same configuration recorded here, if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import pandas as pd

from benchmarks.metrics.rules import harmonic_of_all
from benchmarks.reference.published import OVERALL, load_reference, reference_names
from harness.answers.board import BoardRow
from harness.answers.leaderboard import leaderboard
from harness.answers.references import scored_parts
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.stores.results import Results
from harness.trials.axes import study_axes

NUMBERS = ("s_auc", "t_auc", "p_auc")
FROZEN = ("rmis/", "asdkit/raw_", "dcase2026/frozen")  # systems whose encoder is not trained


class PublishedRow(TypedDict):
    """One published number beside the number of the same cell recorded here; fractions."""

    table: str
    system: str
    backbone: str | None
    m: int | None
    dataset: str
    part: str
    machine: str
    metric: str
    published: float
    deviation: float | None
    recorded: float | None
    difference: float | None
    trials: int
    note: str


def reference(results: Results | None, name: str | None = None) -> list[PublishedRow]:
    """Return published numbers, each beside the number of the same cell recorded here where there is one.

    A cell is the same when its test set is (`harness.answers.references.scored_parts`: the official recordings in
    full), its backbone has the published name, and M is the published one; for published systems without training, if
    the backbone is frozen. If there are several such cells (other K1, K2, scorers, recipes), the one with the paper's
    K1 = K2 = 15 is used, then the one with the most trials. The best score is never a reason to prefer a cell, which
    would be optimistic. Recorded numbers are means over seeds.

    Args:
        results: the results tables; None where nothing is recorded.
        name: one published table; None is all of them.

    Returns:
        One row a number: `table system backbone m dataset part machine metric published deviation recorded difference
        trials note`, fractions; `deviation` is over the published runs, None where it was not published; `recorded`
        and `difference` are None where there is no such cell.

    Raises:
        HarnessError: there is no such table.
    """
    names = reference_names()
    if name is not None and name not in names:
        raise HarnessError(unknown("reference", name, names))
    boards = _boards(results) if results is not None else []
    return [row for each in names if name in (None, each) for row in _beside(each, boards, results)]


def reference_notes(rows: Sequence[PublishedRow]) -> list[str]:
    """Say what is noted of published numbers, each note once: of which systems, and of which of their numbers.

    Args:
        rows: of one table.
    """
    systems: dict[str, list[PublishedRow]] = {}
    for row in rows:
        systems.setdefault(row["system"], []).append(row)
    said: dict[tuple[str, str], list[str]] = {}
    for system, of_system in systems.items():
        for note in dict.fromkeys(row["note"] for row in of_system if row["note"]):
            which = _which([row for row in of_system if row["note"] == note], of_system)
            said.setdefault((which, note), []).append(system)
    return [f"{', '.join(names)}{which}: {note}" for (which, note), names in said.items()]


def _which(noted: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what tells some rows of a system from its others: " (beats, M = 15, slider, t_auc)"."""
    forms = {"backbone": "{}", "m": "M = {}", "dataset": "{}", "part": "{}", "machine": "{}", "metric": "{}"}
    told = [
        form.format(noted[0][name])
        for name, form in forms.items()
        if len({row[name] for row in noted}) == 1 and len({row[name] for row in rows}) > 1
    ]
    return f" ({', '.join(told)})" if told and len(noted) < len(rows) else ""


@dataclass(frozen=True)
class _Board:
    dataset: str
    part: str
    rows: Sequence[BoardRow]


def _boards(results: Results) -> list[_Board]:
    """Return the boards that score official recordings in full."""
    try:
        rows = leaderboard(results)
    except HarnessError:  # nothing is recorded yet, and the published numbers stand alone
        return []
    boards: dict[tuple[str, str], list[BoardRow]] = {}
    for row in rows:
        boards.setdefault((row["protocol"], row["data"]), []).append(row)
    scored = [(scored_parts(results, board), board) for board in boards.values()]
    return [
        _Board(parts[0].dataset, "+".join(sorted(each.part for each in parts)), board)
        for parts, board in scored
        if parts
    ]


def _beside(name: str, boards: Sequence[_Board], results: Results | None) -> list[PublishedRow]:
    setting = ["system", "backbone", "m", "dataset", "part"]
    rows: list[PublishedRow] = []
    for _, cells in load_reference(name).groupby(setting, dropna=False, sort=False):
        first = cells.iloc[0]
        cell = _same_cell(first, boards)
        numbers = _numbers(results, cell) if results is not None and cell is not None else {}
        for published in cells.to_dict("records"):
            recorded = numbers.get((published["machine"], published["metric"]))
            row = {
                "table": name,
                "system": published["system"],
                "backbone": None if pd.isna(first["backbone"]) else first["backbone"],
                "m": None if pd.isna(first["m"]) else int(first["m"]),
                **{column: published[column] for column in ("dataset", "part", "machine", "metric")},
                "published": published["value"],
                "deviation": None if pd.isna(published["deviation"]) else published["deviation"],
                "recorded": recorded,
                "difference": None if recorded is None else recorded - published["value"],
                "trials": cell["trials"] if cell is not None else 0,
                "note": published["note"],
            }
            rows.append(cast("PublishedRow", row))
    return rows


def _same_cell(published: pd.Series[Any], boards: Sequence[_Board]) -> BoardRow | None:
    if pd.isna(published["backbone"]):
        return None
    frozen = str(published["system"]).startswith(FROZEN)
    if not frozen and pd.isna(published["m"]):
        return None  # trained in a way that is not Top-M
    same = [
        row
        for board in boards
        if (board.dataset, board.part) == (published["dataset"], published["part"])
        for row in board.rows
        if str(row["backbone"]).lower() == published["backbone"]
        and (
            row["kind"] == "frozen"
            if frozen
            else row["kind"] == "trial" and row["m"] == published["m"] and row["labels"] == "paper"
        )
    ]
    return min(same, key=_preferred, default=None)


def _preferred(row: BoardRow) -> tuple[bool, bool, int, str]:
    values: Mapping[str, object] = row
    axes = study_axes(but=["backbone", "m"])
    # all numeric axes count together: a cell with only K1 = 15 is no nearer to the paper than one with neither
    numbers, words = ([axis for axis in axes if axis.number is number] for number in (True, False))
    unlike = [any(values[axis.name] != axis.default for axis in of) for of in (numbers, words)]
    return (unlike[0], unlike[1], -row["trials"], row["keys"][0])


def _numbers(results: Results, cell: BoardRow) -> dict[tuple[str, str], float]:
    """Return a cell's numbers by machine type and metric, averaged over its trials."""
    metrics = results.metrics(cell["keys"])
    metrics = metrics[metrics["scorer"] == cell["scorer"]]
    found: dict[tuple[str, str], list[float | None]] = {(OVERALL, "official_score"): [cell["official_score"]]}
    for _, of_trial in metrics.groupby("key", sort=False):
        for place, value in _of_trial(of_trial).items():
            found.setdefault(place, []).append(value)
    return {
        place: sum(known) / len(known)
        for place, values in found.items()
        if (known := [value for value in values if value is not None])
    }


def _of_trial(metrics: pd.DataFrame) -> dict[tuple[str, str], float | None]:
    """Return one trial's numbers; sections of a machine type, and machine types, by harmonic means."""
    found: dict[tuple[str, str], float | None] = {}
    machines = list(dict.fromkeys(metrics["machine"]))
    for machine, sections in metrics.groupby("machine", sort=False):
        for metric in NUMBERS:
            found[str(machine), metric] = harmonic_of_all(_values(sections[metric]))
        s_auc, t_auc = found[str(machine), "s_auc"], found[str(machine), "t_auc"]
        found[str(machine), "mean_auc"] = None if s_auc is None or t_auc is None else (s_auc + t_auc) / 2
        found[str(machine), "h_mean"] = _values(sections["h_mean"])[0]
    for metric in (*NUMBERS, "mean_auc"):
        found[OVERALL, metric] = harmonic_of_all([found[machine, metric] for machine in machines])
    return found


def _values(column: pd.Series[Any]) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]
