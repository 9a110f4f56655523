"""Choose M, K1, K2 and fusion on some machines and report on another, to measure how optimistic test-set tuning is."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np
import pandas as pd

from harness.answers.compare import trials_with_m
from harness.answers.grids import (
    Cell,
    Chosen,
    Grid,
    choose,
    first_best,
    named_cell,
    recorded_grid,
    recorded_years,
    smallest_first,
)
from harness.answers.question import (
    BOARD,
    GIVEN,
    TRAINED,
    Question,
    called,
    choices_said,
    chosen_axes,
    differing,
    shown_choice,
)
from harness.errors import HarnessError
from harness.statistics.arms import pseudo_values
from harness.statistics.bootstrap import Floats, Machine, draw_counts, generator
from harness.statistics.significance import Spread, crossed_spread, score_interval, stretched_interval
from harness.stores.results import Results
from harness.tables import in_percent
from harness.trials.axes import Choice

logger = logging.getLogger(__name__)

FAMILY = [*BOARD, *GIVEN, *TRAINED]
RESAMPLES = 500  # each chooses anew on every machine, which takes its time
EVERYTHING = Question(resamples=RESAMPLES)

Trial: TypeAlias = Mapping[str, Any]  # a trial's row of the results tables


class MachineChoice(TypedDict):
    """The cell chosen for a machine type without looking at it, and what it scores there; fractions."""

    machine: str
    m: int
    k1: int | None
    k2: int | None
    fusion: str
    h_mean: float
    h_mean_of_best: float


class SelectedRow(TypedDict):
    """The result of choosing a cell on other data than it is reported on; fractions."""

    backbone: str
    labels: str
    scorer: str
    recipe: str
    protocol: str
    train_data: str
    test_data: str
    dataset: str
    chosen_on: str
    cells: int
    seeds: list[int]
    seeds_left_out: list[int]
    official_score: float
    ci_low: float
    ci_high: float
    varied: list[str]  # names of the axes in which the cells differ
    best: dict[str, Choice]
    optimistic_score: float
    optimism: float
    machines: list[MachineChoice]
    optimism_ci_low: float
    optimism_ci_high: float
    sentence: str


def select(results: Results, question: Question = EVERYTHING) -> list[SelectedRow]:
    """Choose a cell without the machine that it is reported on, for every backbone, labels and scorer.

    A cell is a combination of the other axes of a study: M, K1, K2, fusion and any further ones.

    Leave one machine out: for each machine the cell is chosen that has the best official score over all others, mean
    over seeds, and the machine's own numbers are taken from that cell; the official rule over these numbers is the
    honest score. Beside it stands the optimistic one, of the cell that is best on the very machines it is reported
    on, as the paper picks M; their difference is the optimism (Cawley and Talbot 2010, Journal of Machine Learning
    Research 11:2079, on selection bias in performance evaluation). Where the same cells are recorded in other years,
    a second row has them chosen on all of those, on mean official score, and reported on this year.

    Of cells with equal scores the one with the smaller M is chosen, then the smaller K1, K2, then by the fusion's name.

    Intervals are at 95 %: machines and seeds are drawn with replacement, and cells are chosen anew in every resample
    (a machine drawn twice is left out twice); the width is the larger of the bootstrap's and of the spread over
    machines and seeds with Student's tails. That of the score is symmetric on the logit, so it stays between 0 and 1;
    that of the optimism has the bootstrap's shape and stays between -1 and 1 (`harness.statistics.significance`).

    Args:
        results: the results tables.
        question: which trials, and how the bootstrap draws.

    Returns:
        One row a backbone, labels, scorer, recipe, year and way of choosing; fractions throughout. What cannot be
        chosen is left out, and a warning in the log says why.

    Raises:
        HarnessError: nothing is recorded, nothing of that name, or nowhere are there two cells and two machines.
    """
    trials = trials_with_m(results, question, asked="A selection")
    rows: list[SelectedRow] = []
    refused: list[str] = []
    for values, family in trials.groupby(FAMILY, sort=False):
        first = dict(zip(FAMILY, cast("tuple[Any, ...]", values), strict=True))
        rows += _family(results, family, trials, refused, first=first, question=question)
    if not rows:
        raise HarnessError(refused[0])
    for reason in dict.fromkeys(refused):  # a family that lacks something lacks it in each of its years
        logger.warning("Not selected: %s", reason)
    named = differing(rows)
    return [{**row, "sentence": _sentence(row, named)} for row in rows]


def _family(
    results: Results,
    family: pd.DataFrame,
    trials: pd.DataFrame,
    refused: list[str],
    *,
    first: Trial,
    question: Question,
) -> list[SelectedRow]:
    """Return a family's rows; why one cannot be had, such as a year with one machine, is added to `refused`."""
    rows = []
    for dataset in recorded_years(results, family):
        try:
            grid = recorded_grid(results, family, dataset)
            if len(grid.places) < 2:
                raise HarnessError(
                    f"A selection needs a machine to report on and another to choose on, but {called(first)} has "
                    f"{len(grid.places)} on {dataset}; record more machines."
                )
            rows.append(_row(first, dataset, grid, question))
            if others := _other_years(results, first, trials, dataset):
                rows.append(_row_of_other_years(first, dataset, grid, others))
        except HarnessError as error:
            refused.append(str(error))
    return rows


