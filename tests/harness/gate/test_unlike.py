"""What differs between a baseline and a candidate, name by name: settings, recipes and rules of labeling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.gate.baselines import RecordedArm, Setting
from harness.gate.unlike import _recipes, alike
from harness.trials.axes import axis_names

CELL = dict.fromkeys(axis_names(but=["backbone"]))
PAPER = {"m": 1, "k1": 15, "k2": 15, "fusion": "composite", "labels": "paper", "train": "all", "loss": "cross_entropy"}
RECIPE = {"epochs": 2, "mixup": 0.0, "min_confidence": 0.9, "below": "drop"}


def trial(scorer: str = "knn", **changes: Any) -> Setting:
    """A fine-tuned setting: the paper's with M = 1, but for changes."""
    return Setting("trial", tuple({**CELL, **PAPER, **changes}.values()), scorer)


def frozen(scorer: str = "knn") -> Setting:
    """A setting without fine-tuning."""
    return Setting("frozen", tuple(CELL.values()), scorer)


def arm(
    name: str, settings: Collection[Setting], recipes: Mapping[Setting, Mapping[str, Any]] | None = None
) -> RecordedArm:
    """An arm of these settings, each with the same recipe unless it is given."""
    scores: Any = {each: {} for each in settings}
    known = dict.fromkeys(settings, RECIPE) if recipes is None else recipes
    return RecordedArm(name, "beats", "toy", "a", "b", pd.DataFrame(), scores, {}, known)


def refusal(old: RecordedArm, new: RecordedArm, allow: Collection[str] = ()) -> str:
    """The sentence by which they are refused."""
    with pytest.raises(HarnessError) as caught:
        alike(old, new, allow=allow)
    return str(caught.value)


ALONE = "Baseline and candidate must differ in their backbone alone, but old and new differ in "
RUN = "; run the same of both, or let it pass with "


class TestSettings:
    def test_shared_settings_are_compared_in_the_baselines_order(self) -> None:
        """Equal settings and recipes differ in nothing."""
        settings = [trial(m=3), frozen(), trial()]
        assert alike(arm("old", settings), arm("new", settings[::-1])) == ([(each, each) for each in settings], [], [])

    def test_one_setting_a_side_is_a_pair(self) -> None:
        """Whatever they are: each name in which they differ has to be allowed."""
        old, new = trial(m=3, k1=5), trial("gwrp", m=7)
        said = "(M = 3, K1 = 5, K2 = 15, knn before, M = 7, K1 = 15, K2 = 15, gwrp now)"
        listed = "; ".join(f"{name} {said}" for name in ("k1", "m", "scorer"))
        wanted = f"{ALONE}k1, m, scorer: {listed}{RUN}--allow k1 --allow m --allow scorer."
        assert refusal(arm("old", [old]), arm("new", [new])) == wanted
        pairs, notes, allowed = alike(arm("old", [old]), arm("new", [new]), allow=["k1", "m", "scorer"])
        assert (pairs, allowed) == ([(old, new)], ["k1", "m", "scorer"])
        assert notes == [f"Allowed to differ: {name} {said}." for name in ("m", "k1", "scorer")]

    @pytest.mark.parametrize(("scorer", "names"), [("knn", ["kind"]), ("gwrp", ["kind", "scorer"])])
    def test_a_frozen_one_has_no_m_that_could_differ(self, scorer: str, names: list[str]) -> None:
        """A frozen setting beside a fine-tuned one differs in its kind, and in its scorer if that is another."""
        old, new = arm("old", [trial()]), arm("new", [frozen(scorer)])
        assert alike(old, new, allow=names)[2] == names
        assert f"differ in {', '.join(names)}: " in refusal(old, new)

    @pytest.mark.parametrize(("before", "now"), [((3, 1), (7,)), ((1,), (7, 3)), ((1, 3), (5, 7))])
    def test_nothing_shared_among_several_is_no_pair(self, before: tuple[int, ...], now: tuple[int, ...]) -> None:
        """Both sides' settings are listed in order, and what may differ does not matter."""
        old, new = (arm(name, [trial(m=m) for m in ms]) for name, ms in (("old", before), ("new", now)))
        lists = ["; ".join(f"M = {m}, K1 = 15, K2 = 15, knn" for m in sorted(ms)) for ms in (before, now)]
        assert refusal(old, new, allow=["m"]) == (
            f"Baseline and candidate must share a setting, but old has {lists[0]} and new has {lists[1]}; name one of "
            "each, as in STUDY:BACKBONE:M, or run the same."
        )

    def test_what_one_side_has_alone_is_named_by_the_nearest_shared_one(self) -> None:
        """M = 7 with other K1 and K2 differs from a shared setting in its M alone; each is said with its owner."""
        shared = [trial(m=3, k1=5, k2=5), trial(m=7)]
        old = arm("old", [*shared, trial(m=7, k1=5, k2=5), trial(m=9)])
        new = arm("new", [frozen(), trial(m=7, k2=3), *shared])
        alone = {
            "m": "M = 7, K1 = 5, K2 = 5, knn is in old alone, M = 9, K1 = 15, K2 = 15, knn is in old alone",
            "k2": "M = 7, K1 = 15, K2 = 3, knn is in new alone",
            "kind": "frozen, knn is in new alone",
        }
        listed = f"{alone['k2']}; {alone['kind']}; {alone['m']}"
        assert refusal(old, new) == f"{ALONE}k2, kind, m: {listed}{RUN}--allow k2 --allow kind --allow m."
        assert refusal(old, new, allow=["k2", "m"]) == f"{ALONE}kind: {alone['kind']}{RUN}--allow kind."
        pairs, notes, allowed = alike(old, new, allow=["kind", "m", "k2", "epochs"])
        assert pairs == [(each, each) for each in shared]
        assert allowed == ["k2", "kind", "m"]
        assert notes == [f"Allowed to differ: {alone[name]}." for name in ("k2", "m", "kind")]


