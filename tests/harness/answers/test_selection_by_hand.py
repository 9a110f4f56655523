"""What a selection answers, worked out a second time: its draws, both intervals, other years, and whole sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.contract import DatasetPart, Protocol
from harness.answers import selection
from harness.answers.grids import Grid, choose
from harness.answers.question import Question
from harness.answers.selection import select
from harness.errors import HarnessError
from harness.statistics.arms import pseudo_values
from harness.statistics.bootstrap import draw_counts, generator
from harness.statistics.significance import Spread, crossed_spread, score_interval, stretched_interval
from harness.stores.results import Results
from tests.harness.made_up import clips_of, record

FEW = Question(resamples=20)
FIRST = {"backbone": "small", "labels": "paper", "scorer": "knn", "recipe": "r", "protocol": "toy",
         "train_data": "aaaa", "test_data": "bbbb"}  # fmt: skip
RULE = "dcase2022"


def grid_of(values: Any, *, ms: Sequence[int] = (1, 3, 7), left_out: tuple[int, ...] = ()) -> Grid:
    """A grid of (c, r, s) AUCs, each section a machine, every number of a section the same."""
    table = np.asarray(values, dtype=float)
    cells = tuple((m, 15, 15, "composite", "all", "cross_entropy") for m in ms)
    sections = tuple(("dcase2023", f"machine{at}", "00") for at in range(table.shape[2]))
    return Grid(cells, tuple(range(table.shape[1])), sections, np.repeat(table[..., None], 3, axis=3), RULE, left_out)


def noise(cells: int = 3, seeds: int = 2, machines: int = 4, draw: int = 0) -> Any:
    """Numbers by chance, one a cell, seed and machine."""
    return np.random.default_rng(draw).uniform(0.4, 0.9, size=(cells, seeds, machines))


class TestNumbers:
    @pytest.mark.parametrize(("machines", "seeds"), [(2, 1), (3, 2), (5, 3)])
    def test_every_resample_has_two_machines(self, monkeypatch: pytest.MonkeyPatch, machines: int, seeds: int) -> None:
        """Machines and seeds are drawn by themselves; what draws one machine alone is drawn again, and nothing else."""
        seen: list[tuple[Any, Any]] = []
        monkeypatch.setattr(selection, "choose", lambda _, *counts: seen.append(counts))
        selection._drawn(grid_of(noise(3, seeds, machines)), resamples=40, seed=3)
        random, wanted = generator(3, "machines"), list[Any]()
        while len(wanted) < 40:
            wanted += [counts for counts in draw_counts(machines, 40, random).T if sum(counts > 0) >= 2]
        drawn = draw_counts(seeds, 40, generator(3, "seeds")).T
        assert len(seen) == 40
        for (of_machines, of_seeds), own, others in zip(seen, wanted[:40], drawn, strict=True):
            np.testing.assert_array_equal(of_machines, own)
            np.testing.assert_array_equal(of_seeds, others)

    @pytest.mark.parametrize("draw", range(3))
    def test_intervals_by_hand(self, draw: int) -> None:
        """The larger of the resamples' error and the spread over machines and seeds, around what was found."""
        grid = grid_of(noise(draw=draw))
        before = grid.values.copy()
        row = selection._row(FIRST, "dcase2023", grid, Question(resamples=30, seed=2))
        np.testing.assert_array_equal(grid.values, before)
        chosen = choose(grid, np.ones(4), np.ones(2))
        mixed = np.stack([grid.values[chosen.cells[key]][:, at[0]] for key, at in grid.places.items()], axis=1)
        honest, best = (pseudo_values(table, grid.places, RULE) for table in (mixed, grid.values[chosen.best]))
        drawn = selection._drawn(grid, resamples=30, seed=2)
        samples = np.array([[one.honest, one.optimistic - one.honest] for one in drawn]).T
        spreads = [
            Spread(max(known.error, one.std()), known.freedom)
            for known, one in zip(map(crossed_spread, (honest, best - honest)), samples, strict=True)
        ]
        gap = chosen.optimistic - chosen.honest
        assert (row["official_score"], row["optimistic_score"], row["optimism"]) == (
            chosen.honest,
            chosen.optimistic,
            gap,
        )
        assert (row["ci_low"], row["ci_high"]) == score_interval(chosen.honest, spreads[0], level=0.95)
        ends = stretched_interval(samples[1], around=gap, spread=spreads[1], level=0.95)
        assert (row["optimism_ci_low"], row["optimism_ci_high"]) == ends
        for each, (key, cell) in zip(row["machines"], chosen.cells.items(), strict=True):
            own, of_best = (
                pytest.approx(grid.values[at][:, grid.places[key][0], 0].mean()) for at in (cell, chosen.best)
            )
            assert (each["machine"], each["m"]) == (key[1], grid.cells[cell][0])
            assert (each["h_mean"], each["h_mean_of_best"]) == (own, of_best)

    @pytest.mark.parametrize(("drawn", "error"), [([0.0, 1.0], 0.5), ([0.5, 0.5], 0.05)])
    def test_the_larger_error_counts(self, drawn: list[float], error: float) -> None:
        """Of resamples or of the spread; degrees of freedom are the spread's."""
        pseudo = np.array([[0.5], [0.6]])
        assert selection._wider(pseudo, np.array(drawn)) == Spread(pytest.approx(error), 1.0)

    def test_other_years_by_hand(self) -> None:
        """The cell with the best mean of the other years' scores is reported on this year, against this year's best.

        Cells that one year lacks are left out, wherever a year has them in its order.
        """
        here = grid_of(noise(4, 2, 4, draw=5), ms=(1, 3, 7, 9))
        flat = np.ones((1, 2, 3))
        others = [
            grid_of(np.concatenate([0.5 * flat, 0.52 * flat, 0.6 * flat]), ms=(1, 3, 7)),
            grid_of(np.concatenate([0.9 * flat, 0.6 * flat, 0.9 * flat, 0.55 * flat]), ms=(0, 1, 2, 7)),
            grid_of(np.concatenate([0.5 * flat, 0.55 * flat, 0.5 * flat]), ms=(1, 3, 7)),
        ]
        with pytest.raises(HarnessError, match="two cells that all years have, but small shares 1 with dcase2023"):
            selection._row_of_other_years(FIRST, "dcase2023", here, [others[0], grid_of(0.9 * flat, ms=(7,))])
        for used, m in (([0, 1, 2], 7), ([1], 1), ([2], 3), ([0], 7), ([0, 1], 7), ([1, 2], 1)):
            row = selection._row_of_other_years(FIRST, "dcase2023", here, [others[at] for at in used])
            official = here.official(np.ones(4)).mean(axis=1)
            at, best = (1, 3, 7, 9).index(m), int(official.argmax())
            of_cell, of_best = (pseudo_values(here.values[one], here.places, RULE) for one in (at, best))
            gap = official[best] - official[at]
            assert {each["m"] for each in row["machines"]} == {m}
            assert len(row["machines"]) == 4
            assert (row["official_score"], row["optimism"]) == (official[at], gap)
            assert (row["optimistic_score"], row["best"]["m"]) == (official[best], (1, 3, 7, 9)[best])
            assert (row["ci_low"], row["ci_high"]) == score_interval(official[at], crossed_spread(of_cell))
            ends = stretched_interval((), around=gap, spread=crossed_spread(of_best - of_cell))
            assert (row["optimism_ci_low"], row["optimism_ci_high"]) == ends
            assert (row["chosen_on"], row["cells"], row["varied"]) == ("other years", 4, ["m"])

    def test_nothing_asked_for_takes_five_hundred_resamples(self, results: Results) -> None:
        """Each chooses anew, so there are fewer than a comparison has."""
        for m in (1, 3, 7):
            record(results, m=m, luck=10 * m, seeds=[0, 1], clips=clips_of(per_cell=3))
        usual, same, fewer = (select(results, *asked) for asked in ((), (Question(resamples=500),), (FEW,)))
        assert usual == same != fewer


