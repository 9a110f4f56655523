"""Test of non-inferiority: is a candidate worse than a recorded baseline by more than a margin?"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict, cast

import numpy as np

from harness.errors import HarnessError
from harness.gate.baselines import RecordedArm, Setting
from harness.gate.unlike import alike
from harness.rules import rule_of
from harness.statistics.comparison import Comparison, compare_arms
from harness.statistics.margin import FREEDOM_PER_SEED, margin_low, spent_level
from harness.statistics.power import SeedsNeeded, seeds_needed
from harness.statistics.significance import ROUNDING
from harness.tables import in_percent

MARGIN_POINTS = 0.5  # of the official score, in percent
LEVEL = 0.90  # of the two-sided interval, so that each end is a one-sided 95 % bound

Finding: TypeAlias = Literal["accepted", "worse", "unclear"]


class VerdictRow(TypedDict):
    """The verdict on one setting and year, for the official score (`machine` is None) or one machine type; fractions.

    Any further axis of a study is a field, too.
    """

    setting: str
    kind: str
    m: int | None
    k1: int | None
    k2: int | None
    fusion: str
    labels: str
    scorer: str
    dataset: str
    seeds: int
    baseline_seeds: int
    paired: bool
    baseline_score: float
    candidate_score: float
    delta: float
    low: float
    high: float
    verdict: Finding
    seeds_needed: int | None
    machine: str | None


class Verdict(TypedDict):
    """Whether a candidate is accepted, and why: `sentences` has one a setting and year."""

    accepted: bool
    verdict: Finding
    margin: float
    baseline: str
    candidate: str
    protocol: str
    rows: list[VerdictRow]
    sentences: list[str]
    notes: list[str]
    allowed: list[str]


@dataclass(frozen=True)
class _Pairing:
    """Which seeds of a baseline and a candidate are compared, and whether seed by seed."""

    baseline: tuple[int, ...]
    candidate: tuple[int, ...]
    paired: bool


def regress(
    baseline: RecordedArm,
    candidate: RecordedArm,
    *,
    margin: float = MARGIN_POINTS,
    resamples: int = 1000,
    seed: int = 0,
    allow: Collection[str] = (),
) -> Verdict:
    """Judge a candidate against a baseline, setting by setting and year by year.

    A setting is a scorer with either frozen, or values of M, K1, K2, fusion and labels. It is accepted if the lower end
    of the one-sided 95 % interval of candidate - baseline is at least -margin: a test of non-inferiority (Wellek 2010,
    Testing Statistical Hypotheses of Equivalence and Noninferiority, chapter 2). The interval over clips, machines and
    seeds is that of `compare_arms`, and its lower end is that of `harness.statistics.margin.margin_low` where that is
    lower. One seed says nothing of how seeds differ, so a setting with one seed is "unclear", unless both sides have
    the very same scores. The candidate is accepted if every setting is: an intersection-union test, which
    needs no correction for multiple testing (Berger 1982, Technometrics 24:295). A setting for which the data do not
    suffice to tell ("unclear") is not accepted.

    Seeds are paired if one side's seeds are a subset of the other's; otherwise the two sets of seeds are treated as
    independent.

    Args:
        baseline: what was recorded before.
        candidate: what is judged.
        margin: largest loss of the official score that does not matter, in percentage points.
        resamples: of the bootstrap.
        seed: of its draws.
        allow: names of settings and of the recipe's fields that may differ, or be absent from one side.

    Returns:
        "accepted", "verdict", "sentences", "notes", "allowed" (what differs and was allowed to), and "rows": for each
        setting and year one for the official score and one for each machine type, in fractions. The verdict on a
        machine type is only informative: acceptance depends on the official score alone.

    Raises:
        HarnessError: the margin is no number of points; the two are of different protocols or recordings, differ in a
            setting or recipe that is not allowed to, or share no setting.
    """
    if not (math.isfinite(margin) and 0 <= margin <= 100):
        raise HarnessError(f"margin must be between 0 and 100 points of the official score, but got {margin:g}.")
    fraction = margin / 100
    _check_comparable(baseline, candidate)
    pairs, notes, allowed = alike(baseline, candidate, allow=allow)
    rows: list[VerdictRow] = []
    sentences: list[str] = []
    for of_baseline, of_candidate in pairs:
        pairing = _pair_seeds(tuple(baseline.scores[of_baseline]), tuple(candidate.scores[of_candidate]))
        for dataset in baseline.years():
            found = compare_arms(
                candidate.table(of_candidate, dataset, pairing.candidate),
                baseline.table(of_baseline, dataset, pairing.baseline),
                rule_of(dataset), resamples=resamples, seed=seed, level=LEVEL, paired=pairing.paired,
            )  # fmt: skip
            official = _official_row(of_candidate, dataset, pairing, found, fraction, seed=seed)
            rows += [official, *_machine_rows(official, found, fraction)]
            sentences.append(_sentence(baseline, candidate, official, found, fraction))
    verdicts = {row["verdict"] for row in rows if row["machine"] is None}
    verdict: Finding = "worse" if "worse" in verdicts else "unclear" if "unclear" in verdicts else "accepted"
    return {
        "accepted": verdict == "accepted",
        "verdict": verdict,
        "margin": fraction,
        "baseline": baseline.name,
        "candidate": candidate.name,
        "protocol": baseline.protocol,
        "rows": rows,
        "sentences": sentences,
        "notes": notes,
        "allowed": allowed,
    }


def _check_comparable(baseline: RecordedArm, candidate: RecordedArm) -> None:
    for name, word in (
        ("protocol", "protocol"),
        ("train_data", "training recordings"),
        ("test_data", "test recordings"),
    ):
        before, now = getattr(baseline, name), getattr(candidate, name)
        if before != now:
            raise HarnessError(
                f"Baseline and candidate must have the same {word}, but {baseline.name} has {before} and "
                f"{candidate.name} has {now}; run the candidate on what the baseline was recorded on."
            )


def _pair_seeds(baseline: tuple[int, ...], candidate: tuple[int, ...]) -> _Pairing:
    shared = tuple(seed for seed in baseline if seed in candidate)
    if len(shared) == min(len(baseline), len(candidate)):
        return _Pairing(shared, shared, paired=True)
    return _Pairing(baseline, candidate, paired=False)


def _official_row(
    setting: Setting, dataset: str, pairing: _Pairing, found: Comparison, margin: float, *, seed: int
) -> VerdictRow:
    needed = _needed(found.delta + margin, found)
    low = min(found.ci_low, _calibrated_low(found, margin, paired=pairing.paired, seed=seed))
    verdict = _verdict(low, found.ci_high, margin)
    if verdict == "accepted" and not found.seeds_vary and not _very_same(found):
        verdict = "unclear"
    row = {
        "setting": setting.shown(),
        **setting.as_json(),
        "dataset": dataset,
        "seeds": len(pairing.candidate),
        "baseline_seeds": len(pairing.baseline),
        "paired": pairing.paired,
        "baseline_score": found.reference,
        "candidate_score": found.arm,
        "delta": found.delta,
        "low": low,
        "high": found.ci_high,
        "verdict": verdict,
        "seeds_needed": needed.count if verdict == "unclear" else None,
        "machine": None,
    }
    return cast("VerdictRow", row)


def _calibrated_low(found: Comparison, margin: float, *, paired: bool, seed: int) -> float:
    """Return the lower end that is calibrated at the margin, over the machines that have every metric."""
    whole = np.isfinite(found.tables[0]).all(axis=1) & np.isfinite(found.tables[1]).all(axis=1)
    if not whole.any():
        return found.ci_low
    tables = (found.tables[0][whole], found.tables[1][whole])
    return margin_low(tables, found.spread, delta=found.delta, margin=margin, level=LEVEL, paired=paired, seed=seed)


def _very_same(found: Comparison) -> bool:
    """Tell whether a difference is 0 on every machine, clip by clip: then it is 0 whatever the seed is."""
    return abs(found.delta) <= ROUNDING and found.spread.error <= ROUNDING


def _machine_rows(official: VerdictRow, found: Comparison, margin: float) -> list[VerdictRow]:
    return [
        {
            **official,
            "machine": each.machine,
            "baseline_score": each.reference,
            "candidate_score": each.arm,
            "delta": each.delta,
            "low": each.ci_low,
            "high": each.ci_high,
            "verdict": _verdict(each.ci_low, each.ci_high, margin),
            "seeds_needed": None,
        }
        for each in found.machines
    ]


def _verdict(low: float, high: float, margin: float) -> Finding:
    if low >= -margin - ROUNDING:
        return "accepted"
    return "worse" if high < -margin - ROUNDING else "unclear"


def _sentence(baseline: RecordedArm, candidate: RecordedArm, row: VerdictRow, found: Comparison, margin: float) -> str:
    delta, low = (in_percent(value, signed=True) for value in (row["delta"], row["low"]))
    span = f"90 % interval {low} to {in_percent(row['high'], signed=True)}"
    who = f"{candidate.backbone} ({candidate.name}) against {baseline.backbone} ({baseline.name}), {row['setting']}, "
    who += row["dataset"]
    points = f"{100 * margin:g} points"
    if row["verdict"] == "accepted":
        said = f"accepted, {delta} points ({span}), not worse by more than {points}"
    elif row["verdict"] == "worse":
        said = f"refused, {delta} points ({span}), worse by more than {points}"
    elif _verdict(row["low"], row["high"], margin) == "accepted":  # by machines and clips alone
        said = (
            f"refused, as one seed cannot tell how seeds differ ({delta} points, {span} over machines and clips "
            "alone); run at least three seeds of each"
        )
    else:
        said = (
            f"refused, as these data cannot show that it is not worse by more than {points} "
            f"({delta} points, {span}); {_more(row['delta'] + margin, found)}"
        )
    caveats = []
    if not row["paired"]:
        caveats.append("seeds do not pair, so each side's are taken as draws of their own")
    if not found.seeds_vary and "one seed" not in said:
        caveats.append("one seed, so the interval knows nothing of how seeds differ")
    return f"{who}: {'; '.join([said, *caveats])}."


def _more(distance: float, found: Comparison) -> str:
    """Say how many seeds would show non-inferiority if the observed difference were the true one."""
    if distance <= 0:
        return "the difference seen lies beyond that itself"
    return _needed(distance, found).sentence("it, were the difference seen the true one")


def _needed(distance: float, found: Comparison) -> SeedsNeeded:
    """Return how many seeds the calibrated lower end takes, by the level and degrees of freedom that it counts."""
    return seeds_needed(distance, found.vary, level=spent_level(LEVEL), per_seed=FREEDOM_PER_SEED)
