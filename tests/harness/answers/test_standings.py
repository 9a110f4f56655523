"""The numbers below a leaderboard: which trial each belongs to, and cells' means, deviations and intervals by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from benchmarks.contract import MachineMetrics
from benchmarks.metrics.rules import harmonic_of_all
from harness.answers.leaderboard import leaderboard
from harness.answers.standings import Cells, Standings, _harmonic, read_standings
from harness.stores.results import Results
from harness.trials.contract import TrialResult, TrialSpec
from tests.harness.answers.test_leaderboard import flat, put
from tests.harness.made_up import make_spec

pytestmark = pytest.mark.filterwarnings("error")  # NumPy's, where nothing is defined
NAN = math.nan


def standings_of(
    scores: Sequence[float | None], *, cells: Sequence[Any] = (), seeds: Sequence[int] = (), h_means: Any = None,
    years: Sequence[str] = ("dcase2023", "dcase2023"), types: Sequence[str] = ("ToyCar", "fan"),
) -> Standings:  # fmt: skip
    """Trials with these official scores, in cells by name."""
    columns = {
        "key": [str(at) for at in range(len(scores))], "cell": cells or ["a"] * len(scores),
        "seed": seeds or list(range(len(scores))), "official_score": list(scores),
    }  # fmt: skip
    table = np.full((len(scores), len(types)), 0.5) if h_means is None else np.array(h_means, dtype=float)
    return Standings(columns, tuple(years), tuple(types), table, {"auc": np.arange(len(scores), dtype=float)})


def cells_of(cells: Sequence[str], seeds: Sequence[int] = ()) -> Cells:
    """Trials in cells."""
    return standings_of([0.5] * len(cells), cells=cells, seeds=seeds).cells(["cell"])


class TestCells:
    def test_trials_of_a_cell_lie_anywhere(self) -> None:
        """Cells stand in the order in which they were begun, with their trials in order."""
        found = cells_of(["b", "a", "b", "c", "a"])
        assert found.places == [[0, 2], [1, 4], [3]]
        assert found.first("cell") == ["b", "a", "c"]
        assert [found.values(at, "key") for at in range(3)] == [["0", "2"], ["1", "4"], ["3"]]

    def test_means_are_over_what_is_defined(self) -> None:
        """Of one number a trial or of several; undefined where no trial has it, without a warning."""
        found = cells_of(["b", "a", "b", "c", "a"])
        values = np.array([0.2, 0.5, 0.4, NAN, NAN])
        np.testing.assert_allclose(found.mean(values), [0.3, 0.5, NAN])
        np.testing.assert_allclose(
            found.mean(np.stack([values, np.arange(5.0)], axis=1)), [[0.3, 1.0], [0.5, 2.5], [NAN, 3.0]]
        )

    def test_the_spread_is_over_a_cells_trials(self) -> None:
        """Deviation with n - 1 and Student's interval on the logit; none of one trial, nothing of an undefined one."""
        found = cells_of(["b", "a", "b", "c", "b", "a", "d", "d", "d"])
        values = np.array([0.5, 0.7, 0.6, 0.4, 0.7, NAN, 0.3, NAN, 0.4])
        mean, deviation, low, high = found.spread(values)
        np.testing.assert_allclose(mean, [0.6, 0.7, 0.4, 0.35])
        np.testing.assert_allclose(deviation, [0.1, NAN, NAN, math.sqrt(0.005)])
        for at, (centre, spread, count) in enumerate([(0.6, 0.1, 3), (0.35, math.sqrt(0.005), 2)]):
            reach = student.ppf(0.975, count - 1) * spread / math.sqrt(count) / (centre * (1 - centre))
            odds = [centre / (1 - centre) * math.exp(sign * reach) for sign in (-1, 1)]
            place = (0, 3)[at]
            assert [low[place], high[place]] == pytest.approx([each / (1 + each) for each in odds])
        assert np.isnan([low[1], high[1], low[2], high[2]]).all()

    def test_a_cell_without_a_score_has_no_spread(self) -> None:
        """One undefined trial, or two."""
        found = np.array(cells_of(["a", "b", "b"]).spread(np.array([NAN, NAN, NAN])))
        assert np.isnan(found).all()

    def test_seeds_are_sorted_and_each_stands_once(self) -> None:
        """Two trials of one seed, from protocols that differ in what is no part of a cell, are averaged."""
        found = cells_of(["b", "a", "b", "b", "a"], seeds=[7, 1, 3, 7, 0])
        values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [5.0, 70.0], [6.0, 60.0]])
        (of_b, b), (of_a, a) = found.by_seed(values)
        assert (of_b, of_a) == ((3, 7), (0, 1))
        np.testing.assert_array_equal(b, [[3.0, 30.0], [3.0, 40.0]])
        np.testing.assert_array_equal(a, [[6.0, 60.0], [2.0, 20.0]])


