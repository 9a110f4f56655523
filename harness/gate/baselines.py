"""References to recorded results, such as `STUDY:BACKBONE:M`, a trial's key or an exported file, and what they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backbones.training.recipe import FinetuneRecipe
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.stores.readings import TEST_COLUMNS
from harness.stores.results import Results
from harness.trials.axes import Choice, axis_names, choices, shown_cell, study_axes

FROZEN = "frozen"  # instead of M in a reference, as in STUDY:BACKBONE:frozen
RULES = ("below", "min_confidence")  # of labeling; early trials did not record them beside their recipe


@dataclass(frozen=True)
class Setting:
    """All choices of a trial but its backbone and seed. A candidate and a baseline are compared in equal settings.

    Attributes:
        kind: trial, frozen, level or external.
        cell: the values of the study's axes without the backbone, in the order of AXES: M, K1, K2, fusion, labels.
        scorer: in canonical form.
    """

    kind: str
    cell: tuple[Choice, ...]
    scorer: str

    def as_json(self) -> dict[str, Choice]:
        """Return it by the names of its parts."""
        return {"kind": self.kind, **dict(zip(_axis_names(), self.cell, strict=True)), "scorer": self.scorer}

    def shown(self) -> str:
        """Return it in words."""
        cell = shown_cell(self.as_json()) if self.kind == "trial" else self.kind
        return ", ".join(filter(None, [cell, self.scorer]))


def _axis_names() -> list[str]:
    return axis_names(but=["backbone"])


@dataclass(frozen=True)
class RecordedArm:
    """One backbone's recorded trials on one set of recordings.

    Attributes:
        name: the reference by which it was found.
        backbone: as leaderboards print it; "level" for the level row.
        protocol: by name.
        train_data: fingerprint of the training recordings.
        test_data: fingerprint of the test recordings.
        clips: the test clips, with TEST_COLUMNS.
        scores: setting -> seed -> (n,) scores of the clips, in their order.
        trials: setting -> seed -> trial key.
        recipes: setting -> the recipe's fields by name, whole (`whole_recipe`), and rules of labeling where these
            are recorded; files that were exported before recipes were written have none.
    """

    name: str
    backbone: str
    protocol: str
    train_data: str
    test_data: str
    clips: pd.DataFrame
    scores: Mapping[Setting, Mapping[int, NDArray[np.float64]]]
    trials: Mapping[Setting, Mapping[int, str]]
    recipes: Mapping[Setting, Mapping[str, Any]] = field(default_factory=dict)

    def years(self) -> list[str]:
        """Return the years that were scored."""
        return sorted({str(year) for year in self.clips["dataset"]})

    def table(self, setting: Setting, dataset: str, seeds: tuple[int, ...]) -> pd.DataFrame:
        """Return the scored clips of one setting and year, a row a seed and clip."""
        of_year = (self.clips["dataset"] == dataset).to_numpy()
        clips = self.clips[of_year]
        tables = [clips.assign(seed=seed, score=self.scores[setting][seed][of_year]) for seed in seeds]
        return pd.concat(tables, ignore_index=True)


def find_arm(results: Results, reference: str, *, scorer: str | None = None) -> RecordedArm:
    """Return the trials that a reference names: a run id, a trial key, or STUDY[:BACKBONE[:M]].

    Args:
        results: the results tables.
        reference: STUDY is a name (its newest) or key; M is a number, or "frozen".
        scorer: only this scorer's.

    Raises:
        HarnessError: nothing recorded has that name, it names several backbones, or clip scores are missing.
    """
    trials = results.trial_scores()
    if trials.empty:
        raise HarnessError(f"{reference!r} must name recorded trials, but there is none yet; run a study first.")
    one = trials[(trials["key"] == reference) | (trials["run_id"] == reference)]
    chosen = _of_study(results, trials, reference) if one.empty else one
    if scorer is not None:
        if scorer not in set(chosen["scorer"]):
            raise HarnessError(unknown(f"scorer of {reference}", scorer, set(chosen["scorer"])))
        chosen = chosen[chosen["scorer"] == scorer]
    details = results.recorded(chosen["key"]).set_index("key")["detail"]
    return _arm(results, reference, chosen.assign(detail=chosen["key"].map(details)))


def _of_study(results: Results, trials: pd.DataFrame, reference: str) -> pd.DataFrame:
    study, _, rest = reference.partition(":")
    recorded = results.studies()
    found = recorded[(recorded["name"] == study) | (recorded["key"] == study) | (recorded["run_id"] == study)]
    if found.empty:
        raise HarnessError(
            unknown("run, trial or recorded study", study, set(recorded["name"]))
            + " An exported baseline is named by its file, which ends in .json or .json.gz."
        )
    chosen = trials[trials["key"].isin(results.study_keys(str(found["key"].iloc[-1]))) & (trials["kind"] != "level")]
    if chosen.empty:
        raise HarnessError(f"{study} must have finished trials to be judged by, but has none; run it to its end.")
    backbones = sorted(set(chosen["backbone"]))
    # names of backbones may have a colon in them, as hf:FOLDER
    backbone, _, m = (rest, "", "") if rest in backbones or ":" not in rest else rest.rpartition(":")
    if not backbone and len(backbones) > 1:
        raise HarnessError(
            f"{reference} must name one backbone, but holds {', '.join(backbones)}; write {study}:{backbones[0]}."
        )
    if backbone and backbone not in backbones:
        raise HarnessError(unknown(f"backbone of {study}", backbone, set(backbones)))
    chosen = chosen[chosen["backbone"] == backbone] if backbone else chosen
    return _of_m(chosen, reference, m) if m else chosen


def _of_m(chosen: pd.DataFrame, reference: str, m: str) -> pd.DataFrame:
    kept = chosen[chosen["kind"] == FROZEN] if m == FROZEN else chosen[chosen["m"].astype("Int64").astype(str) == m]
    if kept.empty:
        known = [str(value) for value in sorted({int(value) for value in chosen["m"].dropna()})]
        known += [FROZEN] if (chosen["kind"] == FROZEN).any() else []
        raise HarnessError(f"M of {reference} must be one of {', '.join(known)}, as recorded, but got {m!r}.")
    return kept


def _arm(results: Results, reference: str, chosen: pd.DataFrame) -> RecordedArm:
    first = chosen.iloc[0]
    scores: dict[Setting, dict[int, NDArray[np.float64]]] = {}
    keys: dict[Setting, dict[int, str]] = {}
    recipes: dict[Setting, dict[str, Any]] = {}
    digests: dict[Setting, str] = {}
    clips = pd.DataFrame()
    for scorer, rows in chosen.groupby("scorer", sort=True):
        found = results.clip_scores(rows["key"], str(scorer))
        if bare := sorted(set(rows["key"]) - set(found)):
            raise HarnessError(
                f"{reference} must hold trials with clip scores, by which results are paired, but trial {bare[0]} is "
                "recorded without any; run it again."
            )
        for row in rows.to_dict("records"):
            table = found[str(row["key"])]
            clips = table[TEST_COLUMNS] if clips.empty else clips
            setting = _setting(row)
            recipe, before = _recipe(row), recipes.get(setting)
            same_digest = digests.setdefault(setting, str(row["recipe"])) == str(row["recipe"])
            alike = before is None or _agree(before, recipe, same_digest=same_digest)
            if int(row["seed"]) in scores.get(setting, {}) or not alike:
                raise HarnessError(
                    f"{reference} must hold one recipe of a setting and one trial a seed, but has more of "
                    f"{setting.shown()}, seed {row['seed']}; name a study that holds one."
                )
            recipes[setting] = {**(before or {}), **recipe}
            scores.setdefault(setting, {})[int(row["seed"])] = table["score"].to_numpy(dtype=np.float64)
            keys.setdefault(setting, {})[int(row["seed"])] = str(row["key"])
    backbone = "level" if pd.isna(first["backbone"]) else str(first["backbone"])
    return RecordedArm(
        reference, backbone, str(first["protocol"]), str(first["train_data"]), str(first["test_data"]), clips,
        scores, keys, recipes,
    )  # fmt: skip


def _setting(row: Mapping[Any, Any]) -> Setting:
    cell = tuple(choices(row, study_axes(but=["backbone"])).values())
    return Setting(str(row["kind"]), cell, str(row["scorer"]))


def _recipe(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the fields of a trial's recipe that are no axes of a study, with its rules of labeling."""
    detail = json.loads(row["detail"])
    said = {**whole_recipe(detail.get("recipe") or {}), **(detail.get("labeling") or {})}
    return {name: value for name, value in said.items() if name not in _axis_names()}


