"""How much each choice of a study matters: the share of the scores' variance that it explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict

import numpy as np

from harness.answers.question import BOARD, EVERYTHING, Question, recorded_protocol
from harness.answers.standings import Standings, read_standings
from harness.errors import HarnessError
from harness.scoring.choice import parse_scorer
from harness.scoring.layers import EMBEDDING
from harness.statistics.effects import Codes, permutation_test, share_interval, variance_share
from harness.stores.readings import find_study
from harness.stores.results import Results
from harness.tables import NOTHING, Column, Row, answering, count, in_percent, naming, percent, plain
from harness.trials.axes import study_axes

SCORER, LAYER, SEED = "scorer", "layer", "seed"  # choices besides the axes of a study
LEAST_TRAININGS = 20  # fewest for an interval: of fewer, a bootstrap's intervals are too narrow
SHUFFLES = 999
LEAST_DRAWS, MOST_NUMBERS = 100, 5_000_000  # of 10,000 trials, 500 draws are held at once: 40 MB

Importances: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Sequence[float]], dict[str, float]]


class ImportanceRow(TypedDict):
    """How much one choice mattered on one board; shares are fractions.

    `share` is eta squared: the part of the official scores' variance that lies between the choice's values. `by_chance`
    is its mean if the choice makes no difference, `p_value` that of a permutation test, which moves whole trainings.
    `ci_low` and `ci_high` are the 95 % interval of the share that would be left of ever more trainings on the same
    recordings, in which chance has no part; None with fewer than 20 trainings. `importance` is the PED-ANOVA
    importance. `protocol` and `data` name the board.
    """

    protocol: str
    data: str
    choice: str
    heading: str
    values: int
    trials: int
    trainings: int
    share: float
    by_chance: float
    ci_low: float | None
    ci_high: float | None
    p_value: float
    importance: float | None
    sentence: str


def importance(
    results: Results, question: Question = EVERYTHING, *, importances: Importances | None = None
) -> list[ImportanceRow]:
    """Compute how much of the scores' variance each choice explains, for each board, the largest share first.

    Finished fine-tuned trials are counted, once for each of their scorers; if there are none, frozen ones. Choices are
    the axes of a study, the scorer, the layer that scorers hear and the seed, as far as the trials differ in them. The
    scores that several scorers give to one training are not independent, so the test shuffles whole trainings.

    Args:
        results: the results tables.
        question: which trials, and how often the bootstrap draws.
        importances: function of the trials' settings and scores that returns another importance of each choice, such as
            `harness.studies.importance.ped_anova`; None leaves `importance` empty.

    Returns:
        A row for each board and choice; none for a board whose trials do not differ in any choice.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    key = find_study(results, question.study)["key"] if question.study else None
    standings = read_standings(results, key)
    known, wanted = np.isfinite(standings.official), _wanted(standings, question)
    kept = [
        at
        for at, kind in enumerate(standings["kind"])
        if known[at]
        and kind in ("trial", "frozen")
        and all(standings[column][at] == name for column, name in wanted.items())
    ]
    if not kept:
        asked = f" of study {question.study}" if question.study else ""
        raise HarnessError(f"What mattered needs finished trials{asked} with a score, but there is none; run a study.")
    boards: dict[tuple[Any, ...], list[int]] = {}
    for at in kept:
        boards.setdefault(tuple(standings[name][at] for name in BOARD), []).append(at)
    rows = []
    for (protocol, train_data, test_data), places in boards.items():
        kinds = [standings["kind"][at] for at in places]
        kind = "trial" if "trial" in kinds else "frozen"
        own = np.array([at for at, each in zip(places, kinds, strict=True) if each == kind])
        if len(own) > 2:
            named = {"protocol": protocol, "data": f"{train_data}-{test_data}"}
            rows += _board(standings.only(own), question, importances, named=named)
    return rows


def _wanted(standings: Standings, question: Question) -> dict[str, str]:
    """Return the values that a trial must have to be asked for, by column."""
    protocol = recorded_protocol(question.protocol, standings["protocol"])
    wanted = {"protocol": protocol, "backbone": question.backbone, "scorer": question.scorer}
    return {column: name for column, name in wanted.items() if name is not None}