class TestStandings:
    def test_some_trials_keep_what_they_score(self) -> None:
        """Machine types that none of them scores go, with their year; so do other trials, in every column."""
        h_means = [[0.5, NAN, 0.7], [0.5, NAN, NAN], [NAN, 0.6, NAN]]
        whole = standings_of(
            [0.5, 0.6, 0.7], h_means=h_means, years=("dcase2022", "dcase2023", "dcase2023"),
            types=("fan", "fan", "valve"),
        )  # fmt: skip
        assert whole.machines == ("dcase2022/fan", "dcase2023/fan", "dcase2023/valve")
        assert whole.datasets == ("dcase2022", "dcase2023")
        some = whole.only(np.array([2, 1]))
        assert (len(some), list(some["key"]), some.official.tolist()) == (2, ["2", "1"], [0.7, 0.6])
        assert (some.years, some.types) == (("dcase2022", "dcase2023"), ("fan", "fan"))
        np.testing.assert_array_equal(some.h_means, [[NAN, 0.6], [0.5, NAN]])
        assert some.metrics["auc"].tolist() == [2.0, 1.0]
        lone = whole.only(np.array([0]))
        assert (lone.years, lone.machines) == (("dcase2022", "dcase2023"), ("dcase2022/fan", "dcase2023/valve"))
        last = whole.only(np.array([2]))
        assert (last.machines, last.datasets) == (("fan",), ("dcase2023",))
        np.testing.assert_array_equal(whole.machine("dcase2023/valve"), [0.7, NAN, NAN])
        np.testing.assert_array_equal(last.machine("dcase2023/valve"), [NAN])

    def test_a_column_with_gaps_is_numbers(self) -> None:
        """None, as a frozen row's number of classes is, is undefined."""
        np.testing.assert_array_equal(standings_of([0.5, None]).official, [0.5, NAN])


def test_harmonic_means_of_many_trials_are_each_ones() -> None:
    """As the rule's for one trial: 0 where one value is, undefined where all are, also of the last trial."""
    values = np.array([0.5, 0.9, NAN, 0.0, 0.7, NAN, 0.25])
    places = np.array([1, 1, 1, 0, 0, 3, 2])
    found = _harmonic(values, places, 5)
    wanted = [harmonic_of_all([0.0, 0.7]), harmonic_of_all([0.5, 0.9]), 0.25, NAN, NAN]
    assert found[0] > 0
    np.testing.assert_allclose(found, np.array(wanted, dtype=float))


def several(spec: TrialSpec, numbers: dict[str, dict[str, float]]) -> TrialResult:
    """A trial by scorer and machine type, the same number everywhere."""
    metrics = {
        scorer: tuple(
            MachineMetrics("dcase2023", machine, "00", None if math.isnan(value) else value - 0.01,
                           value, value + 0.01, value + 0.02)
            for machine, value in machines.items()
        )
        for scorer, machines in numbers.items()
    }  # fmt: skip
    return TrialResult(
        spec=spec, metrics=metrics, official={scorer: next(iter(each.values())) for scorer, each in numbers.items()},
        machines=numbers, labels=(), epochs=(), seconds={}, peak_mb={}, scored=pd.DataFrame(),
        pseudo_labels=pd.DataFrame(),
    )  # fmt: skip


