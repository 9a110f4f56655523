"""The metrics of a family's cells in one year, as one array, and the choice of the best cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import measure
from benchmarks.metrics.rules import MetricRule, metric_rule
from harness.answers.question import axes_listed, called, chosen_axes
from harness.errors import HarnessError
from harness.rules import rule_of
from harness.statistics.bootstrap import Floats, Machine, Section, machine_places
from harness.stores.results import Results
from harness.trials.axes import Choice, choices, shown_cell

REFERENCE_M = 1
PLACES = 12  # decimals to which scores are rounded before they are compared, so that rounding errors are ties

Cell: TypeAlias = tuple[Choice, ...]  # values of the chosen axes: M, K1, K2, fusion


@dataclass(frozen=True)
class Grid:
    """The metrics of one family's cells in one year.

    Attributes:
        cells: (c,) values of M, K1, K2, fusion and any further axis, in ascending order: of equally good cells the
            first is chosen.
        seeds: (r,) seeds with which every cell was run.
        sections: (s,) keys of the sections.
        values: (c, r, s, k) metrics, k of them in the rule's order.
        rule: the year's metric rule.
        seeds_left_out: seeds that only some of the cells have.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    sections: tuple[Section, ...]
    values: Floats
    rule: RuleName
    seeds_left_out: tuple[int, ...]

    @property
    def metric(self) -> MetricRule:
        """Return the year's definition of the metrics."""
        return metric_rule(self.rule)

    @cached_property
    def places(self) -> dict[Machine, NDArray[np.intp]]:
        """Return the indices of each machine's sections, without machines for which no cell has a metric."""
        return {
            key: at for key, at in machine_places(self.sections).items() if not np.isnan(self.values[:, :, at]).all()
        }

    def h_mean(self, machine: Machine, cell: int) -> float:
        """Return one machine's harmonic mean under one cell, mean over seeds."""
        at = self.places[machine]
        return float(np.mean([self.metric.machine(one[at][..., None])[0] for one in self.values[cell]]))

    def official(self, weights: Floats) -> Floats:
        """Return official scores of all cells and seeds: (s,) weights of sections -> (c, r)."""
        cells, seeds, sections, numbers = self.values.shape
        flat = self.values.reshape(cells * seeds, sections, numbers).transpose(1, 2, 0)  # (s, k, c * r)
        return self.metric.official(flat, np.repeat(weights[:, None], cells * seeds, axis=1)).reshape(cells, seeds)


@dataclass(frozen=True)
class Chosen:
    """The result of choosing a cell by leaving one machine out, beside that of choosing on all machines.

    Attributes:
        cells: machine -> index of the cell chosen on all other machines.
        honest: official score, where each machine's metrics are those of the cell chosen without it.
        best: index of the cell chosen on all machines.
        optimistic: official score of `best` on the same machines that it was chosen on.
    """

    cells: Mapping[Machine, int]
    honest: float
    best: int
    optimistic: float


def recorded_numbers(
    results: Results, keys: Sequence[str], *, scorer: str, dataset: str
) -> dict[str, dict[Section, Floats]]:
    """Return trial key -> section -> (k,) numbers of one year, NaN where undefined.

    They are read from the table of metrics. If that has no column for a number of the rule, such as the pAUC of each
    domain in 2021, they are computed from the recorded clip scores.

    Args:
        results: the results tables.
        keys: of finished trials.
        scorer: whose metrics.
        dataset: year.

    Raises:
        HarnessError: a number is not in the table, and there are no clip scores to compute it from.
    """
    fields = [number.field for number in metric_rule(rule_of(dataset)).numbers]
    metrics = results.metrics(keys)
    metrics = metrics[(metrics["scorer"] == scorer) & (metrics["dataset"] == dataset)]
    if set(fields) <= set(metrics.columns):
        return {str(key): _by_section(rows, fields) for key, rows in metrics.groupby("key", sort=False)}
    clips = results.clip_scores(keys, scorer)
    if alone := sorted(set(keys) - set(clips)):
        raise HarnessError(
            f"The numbers of {dataset} ({', '.join(fields)}) are measured on clip scores, but trial {alone[0]} is "
            "recorded without any; record it with its clip scores."
        )
    return {key: _measured(table[table["dataset"] == dataset], dataset, fields) for key, table in clips.items()}


def _by_section(rows: pd.DataFrame, fields: Sequence[str]) -> dict[Section, Floats]:
    names = rows[["dataset", "machine", "section"]].astype(str).itertuples(index=False, name=None)
    values = rows[list(fields)].to_numpy(dtype=np.float64)
    return {(year, machine, section): value for (year, machine, section), value in zip(names, values, strict=True)}


def _measured(clips: pd.DataFrame, dataset: str, fields: Sequence[str]) -> dict[Section, Floats]:
    sections = measure(clips, rule_of(dataset))
    return {
        (each.dataset, each.machine, each.section): np.array(
            [getattr(each, field) for field in fields], dtype=np.float64
        )
        for each in sections
    }


def recorded_years(results: Results, family: pd.DataFrame) -> list[str]:
    """Return the years that a family of trials scored."""
    return sorted({str(year) for year in results.metrics([family["key"].iloc[0]])["dataset"]})


