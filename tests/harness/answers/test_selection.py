"""M, K1 and K2 are chosen without the machine that they are reported on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.contract import DatasetPart, Protocol
from benchmarks.metrics.rules import metric_rule
from harness.answers import selection
from harness.answers.grids import Grid, choose
from harness.answers.question import Question
from harness.answers.selection import select
from harness.errors import HarnessError
from harness.stores.results import Results
from tests.harness.made_up import MACHINES, clips_of, record


def grid_of(values: Any, *, cells: int | None = None) -> Grid:
    """A grid of (c, r, s) AUCs, each section a machine, every number of a section the same."""
    table = np.asarray(values, dtype=float)
    names = tuple((m, 15, 15, "composite") for m in range(1, (cells or table.shape[0]) + 1))
    sections = tuple(("dcase2023", f"machine{at}", "00") for at in range(table.shape[2]))
    return Grid(names, tuple(range(table.shape[1])), sections, np.repeat(table[..., None], 3, axis=3), "dcase2022", ())


def test_the_cell_that_shines_on_one_machine_is_not_chosen_for_it() -> None:
    """M = 2 is best overall by its luck on machine0; without that machine M = 1 is better, and is reported for it."""
    grid = grid_of([[[0.5, 0.6, 0.6]], [[0.9, 0.58, 0.58]]])
    chosen = choose(grid, np.ones(3), np.ones(1))
    assert chosen.best == 1
    assert [chosen.cells[key] for key in grid.places] == [0, 1, 1]
    assert chosen.honest < chosen.optimistic


def test_of_equal_cells_the_smaller_m_is_chosen() -> None:
    """Three cells with the same scores: the first, M = 1, for every machine and for all."""
    chosen = choose(grid_of(np.full((3, 2, 4), 0.7)), np.ones(4), np.ones(2))
    assert set(chosen.cells.values()) == {0}
    assert chosen.best == 0
    assert chosen.honest == pytest.approx(chosen.optimistic)


@settings(max_examples=50)
@given(
    st.integers(2, 4), st.integers(1, 3), st.integers(2, 4),
    st.integers(0, 10_000),
)  # fmt: skip
def test_it_is_what_a_loop_over_cells_and_machines_finds(cells: int, seeds: int, machines: int, draw: int) -> None:
    """Choice, honest and optimistic score equal a plain loop's by the official rule, whatever the numbers are."""
    values = np.random.default_rng(draw).uniform(0.3, 0.9, size=(cells, seeds, machines))
    grid = grid_of(values)
    official = metric_rule("dcase2022").official

    def score(table: Any) -> float:
        per_seed = [official(np.repeat(row[:, None], 3, axis=1)[..., None], np.ones((len(row), 1)))[0] for row in table]
        return float(np.mean(per_seed))

    best = max(range(cells), key=lambda c: score(values[c]))
    mixed = np.empty((seeds, machines))
    for left in range(machines):
        others = [at for at in range(machines) if at != left]
        own = max(range(cells), key=lambda c, others=others: score(values[c][:, others]))  # type: ignore[misc]
        mixed[:, left] = values[own][:, left]
    chosen = choose(grid, np.ones(machines), np.ones(seeds))
    assert (chosen.best, chosen.optimistic) == (best, pytest.approx(score(values[best])))
    assert chosen.honest == pytest.approx(score(mixed))


def test_a_recorded_study_is_selected_with_its_optimism(results: Results) -> None:
    """A real gain of M = 3 on all machines is found without them, so that nothing is optimistic about it."""
    record(results, m=1, apart=0.6)
    record(results, m=3, apart=1.4, luck=20)
    record(results, m=7, apart=0.9, luck=40)
    (row,) = select(results, Question(resamples=100))
    assert (row["chosen_on"], row["cells"], row["seeds"], row["best"]["m"]) == ("other machines", 3, [0, 1, 2], 3)
    assert {each["m"] for each in row["machines"]} == {3}
    assert {each["machine"] for each in row["machines"]} == set(MACHINES)
    assert row["optimism"] == pytest.approx(0.0)
    assert row["ci_low"] < row["official_score"] < row["ci_high"]
    assert (row["optimism_ci_low"], row["optimism_ci_high"]) == pytest.approx((0, 0), abs=0.02)
    assert "optimism +0.00 points" in row["sentence"] or "optimism -0.00 points" in row["sentence"]


def test_noise_alone_is_optimistic(results: Results) -> None:
    """Ten cells that differ by chance alone: picking on the test set promises more than was found elsewhere."""
    for m in range(1, 11):
        record(results, m=m, seeds=[0], apart=1.0, luck=100 * m)
    (row,) = select(results, Question(resamples=100))
    assert row["optimism"] > 0
    assert row["optimistic_score"] == pytest.approx(row["official_score"] + row["optimism"])
    assert "one seed, so the interval knows nothing of how seeds differ" in row["sentence"]