class TestReading:
    @pytest.fixture
    def read(self, results: Results) -> Results:
        """Three trials of which each has other scorers and machine types."""
        for seed, numbers in enumerate((
            {"knn": {"valve": 0.6, "fan": 0.7}, "gwrp": {"valve": 0.5, "fan": 0.4}},
            {"knn": {"ToyCar": 0.8}, "a": {"ToyCar": 0.3, "fan": 0.9}},
            {"a": {"fan": 0.35}},
        )):  # fmt: skip
            spec = make_spec(seed=seed, scorers=tuple(numbers))
            results.put_result(several(spec, numbers), run_id=str(seed), code="test")
        return results

    def test_numbers_belong_to_their_trial_and_scorer(self, read: Results) -> None:
        """Each row has the numbers of its own machine types, which stand in order, and none of another's."""
        found = read_standings(read)
        assert (found.types, found.years) == (("ToyCar", "fan", "valve"), ("dcase2023",) * 3)
        numbers = {
            (found["seed"][at], found["scorer"][at]): found.h_means[at].round(9).tolist() for at in range(len(found))
        }
        assert numbers == {
            (0, "gwrp"): [pytest.approx(NAN, nan_ok=True), 0.4, 0.5],
            (0, "knn"): [pytest.approx(NAN, nan_ok=True), 0.7, 0.6],
            (1, "a"): [0.3, 0.9, pytest.approx(NAN, nan_ok=True)],
            (1, "knn"): [0.8, *[pytest.approx(NAN, nan_ok=True)] * 2],
            (2, "a"): [pytest.approx(NAN, nan_ok=True), 0.35, pytest.approx(NAN, nan_ok=True)],
        }
        for name, more in (("auc", -0.01), ("s_auc", 0.0), ("t_auc", 0.01), ("p_auc", 0.02)):
            at = list(zip(found["seed"], found["scorer"], strict=True)).index((1, "a"))
            assert found.metrics[name][at] == pytest.approx(harmonic_of_all([0.3 + more, 0.9 + more]))

    def test_trials_of_other_scorers_in_turn_keep_their_numbers(self, results: Results) -> None:
        """Whichever scorers come first, one trial's numbers are never taken for those of the next."""
        wanted = []
        for seed, scorer in enumerate(("knn", "gwrp", "knn", "knn")):
            value = 0.5 + 0.1 * seed
            spec = make_spec(seed=seed, scorers=(scorer,))
            results.put_result(several(spec, {scorer: {"fan": value}}), run_id=str(seed), code="test")
            wanted.append([pytest.approx(value)])
        assert read_standings(results).h_means.tolist() == wanted

    def test_what_another_process_records_meanwhile_is_left_out(
        self, read: Results, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Numbers of a trial that came after trials were read change no other's: of a known scorer, or of a new one."""
        before, of_trials = read_standings(read), read.trial_columns()
        new = {"knn": {"fan": 0.11}, "new": {"fan": 0.12, "slider": 0.13}}
        results_of_new = several(make_spec(seed=9, scorers=tuple(new)), new)
        read.put_result(results_of_new, run_id="9", code="test")
        monkeypatch.setattr(Results, "trial_columns", lambda *_: of_trials)
        after = read_standings(read)
        assert after.types == before.types
        np.testing.assert_array_equal(after.h_means, before.h_means)
        for name, values in before.metrics.items():
            np.testing.assert_array_equal(after.metrics[name], values)

    def test_an_undefined_number_is_a_gap(self, results: Results) -> None:
        """A machine type without labels has none, and the board's means leave it out."""
        put(results, make_spec(), {**flat(0.6), "valve": (NAN, NAN, NAN)})
        found = read_standings(results)
        np.testing.assert_allclose(found.h_means, [[0.6, 0.6, NAN]])
        (row,) = leaderboard(results)
        assert row["machines"] == pytest.approx({"ToyCar": 0.6, "fan": 0.6})
        assert row["s_auc"] == pytest.approx(0.6)

    def test_nothing_recorded_is_empty(self, results: Results) -> None:
        """No trials, no machine types."""
        found = read_standings(results)
        assert (len(found), found.types, found.h_means.shape) == (0, (), (0, 0))
