"""Top-M against Top-1, paired by backbone, K1, K2, fusion, scorer, recipe and seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.contract import HarnessError
from harness.leaderboard import BOARD, study_trial_keys
from harness.plugins import unknown
from harness.report import in_percent
from harness.results import Results
from harness.statistics import compare_arms, holm
from harness.trial import rule_of

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

    The interval is `harness.statistics.compare_arms`'s, over clips, machines and seeds; p-values are corrected by
    Holm's procedure for the number of M that one family tried (one backbone, K1, K2, fusion, scorer and year).

    Args:
        results: the results tables.
        study: only this study's trials, by name or key.
        protocol: only this protocol's.
        backbone: only this backbone's.
        scorer: only this scorer's.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One row a family, year and M > 1; fractions throughout, with the finding in words under "sentence".

    Raises:
        HarnessError: nothing is recorded, there is no M = 1 or no other M, or no seed that both have.
    """
    trials = results.trial_scores(study_trial_keys(results, study) if study else None)
    if not trials.empty:
        trials = trials[(trials["kind"] == "trial") & trials["m"].notna()]  # baselines without an M have no Top-M
    if trials.empty:
        raise HarnessError("A comparison needs recorded trials, but there is none yet; run `asdbench demo` or a study.")
    for column, name in (("protocol", protocol), ("backbone", backbone), ("scorer", scorer)):
        if name is not None:
            if name not in set(trials[column]):
                raise HarnessError(unknown(f"recorded {column}", name, set(trials[column])))
            trials = trials[trials[column] == name]
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for _, family in trials.groupby(ARMS, dropna=False, sort=False):
        try:
            rows += _family(results, family, resamples=resamples, seed=seed)
        except HarnessError as error:
            reasons.append(str(error))
    if not rows:
        raise HarnessError(reasons[0])
    return rows


def _family(results: Results, family: pd.DataFrame, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    first = family.iloc[0]
    name = f"{_called(first)} ({_numbers(first)}, {first['fusion']}, {first['scorer']})"
    by_m = {int(str(m)): cells.set_index("seed")["key"] for m, cells in family.astype({"m": int}).groupby("m")}
    if REFERENCE_M not in by_m or len(by_m) < 2:
        there = ", ".join(map(str, by_m))
        raise HarnessError(f"A comparison needs M = 1 and another M, but {name} has M = {there} alone; run the others.")
    clips = results.clip_scores(family["key"], first["scorer"])
    rows: list[dict[str, Any]] = []
    for dataset in sorted(set(next(iter(clips.values()))["dataset"])):
        compared = [
            _row(first, m, keys, by_m[REFERENCE_M], clips, dataset=str(dataset), resamples=resamples, seed=seed)
            for m, keys in by_m.items()
            if m != REFERENCE_M
        ]
        corrected = holm([row["p_value"] for row in compared])
        rows += [
            {**row, "p_corrected": float(p), "sentence": _sentence({**row, "p_corrected": float(p)})}
            for row, p in zip(compared, corrected, strict=True)
        ]
    return rows


def _row(
    first: Any,
    m: int,
    keys: pd.Series[str],
    reference: pd.Series[str],
    clips: dict[str, pd.DataFrame],
    *,
    dataset: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    seeds = sorted(set(keys.index) & set(reference.index))
    if not seeds:
        raise HarnessError(
            f"M = {m} and M = 1 must share a seed to be paired, but {first['backbone']} has seeds "
            f"{_listed(keys.index)} and {_listed(reference.index)}; run the same seeds."
        )
    arm, base = (_arm(which, seeds, clips, dataset) for which in (keys, reference))
    found = compare_arms(arm, base, rule_of(dataset), resamples=resamples, seed=seed)
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
        "delta": found.delta,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "machines_won": found.machines_won,
        "machines_lost": found.machines_lost,
        "machines_tied": found.machines_tied,
        "seeds_vary": found.seeds_vary,
        "machines": [asdict(each) for each in found.machines],
    }


def _arm(keys: pd.Series[str], seeds: list[int], clips: dict[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    def scored() -> Iterator[pd.DataFrame]:
        for seed in seeds:
            table = clips[keys.loc[seed]]
            yield table[table["dataset"] == dataset].assign(seed=seed)

    return pd.concat(list(scored()), ignore_index=True)


def _sentence(row: dict[str, Any]) -> str:
    points = f"{in_percent(abs(row['delta']))} points"
    span = f"95 % CI {in_percent(row['ci_low'], signed=True)} to {in_percent(row['ci_high'], signed=True)}"
    machines = row["machines_won"] + row["machines_lost"] + row["machines_tied"]
    once = "" if row["seeds_vary"] else "; one seed, so the interval knows nothing of how seeds differ"
    who = f"M = {row['m']} {{}} M = 1 for {_called(row)} on {row['dataset']}"
    if row["p_corrected"] < SURE and row["ci_low"] * row["ci_high"] > 0:
        verb, count = ("beats", row["machines_won"]) if row["delta"] > 0 else ("loses to", row["machines_lost"])
        return f"{who.format(verb)} by {points} ({span}), on {count} of {machines} machines{once}."
    return (
        f"{who.format('against')}: no difference that these data can show "
        f"({in_percent(row['delta'], signed=True)} points, {span}, corrected p = {row['p_corrected']:.2f}){once}."
    )


def _called(row: Any) -> str:
    """Name a backbone, and the labels where they are not the paper's."""
    return str(row["backbone"]) if row["labels"] == "paper" else f"{row['backbone']} with {row['labels']} labels"


def _numbers(first: Any) -> str:
    known = ((name, first[name]) for name in ("k1", "k2") if not pd.isna(first[name]))
    return ", ".join(f"{name.upper()} = {value:.0f}" for name, value in known)


def _listed(values: Any) -> str:
    return ", ".join(str(value) for value in sorted(values))
