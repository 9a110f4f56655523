"""Reference rows of a leaderboard: chance, and what others published on the same recordings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from benchmarks.contract import BenchmarkError, DatasetPart
from benchmarks.metrics.rules import harmonic_of_all
from benchmarks.protocols import find_protocol, parse_part
from benchmarks.reference.published import OVERALL, load_reference, reference_names
from harness import plugins
from harness.answers.board import BoardRow, reference_row
from harness.answers.standings import METRICS
from harness.stores.results import Results

CHANCE = 0.5  # expected AUC and (normalised) partial AUC of random scores, and so every mean of them
REFERENCES = ("chance", "published")  # kinds that nobody ran here
LEAST_CLIPS = 180  # no section of an official test set has fewer; from 2022 on each has 200 (dcase.community)


def with_references(
    rows: Sequence[BoardRow], results: Results, *, backbone: str | None = None, machine: str | None = None
) -> list[BoardRow]:
    """Insert chance and published results among a leaderboard's rows by their score, without rank or tier.

    Published results are added to a board only if it scores a full official test set: all machine types of the same
    part of the same year. On a subset, or on generated recordings, they would mislead; `asdbench reference` shows them
    anyway. A test set counts as full by its number of clips, since checksums of the official clips are not available.

    Args:
        rows: of `harness.answers.leaderboard.leaderboard`.
        results: the results tables, which know the test sets.
        backbone: leave out published results of other backbones.
        machine: the machine type that the board is ranked by instead of the official score.
    """
    boards: dict[tuple[str, str], list[BoardRow]] = {}
    for row in rows:
        boards.setdefault((row["protocol"], row["data"]), []).append(row)
    merged: list[BoardRow] = []
    for board in boards.values():
        parts = scored_parts(results, board)
        added = [_chance(board), *(_published_rows(parts, board[0]) if parts else ())]
        if backbone is not None:
            added = [row for row in added if row["backbone"] in (None, backbone.lower())]
        if machine is not None:
            scored = [(row, row["machines"].get(machine)) for row in added]
            added = [
                {**row, "machine": machine, "machine_score_std": None, "machine_score": score}
                for row, score in scored
                if score is not None
            ]
        merged += sorted([*board, *added], key=_best_first)
    return merged


def scored_parts(results: Results, board: Sequence[BoardRow]) -> tuple[DatasetPart, ...]:
    """Return the official parts that a board scores in full; () if it scores a subset of them or other clips.

    This is read from the recorded test clips. If only metrics were recorded, it is read from the protocol of that name.
    """
    protocol, test_data = board[0]["protocol"], board[0]["data"].rpartition("-")[2]
    clips = results.test_set(test_data)
    try:
        if clips is None:
            parts = find_protocol(protocol).score
        else:
            parts = tuple(parse_part(name) for name in sorted({_part_of(clip) for clip in clips["clip_id"]}))
        official = {machine for part in parts for machine in _dataset(part).machines.get(part.part, ())}
    except (BenchmarkError, ValueError):  # recordings of the user's own belong to no year
        return ()
    years = {part.dataset for part in parts}
    scored = {name.rpartition("/")[2] for row in board for name in row["machines"]}
    if len(years) != 1 or scored != official or (clips is not None and _smallest(clips) < LEAST_CLIPS):
        return ()
    return parts


def published_systems(parts: Iterable[DatasetPart]) -> list[pd.DataFrame]:
    """Return the published numbers of each system and setting on these parts, a table each."""
    parts = tuple(parts)
    dataset, part = parts[0].dataset, "+".join(sorted(each.part for each in parts))
    found = []
    for name in reference_names():
        table = load_reference(name)
        there = table[(table["dataset"] == dataset) & (table["part"] == part)].assign(table=name)
        found += [cells for _, cells in there.groupby(["system", "backbone", "m"], dropna=False, sort=False)]
    return found


def _published_rows(parts: Sequence[DatasetPart], first: BoardRow) -> list[BoardRow]:
    rows = []
    for cells in published_systems(parts):
        of = {(cell["machine"], cell["metric"]): float(cell["value"]) for cell in cells.to_dict("records")}
        head = cells.iloc[0]
        machines = {machine: _h_mean(of, machine) for machine in dict.fromkeys(cells["machine"]) if machine != OVERALL}
        rows.append(
            _reference(
                first,
                kind="published",
                backbone=head["system"] if pd.isna(head["backbone"]) else head["backbone"],
                m=None if pd.isna(head["m"]) else int(head["m"]),
                official_score=of.get((OVERALL, "official_score")),
                **{metric: _overall(of, metric, machines) for metric in ("s_auc", "t_auc", "p_auc")},
                machines={name: value for name, value in machines.items() if value is not None},
                source=f"{head['system']}, third-party" if "third part" in head["note"] else head["system"],
            )
        )
    return rows


def _chance(board: Sequence[BoardRow]) -> BoardRow:
    names = dict.fromkeys(name for row in board for name in row["machines"])
    rows: Sequence[Mapping[str, Any]] = board
    defined = [name for name in METRICS if any(row[name] is not None for row in rows)]
    return _reference(
        board[0], kind="chance", official_score=CHANCE, source="scores that know nothing",
        machines=dict.fromkeys(names, CHANCE), **dict.fromkeys(defined, CHANCE),
    )  # fmt: skip


def _reference(first: BoardRow, **said: Any) -> BoardRow:
    """Return a row beside those of a board, of which `first` is one."""
    place = {"protocol": first["protocol"], "data": first["data"], "dataset": first["dataset"]}
    return cast("BoardRow", reference_row(**place, **said))


def _h_mean(of: Mapping[tuple[str, str], float], machine: str) -> float | None:
    if (machine, "h_mean") in of:
        return of[machine, "h_mean"]
    return harmonic_of_all([of.get((machine, metric)) for metric in ("s_auc", "t_auc", "p_auc")])


def _overall(of: Mapping[tuple[str, str], float], metric: str, machines: Iterable[str]) -> float | None:
    if (OVERALL, metric) in of:
        return of[OVERALL, metric]
    return harmonic_of_all([of.get((machine, metric)) for machine in machines])


def _part_of(clip_id: str) -> str:
    return "/".join(clip_id.split("/")[:2])


def _dataset(part: DatasetPart) -> Any:
    return plugins.load("dataset", part.dataset)


def _smallest(clips: pd.DataFrame) -> int:
    return int(clips.groupby(["machine", "section"]).size().min())


def _best_first(row: BoardRow) -> tuple[bool, float, bool]:
    score = row["official_score"] if "machine" not in row else row["machine_score"]
    return (score is None, -(score or 0.0), row["kind"] in REFERENCES)
