"""Top-M against Top-1: trials that differ in M alone, paired by seed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, TypedDict, cast

import pandas as pd

from harness.answers.grids import REFERENCE_M, best_families, is_paired, recorded_numbers, recorded_years
from harness.answers.leaderboard import study_trial_keys
from harness.answers.question import BOARD, EVERYTHING, Question, called, curve_columns, differing, recorded_protocol
from harness.errors import HarnessError
from harness.places import differing_libraries
from harness.plugins import unknown
from harness.rules import rule_of
from harness.statistics.comparison import Comparison, compare_arms, compare_numbers
from harness.statistics.power import seeds_needed, seeds_to_reject
from harness.statistics.significance import holm
from harness.stores.results import Results
from harness.tables import in_percent
from harness.told import tell
from harness.trials.axes import choices, shown_cell, study_axes

logger = logging.getLogger(__name__)

FAMILIES = 50  # most families that are compared unless more are asked for: each is up to a second's work
REFUSED = 20  # most families of which the log says why they were not compared
SURE = 0.05  # significance level of the corrected p-value

Trial: TypeAlias = Mapping[str, Any]  # a trial's row of the results tables


class MachineGain(TypedDict):
    """What an M gains on one machine type; fractions."""

    dataset: str
    machine: str
    arm: float
    reference: float
    delta: float
    ci_low: float
    ci_high: float


class _Paired(TypedDict):
    """The comparison of one M with M = 1, before correction for multiple testing."""

    backbone: str
    k1: int | None
    k2: int | None
    fusion: str
    labels: str
    scorer: str
    recipe: str
    protocol: str
    dataset: str
    m: int
    pairs: int
    seeds: list[int]
    seeds_left_out: list[int]
    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    machines_won: int
    machines_lost: int
    machines_tied: int
    seeds_vary: bool
    clips_vary: bool
    machines: list[MachineGain]


class ComparedRow(_Paired):
    """One M against M = 1 in one family and year; fractions. Any further axis of a study is a field, too."""

    p_corrected: float
    differs: bool
    seeds_needed: int | None
    sentence: str


def compare(results: Results, question: Question = EVERYTHING, *, families: int | None = FAMILIES) -> list[ComparedRow]:
    """Compare every M with M = 1 on the seeds that both have, year by year, each year by its own rule.

    A family is all trials that agree in everything but M and the seed: other axes, scorer, recipe, protocol and data.
    Intervals, over clips, machines and seeds, come from `harness.statistics.comparison.compare_arms`. p-values are
    corrected by Holm's procedure for the number of M in the family. If no difference is significant,
    `harness.statistics.power.seeds_needed` estimates how many seeds would show one of the observed size. Trials without
    recorded clip scores are compared by their metrics, with `harness.statistics.comparison.compare_numbers`.

    Args:
        results: the results tables.
        question: which trials, and how the bootstrap draws.
        families: most that are compared, those with the best scores; None compares all, a second or so each.

    Returns:
        One row a family, year and M > 1, with the finding in words under "sentence". A family or an M that cannot be
        compared is left out, and a warning in the log says why.

    Raises:
        HarnessError: nothing is recorded, there is no M = 1 or no other M, or no seed that both have.
    """
    rows, refused = comparisons(results, question, most=families)
    if not rows:
        raise HarnessError(refused[0])
    for reason in refused[:REFUSED]:
        logger.warning("Not compared: %s", reason)
    if len(refused) > REFUSED:
        logger.warning("Not compared: %d more.", len(refused) - REFUSED)
    return rows


def comparisons(
    results: Results, question: Question = EVERYTHING, *, most: int | None = None
) -> tuple[list[ComparedRow], list[str]]:
    """Return the rows of `compare`, and a sentence for each family or M that was not compared.

    Raises:
        HarnessError: nothing is recorded, or nothing of that name.
    """
    trials = trials_with_m(results, question, asked="A comparison")
    rows: list[ComparedRow] = []
    refused: list[str] = []
    families = [family for _, family in trials.groupby(_arms(), dropna=False, sort=False)]
    families, left_out = best_families(families, most)
    refused += [left_out] if left_out else []
    named = differing(_first(family) for family in families if is_paired(family))
    for done, family in enumerate(families):
        tell("comparing", done, len(families))
        try:
            found = _family(results, family, trials, refused, question, named=named)
            rows += [_with_libraries(row, family) for row in found]
        except HarnessError as error:
            refused.append(str(error))
    tell("comparing", len(families), len(families))
    return rows, refused


def _with_libraries(row: ComparedRow, family: pd.DataFrame) -> ComparedRow:
    """Add to a row's sentence that the trials compared ran with different versions of libraries, if they did."""
    compared = family[family["m"].isin([REFERENCE_M, row["m"]]) & family["seed"].isin(row["seeds"])]
    differ = differing_libraries(compared["libraries"])
    more = f" The two ran with different libraries, which may change digits: {differ}." if differ else ""
    return {**row, "sentence": row["sentence"] + more}


