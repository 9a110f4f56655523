"""What mattered: known gains of a made-up study, and tests, intervals, columns and sentences worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.contract import DatasetPart, Protocol
from benchmarks.protocols import find_protocol
from harness import verbs
from harness.answers import importance as importance_module
from harness.answers.importance import _scorers_and_layers, importance, importance_columns
from harness.answers.question import Question
from harness.answers.standings import Standings, read_standings
from harness.errors import HarnessError
from harness.places import Places
from harness.statistics.effects import permutation_test, share_interval, variance_share
from harness.stores.recorder import Recorder
from harness.stores.results import Results
from harness.studies.importance import ped_anova
from harness.trials.contract import BackboneChoice
from tests.harness.answers.test_leaderboard import flat, put
from tests.harness.made_up import make_spec, record_study


def test_shares_of_a_made_up_study(recorder: Recorder) -> None:
    """Shares are those of the leaderboard's scores, worked out anew; choices that do not differ have no row."""
    record_study(recorder, m=(1, 3, 7), seeds=(0, 1, 2))
    rows = {row["choice"]: row for row in importance(recorder.results)}
    assert set(rows) == {"m", "backbone", "seed"}
    standings = read_standings(recorder.results)
    own = [at for at in range(len(standings)) if standings["kind"][at] == "trial"]
    scores = standings.official[own]
    for name, row in rows.items():
        groups = [standings[name][at] for at in own]
        between = sum(
            groups.count(value)
            * (np.mean([s for s, g in zip(scores, groups, strict=True) if g == value]) - scores.mean()) ** 2
            for value in set(groups)
        )
        assert row["share"] == pytest.approx(between / ((scores - scores.mean()) ** 2).sum(), rel=1e-9)
        assert row["ci_low"] is None  # too few trainings
        assert row["trials"] == 18 and row["importance"] is None
    assert next(iter(rows)) == max(rows, key=lambda name: rows[name]["share"])
    assert rows["backbone"]["p_value"] < 0.05 < rows["seed"]["p_value"]
    assert "shuffled scores do too" in rows["seed"]["sentence"]


def test_intervals_are_over_trainings(recorder: Recorder) -> None:
    """Twenty trainings have intervals, of the share beyond what chance gives; what makes no difference reaches 0."""
    record_study(recorder, machines=("fan", "valve"), m=(1, 3, 5, 7), seeds=(0, 1, 2))
    rows = {row["choice"]: row for row in importance(recorder.results)}
    assert {(row["trainings"], row["trials"]) for row in rows.values()} == {(24, 24)}
    assert all(0 <= row["ci_low"] <= row["ci_high"] <= 1 for row in rows.values())
    assert rows["seed"]["ci_low"] == 0 < rows["backbone"]["ci_low"]


def test_scorers_and_layers_are_choices_of_their_own() -> None:
    """`knn:layer=6` is the scorer knn and the layer 6; what is not installed here keeps its name."""
    found = _scorers_and_layers(["knn", "knn:k=5,layer=6", "mahalanobis:layer=4+6,merge=zmin", "gone:layer=2"])
    assert found == {
        "scorer": ["knn", "knn:k=5", "mahalanobis", "gone:layer=2"],
        "layer": ["last", "6", "4+6,merge=zmin", "last"],
    }


def by_definition(values: list[str], scores: list[float]) -> float:
    """PED-ANOVA of one choice: the Pearson divergence of the best tenth's smoothed histogram from that of all."""

    def smoothed(chosen: list[str]) -> np.ndarray:
        names = sorted(set(values))
        counts = np.array([chosen.count(name) for name in names], dtype=float)
        seen = (counts > 0).sum() + 1.0  # kernels: one for each value that occurs, and a flat one
        kernel = np.eye(len(names)) + 1.0 / seen
        kernel /= kernel.sum(axis=1, keepdims=True)
        return (counts @ kernel + 1.0 / len(names)) / (counts.sum() + 1.0)

    best = np.sort(scores)[::-1][int(np.ceil(0.1 * len(scores))) - 1]
    top, everywhere = smoothed([v for v, s in zip(values, scores, strict=True) if s >= best]), smoothed(values)
    return float(everywhere @ (top / everywhere - 1) ** 2)


