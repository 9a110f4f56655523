"""Samplers propose only what the space holds, and nothing that is there already is run again."""

from __future__ import annotations

import threading
import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
import pytest

from harness import verbs
from harness.errors import HarnessError
from harness.places import Places
from harness.studies.cells import Cells
from harness.studies.goals import goal_values
from harness.studies.plan import make_plan
from harness.trials.contract import Measured
from tests.harness.studies import test_cells
from tests.harness.studies.test_cells import answer, drive, states, study, together
from tests.harness.studies.test_plan import GOOD, written


class Nowhere:
    """A tracker that keeps nothing: a search does not look at MLflow."""

    code = "test"

    def start_study(self, *_: Any, **__: Any) -> str:
        """Name a run."""
        return uuid.uuid4().hex

    start_trial = start_study

    def open_trials(self, _parent: str) -> list[tuple[str, str]]:
        """Know of no run."""
        return []

    def forget(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    def system_metrics(self, *_: Any) -> AbstractContextManager[None]:
        """Measure nothing."""
        return nullcontext()

    log_result = log_text = log_study = log_failure = log_epochs = finish = interrupt = retire = adopt = forget


def driver(places: Places, file: Any, **options: Any) -> AbstractContextManager[Cells]:
    """One driver of a study, without Ray and MLflow."""
    return test_cells.driver(places, file, tracker=Nowhere(), **options)


WIDE = {"backbone": ["tiny"], "m": [1, 3, 5, 7, 10], "k1": [3, 5, 15], "k2": [1, 5]}


def searched(places: Places, name: str) -> list[optuna.trial.FrozenTrial]:
    """Optuna's trials of a study, duplicates left out."""
    storage = optuna.storages.get_storage(places.optuna)
    (found,) = [each for each in optuna.get_all_study_names(storage) if each.startswith(f"{name}-")]
    trials = optuna.load_study(storage=storage, study_name=found).trials
    return [trial for trial in trials if "duplicate" not in trial.user_attrs]


@pytest.mark.parametrize("sampler", ["tpe", "gp", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_search_with_conditions(places: Places, sampler: str) -> None:
    """Where M depends on K1 and K2, a search runs as many different cells as it may, M never above the candidates.

    The budget counts trials that are labeled; the level reference comes on top.
    """
    file = study(space=WIDE, seeds=[0], sampler={"name": sampler, "trials": 8, "population": 4})
    with driver(places, file) as cells:
        begun = drive(cells)
        specs = [cells.specs[key] for key in begun]
    assert len(begun) == len(set(begun)) == 9
    assert specs[0].kind == "level"
    assert all(spec.m <= max(spec.k1, spec.k2) for spec in specs if spec.kind == "trial")
    trials = searched(places, "toy")
    assert len(trials) == 8
    for trial in trials:
        (m,) = [value for name, value in trial.params.items() if name.startswith("m")]
        assert m <= max(trial.params["k1"], trial.params["k2"])


def test_every_cell_of_a_small_space_is_found(places: Places) -> None:
    """A search without a budget ends when every cell has run once, though its sampler repeats itself."""
    with driver(places, study(sampler={"name": "tpe"})) as cells:
        begun = drive(cells)
        assert len(begun) == len(set(begun)) == 7
        assert cells.progress.finished == 7
    assert states(places)["toy"]["COMPLETE"] == 6


def test_a_choice_proposed_again_takes_the_next_seed(places: Places) -> None:
    """Seeds are no parameter of a search: what its sampler likes is repeated with the study's other seeds."""
    file = study(seeds=[0, 1, 2], level=False, space={"backbone": ["tiny"], "m": [1, 3]}, sampler={"name": "tpe"})
    with driver(places, file) as cells:
        specs = [cells.specs[key] for key in drive(cells)]
    by_m = {m: [spec.seed for spec in specs if spec.m == m] for m in (1, 3)}
    assert by_m == {1: [0, 1, 2], 3: [0, 1, 2]}
    assert all("seed" not in trial.params for trial in searched(places, "toy"))


def test_random_order_is_the_seeds(places: Places) -> None:
    """Random search takes cells in an order of its seed, none twice, and a smaller budget takes the first of them."""
    space = {"backbone": ["tiny"], "m": [1, 3, 5, 7]}

    def order(name: str, **sampler: Any) -> list[str]:
        file = study(name=name, level=False, space=space, sampler={"name": "random", **sampler})
        with driver(places, file) as cells:
            return list(cells.todo)

    assert order("a", seed=1)[:3] == order("b", seed=1, trials=3)
    assert order("a", seed=1) != order("c", seed=2)
    assert sorted(order("a", seed=1)) == sorted(order("c", seed=2))


def test_two_goals(places: Places) -> None:
    """NSGA-II with two goals records both values, and the front holds the trials that no other beats in both."""
    file = study(
        seeds=[0], level=False, space={"backbone": ["tiny"], "m": [1, 2, 3, 4, 5, 6]},
        sampler={"name": "nsga2", "goals": ["score", "seconds"], "population": 4},
    )  # fmt: skip
    with driver(places, file) as cells:
        drive(cells)
        front = cells.journal.front()
    # the score is best at M = 3 and a trial lasts M seconds: beyond 3 both get worse
    assert [row["seconds"] for row in front] == [3.0, 2.0, 1.0]
    assert [row["score"] for row in front] == sorted((row["score"] for row in front), reverse=True)
    assert all(row["label"].startswith("tiny M=") for row in front)


def test_a_search_takes_over_what_is_recorded(places: Places) -> None:
    """Cells that a grid has recorded are answered from the tables when a search proposes them: none runs again."""
    with driver(places, study(name="grid", level=False)) as cells:
        assert len(drive(cells)) == 6
    with driver(places, study(level=False, sampler={"name": "tpe", "goals": ["score", "seconds"]})) as cells:
        assert drive(cells) == []
        assert (cells.progress.finished, cells.progress.started) == (6, 0)
    values = {trial.user_attrs["label"]: trial.values for trial in searched(places, "toy")}
    assert values["tiny M=3 K1=15 K2=15 seed=0"][1] == 3.0
    assert [row["kind"] for row in verbs.leaderboard(places=places, study="toy")] == ["trial"] * 3 + ["chance"]


@pytest.mark.slow
def test_drivers_share_the_budget_of_a_search(places: Places) -> None:
    """Two drivers of one search end with exactly the trials that its budget allows, each of them once."""
    file = study(space=WIDE, level=False, sampler={"name": "tpe", "trials": 8})
    begun: dict[int, list[str]] = {}
    gate = threading.Barrier(2)

    def work(number: int) -> None:
        with driver(places, file) as cells:
            gate.wait(30)
            begun[number] = drive(cells)
            assert cells.progress.finished == 8

    together(2, work)
    every = [*begun[0], *begun[1]]
    assert len(every) == len(set(every)) == 8
    assert states(places)["toy"]["COMPLETE"] == 8


def test_a_larger_budget_goes_on(places: Places) -> None:
    """More trials in the study file go on with the same study; a search given back in the middle loses nothing."""
    for trials, expected in ((3, 3), (5, 2), (5, 0)):
        with driver(places, study(level=False, sampler={"name": "tpe", "trials": trials})) as cells:
            assert len(drive(cells)) == expected
    with driver(places, study(level=False, sampler={"name": "tpe"})) as cells:
        left = cells.next()
        assert left is not None
    with driver(places, study(level=False, sampler={"name": "tpe"})) as cells:
        assert drive(cells) == [left.key()]
    assert states(places)["toy"]["COMPLETE"] == 6


@pytest.mark.slow
def test_hours_are_those_of_all_runs(places: Places) -> None:
    """When the hours are spent no trial begins, whoever spent them, and raising them goes on."""
    short = study(sampler={"hours": 0.5})
    with driver(places, short) as cells:
        spec = cells.next()
        assert spec is not None
        cells.progress.began -= 1900  # as if it had run so long
        assert cells.next() is None
        assert not cells.over, "what runs goes on to its end"
        cells.end(spec.key(), answer(spec))
        assert cells.over
        assert "0.5 hours" in cells.unfinished
    with driver(places, short) as cells:
        assert drive(cells) == []
        assert "raise sampler.hours" in cells.unfinished
    with driver(places, study(sampler={"hours": 5})) as cells:
        assert len(drive(cells)) == 6
        assert cells.unfinished == ""


def test_goal_values() -> None:
    """Source and target are harmonic means, seconds leave out what trials share, and an undefined goal is none."""
    numbers = Measured(0.6, [0.5, 1.0], [0.8, None], {"rank": 50.0, "finetune": 2.0, "score": 1.0}, {"score": 70.0})
    assert goal_values(numbers, ["score", "source", "seconds", "memory"]) == pytest.approx([0.6, 2 / 3, 3.0, 70.0])
    assert goal_values(numbers, ["score", "target"]) is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[sampler]\ngoals = ["score", "score"]\n', r"sampler\.goals must differ"),
        ('[sampler]\ngoals = ["speed"]\n', r"sampler\.goals\.0"),
        ("[sampler]\nhours = 0\n", r"sampler\.hours.*greater than 0"),
        ('[pruning]\nname = "asha"\ngarce = 3\n', r"pruning\.garce is unknown.*Did you mean 'grace'"),
        ("[resources]\nminutes = -1\n", r"resources\.minutes.*greater than 0"),
    ],
)
def test_mistakes_in_a_search(tmp_path: Any, table: str, said: str) -> None:
    """A mistake in the tables of a search is answered with its key and the rule."""
    from harness.studies.study_file import read_study

    with pytest.raises(HarnessError, match=said):
        read_study(written(tmp_path, GOOD + table))


def test_what_leaves_a_study_the_same() -> None:
    """Budget, pruning and limits leave a study's identity; its goals do not."""
    data = {"train_data": "aaaa", "test_data": "bbbb"}
    key = make_plan(study()).key(**data)
    same = study(sampler={"trials": 3, "hours": 2}, pruning={"name": "median"}, resources={"minutes": 5})
    assert make_plan(same).key(**data) == key
    assert make_plan(study(sampler={"goals": ["target"]})).key(**data) != key