def trials_with_m(results: Results, question: Question, *, asked: str) -> pd.DataFrame:
    """Return the finished trials that have an M, a row a trial and scorer.

    Args:
        results: the results tables.
        question: which trials.
        asked: what needs them, for the error: "A comparison".

    Raises:
        HarnessError: there is none, or none of that name.
    """
    trials = results.trial_scores(study_trial_keys(results, question.study) if question.study else question.keys)
    trials = trials[(trials["kind"] == "trial") & trials["m"].notna()]  # baselines without an M have no Top-M
    if trials.empty:
        raise HarnessError(
            f"{asked} needs recorded trials with an M, but there is none yet; run `asdbench demo` or a study."
        )
    protocol = recorded_protocol(question.protocol, set(trials["protocol"]))
    for column, name in {"protocol": protocol, "backbone": question.backbone, "scorer": question.scorer}.items():
        if name is not None:
            if name not in set(trials[column]):
                raise HarnessError(unknown(f"recorded {column}", name, set(trials[column])))
            trials = trials[trials[column] == name]
    return trials


def _arms() -> list[str]:
    return [*BOARD, *curve_columns()]


def _family(
    results: Results,
    family: pd.DataFrame,
    trials: pd.DataFrame,
    refused: list[str],
    question: Question,
    *,
    named: Collection[str],
) -> list[ComparedRow]:
    first = _first(family)
    by_m = {m: _by_seed(family[family["m"] == m]) for m in sorted({int(m) for m in family["m"]})}
    if REFERENCE_M not in by_m or len(by_m) < 2:
        there = ", ".join(map(str, by_m))
        raise HarnessError(
            f"A comparison needs M = 1 and another M, but {_named(first)} has M = {there} alone; "
            f"{_elsewhere(first, by_m, trials) or 'run the others.'}"
        )
    pairs = _paired_seeds(first, by_m, refused)
    clips = results.clip_scores(family["key"], first["scorer"])
    rows: list[ComparedRow] = []
    for dataset in recorded_years(results, family):
        compared: list[tuple[_Paired, Comparison]] = []
        for m, seeds in pairs.items():
            keys = [{one: of_m[one] for one in seeds} for of_m in (by_m[m], by_m[REFERENCE_M])]
            try:
                found = _compared(results, keys, first, clips, dataset, question=question)
            except HarnessError as error:
                refused.append(f"M = {m} against M = 1 for {_named(first)} on {dataset}: {error}")
                continue
            alone = sorted((set(by_m[m]) | set(by_m[REFERENCE_M])) - set(seeds))
            compared.append((_row(first, m, found, dataset=dataset, seeds_left_out=alone), found))
        corrected = holm([found.p_value for _, found in compared])
        rows += [
            _judged(row, found, p_corrected=float(p), tried=len(compared), named=named)
            for (row, found), p in zip(compared, corrected, strict=True)
        ]
    return rows


def _first(trials: pd.DataFrame) -> Trial:
    return cast("Trial", trials.iloc[0].to_dict())


def _by_seed(cells: pd.DataFrame) -> dict[int, str]:
    twice = cells[cells["seed"].duplicated(keep=False)]
    if not twice.empty:
        first = _first(twice)
        raise HarnessError(
            f"A comparison needs one trial a seed, but {_named(first)} with M = {first['m']} and seed {first['seed']} "
            f"is recorded as {' and '.join(twice[twice['seed'] == first['seed']]['key'])}, from protocols of one name "
            "that differ; choose one with --study."
        )
    return dict(zip(cells["seed"].tolist(), cells["key"].tolist(), strict=True))


def _paired_seeds(first: Trial, by_m: Mapping[int, Mapping[int, str]], refused: list[str]) -> dict[int, list[int]]:
    """Return M -> the seeds that it shares with M = 1; an M without any is added to `refused`."""
    pairs: dict[int, list[int]] = {}
    reference = by_m[REFERENCE_M]
    for m, of_m in by_m.items():
        if m == REFERENCE_M:
            continue
        if shared := [seed for seed in of_m if seed in reference]:
            pairs[m] = shared
        else:
            refused.append(
                f"M = {m} and M = 1 must share a seed to be paired, but {_named(first)} has seeds "
                f"{_listed(of_m)} and {_listed(reference)}; run the same seeds."
            )
    return pairs


def _elsewhere(first: Trial, by_m: Mapping[int, object], trials: pd.DataFrame) -> str | None:
    """Say how this family differs from another that has the missing M: the two must not be compared."""
    lacks_reference = REFERENCE_M not in by_m
    wanted = trials[(trials["m"] == REFERENCE_M) == lacks_reference]
    missing = "M = 1" if lacks_reference else "another M"
    for column, word in (
        ("test_data", "other test recordings"),
        ("train_data", "other training recordings"),
        ("recipe", "another recipe"),
    ):
        near = wanted
        for name in _arms():
            if name != column:
                near = near[near[name].isna() if pd.isna(first[name]) else near[name] == first[name]]
        if not near.empty:
            other = near.iloc[0][column]
            return (
                f"{missing} is recorded for {word} ({column} {other}, not {first[column]}), "
                "and the two must not be compared."
            )
    return None