def whole_recipe(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded recipe with the fields that came later, at their defaults, which change nothing of before.

    Keys leave such fields out for the same reason (`backbones.training.recipe.FIRST_RELEASE`). A recipe of which
    nothing is recorded stays empty.
    """
    if not said:
        return {}
    later = {each.name: each.default for each in fields(FinetuneRecipe) if each.name not in _axis_names()}
    return {**later, **said}


def _agree(one: Mapping[str, Any], other: Mapping[str, Any], *, same_digest: bool) -> bool:
    """Tell whether two trials of a setting have one recipe; what one of them did not record, their digests hold."""
    if any(one[name] != other[name] for name in one.keys() & other.keys()):
        return False
    told = one.keys() == other.keys() and (not one or one.keys() >= set(RULES))
    return told or same_digest


def of_scorer(arm: RecordedArm, scorer: str | None) -> RecordedArm:
    """Return the part of an arm that one scorer scored; all of it where none is named.

    Raises:
        HarnessError: it has no such scorer.
    """
    if scorer is None:
        return arm
    there = {setting.scorer for setting in arm.scores}
    if scorer not in there:
        raise HarnessError(unknown(f"scorer of {arm.name}", scorer, there))
    scores = {setting: values for setting, values in arm.scores.items() if setting.scorer == scorer}
    trials = {setting: keys for setting, keys in arm.trials.items() if setting.scorer == scorer}
    recipes = {setting: recipe for setting, recipe in arm.recipes.items() if setting.scorer == scorer}
    return replace(arm, scores=scores, trials=trials, recipes=recipes)
