"""Collects the data of a report: leaderboards, comparisons, label quality, costs, and provenance."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from harness import plugins
from harness.answers.board import BoardRow
from harness.answers.compare import ComparedRow
from harness.answers.compare import comparisons as compare_families
from harness.answers.importance import ImportanceRow, importance
from harness.answers.leaderboard import ZERO, leaderboard
from harness.answers.question import EVERYTHING, Question, curve_columns
from harness.answers.references import with_references
from harness.answers.selection import RESAMPLES, SelectedRow, select
from harness.errors import HarnessError
from harness.stores.readings import find_study
from harness.stores.results import Results
from harness.studies.importance import ped_anova
from harness.tables import Row
from harness.trials.axes import axis_names, study_axes
from labeling.contract import FINETUNED

LISTED = 100  # most rows of a board's tables
REFERENCES = 40  # most reference rows (frozen, level, chance, published) that are added from below the listed ones
TRIALS = 200  # trials listed with their runs
BOARDS = 8
# each family takes seconds of bootstrap, so of a board with many trials only the best family is compared by default
MANY_TRIALS = 1000
FAMILIES = 20  # families of other boards; each takes up to a second
REFERENCE_M = 1
LABELING = ("backbone", "m", "k1", "k2", "fusion", "labels")  # axes that pseudo-labels depend on
ALIKE = 1e-9  # means of the same labels differ by rounding alone
QUALITY = {"purity": "purity", "nmi": "NMI", "recall_at_m": "recall at M"}  # as the page calls them


class DetailedRow(BoardRow):
    """A leaderboard row with details of its trials; None where no trial recorded them.

    `stages` has the mean seconds of each stage. `confidence` is the mean over pseudo-labeled clips. `purity`, `nmi` and
    `recall_at_m` compare pseudo-labels with the withheld attributes (`labeling.quality`): means over machine types,
    weighted by their numbers of judged clips. `rules` has the rules of labeling, min_confidence and below; early trials
    did not record them.
    """

    stages: dict[str, float]
    confidence: float | None
    purity: float | None
    nmi: float | None
    recall_at_m: float | None
    rules: dict[str, Any] | None


@dataclass(frozen=True)
class Zero:
    """A metric that is 0 in some rows since one section's is, which makes every harmonic mean over it 0.

    Attributes:
        metric: its name in a row, such as s_auc.
        sections: where it is 0: "fan, section 00".
        rows: number of rows in which the harmonic mean is 0.
        means: arithmetic mean over sections and trials, by index of the row; where it is defined.
    """

    metric: str
    sections: list[str]
    rows: int
    means: dict[int, float]


@dataclass(frozen=True)
class Board:
    """One protocol on one set of recordings.

    Attributes:
        protocol: by name.
        data: fingerprints of training and test recordings.
        rows: leaderboard rows, best first, with the details that `with_details` adds.
        more_rows: number of further rows that are not listed.
        zeros: metrics that are 0 in some rows because of a section.
        compared: rows of `compare`.
        not_compared: why some families were not compared; empty if all were.
        selected: rows of `select`.
        not_selected: why there are none.
        trials: finished trials of the listed rows, best first.
        more_trials: number of further trials that are not listed.
    """

    protocol: str
    data: str
    rows: list[DetailedRow]
    more_rows: int
    zeros: list[Zero]
    compared: list[ComparedRow]
    not_compared: str
    selected: list[SelectedRow]
    not_selected: str
    trials: list[dict[str, Any]]
    more_trials: int


@dataclass(frozen=True)
class Evidence:
    """All that a report shows.

    Attributes:
        question: the filters and bootstrap settings of the report.
        boards: best supported first, in the leaderboard's order.
        more_boards: number of further boards that are not shown.
        study: the recorded study's name, key, run, date and resolved configuration; None without --study.
        experiment: id of MLflow's experiment that holds the runs; None if MLflow's tables are in another database.
        mattered: how much each choice explains, of all boards.
    """

    question: Question
    boards: list[Board]
    more_boards: int
    study: dict[str, Any] | None
    experiment: str | None = None
    mattered: list[ImportanceRow] = field(default_factory=list)


def gather(results: Results, question: Question = EVERYTHING, *, comparisons: int | None = None) -> Evidence:
    """Gather what a report of the recorded trials shows.

    Args:
        results: the results tables.
        question: which trials, and how the comparisons' bootstrap draws.
        comparisons: number of families of a board (rows that differ in M alone) to compare, best first. None compares
            20, and only the best one on a board with over 1,000 trials.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    ranked = with_references(leaderboard(results, question), results, backbone=question.backbone)
    names = list(dict.fromkeys((row["protocol"], row["data"]) for row in ranked))
    boards = [
        _board(
            results,
            [row for row in ranked if (row["protocol"], row["data"]) == name],
            question,
            comparisons=comparisons,
        )
        for name in names[:BOARDS]
    ]
    runs = [trial["run_id"] for board in boards for trial in board.trials[:1]]
    return Evidence(
        question=question,
        boards=boards,
        more_boards=max(0, len(names) - BOARDS),
        study=_study(find_study(results, question.study)) if question.study else None,
        experiment=results.experiment_of(runs[0]) if runs else None,
        mattered=_mattered(results, question),
    )


