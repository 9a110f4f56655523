"""How to read a ranking: each sentence below it, what is shown of a short one, and rows that tie or have no score."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.contract import DatasetPart, Protocol
from harness.answers import leaderboard as leaderboard_module
from harness.answers.board import reference_row
from harness.answers.leaderboard import board_notes, leaderboard, study_trial_keys
from harness.answers.question import Question
from harness.errors import HarnessError
from harness.scoring.contract import LEVEL_SCORER
from harness.stores.results import Results
from harness.trials.contract import BackboneChoice
from tests.harness.answers.test_leaderboard import flat, put
from tests.harness.answers.test_standings import standings_of
from tests.harness.made_up import make_result, make_spec

NEITHER = (
    "Chance is 50.00. No level-only or frozen row is shown here: run a study with them before believing a learned one."
)
LEVEL = "Level is the clip's loudness alone"
FROZEN = "the encoder without fine-tuning"
TIERS = "Rows of one tier: the data do not show that they are worse than its first row"
LIBRARIES = "Rows ran with different libraries, which may change digits"
ZERO = "a harmonic mean is 0 as soon as one section's number is, here of"


def trial(**changes: Any) -> Any:
    """A row of a fine-tuned backbone, two seeds."""
    return reference_row(**{"kind": "trial", "seeds": [0, 1], "machines": {"fan": 0.6}, **changes})


class TestNotes:
    @pytest.mark.parametrize(
        ("kinds", "said"),
        [
            ([], NEITHER),
            (["published"], NEITHER),
            (
                ["level"],
                f"Chance is 50.00. {LEVEL}: a learned row must beat it. No frozen row, {FROZEN}, is shown here.",
            ),
            (
                ["frozen"],
                f"Chance is 50.00. Frozen is {FROZEN}: a learned row must beat it. No level row, the clip's loudness "
                "alone, is shown here.",
            ),
            (["level", "frozen"], f"Chance is 50.00. {LEVEL}, frozen {FROZEN}: a learned row must beat both."),
        ],
    )  # fmt: skip
    def test_what_a_learned_row_must_beat(self, kinds: list[str], said: str) -> None:
        """Level and frozen rows, as far as they are shown; with trials or without."""
        for rows in ([trial(kind=kind) for kind in kinds], [trial(), *(trial(kind=kind) for kind in kinds)]):
            assert board_notes(rows)[0] == said

    @pytest.mark.parametrize(
        ("rows", "notes"),
        [
            ([trial(tier=1)], []),
            ([trial(tier=1), trial()], []),
            ([trial(tier=1), trial(tier=1)], [f"{TIERS}."]),
            (
                [trial(tier=1, seeds=[4]), trial(tier=2)],
                [f"{TIERS}; rows of one seed know nothing of how seeds differ."],
            ),
            ([trial(tier=1), trial(tier=2, kind="external", seeds=[0])], [f"{TIERS}."]),
            ([trial(tier=1, seeds=[]), trial(tier=2)], [f"{TIERS}."]),
            (
                [trial(chosen_on_test=True, cells=6), trial(cells=9), trial(chosen_on_test=True, cells=6)],
                ["* best of 6 cells on its own test set: optimistic; see `asdbench select`."],
            ),
            (
                [trial(chosen_on_test=True, cells=6), trial(chosen_on_test=True, cells=2)],
                ["* best of 2 to 6 cells on its own test set: optimistic; see `asdbench select`."],
            ),
            (
                [trial(searched="target"), trial(), trial(searched="score"), trial(searched="target")],
                [
                    "A search chose which cells to try by the goal target, score of this test set, so its winner was "
                    "picked by the test set: do not report its score as that of a chosen system; see `asdbench select`."
                ],
            ),
            (
                [trial(libraries=["numpy 2.1"]), trial(kind="external", libraries=["numpy 2.2"]),
                 trial(libraries=["numpy 2.3"])],
                [f"{LIBRARIES}: numpy 2.1 and 2.3."],
            ),
            ([trial(kind="published")], ["Published rows were not run here; `asdbench reference` has their tables."]),
            (
                [trial(auc=0.5, s_auc=4.9e-5, machines={"valve": 0.0, "fan": 5e-5}), trial(machines={"valve": 0.0})],
                [f"0.00 below sAUC: {ZERO} valve."],
            ),
            (
                [trial(s_auc=0.0, machines={"valve": 0}), trial(p_auc=0.0, auc=0.0, machines={"fan": 0, "valve": 0})],
                [f"0.00 below AUC, sAUC and pAUC: {ZERO} fan, valve."],
            ),
            ([trial(s_auc=0.0, t_auc=0.0, machines={"fan": 0.0})], [f"0.00 below sAUC and tAUC: {ZERO} fan."]),
            ([trial(s_auc=0.0)], []),
            ([trial(s_auc=5e-5, machines={"fan": 0.0})], []),
        ],
    )  # fmt: skip
    def test_what_else_must_be_known(self, rows: list[Any], notes: list[str]) -> None:
        """Tiers, marks, searches, libraries, published rows and zeros have a sentence each where there are any."""
        assert board_notes(rows) == [NEITHER, *notes]


class TestShown:
    @pytest.fixture
    def five(self, results: Results) -> Results:
        """Three fine-tuned cells, then the level row, then the frozen one."""
        for m in (1, 3, 5):
            put(results, make_spec(m=m), flat(0.5 + 0.01 * m))
        put(results, make_spec(kind="level", backbone=None, m=None, k1=None, k2=None), flat(0.49))
        put(results, make_spec(kind="frozen", m=None, k1=None, k2=None), flat(0.48))
        return results

    @pytest.mark.parametrize(
        ("top", "ranks"),
        [(None, [1, 2, 3, 4, 5]), (0, [4, 5]), (1, [1, 4, 5]), (3, [1, 2, 3, 4, 5]), (4, [1, 2, 3, 4, 5]),
         (9, [1, 2, 3, 4, 5])],
    )  # fmt: skip
    def test_the_best_and_what_they_must_beat(self, five: Results, top: int | None, ranks: list[int]) -> None:
        """So many rows, and level and frozen in the order of their ranks, each once."""
        rows = leaderboard(five, top=top)
        assert [row["rank"] for row in rows] == ranks
        assert {row["of"] for row in rows} == {5}
        kinds = [row["kind"] for row in leaderboard(five)]
        assert [row["kind"] for row in rows] == [kinds[rank - 1] for rank in ranks]

    def test_nothing_of_a_board_without_references(self, results: Results) -> None:
        """The best no rows are none."""
        put(results, make_spec(), flat(0.6))
        assert leaderboard(results, top=0) == []

    def test_the_best_of_two_or_more_is_marked(self, five: Results) -> None:
        """Once a backbone, also of a backbone whose frozen row ranks higher; a lone cell and references are not."""
        late = BackboneChoice("late", "late")
        put(five, make_spec(backbone=BackboneChoice("lone", "lone")), flat(0.7))
        for m, value in ((1, 0.2), (3, 0.3)):
            put(five, make_spec(backbone=late, m=m), flat(value))
        put(five, make_spec(kind="frozen", backbone=late, m=None, k1=None, k2=None), flat(0.9))
        rows = leaderboard(five)
        marked = [(row["backbone"], row["m"], row["cells"]) for row in rows if row["chosen_on_test"]]
        assert marked == [("small", 5, 3), ("late", 3, 2)]
        assert {row["cells"] for row in rows if row["kind"] != "trial"} == {None}


class TestRanks:
    def test_equal_scores_stand_by_name(self, results: Results) -> None:
        """Whichever was recorded first; the level row, which has no backbone, too."""
        for name in ("zeta", "alpha"):
            put(results, make_spec(backbone=BackboneChoice(name, name)), flat(0.6))
        put(results, make_spec(kind="level", backbone=None, m=None, k1=None, k2=None), flat(0.6))
        assert [row["backbone"] for row in leaderboard(results)] == [None, "alpha", "zeta"]

    def test_a_row_without_a_score_is_last_and_in_no_tier(self, results: Results) -> None:
        """Ranked by a machine type that it does not have; a row whose number is 0 is in a tier."""
        put(results, make_spec(m=1), {"ToyCar": (0.9, 0.9, 0.9)})
        put(results, make_spec(m=3), {"fan": (0.6, 0.6, 0.6), "ToyCar": (0.5, 0.5, 0.5)})
        put(results, make_spec(m=7), {"fan": (0.0, 0.0, 0.0), "ToyCar": (0.5, 0.5, 0.5)})
        rows = leaderboard(results, machine="fan")
        assert [(row["m"], row["machine_score"], row["tier"] is None) for row in rows] == [
            (3, pytest.approx(0.6), False), (7, pytest.approx(0.0, abs=1e-9), False), (1, None, True),
        ]  # fmt: skip

    def test_tiers_follow_what_ranks(self, results: Results) -> None:
        """Ranked by one machine type, tiers look at it alone; ranked by all, at all of them."""
        for m, fan in ((1, 0.9), (3, 0.5)):
            for seed in range(6):
                more = 0.001 * seed * (-1) ** m
                put(results, make_spec(m=m, seed=seed), {
                    "fan": (fan + more,) * 3, "ToyCar": (1.3 - fan + more,) * 3, "valve": (0.6 + more,) * 3,
                })  # fmt: skip
        assert [row["tier"] for row in leaderboard(results, machine="fan")] == [1, 2]
        assert [row["tier"] for row in leaderboard(results)] == [1, 1]

    def test_tiers_compare_what_a_machine_type_adds_to_the_score(self) -> None:
        """Not its own number: of a harmonic mean the weakest machine type has the largest part, seed by seed."""
        h_means = np.array([[0.2, 0.8], [0.9, 0.9], [0.3, 0.7], [0.5, 0.5]])
        board = standings_of([0.5] * 4, cells=["a", "b", "a", "c"], seeds=[7, 0, 3, 0], h_means=h_means)
        cells = board.cells(["cell"])
        worst_first = np.array([2, 0, 1])
        none, of_a, of_b = leaderboard_module._arms(cells, worst_first, np.array([0.3, 0.9, np.nan]), h_means)
        assert none is None and of_a is not None and of_b is not None
        assert (of_a.seeds, of_b.seeds) == ((3, 7), (0,))
        by_hand = []  # twice the score less the score without it, of two machine types
        for fan, valve in ((0.3, 0.7), (0.2, 0.8)):
            score = 2 / (1 / fan + 1 / valve)
            by_hand.append([2 * score - valve, 2 * score - fan])
        np.testing.assert_allclose(of_a.parts, by_hand)
        np.testing.assert_allclose(of_b.parts, [[0.9, 0.9]])

    def test_each_board_is_ranked_by_itself(self, results: Results) -> None:
        """Protocols and recordings have rankings of their own, in the order in which they were begun."""
        part = (DatasetPart("dcase2023", "eval"),)
        for at, changes in enumerate(({}, {"test_data": "cccc"}, {"protocol": Protocol("other", part, part)})):
            for m in (1, 3):
                put(results, make_spec(m=m, **changes), flat(0.5 + 0.1 * at + 0.01 * m))
        rows = leaderboard(results)
        boards = (("toy", "aaaa-bbbb"), ("toy", "aaaa-cccc"), ("other", "aaaa-bbbb"))
        assert [(row["protocol"], row["data"], row["rank"], row["m"]) for row in rows] == [
            (*board, rank, m) for board in boards for rank, m in ((1, 3), (2, 1))
        ]
        assert {row["protocol"] for row in leaderboard(results, Question(protocol="other"))} == {"other"}


class TestFilters:
    @pytest.fixture
    def two(self, results: Results) -> Results:
        """Two backbones and the level row, which has a scorer of its own."""
        for name in ("small", "other"):
            put(results, make_spec(backbone=BackboneChoice(name, name)), flat(0.6))
        level = make_spec(kind="level", backbone=None, m=None, k1=None, k2=None, scorers=(LEVEL_SCORER,))
        made = make_result(replace(level, test_data="bbbb"))
        by_level = {LEVEL_SCORER: made.metrics["knn"]}
        results.put_result(
            replace(made, metrics=by_level, official={LEVEL_SCORER: 0.5}, machines={LEVEL_SCORER: {"fan": 0.5}},
                    scored=made.scored.iloc[:0]),
            run_id="level", code="test",
        )  # fmt: skip
        return results

    def test_a_scorer_keeps_the_level_row(self, two: Results) -> None:
        """Rows of the scorer and of level; level's own scorer is none that a board can be asked for."""
        rows = leaderboard(two, Question(scorer="knn", protocol="toy"))
        assert sorted(str(row["backbone"]) for row in rows) == ["None", "other", "small"]
        with pytest.raises(HarnessError, match="recorded scorer must be one of knn, "):
            leaderboard(two, Question(scorer=LEVEL_SCORER))

    def test_a_name_is_refused_as_it_was_asked_for(self, two: Results) -> None:
        """`paper` is another name of a protocol, but of no backbone."""
        with pytest.raises(HarnessError, match=r"recorded backbone must be one of other, small, .*'paper'"):
            leaderboard(two, Question(backbone="paper"))

    def test_a_study_has_its_trials_by_name_or_key(self, two: Results) -> None:
        """The newest study of a name counts, and its key finds it, too."""
        keys = [make_spec(backbone=BackboneChoice(name, name)).key() for name in ("small", "other")]
        for at, key in enumerate(keys):
            two.put_study(f"k{at}", name="same", protocol="toy", run_id="r", planned=1, content="")
            two.link(f"k{at}", [key])
        assert [study_trial_keys(two, name) for name in ("same", "k0")] == [[keys[1]], [keys[0]]]
        assert [row["backbone"] for row in leaderboard(two, Question(study="k0"))] == ["small"]