def sentence(named: Sequence[str] = (), **changes: Any) -> str:
    """What is said of a row of these values."""
    cell = {"m": 3, "k1": 15, "k2": 15, "fusion": "soft"}
    row: Any = {
        **FIRST, "dataset": "dcase2023", "chosen_on": "other machines", "cells": 6, "seeds": [0, 1],
        "seeds_left_out": [], "official_score": 0.6, "optimistic_score": 0.62, "optimism": 0.02,
        "optimism_ci_low": -0.01, "optimism_ci_high": 0.05, "varied": ["m", "fusion"], "best": cell,
        "machines": [{**cell, "m": m, "machine": str(at)} for at, m in enumerate((10, 3, 10))], **changes,
    }  # fmt: skip
    return selection._sentence(row, named)


SAID = (
    "small on dcase2023 scores 60.00 with M and fusion chosen on other machines (M = 3, soft; M = 10, soft), and 62.00 "
    "with the best of 6 cells on its own test set (M = 3, soft): optimism +2.00 points (95 % CI -1.00 to +5.00)"
)
ONE_SEED = "; one seed, so the interval knows nothing of how seeds differ"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, f"{SAID}."),
        ({"seeds": [4]}, f"{SAID}{ONE_SEED}."),
        ({"seeds_left_out": [2, 5]}, f"{SAID}; without seeds 2, 5, which a cell lacks."),
        ({"seeds": [4], "seeds_left_out": [5]}, f"{SAID}{ONE_SEED}; without seeds 5, which a cell lacks."),
        ({"named": ["scorer"]}, SAID.replace("small", "small (knn)") + "."),
        (
            {
                "varied": ["m", "k1"],
                "machines": [{"m": m, "k1": k1, "machine": str(k1)} for m, k1 in ((3, 5), (3, None), (1, 15))],
            },
            f"{SAID}.".replace("M and fusion", "M and K1")
            .replace("M = 3, soft; M = 10, soft", "M = 1, K1 = 15; M = 3; M = 3, K1 = 5")
            .replace("M = 3, soft", "M = 3, K1 = 15"),
        ),
    ],
)
def test_a_whole_sentence(changes: dict[str, Any], said: str) -> None:
    """Both scores, what was chosen by its size, the optimism with its interval, and what must be known."""
    assert sentence(**changes) == said


