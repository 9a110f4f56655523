"""What differs between a baseline and a candidate besides the backbone, and whether that was allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from backbones.training.recipe import FinetuneRecipe
from harness.errors import HarnessError
from harness.gate.baselines import RULES, RecordedArm, Setting
from harness.plugins import unknown
from harness.trials.axes import axis_names

RECIPE = "recipe"  # names all of a recipe, where one side's is not recorded
TRIAL = "trial"  # the kind that is fine-tuned, with labels
ABSENT = "none"


def alike(
    baseline: RecordedArm, candidate: RecordedArm, *, allow: Collection[str] = ()
) -> tuple[list[tuple[Setting, Setting]], list[str], list[str]]:
    """Return which settings are compared, notes on what differs, and the names of what was allowed to differ.

    Args:
        baseline: what was recorded before.
        candidate: what is judged.
        allow: names that may differ or be absent from one side: an axis of a study (`m`), `kind`, `scorer`, a field of
            the recipe (`epochs`), or `recipe` for a file that was exported without one.

    Raises:
        HarnessError: something else differs, they share no setting, or nothing has a name that is allowed.
    """
    of_recipe = (RECIPE, *(each.name for each in fields(FinetuneRecipe)), *RULES)
    known = {"kind", "scorer", *axis_names(but=["backbone"]), *of_recipe}
    for name in allow:
        if name not in known:
            raise HarnessError(unknown("--allow", name, known))
    pairs, differing = _pairs(baseline, candidate)
    for before, now in pairs:
        for name, how in _recipes(baseline.recipes.get(before, {}), candidate.recipes.get(now, {})).items():
            differing.setdefault(name, f"{name} of {now.shown()} is {how}")
    refused = sorted(name for name in differing if name not in allow)
    if refused:
        listed = "; ".join(differing[name] for name in refused)
        ways = " ".join(f"--allow {name}" for name in refused)
        raise HarnessError(
            f"Baseline and candidate must differ in their backbone alone, but {baseline.name} and {candidate.name} "
            f"differ in {', '.join(refused)}: {listed}; run the same of both, or let it pass with {ways}."
        )
    allowed = [f"Allowed to differ: {how}." for how in differing.values()]
    return pairs, allowed + _taken_as_equal(baseline, candidate, pairs), sorted(differing)


def _taken_as_equal(
    baseline: RecordedArm, candidate: RecordedArm, pairs: Collection[tuple[Setting, Setting]]
) -> list[str]:
    """Return a note on rules of labeling that one side's trials did not record yet, so that nobody can compare them."""
    recipes = [
        (baseline.recipes.get(before, {}), candidate.recipes.get(now, {})) for before, now in pairs if now.kind == TRIAL
    ]
    lacking = [name for name in RULES if any(a and b and (name in a) != (name in b) for a, b in recipes)]
    return [f"Not recorded on one side, so taken as equal: {', '.join(lacking)}."] if lacking else []


def _pairs(baseline: RecordedArm, candidate: RecordedArm) -> tuple[list[tuple[Setting, Setting]], dict[str, str]]:
    """Return the pairs of settings, and what differs by name; one setting a side is a pair whatever it is."""
    shared = [setting for setting in baseline.scores if setting in candidate.scores]
    if not shared and len(baseline.scores) == len(candidate.scores) == 1:
        before, now = next(iter(baseline.scores)), next(iter(candidate.scores))
        said = f"{before.shown()} before, {now.shown()} now"
        return [(before, now)], {name: f"{name} ({said})" for name in _names(before, now)}
    if not shared:
        lists = ["; ".join(sorted(each.shown() for each in arm.scores)) for arm in (baseline, candidate)]
        raise HarnessError(
            f"Baseline and candidate must share a setting, but {baseline.name} has {lists[0]} and {candidate.name} has "
            f"{lists[1]}; name one of each, as in STUDY:BACKBONE:M, or run the same."
        )
    differing: dict[str, str] = {}
    alone = [setting for setting in (*baseline.scores, *candidate.scores) if setting not in shared]
    for setting in sorted(alone, key=lambda each: each.shown()):
        owner = baseline if setting in baseline.scores else candidate
        nearest = min((_names(setting, other) for other in shared), key=len)
        for name in nearest:
            said = f"{setting.shown()} is in {owner.name} alone"
            differing[name] = f"{differing[name]}, {said}" if name in differing else said
    return [(setting, setting) for setting in shared], differing


def _names(one: Setting, other: Setting) -> list[str]:
    """Return the names of the parts in which two settings differ; a frozen one has no M that could differ."""
    if one.kind != other.kind:
        return ["kind", *(["scorer"] if one.scorer != other.scorer else [])]
    ours, theirs = one.as_json(), other.as_json()
    return [name for name in ours if ours[name] != theirs[name]]


def _recipes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields in which two recipes differ or that one lacks, with both values.

    Rules of labeling that one lacks are not known there, since early trials did not record them, and are left out.
    """
    if bool(before) != bool(now):
        return {RECIPE: "not recorded before" if now else "not recorded now"}
    return {
        name: f"{before.get(name, ABSENT)} before, {now.get(name, ABSENT)} now"
        for name in {**before, **now}
        if ((name in before) != (name in now) and name not in RULES)
        or (name in before and name in now and before[name] != now[name])
    }