class TestSearches:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"sampler": {"name": "tpe"}}, "score"),
            ({"sampler": {"name": "gp", "goals": ["seconds", "target", "source"]}}, "target and source"),
            ({"sampler": {"name": "gp", "goals": ["seconds"]}}, None),
            ({"sampler": {"name": "random", "goals": ["score"]}}, None),
            ({"sampler": {"name": "tpe", "goals": 7}}, None),
            ({"sampler": "tpe"}, None),
            ([], None),
            ("none of ours", None),
        ],
    )
    def test_goals_that_are_read_from_the_test_set(self, results: Results, content: Any, said: str | None) -> None:
        """Of a search that proposes by them, joined; a record of another form has none."""
        for m in (1, 3):
            put(results, make_spec(m=m), flat(0.5 + 0.01 * m))
        frozen = make_spec(kind="frozen", m=None, k1=None, k2=None)
        put(results, frozen, flat(0.4))
        keys = [make_spec(m=3).key(), frozen.key()]
        text = content if isinstance(content, str) else json.dumps(content)
        results.put_study("k", name="s", protocol="toy", run_id="r", planned=1, content=text)
        results.link("k", keys)
        assert leaderboard_module.searches(results) == ([(set(keys), said)] if said else [])
        found = {row["m"]: row["searched"] for row in leaderboard(results)}
        assert found == {1: "", 3: said or "", None: ""}


def test_frozen_rows_are_looked_at_for_libraries() -> None:
    """A frozen row that ran with other versions than the fine-tuned one may differ in digits, too."""
    rows = [trial(libraries=["numpy 2.1"]), trial(kind="frozen", libraries=["numpy 2.3"])]
    assert board_notes(rows)[1:] == [f"{LIBRARIES}: numpy 2.1 and 2.3."]


def test_places_that_are_shown_are_indices() -> None:
    """A board of no rows, and the first of several references."""
    kinds = np.array(["trial", "frozen", "trial", "frozen", "level", "level"])
    assert leaderboard_module._top(kinds, 0).tolist() == [1, 4]
    assert leaderboard_module._top(kinds, 2).tolist() == [0, 1, 4]
    assert leaderboard_module._top(kinds[:1], 0).dtype.kind == "i"
