"""Top-M against Top-1, paired by backbone, K1, K2, fusion, scorer, recipe and seed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.answers.leaderboard import BOARD, study_trial_keys
from harness.answers.recorded import recorded_numbers
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.rules import rule_of
from harness.statistics.comparison import Comparison, compare_arms, compare_numbers
from harness.statistics.power import seeds_needed, seeds_to_reject
from harness.statistics.significance import holm
from harness.stores.results import Results
from harness.tables import in_percent

logger = logging.getLogger(__name__)

ARMS = [*BOARD, "backbone", "k1", "k2", "fusion", "labels", "scorer", "recipe"]
REFERENCE_M = 1
SURE = 0.05  # of the corrected p-value


def compare(
    results: Results,
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare every M with M = 1 on the seeds that both have, year by year, each year by its own rule.

    The interval is `harness.statistics.comparison.compare_arms`'s, over clips, machines and seeds; p-values are
    corrected by Holm's procedure for the number of M that one family tried (one backbone, K1, K2, fusion, scorer and
    year). Where no difference shows, `harness.statistics.power.seeds_needed` says how many seeds would show one of the
    size seen. Trials that
    are recorded without clip scores are compared by their metrics: `harness.statistics.comparison.compare_numbers`.

    Args:
        results: the results tables.
        study: only this study's trials, by name or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One row a family, year and M > 1; fractions throughout, with the finding in words under "sentence". A family
        or an M that cannot be compared is left out, and a warning in the log says why.

    Raises:
        HarnessError: nothing is recorded, there is no M = 1 or no other M, or no seed that both have.
    """
    rows, refused = comparisons(
        results, study=study, protocol=protocol, backbone=backbone, scorer=scorer, resamples=resamples, seed=seed
    )
    if not rows:
        raise HarnessError(refused[0])
    for reason in refused:
        logger.warning("Not compared: %s", reason)
    return rows