def _compared(
    results: Results,
    keys: Sequence[Mapping[int, str]],
    first: Trial,
    clips: Mapping[str, pd.DataFrame],
    dataset: str,
    *,
    question: Question,
) -> Comparison:
    """Compare by clip scores if every trial has them, else by the recorded metrics."""
    rule = rule_of(dataset)
    if all(key in clips for of_arm in keys for key in of_arm.values()):
        arm, base = (_arm(of_arm, clips, dataset) for of_arm in keys)
        return compare_arms(arm, base, rule, resamples=question.resamples, seed=question.seed)
    wanted = [key for of_arm in keys for key in of_arm.values()]
    numbers = recorded_numbers(results, wanted, scorer=first["scorer"], dataset=dataset)
    arm_numbers, base_numbers = ({one: numbers.get(key, {}) for one, key in of_arm.items()} for of_arm in keys)
    return compare_numbers(arm_numbers, base_numbers, rule, seed=question.seed)


def _row(first: Trial, m: int, found: Comparison, *, dataset: str, seeds_left_out: list[int]) -> _Paired:
    row = {
        **choices(first, study_axes(but=["m"])),
        "scorer": first["scorer"],
        "recipe": first["recipe"],
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
    return cast("_Paired", row)


def _judged(row: _Paired, found: Comparison, *, p_corrected: float, tried: int, named: Collection[str]) -> ComparedRow:
    """Add the corrected p-value, the verdict, the seeds that would show a difference, and the sentence."""
    sure = p_corrected < SURE and _leaves_out_zero(row)
    level = 1 - SURE / tried
    least = seeds_to_reject(len(found.machines), level=level)
    needed = None if sure else seeds_needed(abs(row["delta"]), found.vary, level=level, least=least)
    points = in_percent(abs(row["delta"]))
    more = needed.sentence(f"a difference of {points} points") if needed and points != "0.00" else ""
    judged: ComparedRow = {
        **row,
        "p_corrected": p_corrected,
        "differs": sure,
        "seeds_needed": needed.count if needed else None,
        "sentence": "",
    }
    return {**judged, "sentence": _sentence(judged, more, tried, named)}


def _leaves_out_zero(row: _Paired) -> bool:
    return row["ci_low"] > 0 or row["ci_high"] < 0


def _arm(keys: Mapping[int, str], clips: Mapping[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    tables = [(seed, clips[key]) for seed, key in keys.items()]
    return pd.concat([table[table["dataset"] == dataset].assign(seed=seed) for seed, table in tables])


def _sentence(row: ComparedRow, more: str, tried: int, named: Collection[str]) -> str:
    points = f"{in_percent(abs(row['delta']))} points"
    span = f"95 % CI {in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}"
    machines = row["machines_won"] + row["machines_lost"] + row["machines_tied"]
    whom = f"M = 1 for {called(row, named)} on {row['dataset']}"
    if row["differs"]:
        verb, count = ("beats", row["machines_won"]) if row["delta"] > 0 else ("loses to", row["machines_lost"])
        found = f"M = {row['m']} {verb} {whom} by {points} ({span}), on {count} of {machines} machines"
    else:
        found = (
            f"M = {row['m']} against {whom}: no difference that these data can show "
            f"({in_percent(row['delta'], signed=True)} points, {span}, corrected p = {row['p_corrected']:.2f})"
        )
        if _leaves_out_zero(row):
            found += f": the interval leaves out zero, but {_why_not(row, tried)}"
    return f"{'; '.join([found, *([more] if more else []), *_caveats(row)])}."


def _why_not(row: ComparedRow, tried: int) -> str:
    """Say why a difference is not significant although its interval excludes zero."""
    if row["p_value"] < SURE:
        return f"it is for one M alone and {tried} were tried"
    return f"the paired test does not (p = {row['p_value']:.2f})"


def _caveats(row: ComparedRow) -> list[str]:
    """Return what a reader must know of an interval."""
    said = []
    if not row["seeds_vary"]:
        said.append("one seed, so the interval knows nothing of how seeds differ")
    if not row["clips_vary"]:
        said.append("no clip scores are recorded, so the interval rests on machines and seeds alone")
    if row["seeds_left_out"]:
        said.append(f"without seeds {_listed(row['seeds_left_out'])}, which one arm alone has")
    return said


def _named(first: Trial) -> str:
    """Name a family in words: "small (K1 = 15, K2 = 15, composite, knn)"."""
    cell = shown_cell(choices(first, study_axes(but=["backbone", "m", "labels"])), whole=True)
    return f"{called(first)} ({', '.join(filter(None, [cell, first['scorer']]))})"


def _listed(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))
