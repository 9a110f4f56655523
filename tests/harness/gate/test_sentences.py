"""The gate's verdicts in words and by machine: a whole sentence for each way in which a candidate may come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from harness.gate import regression
from harness.gate.baselines import RecordedArm, Setting, find_arm
from harness.gate.regression import regress
from harness.statistics.comparison import MachineDifference, compare_arms
from harness.statistics.margin import margin_low
from harness.statistics.power import Variation
from harness.statistics.significance import Spread
from tests.harness.gate.test_verdicts import SETTING, compared
from tests.harness.made_up import clips_of, open_tables, record, scored

ONE_SEED = "one seed, so the interval knows nothing of how seeds differ"
UNPAIRED = "seeds do not pair, so each side's are taken as draws of their own"
LITTLE = Variation(machines=7, of_machines=1e-5, of_seeds=1e-5, of_rest=1e-5, known=True)
UNKNOWN = replace(LITTLE, of_seeds=0.0, of_rest=0.0, known=False)


def arm(name: str, backbone: str = "beats", **scores: Any) -> RecordedArm:
    """An arm by name, of which no clip is looked at unless it is given."""
    return RecordedArm(name, backbone, "toy", "aaaa", "bbbb", scores.pop("clips", pd.DataFrame()),
                       scores.pop("scores", {}), {})  # fmt: skip


def sentence(verdict: str, *, seeds_vary: bool = True, paired: bool = True, candidate: str = "new", **row: Any) -> str:
    """What is said of a row of these values, after whom it is said of."""
    found = compared((0, 1, 2), (0, 1, 2), 0.0, paired=True)
    found = replace(found, seeds_vary=seeds_vary, vary=LITTLE if seeds_vary else UNKNOWN)
    whole: Any = {"verdict": verdict, "paired": paired, "setting": "M = 3, knn", "dataset": "dcase2023",
                  "delta": -0.001, "low": -0.003, "high": 0.0012, **row}  # fmt: skip
    said = regression._sentence(arm("old", "eat"), arm(candidate), whole, found, 0.005)
    who, said = said.split(": ", 1)
    assert who == f"beats ({candidate}) against eat (old), M = 3, knn, dcase2023"
    return said


SPAN = "90 % interval -0.30 to +0.12"


@pytest.mark.parametrize(
    ("verdict", "row", "said"),
    [
        ("accepted", {}, f"accepted, -0.10 points ({SPAN}), not worse by more than 0.5 points."),
        (
            "accepted",
            {"delta": 0.001, "low": 0.0002},
            "accepted, +0.10 points (90 % interval +0.02 to +0.12), not worse by more than 0.5 points.",
        ),
        (
            "accepted",
            {"seeds_vary": False},
            f"accepted, -0.10 points ({SPAN}), not worse by more than 0.5 points; {ONE_SEED}.",
        ),
        (
            "worse",
            {"delta": -0.02, "low": -0.03, "high": -0.01, "paired": False},
            f"refused, -2.00 points (90 % interval -3.00 to -1.00), worse by more than 0.5 points; {UNPAIRED}.",
        ),
        (
            "worse",
            {"delta": -0.02, "low": -0.03, "high": -0.01, "paired": False, "seeds_vary": False},
            "refused, -2.00 points (90 % interval -3.00 to -1.00), worse by more than 0.5 points; "
            f"{UNPAIRED}; {ONE_SEED}.",
        ),
        (
            "unclear",
            {"seeds_vary": False},
            f"refused, as one seed cannot tell how seeds differ (-0.10 points, {SPAN} over machines and clips alone); "
            "run at least three seeds of each.",
        ),
        (
            "unclear",
            {"low": -0.0051, "high": 0.02},
            "refused, as these data cannot show that it is not worse by more than 0.5 points (-0.10 points, 90 % "
            "interval -0.51 to +2.00); about 27 seeds would show it, were the difference seen the true one.",
        ),
        (
            "unclear",
            {"low": -0.0051, "high": 0.02, "seeds_vary": False},
            "refused, as these data cannot show that it is not worse by more than 0.5 points (-0.10 points, 90 % "
            "interval -0.51 to +2.00); how many seeds would show it, were the difference seen the true one, one seed "
            "cannot say; run at least three.",
        ),
        (
            "unclear",
            {"delta": -0.006, "low": -0.02, "high": 0.02, "seeds_vary": False},
            "refused, as these data cannot show that it is not worse by more than 0.5 points (-0.60 points, 90 % "
            f"interval -2.00 to +2.00); the difference seen lies beyond that itself; {ONE_SEED}.",
        ),
    ],
)  # fmt: skip
def test_every_verdict_has_its_sentence(verdict: str, row: dict[str, Any], said: str) -> None:
    """Who, the difference with its interval, the margin in points, what would help, and what the reader must know."""
    assert sentence(verdict, **row) == said


def test_a_name_does_not_hide_a_caveat() -> None:
    """A study that is called "one seed" has the caveat of one seed like any other."""
    assert sentence("accepted", seeds_vary=False, candidate="one seed").endswith(f"0.5 points; {ONE_SEED}.")


@pytest.mark.parametrize(
    ("distance", "said"),
    [(-0.001, "beyond that itself"), (0.0, "beyond that itself"), (0.004, "about 27 seeds would show it, were the")],
)
def test_seeds_help_where_the_difference_lies_inside_the_margin(distance: float, said: str) -> None:
    """A difference at the margin or beyond it is not shown by more seeds; one inside it is, by so many."""
    found = replace(compared((0, 1, 2), (0, 1, 2), 0.0, paired=True), vary=LITTLE)
    assert said in regression._more(distance, found)


def test_an_unclear_row_names_the_seeds_that_its_sentence_names() -> None:
    """Counted for the distance between the difference seen and the margin."""
    found = replace(
        compared((0, 1, 2), (0, 1, 2), 0.0, paired=True), vary=LITTLE, delta=-0.001, ci_low=-0.01, ci_high=0.1
    )
    pairing = regression._pair_seeds((0, 1, 2), (0, 1, 2))
    row = regression._official_row(SETTING, "dcase2023", pairing, found, 0.005, seed=0)
    assert (row["verdict"], row["seeds_needed"]) == ("unclear", 27)


def test_a_machine_is_judged_by_its_own_interval() -> None:
    """Rows of machines have their own numbers and verdict at the same margin, and never ask for seeds."""
    found = compared((0, 1, 2), (0, 1, 2), -0.004, paired=True)
    machines = tuple(
        MachineDifference("dcase2023", name, 0.6, 0.7, -0.1, low, high)
        for name, low, high in (("a", -0.005, 0.1), ("b", -0.2, -0.0051), ("c", -0.2, -0.005))
    )
    pairing = regression._pair_seeds((0, 1, 2), (0, 1, 2))
    official = regression._official_row(SETTING, "dcase2023", pairing, found, 0.005, seed=0)
    rows = regression._machine_rows({**official, "seeds_needed": 9}, replace(found, machines=machines), 0.005)
    assert [(row["machine"], row["verdict"], row["low"], row["high"]) for row in rows] == [
        ("a", "accepted", -0.005, 0.1), ("b", "worse", -0.2, -0.0051), ("c", "unclear", -0.2, -0.005),
    ]  # fmt: skip
    for row in rows:
        assert (row["candidate_score"], row["baseline_score"], row["delta"]) == (0.6, 0.7, -0.1)
        assert (row["seeds_needed"], row["setting"], row["seeds"]) == (None, "frozen, knn", 3)


@pytest.mark.parametrize(
    ("delta", "error", "verdict"),
    [
        (0.0, 0.0, "accepted"),
        (1e-12, 1e-12, "accepted"),  # rounding errors
        (-1e-12, 1e-12, "accepted"),
        (1.1e-12, 0.0, "unclear"),
        (-0.004, 0.0, "unclear"),  # each machine loses the same: another seed may lose more
        (0.0, 1.1e-12, "unclear"),
    ],
)
def test_one_seed_is_accepted_for_the_very_same_scores_alone(delta: float, error: float, verdict: str) -> None:
    """A difference of 0 with a spread of 0 holds for every seed; a loss within the margin on one seed does not."""
    found = compared((0,), (0,), 0.0, paired=True)
    found = replace(found, delta=delta, spread=Spread(error, 3), ci_low=delta, ci_high=delta)
    pairing = regression._pair_seeds((0,), (0,))
    assert regression._official_row(SETTING, "dcase2023", pairing, found, 0.005, seed=0)["verdict"] == verdict


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, RecordedArm]:
    """A baseline of four seeds, a candidate that differs by chance, and one whose seeds do not pair."""
    tables = open_tables(tmp_path_factory.mktemp("arms"))
    for name, seeds, luck in (("old", range(4), 10), ("new", range(4), 500), ("apart", range(3, 7), 500)):
        record(tables, backbone=name, m=1, seeds=seeds, apart=1.5, luck=luck, study=name)
    found = {name: find_arm(tables, name) for name in ("old", "new", "apart")}
    tables.close()
    return found


@pytest.mark.parametrize("candidate", ["new", "apart"])
@pytest.mark.parametrize("seed", [0, 4])
def test_draws_are_those_of_the_seed(arms: Mapping[str, RecordedArm], candidate: str, seed: int) -> None:
    """Both ends and every machine's follow from seed, resamples and margin that were asked for, and say the margin."""
    pair = [arms[candidate], arms["old"]]
    found = regress(pair[1], pair[0], margin=2, resamples=30, seed=seed)
    tables = [one.table(next(iter(one.scores)), "dcase2023", tuple(sorted(*one.scores.values()))) for one in pair]
    asked = {"level": 0.9, "paired": candidate == "new", "seed": seed}
    by_hand = compare_arms(*tables, "dcase2022", resamples=30, **asked)  # type: ignore[arg-type]
    calibrated = margin_low(by_hand.tables, by_hand.spread, delta=by_hand.delta, margin=0.02, **asked)  # type: ignore[arg-type]
    official, *machines = found["rows"]
    assert (official["low"], official["high"]) == (min(by_hand.ci_low, calibrated), by_hand.ci_high)
    assert [(row["low"], row["high"]) for row in machines] == [(each.ci_low, each.ci_high) for each in by_hand.machines]
    limits = {row["verdict"]: row["low"] >= -0.02 for row in found["rows"]}
    assert limits.get("accepted", True) and not limits.get("unclear", False)
    assert found["margin"] == 0.02
    assert "by more than 2 points" in found["sentences"][0]


