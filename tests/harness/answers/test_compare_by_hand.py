"""Top-M against Top-1, answer by answer: whole sentences, what is refused and why, and which trials are asked about."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.contract import DatasetPart, Protocol
from benchmarks.protocols import find_protocol
from harness.answers import compare as compare_module
from harness.answers.compare import compare, comparisons, trials_with_m
from harness.answers.grids import recorded_numbers
from harness.answers.question import Question
from harness.answers.selection import select
from harness.errors import HarnessError
from harness.statistics.comparison import MachineDifference, compare_arms, compare_numbers
from harness.statistics.power import Variation
from harness.stores.results import Results
from tests.harness.made_up import MACHINES, clips_of, make_result, make_spec, record

FEW = Question(resamples=20)
LITTLE = Variation(machines=5, of_machines=1e-5, of_seeds=1e-5, of_rest=1e-5, known=True)
ONE_SEED = "one seed, so the interval knows nothing of how seeds differ"
NO_CLIPS = "no clip scores are recorded, so the interval rests on machines and seeds alone"


def judged(*, p_corrected: float = 0.2, tried: int = 2, **row: Any) -> dict[str, Any]:
    """A row of these values with its verdict and sentence."""
    machines = tuple(MachineDifference("dcase2023", name, 0.6, 0.6, 0.0, 0.0, 0.0) for name in MACHINES)
    found: Any = type("Found", (), {"vary": LITTLE, "machines": machines})
    whole: Any = {
        "backbone": "small", "labels": "paper", "scorer": "knn", "dataset": "dcase2023", "m": 3, "delta": 0.02,
        "ci_low": 0.01, "ci_high": 0.03, "p_value": 0.1, "machines_won": 3, "machines_lost": 1, "machines_tied": 1,
        "seeds_vary": True, "clips_vary": True, "seeds_left_out": [], **row,
    }  # fmt: skip
    judged: Any = compare_module._judged(whole, found, p_corrected=p_corrected, tried=tried, named=["scorer"])
    return dict(judged)


NO_DIFFERENCE = "M = 3 against M = 1 for small (knn) on dcase2023: no difference that these data can show"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"p_corrected": 0.04},
            "M = 3 beats M = 1 for small (knn) on dcase2023 by 2.00 points (95 % CI +1.00 to +3.00), on 3 of 5 "
            "machines.",
        ),
        (
            {"p_corrected": 0.04, "delta": -0.02, "ci_low": -0.03, "ci_high": -0.01, "seeds_left_out": [4, 7]},
            "M = 3 loses to M = 1 for small (knn) on dcase2023 by 2.00 points (95 % CI -3.00 to -1.00), on 1 of 5 "
            "machines; without seeds 4, 7, which one arm alone has.",
        ),
        (
            {"ci_low": -0.01},
            f"{NO_DIFFERENCE} (+2.00 points, 95 % CI -1.00 to +3.00, corrected p = 0.20); about 3 seeds would show a "
            "difference of 2.00 points.",
        ),
        (
            {"p_value": 0.05},
            f"{NO_DIFFERENCE} (+2.00 points, 95 % CI +1.00 to +3.00, corrected p = 0.20): the interval leaves out "
            "zero, but the paired test does not (p = 0.05); about 3 seeds would show a difference of 2.00 points.",
        ),
        (
            {"p_value": 0.049, "p_corrected": 0.098, "delta": -0.02, "ci_low": -0.03, "ci_high": -0.01},
            f"{NO_DIFFERENCE} (-2.00 points, 95 % CI -3.00 to -1.00, corrected p = 0.10): the interval leaves out "
            "zero, but it is for one M alone and 2 were tried; about 3 seeds would show a difference of 2.00 points.",
        ),
        (
            {"delta": -0.00004, "ci_low": -0.1, "ci_high": 0.1, "seeds_vary": False, "clips_vary": False},
            f"{NO_DIFFERENCE} (+0.00 points, 95 % CI -10.00 to +10.00, corrected p = 0.20); {ONE_SEED}; {NO_CLIPS}.",
        ),
    ],
)  # fmt: skip
def test_every_finding_has_its_sentence(row: dict[str, Any], said: str) -> None:
    """Whom it beats and by how much, or why nothing shows and which seeds would show it, then what must be known."""
    assert judged(**row)["sentence"] == said


@pytest.mark.parametrize("ends", [(0.0, 0.03), (-0.03, 0.0)])
def test_an_interval_that_ends_at_zero_holds_it(ends: tuple[float, float]) -> None:
    """It is no difference, and the sentence does not say that zero is left out."""
    row = judged(p_corrected=0.01, ci_low=ends[0], ci_high=ends[1])
    assert not row["differs"]
    assert "leaves out zero" not in row["sentence"]


def test_a_loss_takes_as_many_seeds_as_a_gain() -> None:
    """The size of a difference counts, not its direction."""
    gain, loss = (judged(delta=delta, ci_low=-0.1, ci_high=0.1)["seeds_needed"] for delta in (0.01, -0.01))
    assert gain == loss is not None


def test_draws_are_those_of_the_question(results: Results) -> None:
    """Ends and p-values are those of the resamples and the seed that were asked for."""
    keys = {m: record(results, m=m, luck=10 * m, seeds=range(4)) for m in (1, 3)}
    tables = [
        compare_module._arm(dict(enumerate(keys[m])), results.clip_scores(keys[m], "knn"), "dcase2023") for m in (3, 1)
    ]
    for seed in (0, 3):
        (row,) = compare(results, Question(resamples=20, seed=seed))
        by_hand = compare_arms(*tables, "dcase2022", resamples=20, seed=seed)  # type: ignore[arg-type]
        assert (row["ci_low"], row["ci_high"], row["p_value"]) == (by_hand.ci_low, by_hand.ci_high, by_hand.p_value)


def test_sign_patterns_are_drawn_with_the_questions_seed(results: Results) -> None:
    """Eighteen pairs have too many patterns of signs to try all: those tried are drawn, without clips too."""
    clips = clips_of([f"m{at}" for at in range(9)], per_cell=3)
    arms = []
    for m, apart in ((3, 1.8), (1, 1.0)):
        keys = record(results, m=m, apart=apart, clips=clips, luck=10 * m, seeds=range(2), with_clip_scores=False)
        numbers = recorded_numbers(results, keys, scorer="knn", dataset="dcase2023")
        arms.append({seed: numbers[key] for seed, key in enumerate(keys)})
    drawn = [compare_numbers(*arms, "dcase2022", seed=seed).p_value for seed in (0, 3)]
    assert drawn[0] != drawn[1]
    assert [compare(results, Question(seed=seed))[0]["p_value"] for seed in (0, 3)] == drawn


def test_an_arm_without_clips_is_compared_by_metrics(results: Results) -> None:
    """Where one trial has no clip scores, all of both arms are compared by their metrics, and it is said."""
    record(results, m=1)
    record(results, m=3, luck=30, seeds=[0, 1])
    record(results, m=3, luck=30, seeds=[2], with_clip_scores=False)
    (row,) = compare(results, FEW)
    assert (row["clips_vary"], row["seeds"]) == (False, [0, 1, 2])
    assert row["sentence"].endswith(f"{NO_CLIPS}.")


def test_fields_stand_in_the_order_of_the_columns(results: Results) -> None:
    """CSV has the family first, then M and the finding."""
    record(results, m=1)
    record(results, m=3)
    (row,) = compare(results, FEW)
    assert list(row) == [
        "backbone", "k1", "k2", "fusion", "labels", "train", "loss", "scorer", "recipe", "protocol", "dataset", "m",
        "pairs", "seeds", "seeds_left_out", "delta", "ci_low", "ci_high", "p_value", "machines_won", "machines_lost",
        "machines_tied", "seeds_vary", "clips_vary", "machines", "p_corrected", "differs", "seeds_needed", "sentence",
    ]  # fmt: skip


class TestWhatIsCompared:
    def test_every_m_has_a_row_by_its_size(self, results: Results) -> None:
        """M = 3 stands before M = 8, whichever was recorded first; seeds that one arm lacks are named in order."""
        record(results, m=8, seeds=[0, 2])
        record(results, m=3, seeds=[9, 0])
        record(results, m=1, seeds=[9, 0])
        rows = compare(results, FEW)
        assert [(row["m"], row["seeds"], row["seeds_left_out"]) for row in rows] == [(3, [0, 9], []), (8, [0], [2, 9])]
        assert rows[0]["sentence"].startswith("M = 3 against M = 1 for small on dcase2023: ")

    def test_an_m_that_cannot_be_compared_leaves_the_others(self, results: Results) -> None:
        """M = 3 on other machines is refused by name, M = 7 is compared and corrected for itself alone."""
        record(results, m=1, with_clip_scores=False)
        record(results, m=3, clips=clips_of(MACHINES[:4]), with_clip_scores=False)
        record(results, m=7, luck=70, with_clip_scores=False)
        rows, refused = comparisons(results, FEW)
        assert [(row["m"], row["p_corrected"] == row["p_value"]) for row in rows] == [(7, True)]
        assert refused == [
            "M = 3 against M = 1 for small (K1 = 15, K2 = 15, composite, train all, loss cross_entropy, knn) on "
            "dcase2023: Both systems must score the same sections, but one alone scored dcase2023 valve 00."
        ]

    def test_seeds_that_do_not_meet_are_both_named(self, results: Results) -> None:
        """The reason names the seeds of both, in order."""
        record(results, m=1, seeds=[9, 2])
        record(results, m=3, seeds=[8, 1])
        assert comparisons(results, FEW) == ([], [
            "M = 3 and M = 1 must share a seed to be paired, but small (K1 = 15, K2 = 15, composite, train all, loss "
            "cross_entropy, knn) has seeds 1, 8 and 2, 9; run the same seeds."
        ])  # fmt: skip

    def test_a_family_without_k_is_compared(self, results: Results) -> None:
        """Labels that have no K1 and K2 are a family, and families keep the order in which they were recorded."""
        for labels, k in (("truth", None), ("paper", 15), ("gmm", 15)):
            for m in (1, 3):
                record(results, m=m, labels=labels, k1=k, k2=k, seeds=[0])
        rows = compare(results, FEW)
        assert [(row["labels"], row["k1"]) for row in rows] == [("truth", None), ("paper", 15), ("gmm", 15)]
        assert "for small with truth labels" in rows[0]["sentence"] or "(truth" in rows[0]["sentence"]

    def test_a_trial_that_is_no_top_m_is_left_out(self, results: Results) -> None:
        """A fine-tuned baseline without an M and another system's scores with one are no arms."""
        record(results, m=1, seeds=[0])
        record(results, m=3, seeds=[0], luck=5)
        known = compare(results, FEW)
        for changes in ({"m": None, "k1": None, "k2": None}, {"kind": "external", "m": 1}):
            spec = make_spec(**changes, test_data="cccc")
            results.put_result(make_result(spec), run_id=spec.key(), code="test")
        assert compare(results, FEW) == known
        assert set(trials_with_m(results, FEW, asked="A comparison")["m"]) == {1, 3}

    def test_a_question_filters_trials(self, results: Results) -> None:
        """By study, by keys, protocol, backbone and scorer; a name that nothing has gets the nearest."""
        kept = {
            name: [
                key
                for m in (1, 3)
                for key in record(results, backbone=name, m=m, seeds=[0], luck=m, study=name + str(m))
            ]
            for name in ("small", "large")
        }
        results.put_study("k", name="both", protocol="toy", run_id="r", planned=2, content="{}")
        results.link("k", kept["large"])
        for question in (
            Question(study="both", resamples=20), Question(keys=tuple(kept["large"]), resamples=20),
            Question(backbone="large", protocol="toy", scorer="knn", resamples=20),
        ):  # fmt: skip
            assert [row["backbone"] for row in compare(results, question)] == ["large"]
        for column, name in (("backbone", "larg"), ("protocol", "toi"), ("scorer", "kn")):
            with pytest.raises(HarnessError, match=f"recorded {column} must be one of .*Did you mean"):
                compare(results, Question(**{column: name}))

    def test_a_protocols_other_name_asks_for_it(self, results: Results) -> None:
        """`--protocol paper` finds what is recorded as dcase2025-paper, as on the leaderboard."""
        for m in (1, 3):
            record(results, m=m, luck=m, seeds=[0], protocol=find_protocol("paper"))
        asked = Question(protocol="paper", resamples=20)
        assert [row["protocol"] for row in compare(results, asked)] == ["dcase2025-paper"]
        assert [row["protocol"] for row in select(results, asked)] == ["dcase2025-paper"]
        for m in (1, 3):  # a study file's own protocol of that name comes first
            record(results, m=m, luck=m, seeds=[0], protocol=replace(find_protocol("paper"), name="paper"))
        assert [row["protocol"] for row in compare(results, asked)] == ["paper"]

    def test_nothing_recorded_is_said(self, results: Results) -> None:
        """An empty database and one with frozen trials alone are one sentence."""
        for _ in range(2):
            with pytest.raises(HarnessError, match="A comparison needs recorded trials with an M, but there is none"):
                compare(results)
            record(results, m=None)