class TestRecipes:
    @pytest.mark.parametrize(
        ("before", "now", "found"),
        [
            ({}, {}, {}),
            (RECIPE, RECIPE, {}),
            ({}, RECIPE, {"recipe": "not recorded before"}),
            (RECIPE, {}, {"recipe": "not recorded now"}),
            ({**RECIPE, "mixup": 0.4}, RECIPE, {"mixup": "0.4 before, 0.0 now"}),
            ({**RECIPE, "decays": "all"}, RECIPE, {"decays": "all before, none now"}),
            (RECIPE, {**RECIPE, "decays": "all"}, {"decays": "none before, all now"}),
            ({"epochs": 2}, {"epochs": 2, "below": "drop"}, {}),
            ({"epochs": 2, "below": "drop"}, {"epochs": 2}, {}),
            ({"epochs": 2, "below": "own"}, {"epochs": 3, "below": "drop"},
             {"epochs": "2 before, 3 now", "below": "own before, drop now"}),
        ],
    )  # fmt: skip
    def test_fields_that_differ_have_both_values(
        self, before: dict[str, Any], now: dict[str, Any], found: dict[str, str]
    ) -> None:
        """A field that one side lacks differs; a rule of labeling that one side lacks is not known there."""
        assert _recipes(before, now) == found

    def test_the_first_setting_that_differs_is_named(self) -> None:
        """Once a name, whichever settings differ in it; all names in order."""
        settings = [trial(m=7), trial(m=3)]
        other = {each: {**RECIPE, "mixup": 0.4, "epochs": 9} for each in settings}
        shown = "M = 7, K1 = 15, K2 = 15, knn"
        assert refusal(arm("old", settings), arm("new", settings, other)) == (
            f"{ALONE}epochs, mixup: epochs of {shown} is 2 before, 9 now; mixup of {shown} is 0.0 before, 0.4 now{RUN}"
            "--allow epochs --allow mixup."
        )

    def test_rules_that_one_side_lacks_are_taken_as_equal(self) -> None:
        """Of fine-tuned settings alone, if one of them lacks the rule on one side; and it is said which."""
        settings = [trial(m=3), trial(m=7), frozen()]
        early = {name: value for name, value in RECIPE.items() if name not in ("below", "min_confidence")}
        for lacking, said in (
            ({settings[0]: early}, "below, min_confidence"),
            ({settings[1]: {**early, "below": "drop"}}, "min_confidence"),
            ({settings[2]: early}, None),
        ):
            old, new = arm("old", settings), arm("new", settings, {**dict.fromkeys(settings, RECIPE), **lacking})
            for pair in ((old, new), (new, old)):
                notes = [] if said is None else [f"Not recorded on one side, so taken as equal: {said}."]
                assert alike(*pair)[1:] == (notes, [])

    def test_a_recipe_that_is_not_recorded_says_nothing_of_rules(self) -> None:
        """Where all of it may be absent, its rules are not named besides."""
        old, new = arm("old", [trial()], {}), arm("new", [trial()])
        said = "recipe of M = 1, K1 = 15, K2 = 15, knn is not recorded"
        assert alike(old, new, allow=["recipe"])[1:] == ([f"Allowed to differ: {said} before."], ["recipe"])
        assert alike(new, old, allow=["recipe"])[1:] == ([f"Allowed to differ: {said} now."], ["recipe"])


@pytest.mark.parametrize("name", ["kind", "scorer", "recipe", "m", "loss", "epochs", "below", "min_confidence"])
def test_names_that_may_be_allowed(name: str) -> None:
    """Parts of a setting, fields of the recipe and rules of labeling, though nothing differs."""
    assert alike(arm("old", [trial()]), arm("new", [trial()]), allow=[name]) == ([(trial(), trial())], [], [])


@pytest.mark.parametrize("name", ["backbone", "epoch", ""])
def test_other_names_are_refused(name: str) -> None:
    """The backbone is what differs; a misspelt name is no name."""
    assert refusal(arm("old", [trial()]), arm("new", [trial()]), allow=[name]).startswith("--allow must be one of ")