def comparisons(
    results: Results,
    *,
    study: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    scorer: str | None = None,
    keys: Collection[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of `compare`, and a sentence for whatever could not be compared without misleading.

    Args:
        results: and all others as in `compare`.
        study: as there.
        protocol: as there.
        backbone: as there.
        scorer: as there.
        keys: only the trials with these keys, instead of a study's.
        resamples: as there.
        seed: as there.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    trials = trials_with_m(
        results, "A comparison", study=study, protocol=protocol, backbone=backbone, scorer=scorer, keys=keys
    )
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    for _, family in trials.groupby(ARMS, dropna=False, sort=False):
        try:
            rows += _family(results, family, trials, refused, resamples=resamples, seed=seed)
        except HarnessError as error:
            refused.append(str(error))
    return rows, refused


def trials_with_m(
    results: Results,
    question: str,
    *,
    study: str | None,
    protocol: str | None,
    backbone: str | None,
    scorer: str | None,
    keys: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the finished trials that have an M, a row a trial and scorer.

    Args:
        results: the results tables.
        question: what needs them, for the error.
        study: only this study's, by name or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's.
        keys: only the trials with these keys, instead of a study's.

    Raises:
        HarnessError: there is none, or none of that name.
    """
    trials = results.trial_scores(study_trial_keys(results, study) if study else keys)
    if not trials.empty:
        trials = trials[(trials["kind"] == "trial") & trials["m"].notna()]  # baselines without an M have no Top-M
    if trials.empty:
        raise HarnessError(
            f"{question} needs recorded trials with an M, but there is none yet; run `asdbench demo` or a study."
        )
    for column, name in (("protocol", protocol), ("backbone", backbone), ("scorer", scorer)):
        if name is not None:
            if name not in set(trials[column]):
                raise HarnessError(unknown(f"recorded {column}", name, set(trials[column])))
            trials = trials[trials[column] == name]
    return trials


def _family(
    results: Results, family: pd.DataFrame, trials: pd.DataFrame, refused: list[str], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    first = family.iloc[0]
    by_m = {int(str(m)): _by_seed(cells) for m, cells in family.astype({"m": int}).groupby("m")}
    if REFERENCE_M not in by_m or len(by_m) < 2:
        there = ", ".join(map(str, by_m))
        raise HarnessError(
            f"A comparison needs M = 1 and another M, but {_named(first)} has M = {there} alone; "
            f"{_elsewhere(first, by_m, trials) or 'run the others.'}"
        )
    pairs = _paired_seeds(first, by_m, refused)
    clips = results.clip_scores(family["key"], first["scorer"])
    rows: list[dict[str, Any]] = []
    for dataset in _years(results, first, clips):
        compared: list[tuple[dict[str, Any], Comparison]] = []
        for m, seeds in pairs.items():
            keys = [{one: of_m[one] for one in seeds} for of_m in (by_m[m], by_m[REFERENCE_M])]
            try:
                found = _compared(results, keys, first, clips, dataset=dataset, resamples=resamples, seed=seed)
            except HarnessError as error:
                refused.append(f"M = {m} against M = 1 for {_named(first)} on {dataset}: {error}")
                continue
            alone = sorted((set(by_m[m]) | set(by_m[REFERENCE_M])) - set(seeds))
            compared.append((_row(first, m, found, dataset=dataset, seeds_left_out=alone), found))
        corrected = holm([found.p_value for _, found in compared])
        rows += [
            _judged(row, found, p_corrected=float(p), tried=len(compared))
            for (row, found), p in zip(compared, corrected, strict=True)
        ]
    return rows


def _by_seed(cells: pd.DataFrame) -> dict[int, str]:
    twice = cells[cells["seed"].duplicated(keep=False)]
    if not twice.empty:
        first = twice.iloc[0]
        raise HarnessError(
            f"A comparison needs one trial a seed, but {_named(first)} with M = {first['m']} and seed {first['seed']} "
            f"is recorded as {' and '.join(twice[twice['seed'] == first['seed']]['key'])}, from protocols of one name "
            "that differ; choose one with --study."
        )
    return {int(seed): str(key) for seed, key in zip(cells["seed"], cells["key"], strict=True)}


def _paired_seeds(first: Any, by_m: Mapping[int, Mapping[int, str]], refused: list[str]) -> dict[int, list[int]]:
    """Return the seeds that each M shares with M = 1; an M without any is refused."""
    pairs: dict[int, list[int]] = {}
    reference = by_m[REFERENCE_M]
    for m, of_m in by_m.items():
        shared = sorted(set(of_m) & set(reference))
        if m != REFERENCE_M and shared:
            pairs[m] = shared
        elif m != REFERENCE_M:
            refused.append(
                f"M = {m} and M = 1 must share a seed to be paired, but {_named(first)} has seeds "
                f"{_listed(of_m)} and {_listed(reference)}; run the same seeds."
            )
    return pairs


def _elsewhere(first: Any, by_m: Mapping[int, Any], trials: pd.DataFrame) -> str | None:
    """Say what tells this family apart from one that has the missing M: it must not be compared with that one."""
    lacks_reference = REFERENCE_M not in by_m
    wanted = trials[(trials["m"] == REFERENCE_M) == lacks_reference]
    missing = "M = 1" if lacks_reference else "another M"
    for column, word in (
        ("test_data", "other test recordings"),
        ("train_data", "other training recordings"),
        ("recipe", "another recipe"),
    ):
        near = wanted
        for name in ARMS:
            if name != column:
                near = near[near[name].isna() if pd.isna(first[name]) else near[name] == first[name]]
        if not near.empty:
            other = near.iloc[0][column]
            return (
                f"{missing} is recorded for {word} ({column} {other}, not {first[column]}), "
                "and the two must not be compared."
            )
    return None


def _years(results: Results, first: Any, clips: Mapping[str, pd.DataFrame]) -> list[str]:
    if clips:
        return sorted({str(year) for year in next(iter(clips.values()))["dataset"]})
    return sorted({str(year) for year in results.metrics([first["key"]])["dataset"]})


def _compared(
    results: Results,
    keys: Sequence[Mapping[int, str]],
    first: Any,
    clips: Mapping[str, pd.DataFrame],
    *,
    dataset: str,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare by clips where every trial has them, else by the metrics that are recorded."""
    rule = rule_of(dataset)
    if all(key in clips for of_arm in keys for key in of_arm.values()):
        arm, base = (_arm(of_arm, clips, dataset) for of_arm in keys)
        return compare_arms(arm, base, rule, resamples=resamples, seed=seed)
    wanted = [key for of_arm in keys for key in of_arm.values()]
    numbers = recorded_numbers(results, wanted, scorer=first["scorer"], dataset=dataset)
    arm_numbers, base_numbers = ({one: numbers.get(key, {}) for one, key in of_arm.items()} for of_arm in keys)
    return compare_numbers(arm_numbers, base_numbers, rule, seed=seed)


def _row(first: Any, m: int, found: Comparison, *, dataset: str, seeds_left_out: list[int]) -> dict[str, Any]:
    return {
        "backbone": first["backbone"],
        **{name: None if pd.isna(first[name]) else int(first[name]) for name in ("k1", "k2")},
        "fusion": first["fusion"],
        "labels": first["labels"],
        "scorer": first["scorer"],
        "protocol": first["protocol"],
        "dataset": dataset,
        "m": m,
        "pairs": found.pairs,
        "seeds": list(found.seeds),
        "seeds_left_out": seeds_left_out,
        "delta": found.delta,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "machines_won": found.machines_won,
        "machines_lost": found.machines_lost,
        "machines_tied": found.machines_tied,
        "seeds_vary": found.seeds_vary,
        "clips_vary": found.clips_vary,
        "machines": [asdict(each) for each in found.machines],
    }


def _judged(row: Mapping[str, Any], found: Comparison, *, p_corrected: float, tried: int) -> dict[str, Any]:
    """Add the corrected p-value, the verdict, the seeds that would show a difference, and the sentence."""
    sure = p_corrected < SURE and row["ci_low"] * row["ci_high"] > 0
    level = 1 - SURE / tried
    least = seeds_to_reject(len(found.machines), level=level)
    needed = None if sure else seeds_needed(abs(row["delta"]), found.vary, level=level, least=least)
    judged = {
        **row,
        "p_corrected": p_corrected,
        "differs": sure,
        "seeds_needed": needed.count if needed else None,
        "sentence": "",
    }
    size = f"a difference of {in_percent(abs(row['delta']))} points"
    more = needed.sentence(size) if needed and in_percent(abs(row["delta"])) != "0.00" else ""
    return {**judged, "sentence": _sentence(judged, more, tried)}


def _arm(keys: Mapping[int, str], clips: Mapping[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    tables = [(seed, clips[key]) for seed, key in keys.items()]
    return pd.concat(
        [table[table["dataset"] == dataset].assign(seed=seed) for seed, table in tables], ignore_index=True
    )


def _sentence(row: Mapping[str, Any], more: str, tried: int) -> str:
    points = f"{in_percent(abs(row['delta']))} points"
    span = f"95 % CI {in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}"
    machines = row["machines_won"] + row["machines_lost"] + row["machines_tied"]
    who = f"M = {row['m']} {{}} M = 1 for {called(row)} on {row['dataset']}"
    if row["differs"]:
        verb, count = ("beats", row["machines_won"]) if row["delta"] > 0 else ("loses to", row["machines_lost"])
        found = f"{who.format(verb)} by {points} ({span}), on {count} of {machines} machines"
    else:
        found = (
            f"{who.format('against')}: no difference that these data can show "
            f"({in_percent(row['delta'], signed=True)} points, {span}, corrected p = {row['p_corrected']:.2f})"
        )
        if row["ci_low"] * row["ci_high"] > 0:
            found += f": the interval leaves out zero, but {_why_not(row, tried)}"
    return f"{'; '.join([found, *([more] if more else []), *_caveats(row)])}."


def _why_not(row: Mapping[str, Any], tried: int) -> str:
    """Say why a difference whose interval leaves out zero does not count as shown."""
    if row["p_value"] < SURE:
        return f"it is for one M alone and {tried} were tried"
    return f"the paired test does not (p = {row['p_value']:.2f})"


def _caveats(row: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know of an interval."""
    said = []
    if not row["seeds_vary"]:
        said.append("one seed, so the interval knows nothing of how seeds differ")
    if not row["clips_vary"]:
        said.append("no clip scores are recorded, so the interval rests on machines and seeds alone")
    if row["seeds_left_out"]:
        said.append(f"without seeds {_listed(row['seeds_left_out'])}, which one arm alone has")
    return said


def _named(first: Any) -> str:
    numbers = _numbers(first)
    return f"{called(first)} ({', '.join([*([numbers] if numbers else []), first['fusion'], first['scorer']])})"


def called(row: Any) -> str:
    """Name a backbone, and the labels where they are not the paper's."""
    return str(row["backbone"]) if row["labels"] == "paper" else f"{row['backbone']} with {row['labels']} labels"


def _numbers(first: Any) -> str:
    known = ((name, first[name]) for name in ("k1", "k2") if not pd.isna(first[name]))
    return ", ".join(f"{name.upper()} = {value:.0f}" for name, value in known)


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in sorted(values))