def test_other_years_choose_too(results: Results) -> None:
    """A year of another protocol and recordings, same backbone and recipe, chooses the cell for this one."""
    old = Protocol("old", (DatasetPart("dcase2022", "dev"),), (DatasetPart("dcase2022", "dev"),))
    gains = {1: (0.9, 0.4), 3: (0.6, 1.6)}  # this year, the other: M = 1 is better here and M = 3 there
    for m, (here, there) in gains.items():
        record(results, m=m, apart=here, luck=m)
        record(results, m=m, apart=there, luck=m, protocol=old, test_data="old", clips=clips_of(year="dcase2022"))
    rows = {(row["dataset"], row["chosen_on"]): row for row in select(results, Question(resamples=100))}
    assert set(rows) == set(itertools.product(("dcase2022", "dcase2023"), ("other machines", "other years")))
    assert rows["dcase2023", "other machines"]["best"]["m"] == 1
    by_years = rows["dcase2023", "other years"]
    assert {each["m"] for each in by_years["machines"]} == {3}
    assert by_years["optimism"] > 0.02
    assert "chosen on other years (M = 3" in by_years["sentence"]


def test_every_interval_of_a_choice_is_at_95(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the score and of the optimism, chosen on other machines or on other years."""
    levels: dict[str, list[float]] = {"score_interval": [], "stretched_interval": []}
    for name, seen in levels.items():

        def kept(*given: Any, level: float = 0.95, _seen: list[float] = seen, **named: Any) -> tuple[float, float]:
            _seen.append(level)
            return 0.0, 1.0

        monkeypatch.setattr(selection, name, kept)
    old = Protocol("old", (DatasetPart("dcase2022", "dev"),), (DatasetPart("dcase2022", "dev"),))
    for m in (1, 3):
        record(results, m=m, luck=m)
        record(results, m=m, luck=m, protocol=old, test_data="old", clips=clips_of(year="dcase2022"))
    assert len(select(results, Question(resamples=10))) == 4
    assert levels == {"score_interval": [0.95] * 4, "stretched_interval": [0.95] * 4}


OTHER_MACHINES = [  # numbers alone: clips under one fingerprint are always the same
    {"m": 1, "clips": clips_of(["fan", "valve"]), "with_clip_scores": False},
    {"m": 3, "with_clip_scores": False},
]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [{"m": 3}],
            "at least two cells of M, K1, K2, fusion, train and loss to choose from, but small has M = 3, K1 = 15",
        ),
        ([{"m": 1, "seeds": [0]}, {"m": 3, "seeds": [1]}], "a seed that every cell has, but small has none"),
        ([{"m": 1, "clips": clips_of(["fan"])}, {"m": 3, "clips": clips_of(["fan"])}], "has 1 on dcase2023"),
        (OTHER_MACHINES, "not all of them on ToyCar, gearbox, slider"),
    ],
)
def test_what_cannot_be_chosen_is_said(results: Results, cells: list[dict[str, Any]], said: str) -> None:
    """One cell, no shared seed, one machine, or cells on other machines are one sentence."""
    for cell in cells:
        record(results, **cell)
    with pytest.raises(HarnessError, match=said):
        select(results)


def test_seeds_that_a_cell_lacks_are_named(results: Results) -> None:
    """Cells are compared on the seeds that all have, and the others are named."""
    record(results, m=1, seeds=[0, 1, 2])
    record(results, m=3, seeds=[0, 1], luck=9)
    (row,) = select(results, Question(resamples=100))
    assert (row["seeds"], row["seeds_left_out"]) == ([0, 1], [2])
    assert row["sentence"].endswith("without seeds 2, which a cell lacks.")


def test_the_verb_prints_every_form(results: Results, asdbench: Any, tmp_path: Path) -> None:
    """`asdbench select` prints a table with a sentence, JSON, CSV and markdown, and refuses unknown names."""
    record(results, m=1)
    record(results, m=3, luck=9)
    db = f"sqlite:///{tmp_path / 'mlflow.db'}"
    status, out, err = asdbench("select --db {db} --resamples 100", db=db)
    assert status == 0, err
    assert "optimism" in out
    assert "on its own test set" in out
    rows = json.loads(asdbench("select --db {db} --resamples 100 --json", db=db)[1])["rows"]
    assert rows[0]["machines"][0]["machine"] == "ToyCar"
    assert asdbench("select --db {db} --resamples 100 --markdown", db=db)[1].startswith("| backbone |")
    assert "optimism" in asdbench("select --db {db} --resamples 100 --csv", db=db)[1]
    status, _, err = asdbench("select --db {db} --backbone smal", db=db)
    assert (status, "Did you mean 'small'?" in err) == (1, True)


def test_metrics_that_the_table_lacks_are_measured_on_clips(results: Results) -> None:
    """2021's pAUC of each domain has no column: its trials are selected by their clip scores all the same."""
    for m in (1, 3):
        record(results, m=m, luck=m, clips=clips_of(year="dcase2021"))
    (row,) = select(results, Question(resamples=100))
    assert row["dataset"] == "dcase2021"
    assert 0.5 < row["official_score"] < 1


def test_the_same_seed_gives_the_same_intervals(results: Results) -> None:
    """Drawn with the same seed, two selections are equal; another seed moves the interval and nothing else."""
    record(results, m=1)
    record(results, m=3, luck=9)
    first, again, other = (select(results, Question(resamples=100, seed=seed))[0] for seed in (0, 0, 1))
    assert first == again
    assert first["official_score"] == other["official_score"]
    assert first["optimism_ci_low"] != other["optimism_ci_low"]