def _row(first: Trial, dataset: str, grid: Grid, question: Question) -> SelectedRow:
    places = grid.places
    chosen = choose(grid, np.ones(len(places)), np.ones(len(grid.seeds)))
    drawn = _drawn(grid, resamples=question.resamples, seed=question.seed)
    of_honest, of_best = _pseudo_values(grid, chosen)
    honest, optimism = (
        np.array(samples) for samples in ([one.honest for one in drawn], [one.optimistic - one.honest for one in drawn])
    )
    return _result(
        first, dataset, grid, chosen_on="other machines", honest=chosen.honest,
        ends=score_interval(chosen.honest, _wider(of_honest, honest)),
        cells=chosen.cells, best=chosen.best, optimistic=chosen.optimistic,
        optimism_ends=stretched_interval(
            optimism, around=chosen.optimistic - chosen.honest, spread=_wider(of_best - of_honest, optimism)
        ),
    )  # fmt: skip


def _drawn(grid: Grid, *, resamples: int, seed: int) -> list[Chosen]:
    """Choose again in each resample of machines and seeds; one that has a single machine is drawn again."""
    machines = len(grid.places)
    random = generator(seed, "machines")
    kept = np.empty((machines, 0))
    while kept.shape[1] < resamples:
        counts = draw_counts(machines, resamples, random)
        kept = np.concatenate([kept, counts[:, (counts > 0).sum(axis=0) > 1]], axis=1)
    seeds = draw_counts(len(grid.seeds), resamples, generator(seed, "seeds"))
    return [choose(grid, kept[:, at], seeds[:, at].astype(float)) for at in range(resamples)]


def _pseudo_values(grid: Grid, chosen: Chosen) -> tuple[Floats, Floats]:
    """Return jackknife pseudo-values of the honest and of the optimistic score: (machines, seeds) each."""
    places = grid.places
    mixed = np.array(grid.values[chosen.best])
    for machine, at in places.items():
        mixed[:, at] = grid.values[chosen.cells[machine]][:, at]
    return pseudo_values(mixed, places, grid.rule), pseudo_values(grid.values[chosen.best], places, grid.rule)


def _wider(pseudo: Floats, drawn: Floats) -> Spread:
    """Return the spread over machines and seeds, or with the error of the resamples, which choose anew, if larger."""
    known = crossed_spread(pseudo)
    return Spread(max(known.error, float(drawn.std())), known.freedom)


def _other_years(results: Results, first: Trial, trials: pd.DataFrame, dataset: str) -> list[Grid]:
    """Return the grids of the same backbone, labels, scorer and recipe in every year but one."""
    same = trials
    for name in (*GIVEN, *TRAINED):
        same = same[same[name] == first[name]]
    found = []
    for _, family in same.groupby(list(BOARD)):
        for year in recorded_years(results, family):
            if year != dataset:
                try:
                    found.append(recorded_grid(results, family, year))
                except HarnessError as error:  # too few cells in that year
                    logger.warning("Year left out of the choice: %s", error)
    return found