def test_what_is_not_asked_for_is_the_usual(arms: Mapping[str, RecordedArm]) -> None:
    """Half a point, 1000 resamples and seed 0."""
    assert regress(arms["old"], arms["new"]) == regress(
        arms["old"], arms["new"], margin=0.5, resamples=1000, seed=0, allow=[]
    )


def test_the_order_of_seeds_changes_nothing(arms: Mapping[str, RecordedArm]) -> None:
    """Seeds as a file happens to hold them pair by their number, and draws do not depend on their order."""

    def turned(one: RecordedArm) -> RecordedArm:
        return replace(one, scores={key: dict(reversed(seeds.items())) for key, seeds in one.scores.items()})

    for candidate in ("new", "apart"):
        pairs = (
            [arms["old"], arms[candidate]],
            [turned(arms["old"]), arms[candidate]],
            [arms["old"], turned(arms[candidate])],
        )
        first, *others = (regress(*pair, resamples=30)["rows"] for pair in pairs)
        assert all(other == first for other in others)


@pytest.mark.parametrize("margin", [0, 100])
def test_the_ends_of_the_scale_are_margins(arms: Mapping[str, RecordedArm], margin: float) -> None:
    """No loss at all, and the whole scale, within which everything is accepted."""
    assert regress(arms["old"], arms["new"], margin=margin, resamples=10)["accepted"] is (margin == 100)


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [({1: 1.5, 3: 0.5, 7: 1.5}, "worse"), ({1: 1.5, 3: None, 7: 1.5}, "unclear"), ({1: None, 3: 0.5}, "worse"),
     ({1: 1.5, 3: 1.5}, "accepted")],
)  # fmt: skip
def test_the_worst_setting_is_the_verdict(apart: Mapping[int, float | None], verdict: str) -> None:
    """One worse setting makes the candidate worse, else one that cannot be told unclear; None is other noise."""
    clips = clips_of()

    def made(name: str, gaps: Mapping[int, float | None]) -> RecordedArm:
        scores = {
            Setting("trial", (m, *SETTING.cell[1:]), "knn"): {
                seed: scored(clips, apart=gap or 1.5, seed=seed + (0 if gap else 500))["score_knn"].to_numpy()
                for seed in range(3)
            }
            for m, gap in gaps.items()
        }
        return arm(name, clips=clips, scores=scores)

    found = regress(made("old", dict.fromkeys(apart, 1.5)), made("new", apart), resamples=30)
    assert (found["verdict"], found["accepted"]) == (verdict, verdict == "accepted")
    assert len(found["sentences"]) == len(apart)
    assert [row["verdict"] for row in found["rows"] if row["machine"] is None].count(verdict) >= 1