def with_details(results: Results, rows: Sequence[BoardRow]) -> list[DetailedRow]:
    """Add details from the trials' records to rows of the leaderboard.

    Args:
        results: the results tables.
        rows: of the leaderboard.

    Returns:
        The same rows, each with the fields of `DetailedRow`.
    """
    known = results.recorded({key for row in rows for key in row["keys"]})
    details = {key: json.loads(text) for key, text in zip(known["key"], known["detail"], strict=True)}
    detailed = [{**row, **_details([details[key] for key in row["keys"] if key in details])} for row in rows]
    return cast("list[DetailedRow]", detailed)


def curve_families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return for each backbone the rows of one family, sorted by M, to draw an M-curve through.

    This is the backbone's family with the most values of M; of several, the one that ranks best.

    Args:
        rows: of one board of the leaderboard, best first.
    """
    families: dict[tuple[object, ...], dict[int, Row]] = {}
    for row in rows:
        if row["kind"] == "trial" and row["m"] is not None and row["official_score"] is not None:
            families.setdefault(family_of(row), {}).setdefault(row["m"], row)
    chosen: dict[str, dict[int, Row]] = {}
    for by_m in families.values():
        backbone = str(next(iter(by_m.values()))["backbone"])
        if len(by_m) > len(chosen.get(backbone, ())):
            chosen[backbone] = by_m
    return {backbone: [by_m[m] for m in sorted(by_m)] for backbone, by_m in chosen.items()}


def labeled_rows(rows: Sequence[DetailedRow]) -> list[DetailedRow]:
    """Return the best fine-tuned row of each labeling: scorer, loss and the like do not change pseudo-labels.

    Those of a second round do depend on the recipe, by which the first round trains.
    """
    there = {str(row["labels"]) for row in rows} & set(plugins.names("strategy"))  # a package's may be gone
    twice = {labels for labels in there if plugins.load("strategy", labels).features == FINETUNED}
    found: dict[tuple[object, ...], list[DetailedRow]] = {}
    labeled = []
    for row in rows:
        if row["kind"] == "trial" and row["classes"] is not None:
            trained = row["recipe"] if row["labels"] in twice else None
            alike = found.setdefault((*(row.get(name) for name in LABELING), trained), [])
            if not any(_same_labels(row, other) for other in alike):
                alike.append(row)
                labeled.append(row)
    return labeled


def _same_labels(one: DetailedRow, other: DetailedRow) -> bool:
    """Tell whether nothing says that two rows of the same axes were labeled differently: by other rules or weights.

    Weights are no axis, and the recipe's digest differs with the loss too; other weights show in what labeling made.
    """
    if one["rules"] and other["rules"] and one["rules"] != other["rules"]:
        return False
    if one["seeds"] != other["seeds"]:  # whose means differ anyway
        return True
    made = zip(_made(one), _made(other), strict=True)
    return all(a is None or b is None or abs(a - b) < ALIKE for a, b in made)


def _made(row: DetailedRow) -> tuple[float | None, ...]:
    return row["classes"], row["singletons"], row["left_out"], row["confidence"]


def trained_rows(rows: Sequence[DetailedRow]) -> list[DetailedRow]:
    """Return the best row of the same trials: one encoder that several scorers scored cost its seconds once."""
    found: dict[tuple[str, ...], DetailedRow] = {}
    for row in rows:
        if row["keys"]:
            found.setdefault(tuple(sorted(row["keys"])), row)
    return list(found.values())


def family_of(row: Row) -> tuple[object, ...]:
    """Return the values in which all rows of one M-curve agree."""
    return tuple(row[name] for name in curve_columns())


def _board(results: Results, rows: list[BoardRow], question: Question, *, comparisons: int | None) -> Board:
    listed = rows[:LISTED]
    # references are listed however low they rank
    listed += [row for row in rows[LISTED:] if row["kind"] != "trial"][:REFERENCES]
    trials = sum(row["trials"] or 0 for row in rows)
    most = comparisons if comparisons is not None else FAMILIES if trials <= MANY_TRIALS else 1
    compared, not_compared = _compared(results, rows, question, most=most)
    selected, not_selected = _selected(results, rows, seed=question.seed)
    keys = [key for row in listed for key in row["keys"]]
    return Board(
        protocol=str(rows[0]["protocol"]),
        data=str(rows[0]["data"]),
        rows=with_details(results, listed),
        more_rows=len(rows) - len(listed),
        zeros=_zeros(results, listed),
        compared=compared,
        not_compared=not_compared,
        selected=selected,
        not_selected=not_selected,
        trials=_trials(results, listed, keys[:TRIALS]),
        more_trials=trials - len(keys[:TRIALS]),
    )


def _compared(
    results: Results, rows: Sequence[BoardRow], question: Question, *, most: int
) -> tuple[list[ComparedRow], str]:
    """Return the comparisons of the first families, and a sentence on those that are left out."""
    families: dict[tuple[object, ...], list[BoardRow]] = {}
    for backbone_rows in curve_families(rows).values():  # first one family of each backbone, then further ones
        families[family_of(backbone_rows[0])] = []
    for row in rows:
        if row["kind"] == "trial" and row["m"] is not None:
            families.setdefault(family_of(row), []).append(row)
    whole = {name: found for name, found in families.items() if REFERENCE_M in {row["m"] for row in found}}
    paired = {name: found for name, found in whole.items() if len({row["m"] for row in found}) > 1}
    if not paired:
        return [], (
            "Top-M is compared with Top-1, but no backbone here has both M = 1 and another M; run the others."
            if families
            else "Nothing here was fine-tuned with pseudo-labels, so there is no Top-M to compare with Top-1."
        )
    said = []
    if len(families) > len(paired):
        said.append(f"{len(families) - len(paired)} of {len(families)} lack M = 1 or any other M.")
    if len(paired) > most:
        said.append(
            f"{min(most, len(paired))} of {len(paired)} were compared, best first; "
            "`asdbench compare --backbone NAME` answers for the others."
        )
    keys = tuple(key for found in list(paired.values())[:most] for row in found for key in row["keys"])
    asked = Question(keys=keys, resamples=question.resamples, seed=question.seed)
    compared, refused = compare_families(results, asked) if most else ([], [])
    shared = ", ".join(axis.heading for axis in study_axes(but=["backbone", "m"]))
    families_said = f"Families (a backbone with its {shared}, scorer and recipe): " if said else ""
    return compared, " ".join([families_said + " ".join(said), *dict.fromkeys(refused)]).strip()


def _selected(results: Results, rows: Sequence[BoardRow], *, seed: int) -> tuple[list[SelectedRow], str]:
    """Return what choosing M, K1 and K2 without looking at the machine reported gives, or why it cannot be said."""
    chosen = [row for row in rows if row["kind"] == "trial" and row["m"] is not None]
    if sum(row["trials"] for row in chosen) > MANY_TRIALS:
        return [], "`asdbench select --backbone NAME` chooses among so many trials."
    if not chosen:
        return [], ""
    try:
        keys = tuple(key for row in chosen for key in row["keys"])
        return select(results, Question(keys=keys, resamples=RESAMPLES, seed=seed)), ""
    except HarnessError as error:
        return [], str(error)


def _mattered(results: Results, question: Question) -> list[ImportanceRow]:
    """Return the rows of `asdbench importance`; none where there is no score to explain."""
    try:
        return importance(results, question, importances=partial(ped_anova, most=MANY_TRIALS))
    except HarnessError:
        return []


def _zeros(results: Results, rows: Sequence[BoardRow]) -> list[Zero]:
    """Return the metrics whose harmonic mean is 0 in some rows, with the sections that make it so."""
    metrics = ("auc", "s_auc", "t_auc", "p_auc")
    low = {name: [at for at, row in enumerate(rows) if _is_zero(cast("Row", row)[name])] for name in metrics}
    if not any(low.values()):
        return []
    numbers = results.metrics({key for row in rows for key in row["keys"]})
    found = []
    for name in (name for name in metrics if low[name]):
        of_rows = [numbers[numbers["key"].isin(row["keys"]) & (numbers["scorer"] == row["scorer"])] for row in rows]
        zero = pd.concat([of_rows[at] for at in low[name]])
        zero = zero[zero[name] < ZERO].sort_values(["machine", "section"])
        where = dict.fromkeys(f"{machine}, section {section}" for machine, section in zip(
            zero["machine"], zero["section"], strict=True))  # fmt: skip
        means = {at: float(each[name].mean()) for at, each in enumerate(of_rows) if each[name].notna().any()}
        found.append(Zero(name, list(where), len(low[name]), means))
    return found


def _is_zero(value: float | None) -> bool:
    return value is not None and value < ZERO


def _trials(results: Results, rows: Sequence[Row], keys: Collection[str]) -> list[dict[str, Any]]:
    row_of = {key: row for row in rows for key in row["keys"]}
    known = results.recorded(keys)
    found = {str(row["key"]): row for row in known.to_dict("records")}
    return [
        {
            **{name: row_of[key][name] for name in ("kind", *axis_names(), "scorer")},
            **{name: found[key][name] for name in ("key", "run_id", "seed", "code", "train_data", "test_data")},
            "seconds": _none(found[key]["seconds"]),
            "peak_mb": _none(found[key]["peak_mb"]),
            "recorded": str(found[key]["recorded"])[:16],
        }
        for key in dict.fromkeys(keys)
        if key in found
    ]


def _study(recorded: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = json.loads(recorded["content"])
    except ValueError:  # an older record holds the file as it was written
        content = recorded["content"]
    names = ("name", "key", "protocol", "planned", "run_id")
    return {**{name: recorded[name] for name in names}, "created": str(recorded["created"])[:16], "content": content}


def _details(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stages: dict[str, list[float]] = {}
    for detail in details:
        for stage, seconds in detail.get("seconds", {}).items():
            stages.setdefault(stage, []).append(float(seconds))
    labels = [row for detail in details for row in detail.get("labels", ())]
    return {
        "stages": {stage: float(np.mean(seconds)) for stage, seconds in stages.items()},
        "rules": next((detail["labeling"] for detail in details if detail.get("labeling")), None),
        "confidence": _weighted(labels, "mean_confidence", by="pseudo_labeled"),
        **{name: _weighted(labels, name, by="judged") for name in QUALITY},
    }


def _weighted(labels: Sequence[Mapping[str, Any]], name: str, *, by: str) -> float | None:
    pairs = [(row[name], row.get(by) or 0) for row in labels if row.get(name) is not None and np.isfinite(row[name])]
    total = sum(weight for _, weight in pairs)
    return float(sum(value * weight for value, weight in pairs) / total) if total else None


def _none(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
