"""Leaderboards: every recorded trial ranked, seeds averaged, rows that cannot be told apart in one tier."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.answers.board import BoardRow, Ranked, computed_rows
from harness.answers.question import BOARD, EVERYTHING, Question, recorded_protocol, row_columns
from harness.answers.standings import Cells, Floats, Places, Standings, read_standings
from harness.errors import HarnessError
from harness.places import differing_libraries
from harness.plugins import unknown
from harness.statistics.tiers import Arm, find_tiers, parts_of_score
from harness.stores.readings import find_study
from harness.stores.results import Results

ZERO = 5e-5  # a fraction below is printed as 0.00 percent
SEARCHING = ("tpe", "gp", "nsga2")  # samplers that propose cells by the results of earlier ones
TEST_GOALS = ("score", "source", "target")  # goals that are numbers of the test set; seconds and memory are not
MUST_BEAT = ("frozen", "level")  # references that every fine-tuned row should beat


def leaderboard(
    results: Results, question: Question = EVERYTHING, *, machine: str | None = None, top: int | None = None
) -> list[BoardRow]:
    """Rank recorded trials, best first; each protocol and each set of recordings has a ranking of its own (a board).

    A row averages the seeds of one cell. `official_score` is their mean, `official_score_std` their standard deviation
    and `ci_low` to `ci_high` the 95 % interval of the mean over seeds (Student's t; None with one seed). That interval
    says where the mean of many seeds on these recordings would lie. It does not cover other recordings, as the
    intervals of `asdbench compare` do. `auc`, `s_auc`, `t_auc` and `p_auc` are harmonic means over machine types and
    sections, averaged over seeds. `tier` comes from `harness.statistics.tiers.find_tiers`. `chosen_on_test` marks the
    best of a backbone's several cells on the board (`cells` is their number): its score is optimistic, since the cell
    was picked by the same test set that it is reported on.

    Args:
        results: the results tables.
        question: which trials; a filter by backbone or scorer keeps the level row, which has neither.
        machine: rank by this machine type's harmonic mean instead of the official score; rows then hold it as
            `machine_score` with `machine_score_std`, and `machine` names it.
        top: return only so many rows of each board, and its best frozen and level rows; ranks, tiers and marks are
            those of the whole board.

    Returns:
        One row a kind, cell of the study's axes (backbone, M, K1, ...), scorer and recipe; fractions throughout.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    study = question.study
    standings = read_standings(results, find_study(results, study)["key"] if study else None)
    if not len(standings):
        raise HarnessError(_nothing(study))
    for column in ("protocol", "backbone", "scorer"):
        standings = _chosen(standings, column, getattr(question, column))
    if machine is not None and machine not in standings.machines:
        raise HarnessError(unknown("machine", machine, standings.machines))
    rows = [row for board in _boards(standings) for row in _ranked(standings.only(board), machine, top)]
    found = searches(results)
    for row in rows:
        if row["kind"] == "trial":
            row["searched"] = next((goals for keys, goals in found if keys & set(row["keys"])), "")
    return rows


def searches(results: Results) -> list[tuple[set[str], str]]:
    """Return, of every recorded search whose goal is read from the test set, its trials' keys and those goals."""
    found = []
    for study in results.studies().to_dict("records"):
        name, goals = _sampler(study["content"])
        if name in SEARCHING and goals:
            found.append((set(results.study_keys(study["key"])), " and ".join(goals)))
    return found


def _sampler(content: str) -> tuple[str, list[str]]:
    """Return a recorded study's sampler, and its goals that are read from the test set.

    A record that is none of ours, as `sync` may bring, has neither.
    """
    try:
        sampler = json.loads(content)["sampler"]
        return sampler["name"], [goal for goal in sampler.get("goals", ["score"]) if goal in TEST_GOALS]
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", []


def study_trial_keys(results: Results, study: str) -> list[str]:
    """Return the keys of a recorded study's trials, by its name (the newest one) or key.

    Raises:
        HarnessError: no study of that name is recorded.
    """
    return results.study_keys(find_study(results, study)["key"])


def board_notes(rows: Sequence[BoardRow]) -> list[str]:
    """Return sentences that say how to read a ranking."""
    kinds = {row["kind"] for row in rows}
    notes = [f"Chance is 50.00. {_what_to_beat(kinds)}"]
    if sum(row["tier"] is not None for row in rows) > 1:
        once = any(row["kind"] == "trial" and len(row["seeds"]) == 1 for row in rows)
        notes.append(
            "Rows of one tier: the data do not show that they are worse than its first row"
            + ("; rows of one seed know nothing of how seeds differ." if once else ".")
        )
    if marked := [row["cells"] for row in rows if row["chosen_on_test"] and row["cells"]]:
        cells = f"{min(marked)}" if min(marked) == max(marked) else f"{min(marked)} to {max(marked)}"
        notes.append(f"* best of {cells} cells on its own test set: optimistic; see `asdbench select`.")
    ran = [text for row in rows if row["kind"] in ("trial", "frozen") for text in row["libraries"]]
    if goals := list(dict.fromkeys(row["searched"] for row in rows if row["searched"])):
        notes.append(
            f"A search chose which cells to try by the goal {', '.join(goals)} of this test set, so its winner was "
            "picked by the test set: do not report its score as that of a chosen system; see `asdbench select`."
        )
    if differ := differing_libraries(ran):
        notes.append(f"Rows ran with different libraries, which may change digits: {differ}.")
    if zeros := _zeros(rows):
        notes.append(zeros)
    if "published" in kinds:
        notes.append("Published rows were not run here; `asdbench reference` has their tables.")
    return notes


def _what_to_beat(kinds: set[str]) -> str:
    level, frozen = "the clip's loudness alone", "the encoder without fine-tuning"
    if {"level", "frozen"} <= kinds:
        return f"Level is {level}, frozen {frozen}: a learned row must beat both."
    if "level" in kinds:
        return f"Level is {level}: a learned row must beat it. No frozen row, {frozen}, is shown here."
    if "frozen" in kinds:
        return f"Frozen is {frozen}: a learned row must beat it. No level row, {level}, is shown here."
    return "No level-only or frozen row is shown here: run a study with them before believing a learned one."


def _zeros(rows: Sequence[BoardRow]) -> str:
    """Say which machine types make harmonic means 0; empty where none is."""
    columns = {"auc": "AUC", "s_auc": "sAUC", "t_auc": "tAUC", "p_auc": "pAUC"}
    low = [columns[name] for name in columns if any(_is_zero(cast("dict[str, Any]", row)[name]) for row in rows)]
    machines = sorted(
        dict.fromkeys(name for row in rows for name in row["machines"] if _is_zero(row["machines"][name]))
    )
    if not low or not machines:
        return ""
    metrics = f"{', '.join(low[:-1])} and {low[-1]}" if len(low) > 1 else low[0]
    return (
        f"0.00 below {metrics}: a harmonic mean is 0 as soon as one section's number is, here of {', '.join(machines)}."
    )


def _is_zero(value: float | None) -> bool:
    return value is not None and value < ZERO


def _nothing(study: str | None) -> str:
    if study is None:
        return "A leaderboard needs recorded trials, but there is none yet; run `asdbench demo` or a study."
    return (
        f"A leaderboard needs a finished trial, but study {study} has none yet; "
        f"see `asdbench study status {study}`, or run it to the end."
    )


def _chosen(standings: Standings, column: str, name: str | None) -> Standings:
    """Keep the trials with this value in a column, and the level row, which has neither backbone nor embedding."""
    if name is None:
        return standings
    stays = [kind == "level" and column != "protocol" for kind in standings["kind"]]
    there = {value for value, level in zip(standings[column], stays, strict=True) if not level}
    if column == "protocol":
        name = recorded_protocol(name, there)
    if name not in there:
        raise HarnessError(unknown(f"recorded {column}", str(name), there))
    kept = [value == name or level for value, level in zip(standings[column], stays, strict=True)]
    return standings.only(np.flatnonzero(kept))


def _boards(standings: Standings) -> list[list[int]]:
    """Return the places of each board's trials, in the order in which boards were begun."""
    boards: dict[tuple[Any, ...], list[int]] = {}
    for place, board in enumerate(zip(*(standings[name] for name in BOARD), strict=True)):
        boards.setdefault(board, []).append(place)
    return [*boards.values()]


def _ranked(board: Standings, machine: str | None, top: int | None) -> list[BoardRow]:
    """Return one board's best rows, best first."""
    cells = board.cells(row_columns())
    by, parts = board.official, board.h_means
    if machine is not None:
        by = board.machine(machine)
        parts = by[:, None]
    score = cells.spread(by)[0]
    names, kinds = cells.first("backbone"), cells.first("kind")
    best_first = np.lexsort((np.array(names, dtype=str), -score))  # NaN last
    tiers = find_tiers(_arms(cells, best_first, score, parts))
    places = _top(np.array(kinds)[best_first], top)
    shown = best_first[places]
    rivals = Counter(zip(kinds, names, strict=True))
    of_rows = [rivals[kinds[at], names[at]] if kinds[at] == "trial" else None for at in shown.tolist()]
    ranked = Ranked(
        board, cells, shown, [place + 1 for place in places.tolist()], [tiers[place] for place in places.tolist()],
        of_rows, _best_of_several([names[at] for at in shown.tolist()], of_rows), machine,
    )  # fmt: skip
    return cast("list[BoardRow]", computed_rows(ranked))


def _best_of_several(backbones: Sequence[str | None], rivals: Sequence[int | None]) -> list[bool]:
    """Mark the best cell of each backbone that has several, since it is chosen by the test set it is reported on.

    Args:
        backbones: (r,) of rows, best first.
        rivals: (r,) how many cells of the backbone learned; None for a row that did not.
    """
    seen: set[str | None] = set()
    marked = []
    for backbone, several in zip(backbones, rivals, strict=True):
        marked.append(several is not None and several > 1 and backbone not in seen)
        if several is not None:
            seen.add(backbone)
    return marked


def _top(kinds: NDArray[np.str_], top: int | None) -> Places:
    """Return the places that are shown: the best, and the first frozen and level row, which these must beat.

    Args:
        kinds: (c,) of all rows, best first.
        top: how many; None is all.
    """
    if top is None:
        return np.arange(len(kinds))
    beaten = [int(np.argmax(kinds == kind)) for kind in MUST_BEAT if (kinds == kind).any()]
    return np.array([*range(min(top, len(kinds))), *sorted(place for place in beaten if place >= top)], dtype=np.intp)


def _arms(cells: Cells, order: Places, score: Floats, h_means: Floats) -> list[Arm | None]:
    """Return rows in their order, as tiers compare them; None for one without a score."""
    parts = parts_of_score(h_means)
    by_seed = cells.by_seed(parts)
    return [Arm(*by_seed[at]) if np.isfinite(score[at]) else None for at in order.tolist()]