def recorded_grid(results: Results, family: pd.DataFrame, dataset: str) -> Grid:
    """Return what the cells of one family scored in one year.

    Args:
        results: the results tables.
        family: trials of one backbone, labels, scorer, recipe and board.
        dataset: year.

    Raises:
        HarnessError: there are fewer than two cells, no seed that all have, two trials of one cell and seed, or cells
            on other machines.
    """
    first: Mapping[Any, Any] = family.iloc[0].to_dict()
    by_cell: dict[Cell, dict[int, str]] = {}
    for row in family.to_dict("records"):
        cell = by_cell.setdefault(_cell(row), {})
        if int(row["seed"]) in cell:
            raise HarnessError(
                f"A selection needs one trial a cell and seed, but {called(first)} has two of "
                f"{shown_cell(named_cell(_cell(row)))}, seed {row['seed']}, from protocols of one name that differ; "
                "choose one with --study."
            )
        cell[int(row["seed"])] = str(row["key"])
    if len(by_cell) < 2:
        raise HarnessError(
            f"A selection needs at least two cells of {axes_listed()} to choose from, but {called(first)} has "
            f"{shown_cell(named_cell(next(iter(by_cell))))} alone; run others."
        )
    cells = sorted(by_cell, key=smallest_first)
    all_seeds = {seed for of_cell in by_cell.values() for seed in of_cell}
    seeds = sorted(set.intersection(*(set(of_cell) for of_cell in by_cell.values())))
    if not seeds:
        raise HarnessError(
            f"A selection needs a seed that every cell has, but {called(first)} has none; run the same seeds of each."
        )
    keys = [by_cell[cell][one] for cell in cells for one in seeds]
    numbers = recorded_numbers(results, keys, scorer=first["scorer"], dataset=dataset)
    shared = set.intersection(*(set(numbers.get(key, {})) for key in keys))
    sections = tuple(sorted(shared))
    alone = sorted({section[1] for key in keys for section in numbers.get(key, {})} - {key[1] for key in sections})
    if alone:
        raise HarnessError(
            f"A selection needs every cell on every machine, but {called(first)} has not all of them on "
            f"{', '.join(alone)} of {dataset}; run the same machines."
        )
    values = np.array([[[numbers[by_cell[c][one]][s] for s in sections] for one in seeds] for c in cells])
    rule = rule_of(dataset)
    return Grid(tuple(cells), tuple(seeds), sections, values, rule, tuple(sorted(all_seeds - set(seeds))))


def _cell(row: Mapping[Any, Any]) -> Cell:
    return tuple(choices(row, chosen_axes()).values())


def named_cell(cell: Cell) -> dict[str, Choice]:
    """Return a cell's values by the names of their axes."""
    return dict(zip((axis.name for axis in chosen_axes()), cell, strict=True))


def smallest_first(cell: Cell) -> tuple[tuple[bool, Any], ...]:
    """Return a sort key of cells: numbers by size, words alphabetically, None first."""
    return tuple((value is not None, 0 if value is None else value) for value in cell)


def choose(grid: Grid, machines: Floats, seeds: Floats) -> Chosen:
    """Choose a cell for every machine by its official score on the other machines, and one on all machines.

    Args:
        grid: metrics of the cells.
        machines: (n,) how often each machine of `grid.places` counts: ones, or bootstrap counts.
        seeds: (r,) how often each seed counts.
    """
    places = grid.places
    weights = np.zeros(len(grid.sections))
    for weight, at in zip(machines, places.values(), strict=True):
        weights[at] = weight
    on_all = grid.official(weights) @ seeds / seeds.sum()  # (c,)
    best = first_best(on_all)
    cells = {}
    mixed = np.empty(grid.values.shape[1:])  # (r, s, k): each machine's numbers under the cell chosen without it
    for machine, at in places.items():
        without = weights.copy()
        without[at] = 0.0
        cells[machine] = first_best(grid.official(without) @ seeds / seeds.sum()) if without.any() else best
        mixed[:, at] = grid.values[cells[machine]][:, at]
    used = np.concatenate(list(places.values()))
    flat = mixed[:, used].transpose(1, 2, 0)
    honest = grid.metric.official(flat, np.repeat(weights[used, None], len(grid.seeds), axis=1))
    return Chosen(cells, float(honest @ seeds / seeds.sum()), best, float(on_all[best]))


def first_best(scores: Floats) -> int:
    """Return the index of the best score; of equal ones the first, which has the smaller M."""
    return int(np.argmax(np.round(np.where(np.isnan(scores), -np.inf, scores), PLACES)))


def best_families(families: list[pd.DataFrame], most: int | None) -> tuple[list[pd.DataFrame], str]:
    """Return the families to compare, in their order, and a sentence on those that are too many.

    Those with the highest mean score at one M are kept.
    """
    paired = [at for at, family in enumerate(families) if is_paired(family)]
    if most is None or len(paired) <= most:
        return families, ""

    def best(at: int) -> float:
        return float(families[at].groupby("m")["official_score"].mean().max())

    kept = set(sorted(paired, key=lambda at: (-np.nan_to_num(best(at)), at))[:most])
    said = (
        f"{len(kept):,} of {len(paired):,} families (a backbone with its settings but M) are compared, those with the "
        "best scores; --all compares every one, and --backbone or --study ask about some."
    )
    return [family for at, family in enumerate(families) if at in kept], said


def is_paired(family: pd.DataFrame) -> bool:
    """Tell whether a family has M = 1 and another M."""
    return REFERENCE_M in set(family["m"]) and family["m"].nunique() > 1