OLD = Protocol("old", (DatasetPart("dcase2022", "dev"),), (DatasetPart("dcase2022", "dev"),))


class TestWhatIsSelected:
    def test_what_differs_is_named(self, results: Results) -> None:
        """Backbones stand in the order in which they were recorded, and scorers are named where there are two."""
        for backbone, labels in (("weak", "paper"), ("small", "gmm"), ("small", "paper")):
            for m in (1, 3):
                record(results, backbone=backbone, labels=labels, m=m, luck=m, seeds=[0])
        rows = select(results, FEW)
        assert [(row["backbone"], row["labels"]) for row in rows] == [
            ("weak", "paper"), ("small", "gmm"), ("small", "paper"),
        ]  # fmt: skip
        assert [row["sentence"].split(" on ")[0] for row in rows] == [
            "weak (paper labels)", "small (gmm labels)", "small (paper labels)",
        ]  # fmt: skip
        assert [row["varied"] for row in rows] == [["m"]] * 3

    def test_a_year_that_cannot_be_chosen_leaves_the_others(
        self, results: Results, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Years that share one cell are selected each by itself, and the log says why neither chose for the other."""
        caplog.set_level(logging.WARNING)
        for m in (1, 3):
            record(results, m=m, luck=m, seeds=[0])
        for m in (3, 7):
            record(results, m=m, luck=m, seeds=[0], protocol=OLD, test_data="old", clips=clips_of(year="dcase2022"))
        rows = select(results, FEW)
        assert [(row["dataset"], row["chosen_on"]) for row in rows] == [
            ("dcase2023", "other machines"), ("dcase2022", "other machines"),
        ]  # fmt: skip
        assert [each.getMessage() for each in caplog.records] == [
            "Not selected: A selection on other years needs two cells that all years have, but small shares 1 with "
            f"{year}; run the same cells in each year."
            for year in ("dcase2023", "dcase2022")
        ]

    def test_a_year_of_one_machine_leaves_the_other(self, results: Results, caplog: pytest.LogCaptureFixture) -> None:
        """Trials of two years, of which one has a single machine, are selected on the other; two are enough."""
        caplog.set_level(logging.WARNING)
        clips = pd.concat([clips_of(["fan"], year="dcase2022"), clips_of(["fan", "valve"])], ignore_index=True)
        for m in (1, 3):
            record(results, m=m, luck=m, seeds=[0], clips=clips)
        rows = select(results, FEW)
        assert [(row["dataset"], row["chosen_on"]) for row in rows] == [
            ("dcase2023", "other machines"), ("dcase2023", "other years"),
        ]  # fmt: skip
        assert [each.getMessage() for each in caplog.records] == [
            "Not selected: A selection needs a machine to report on and another to choose on, but small has 1 on "
            "dcase2022; record more machines."
        ]

    def test_a_family_that_lacks_cells_is_said_once(self, results: Results, caplog: pytest.LogCaptureFixture) -> None:
        """One cell of two years is one line in the log, and other backbones are selected."""
        caplog.set_level(logging.WARNING)
        both = pd.concat([clips_of(year="dcase2022"), clips_of()], ignore_index=True)
        record(results, backbone="lone", m=3, seeds=[0], clips=both)
        for m in (1, 3):
            record(results, m=m, luck=m, seeds=[0], clips=both)
        assert {row["backbone"] for row in select(results, FEW)} == {"small"}
        said = [each.getMessage() for each in caplog.records]
        assert len(said) == 1
        assert said[0].startswith("Not selected: A selection needs at least two cells of M, K1, K2, fusion, train and")