def _board(
    board: Standings, question: Question, importances: Importances | None, *, named: Mapping[str, str]
) -> list[ImportanceRow]:
    """Return the rows of one board, the choice with the largest share first."""
    headings = {**{axis.name: axis.heading for axis in study_axes()}, SCORER: "scorer", LAYER: "layer", SEED: "seed"}
    found = {**{name: board[name] for name in headings if name != LAYER}, **_scorers_and_layers(board[SCORER])}
    columns = {name: [_plain(value) for value in found[name]] for name in headings}
    # a choice that some trials have and others have not, such as K1 beside labels that read none, tells no values apart
    columns = {name: column for name, column in columns.items() if len(set(column) - {NOTHING}) > 1}
    if not columns:
        return []
    scores = board.official
    draws = max(LEAST_DRAWS, min(question.resamples, MOST_NUMBERS // len(scores)))
    units, parts, trainings = _coded(board["key"]), _coded(board[SCORER]), len(set(board["key"]))
    further: dict[str, float] = {}
    if importances is not None:
        settings = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        further = importances(settings, scores.tolist())
    rows: list[ImportanceRow] = []
    for name, column in columns.items():
        codes = _coded(column)
        p_value, by_chance = permutation_test(
            scores, codes, draws=min(SHUFFLES, draws), seed=question.seed, units=units, parts=parts
        )
        low, high = (
            share_interval(scores, codes, units, by_chance=by_chance, draws=draws, seed=question.seed)
            if trainings >= LEAST_TRAININGS
            else (None, None)
        )
        row: ImportanceRow = {
            "protocol": named["protocol"],
            "data": named["data"],
            "choice": name,
            "heading": headings[name],
            "values": len(set(column)),
            "trials": len(scores),
            "trainings": trainings,
            "share": float(variance_share(scores, codes)),
            "by_chance": by_chance,
            "ci_low": low,
            "ci_high": high,
            "p_value": p_value,
            "importance": further.get(name),
            "sentence": "",
        }
        rows.append({**row, "sentence": _sentence(row)})
    return sorted(rows, key=lambda row: -row["share"])


def _plain(value: Any) -> Any:
    """Return a value as a group's name, in which a missing value is a group of its own."""
    return NOTHING if value is None else value


def _coded(column: Sequence[Any]) -> Codes:
    """Return each value's number among the column's distinct values: (n,)."""
    return np.unique(column, return_inverse=True)[1].astype(np.intp)


def _scorers_and_layers(texts: Sequence[str]) -> dict[str, list[str]]:
    """Take scorers' texts apart: `knn:layer=6` is the scorer knn and the layer 6, knn alone the layer last."""
    apart: dict[str, tuple[str, str]] = {}
    for text in dict.fromkeys(texts):
        try:
            choice = parse_scorer(text)
        except HarnessError:  # recorded with a scorer, or a version of it, that is not installed here
            apart[text] = (text, "last")
            continue
        heard = [f"{value}" if name == LAYER else f"{name}={value}" for name, value in choice.heard.options()]
        apart[text] = (str(replace(choice, heard=EMBEDDING)), ",".join(heard) or "last")
    return {SCORER: [apart[text][0] for text in texts], LAYER: [apart[text][1] for text in texts]}


def _sentence(row: ImportanceRow) -> str:
    explains = f"{row['heading']} explains {100 * row['share']:.0f} % of the variance"
    chance = f"{100 * row['by_chance']:.0f} % would be chance"
    if row["p_value"] >= 0.05:
        return f"{explains}, which shuffled scores do too (p = {row['p_value']:.2f}; {chance})."
    return f"{explains} (p = {row['p_value']:.3f}; {chance})."


def importance_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of what mattered, with the protocol where there are several."""

    def interval(row: Row) -> str:
        return NOTHING if row["ci_low"] is None else f"{in_percent(row['ci_low'])} to {in_percent(row['ci_high'])}"

    return [
        *naming(
            *([plain("protocol")] if len({row["protocol"] for row in rows}) > 1 else []), plain("heading", "choice")
        ),
        count("values"),
        *answering(percent("share", "variance, %"), Column("95 % interval", interval, right=True)),
        percent("by_chance", "by chance %"),
        Column("p", lambda row: f"{row['p_value']:.3f}", right=True),
        percent("importance", "PED-ANOVA %"),
    ]