def _row_of_other_years(first: Trial, dataset: str, grid: Grid, others: Sequence[Grid]) -> SelectedRow:
    shared = [cell for cell in grid.cells if all(cell in other.cells for other in others)]
    if len(shared) < 2:
        raise HarnessError(
            f"A selection on other years needs two cells that all years have, but {called(first)} shares "
            f"{len(shared)} with {dataset}; run the same cells in each year."
        )
    on_others = np.array([_means(other, shared) for other in others]).mean(axis=0)
    at = grid.cells.index(shared[first_best(on_others)])
    own = _means(grid, grid.cells)
    best = first_best(own)
    places = grid.places
    of_cell, of_best = (pseudo_values(grid.values[one], places, grid.rule) for one in (at, best))
    honest, optimistic = float(own[at]), float(own[best])
    return _result(
        first, dataset, grid, chosen_on="other years", honest=honest,
        ends=score_interval(honest, crossed_spread(of_cell)),
        cells=dict.fromkeys(places, at), best=best, optimistic=optimistic,
        optimism_ends=stretched_interval(
            (), around=optimistic - honest, spread=crossed_spread(of_best - of_cell)
        ),
    )  # fmt: skip


def _means(grid: Grid, cells: Sequence[Cell]) -> Floats:
    """Return the mean official score of some cells of a year: (c,)."""
    official = grid.official(np.ones(len(grid.sections))).mean(axis=1)
    return np.array([official[grid.cells.index(cell)] for cell in cells])


def _result(
    first: Trial,
    dataset: str,
    grid: Grid,
    *,
    chosen_on: str,
    honest: float,
    ends: tuple[float, float],
    cells: Mapping[Machine, int],
    best: int,
    optimistic: float,
    optimism_ends: tuple[float, float],
) -> SelectedRow:
    row = {
        **{name: first[name] for name in (*GIVEN, *TRAINED, *BOARD)},
        "dataset": dataset,
        "chosen_on": chosen_on,
        "cells": len(grid.cells),
        "seeds": list(grid.seeds),
        "seeds_left_out": list(grid.seeds_left_out),
        "official_score": honest,
        "ci_low": ends[0],
        "ci_high": ends[1],
        "varied": _varied(grid),
        "best": named_cell(grid.cells[best]),
        "optimistic_score": optimistic,
        "optimism": optimistic - honest,
        "machines": [
            {
                "machine": machine[1],
                **named_cell(grid.cells[cell]),
                "h_mean": grid.h_mean(machine, cell),
                "h_mean_of_best": grid.h_mean(machine, best),
            }
            for machine, cell in cells.items()
        ],
        "optimism_ci_low": optimism_ends[0],
        "optimism_ci_high": optimism_ends[1],
    }
    return cast("SelectedRow", {**row, "sentence": ""})  # which needs to know what the other rows are


def _varied(grid: Grid) -> list[str]:
    columns = zip(chosen_axes(), zip(*grid.cells, strict=True), strict=True)
    return [axis.name for axis, values in columns if len(set(values)) > 1]


def _sentence(row: SelectedRow, named: Collection[str]) -> str:
    machines = cast("list[Trial]", row["machines"])
    by_size = sorted(machines, key=lambda each: smallest_first(tuple(each[name] for name in row["varied"])))
    chosen = dict.fromkeys(shown_choice(row, each) for each in by_size)
    gap, low, high = (
        in_percent(value, signed=True) for value in (row["optimism"], row["optimism_ci_low"], row["optimism_ci_high"])
    )
    said = (
        f"{called(row, named)} on {row['dataset']} scores {in_percent(row['official_score'])} "
        f"with {choices_said([row])} chosen on {row['chosen_on']} ({'; '.join(chosen)}), and "
        f"{in_percent(row['optimistic_score'])} with the best of {row['cells']} cells on its own test set "
        f"({shown_choice(row, row['best'])}): optimism {gap} points (95 % CI {low} to {high})"
    )
    caveats = []
    if len(row["seeds"]) == 1:
        caveats.append("one seed, so the interval knows nothing of how seeds differ")
    if row["seeds_left_out"]:
        caveats.append(f"without seeds {', '.join(map(str, row['seeds_left_out']))}, which a cell lacks")
    return "; ".join([said, *caveats]) + "."