HERE = "small (K1 = 15, K2 = 15, composite, train all, loss cross_entropy, knn)"


class TestRefused:
    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            ([{"m": 3}], [f"M = 1 and another M, but {HERE} has M = 3 alone; run the others."]),
            ([{"m": 1}], [f"M = 1 and another M, but {HERE} has M = 1 alone; run the others."]),
            ([{"m": 3}, {"m": 7}], [f"M = 1 and another M, but {HERE} has M = 3, 7 alone; run the others."]),
            (
                [{"m": 1}, {"m": 3, "test_data": "cccc"}, {"m": 7, "test_data": "dddd"}],
                [
                    f"M = 1 and another M, but {HERE} has M = 1 alone; another M is recorded for other test recordings "
                    "(test_data cccc, not bbbb), and the two must not be compared.",
                    f"M = 1 and another M, but {HERE} has M = 3 alone; M = 1 is recorded for other test recordings "
                    "(test_data bbbb, not cccc), and the two must not be compared.",
                    f"M = 1 and another M, but {HERE} has M = 7 alone; M = 1 is recorded for other test recordings "
                    "(test_data bbbb, not dddd), and the two must not be compared.",
                ],
            ),
            (
                [
                    {"m": 1, "labels": "truth", "k1": None, "k2": None},
                    {"m": 3, "labels": "truth", "k1": None, "k2": None, "train_data": "cccc"},
                ],
                [
                    "M = 1 and another M, but small with truth labels (composite, train all, loss cross_entropy, knn) "
                    "has M = 1 alone; another M is recorded for other training recordings (train_data cccc, not aaaa), "
                    "and the two must not be compared.",
                    "M = 1 and another M, but small with truth labels (composite, train all, loss cross_entropy, knn) "
                    "has M = 3 alone; M = 1 is recorded for other training recordings (train_data aaaa, not cccc), and "
                    "the two must not be compared.",
                ],
            ),
        ],
    )  # fmt: skip
    def test_what_lacks_an_arm_says_where_the_other_is(
        self, results: Results, cells: list[dict[str, Any]], said: list[str]
    ) -> None:
        """M = 1 or another M is missing: nothing is compared, and the first place that has it is named."""
        for cell in cells:
            record(results, **{"seeds": [0], **cell})
        assert comparisons(results, FEW) == ([], [f"A comparison needs {each}" for each in said])
        with pytest.raises(HarnessError, match="A comparison needs M = 1 and another M"):
            compare(results, FEW)

    def test_a_seed_that_stands_twice_names_both_trials(self, results: Results) -> None:
        """Of two seeds that stand twice the first is named, with the keys of both of its trials."""
        part = (DatasetPart("dcase2023", "dev"),)
        keys = record(results, m=1) + record(
            results, m=1, seeds=[1, 2], protocol=Protocol("toy", part, part, cases={"fan": "direct"})
        )
        record(results, m=3)
        with pytest.raises(HarnessError, match=f"and seed 1 is recorded as {keys[1]} and {keys[3]}, from protocols of"):
            compare(results)

    @pytest.mark.parametrize(("refused", "shown", "more"), [(3, 3, None), (20, 20, None), (21, 20, 1), (25, 20, 5)])
    def test_twenty_reasons_are_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: int, shown: int,
        more: int | None,
    ) -> None:  # fmt: skip
        """Beyond, the log counts the others; fifty families are compared unless more or all are asked for."""
        asked = []

        def compared(*_: Any, most: int | None) -> Any:
            asked.append(most)
            return [{"m": 3}], [f"reason {at}" for at in range(refused)]

        monkeypatch.setattr(compare_module, "comparisons", compared)
        caplog.set_level(logging.WARNING)
        tables: Any = None
        assert compare(tables) == [{"m": 3}]
        said = [each.getMessage() for each in caplog.records]
        assert said[:shown] == [f"Not compared: reason {at}" for at in range(shown)]
        assert said[shown:] == ([] if more is None else [f"Not compared: {more} more."])
        compare(tables, families=None)
        assert asked == [50, None]


def test_progress_counts_families(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each family and at the end, how many of how many are done."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(compare_module, "tell", lambda *said: told.append(said))
    for backbone in ("small", "large"):
        record(results, backbone=backbone, m=1, seeds=[0])
    comparisons(results, FEW)
    assert told == [("comparing", 0, 2), ("comparing", 1, 2), ("comparing", 2, 2)]