def test_ped_anova_is_its_definition() -> None:
    """Importances are the divergences worked out by hand, as shares; what alone decides has almost all."""
    rng = np.random.default_rng(0)
    settings = [
        {"m": int(rng.integers(1, 4)), "labels": str(rng.choice(["paper", "gmm"])), "seed": int(rng.integers(5))}
        for _ in range(120)
    ]
    scores = [0.5 + 0.2 * (row["m"] == 3) + 0.02 * (row["labels"] == "gmm") + 0.001 * rng.normal() for row in settings]
    found = ped_anova(settings, scores)
    by_hand = {name: by_definition([str(row[name]) for row in settings], scores) for name in settings[0]}
    assert found == pytest.approx({name: value / sum(by_hand.values()) for name, value in by_hand.items()}, rel=1e-6)
    assert ped_anova(settings, scores, most=len(scores)) == found
    assert ped_anova(settings, scores, most=len(scores) - 1) == {}
    alone = ped_anova([{"m": at % 2, "seed": at // 2 % 10} for at in range(200)], [float(at % 2) for at in range(200)])
    assert alone["m"] > 0.95


def test_nothing_recorded_and_nothing_of_that_name(recorder: Recorder) -> None:
    """Each is one sentence."""
    with pytest.raises(HarnessError, match="What mattered needs finished trials with a score"):
        importance(recorder.results)
    record_study(recorder, machines=("fan", "valve"), m=(1,), seeds=(0,))
    with pytest.raises(HarnessError, match="there is none"):
        importance(recorder.results, Question(backbone="other"))
    with pytest.raises(HarnessError):
        importance(recorder.results, Question(study="other"))
    assert importance(recorder.results) == []  # two trials, one a backbone: nothing to tell apart


def test_the_verb_has_ped_anova(recorder: Recorder, places: Places, asdbench: Any) -> None:
    """PED-ANOVA's importances sum to 1 beside the shares; `compare` and its JSON have the same rows."""
    record_study(recorder, m=(1, 3))
    status, out, said = asdbench("importance --json --db {db}", db=places.tracking)
    assert (status, said) == (0, "")  # Optuna's own words stay out
    rows = verbs.importance(places=places)
    assert [row["share"] for row in json.loads(out)["rows"]] == [row["share"] for row in rows]
    assert sum(row["importance"] or 0 for row in rows) == pytest.approx(1.0)
    assert verbs.importance(places=places, resamples=100, seed=1)[0]["share"] == rows[0]["share"]


FEW = Question(resamples=100)


def board_of(scores: Sequence[float], **columns: Sequence[Any]) -> Standings:
    """Fine-tuned trials of one board that agree in everything that is not named."""
    count = len(scores)
    usual = {
        "key": [str(at) for at in range(count)], "backbone": ["small"] * count, "m": [1] * count, "k1": [15] * count,
        "k2": [15] * count, "fusion": ["composite"] * count, "labels": ["paper"] * count, "train": ["all"] * count,
        "loss": ["cross_entropy"] * count, "scorer": ["knn"] * count, "seed": [0] * count,
    }  # fmt: skip
    return Standings({**usual, **columns, "official_score": scores}, (), (), np.empty((count, 0)), {})


def rows_of(board: Standings, question: Question = FEW, importances: Any = None) -> dict[str, dict[str, Any]]:
    """The rows of a board by choice, in their order."""
    rows = importance_module._board(board, question, importances, named={"protocol": "toy", "data": "a-b"})
    return {row["choice"]: dict(row) for row in rows}


def drawn_scores(count: int, draw: int = 0) -> Any:
    """Scores by chance."""
    return np.random.default_rng(draw).uniform(0.4, 0.8, size=count).tolist()


class TestNumbers:
    @pytest.mark.parametrize(("trainings", "question"), [(19, FEW), (20, FEW), (21, Question(resamples=150, seed=3))])
    def test_tests_and_intervals_are_over_trainings(self, trainings: int, question: Question) -> None:
        """Each training has two of three scorers, recorded in either order; from twenty on there are intervals."""
        keys = np.repeat(np.arange(trainings), 2)
        pairs = (["knn", "gwrp"], ["gwrp", "knn"], ["zmin", "knn"])
        scorers = [scorer for at in range(trainings) for scorer in pairs[at % 3 if at % 5 else 2]]
        m = np.repeat(np.arange(trainings) % 3, 2)
        scores = np.array(drawn_scores(2 * trainings)) + 0.05 * m
        rows = rows_of(board_of(scores.tolist(), key=keys.tolist(), scorer=scorers, m=m.tolist()), question)
        assert set(rows) == {"m", "scorer"}
        parts = np.array([("gwrp", "knn", "zmin").index(scorer) for scorer in scorers])
        for name, codes in (("m", m), ("scorer", parts)):
            p_value, chance = permutation_test(
                scores, codes, draws=question.resamples, seed=question.seed, units=keys, parts=parts
            )
            row, ends = rows[name], (None, None)
            if trainings >= 20:
                ends = share_interval(
                    scores, codes, keys, by_chance=chance, draws=question.resamples, seed=question.seed
                )  # type: ignore[assignment]
            assert (row["p_value"], row["by_chance"]) == (p_value, pytest.approx(chance))
            assert (row["ci_low"], row["ci_high"]) == (ends if ends[0] is None else pytest.approx(ends))
            assert row["share"] == pytest.approx(float(variance_share(scores, codes)))
            assert (row["trials"], row["trainings"], row["values"]) == (
                2 * trainings,
                trainings,
                len(set(codes.tolist())),
            )
            assert (row["protocol"], row["data"], row["importance"]) == ("toy", "a-b", None)

    @pytest.mark.parametrize(
        ("resamples", "trials", "of_test", "of_interval"),
        [(50, 30, 100, 100), (150, 30, 150, 150), (2000, 30, 999, 2000), (5000, 5000, 999, 1000),
         (500, 90_000, 100, 100)],
    )  # fmt: skip
    def test_how_much_is_drawn(
        self, monkeypatch: pytest.MonkeyPatch, resamples: int, trials: int, of_test: int, of_interval: int
    ) -> None:
        """As often as was asked for, between 100 draws and what memory allows; a test takes 999 at most."""
        drawn = {}
        for name, found in (("permutation_test", (0.5, 0.1)), ("share_interval", (0.0, 1.0))):

            def kept(*_: Any, draws: int, _name: str = name, _found: Any = found, **__: Any) -> Any:
                drawn[_name] = draws
                return _found

            monkeypatch.setattr(importance_module, name, kept)
        rows_of(board_of([0.5] * trials, m=[at % 2 for at in range(trials)]), Question(resamples=resamples))
        assert drawn == {"permutation_test": of_test, "share_interval": of_interval}

    def test_the_largest_share_is_first_with_what_else_is_known(self) -> None:
        """Each choice has the importance that was computed of its settings, None where that says nothing of it."""
        seen: list[Any] = []

        def importances(settings: Any, scores: Any) -> dict[str, float]:
            seen.extend([settings, scores])
            return {"m": 0.7}

        scores = [0.5, 0.6, 0.9, 0.8, 0.52, 0.58]
        board = board_of(scores, m=[1, 1, 3, 3, 1, 1], seed=[0, 1, 0, 1, 0, 1], k1=[None, 15, None, 15, 15, None])
        rows = rows_of(board, importances=importances)
        assert list(rows) == ["m", "seed"]
        assert [row["heading"] for row in rows.values()] == ["M", "seed"]
        assert [row["importance"] for row in rows.values()] == [0.7, None]
        assert seen == [
            [{"m": m, "seed": seed} for m, seed in zip([1, 1, 3, 3, 1, 1], [0, 1] * 3, strict=True)],
            scores,
        ]

    def test_a_choice_that_some_lack_has_its_values(self) -> None:
        """K1 of 5 and 15, and none beside labels that read none: what some lack tells nothing unless others differ."""
        rows = rows_of(board_of(drawn_scores(6), k1=[5, 15, None] * 2, k2=[15, None, None] * 2))
        assert {name: row["values"] for name, row in rows.items()} == {"k1": 3}
        assert rows_of(board_of(drawn_scores(6)), importances=pytest.fail) == {}  # which nobody asks then

    def test_what_is_named_later_may_matter_more(self) -> None:
        """Rows stand by their share, not in the order of a study's axes."""
        rows = rows_of(board_of([0.5, 0.52, 0.9, 0.92], m=[1, 3, 1, 3], k1=[5, 5, 15, 15]))
        assert list(rows) == ["k1", "m"]

    def test_layers_are_a_choice_of_their_own(self) -> None:
        """Scorers that hear other layers differ in those alone; one that is not installed keeps its name."""
        rows = rows_of(board_of(drawn_scores(6), scorer=["knn", "knn:layer=6"] * 3))
        assert list(rows) == ["layer"]
        texts = ["gone:layer=2", "knn:layer=4", "mahalanobis:layer=4+6,merge=zmin", "knn:layer=4"]
        assert _scorers_and_layers(texts) == {
            "scorer": ["gone:layer=2", "knn", "mahalanobis", "knn"], "layer": ["last", "4", "4+6,merge=zmin", "4"],
        }  # fmt: skip


def row_of(**changes: Any) -> Any:
    """A row of these values."""
    return {
        "protocol": "toy", "heading": "M", "choice": "m", "values": 3, "share": 0.256, "by_chance": 0.114,
        "p_value": 0.0123, "ci_low": 0.1, "ci_high": 0.4567, "importance": 0.5, **changes,
    }  # fmt: skip


class TestWords:
    @pytest.mark.parametrize(
        ("p_value", "said"),
        [
            (0.001, "M explains 26 % of the variance (p = 0.001; 11 % would be chance)."),
            (0.04999, "M explains 26 % of the variance (p = 0.050; 11 % would be chance)."),
            (
                0.05,
                "M explains 26 % of the variance, which shuffled scores do too (p = 0.05; 11 % would be chance).",
            ),
            (0.5, "M explains 26 % of the variance, which shuffled scores do too (p = 0.50; 11 % would be chance)."),
        ],
    )
    def test_a_share_that_shuffles_have_too_is_said(self, p_value: float, said: str) -> None:
        """From 5 % on it is no finding."""
        assert importance_module._sentence(row_of(p_value=p_value)) == said

    @pytest.mark.parametrize("protocols", [["toy"], ["toy", "toy"], ["toy", "other"]])
    def test_columns(self, protocols: list[str]) -> None:
        """Numbers stand on the right; the protocol is named where there are two."""
        rows = [row_of(protocol=name) for name in protocols]
        columns = importance_columns(rows)
        cells = {column.heading: (column.fill(rows[0]), column.right) for column in columns}
        assert ("protocol" in cells) is (len(set(protocols)) > 1)
        cells.pop("protocol", None)
        assert cells == {
            "choice": ("M", False), "values": ("3", True), "variance, %": ("25.60", True),
            "95 % interval": ("10.00 to 45.67", True), "by chance %": ("11.40", True), "p": ("0.012", True),
            "PED-ANOVA %": ("50.00", True),
        }  # fmt: skip
        (interval,) = [column for column in columns if column.heading == "95 % interval"]
        assert interval.fill(row_of(ci_low=None, ci_high=None)) == "–"


class TestWhichTrials:
    def test_each_board_has_its_rows(self, results: Results) -> None:
        """Fine-tuned trials where there are any, else frozen ones; three at least; boards in the order they began."""
        part = (DatasetPart("dcase2023", "eval"),)
        for test_data, count in (("cccc", 3), ("bbbb", 2)):
            for seed in range(count):
                put(results, make_spec(seed=seed, test_data=test_data), flat(0.5 + 0.01 * seed))
        for seed in range(5):
            other = Protocol("other", part, part)
            put(results, make_spec(kind="frozen", m=None, k1=None, k2=None, seed=seed, protocol=other), flat(0.5))
            put(results, make_spec(kind="frozen", m=None, k1=None, k2=None, seed=seed, test_data="cccc"), flat(0.4))
        rows = importance(results, FEW)
        assert [(row["protocol"], row["data"], row["choice"], row["trials"]) for row in rows] == [
            ("toy", "aaaa-cccc", "seed", 3), ("other", "aaaa-bbbb", "seed", 5),
        ]  # fmt: skip

    def test_a_question_filters_trials(self, results: Results) -> None:
        """By study, backbone, scorer and protocol, also by its other name; another system's and level are no trials."""
        for name, count in (("small", 3), ("large", 4)):
            for seed in range(count):
                spec = make_spec(backbone=BackboneChoice(name, name), seed=seed, protocol=find_protocol("paper"))
                put(results, spec, flat(0.5 + 0.01 * seed))
        for kind, seed in (("external", 7), ("level", 8)):
            put(results, make_spec(kind=kind, seed=seed, protocol=find_protocol("paper")), flat(0.6))
        large = [
            make_spec(backbone=BackboneChoice("large", "large"), seed=seed, protocol=find_protocol("paper")).key()
            for seed in range(4)
        ]
        results.put_study("k", name="s", protocol="toy", run_id="r", planned=1, content="")
        results.link("k", large)
        for asked, trials in (
            ({}, 7), ({"backbone": "large"}, 4), ({"backbone": "small", "scorer": "knn", "protocol": "paper"}, 3),
            ({"study": "s"}, 4), ({"protocol": "dcase2025-paper"}, 7),
        ):  # fmt: skip
            assert {row["trials"] for row in importance(results, Question(resamples=100, **asked))} == {trials}
        for asked, said in (
            ({"backbone": "x"}, "trials with"),
            ({"scorer": "x", "study": "s"}, "trials of study s with"),
        ):
            with pytest.raises(HarnessError, match=f"needs finished {said} a score, but there is none; run a study"):
                importance(results, Question(**asked))

    def test_a_trial_without_a_score_is_left_out(self, results: Results) -> None:
        """What cannot be scored, since no machine has labels, is no trial with a score."""
        nothing = {"fan": (float("nan"),) * 3}
        for seed, numbers in enumerate((flat(0.5), flat(0.6), flat(0.55), nothing)):
            put(results, make_spec(seed=seed), numbers)
        assert [row["trials"] for row in importance(results, FEW)] == [3]
