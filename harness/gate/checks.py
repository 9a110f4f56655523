"""Whether a frozen choice held on other recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict

import pandas as pd

from benchmarks.contract import Protocol
from harness.errors import HarnessError
from harness.gate.fresh import demand_other_recordings, seen_clips
from harness.gate.frozen_choice import FrozenChoice
from harness.rules import rule_of
from harness.statistics.estimate import Estimate, estimate_score
from harness.stores.results import Results
from harness.tables import in_percent
from harness.trials.contract import TrialSpec

Held: TypeAlias = Literal["held", "failed", "unclear"]
RecordedSpec: TypeAlias = Callable[[Mapping[Any, Any]], TrialSpec]  # a trial's row of the results tables -> its spec


class CheckedRow(TypedDict):
    """A frozen choice on one set of test recordings and year; fractions."""

    protocol: str
    dataset: str
    test_data: str
    seeds: list[int]
    keys: list[str]
    clips: int
    clips_seen: int
    promised: float
    promised_low: float
    promised_high: float
    official_score: float
    ci_low: float
    ci_high: float
    verdict: Held
    machines: dict[str, float]
    sentence: str


class Checked(TypedDict):
    """Whether a frozen choice held everywhere; `rows` has one for each set of test recordings and year."""

    file: str
    sha256: str
    frozen: str
    chosen: dict[str, Any]
    held: bool
    verdict: Held
    rows: list[CheckedRow]


def check(
    frozen: FrozenChoice,
    results: Results,
    *,
    file: str,
    spec_of: RecordedSpec,
    test_data: str | None = None,
    compared: bool = False,
    resamples: int = 1000,
) -> Checked:
    """Compare what a frozen choice scores on other test recordings with what it promised.

    The trials are those that the choice's own spec gives, with nothing but the test recordings exchanged, so that a
    trial of another recipe or method never counts. All of the frozen seeds must be recorded.

    Args:
        frozen: the choice.
        results: the results tables.
        file: the choice's file, for sentences.
        spec_of: reads a recorded trial's spec, of which the protocol is taken.
        test_data: only these test recordings; None takes all others than the choice was made on.
        compared: whether their samples have been compared with those that the choice was made on, and none was; else
            clips of equal ids may be the same ones, and such recordings cannot tell.
        resamples: of the clips, for a single machine's interval.

    Raises:
        HarnessError: no such trial is recorded yet, a seed is missing, or they ended before the choice was frozen.
    """
    rows: list[CheckedRow] = []
    refused: list[str] = []
    met: list[dict[int, str]] = []
    for protocol, fingerprint in _boards(frozen, results, spec_of, test_data, refused):
        keys = {seed: spec.key() for seed, spec in frozen.specs(protocol, fingerprint).items()}
        if keys in met:  # protocols of two names with the same rules have the same trials
            continue
        met.append(keys)
        done = results.finished(keys.values(), scorers=[frozen.scorer])
        missing = [str(seed) for seed, key in keys.items() if key not in done]
        if missing:
            refused.append(
                f"A check needs every frozen seed, but on {protocol.name} ({fingerprint}) the choice is not recorded "
                f"with {', '.join(missing)}; run it with `asdbench select --check {file} --data ROOT`."
            )
            continue
        if early := _recorded_before(frozen, results, keys):
            refused.append(
                f"A check needs trials that ended after the choice was frozen on {frozen.content.date}, but on "
                f"{protocol.name} ({fingerprint}) that of seed {early[0]} had ended before; name the folder of "
                "recordings that nobody had scored with --data."
            )
            continue
        rows += _years(frozen, results, protocol.name, fingerprint, keys, compared=compared, resamples=resamples)
    if not rows:
        raise HarnessError(
            refused[0]
            if refused
            else "A check needs trials of this choice on other test recordings, but none is recorded yet; run them "
            f"with `asdbench select --check {file} --data ROOT`, ROOT having the same training and new test clips."
        )
    verdicts = {row["verdict"] for row in rows}
    verdict: Held = "failed" if "failed" in verdicts else "unclear" if "unclear" in verdicts else "held"
    return {
        "file": file,
        "sha256": frozen.sha256,
        "frozen": frozen.content.date,
        "chosen": frozen.content.chosen,
        "held": verdict == "held",
        "verdict": verdict,
        "rows": rows,
    }


def _recorded_before(frozen: FrozenChoice, results: Results, keys: Mapping[int, str]) -> list[int]:
    """Return the seeds whose trials had ended when the choice was frozen, in whichever database that was."""
    rows = results.recorded(keys.values())
    ends = dict(zip(rows["key"], pd.to_datetime(rows["recorded"], utc=True), strict=True))
    return [seed for seed, key in keys.items() if ends[key] <= frozen.moment]


def _boards(
    frozen: FrozenChoice, results: Results, spec_of: RecordedSpec, test_data: str | None, refused: list[str]
) -> Iterable[tuple[Protocol, str]]:
    """Yield protocol and test recordings of what was recorded on the same training recordings; others are refused."""
    trials = results.trial_scores()
    content = frozen.content
    same = trials[(trials["train_data"] == content.train_data) & (trials["test_data"] != content.test_data)]
    same = same[(same["recipe"] == frozen.spec.recipe_key()) & (same["kind"] == "trial")]
    if test_data is not None:
        same = same[same["test_data"] == test_data]
    for row in same.drop_duplicates(["protocol", "test_data"]).to_dict("records"):
        name, fingerprint = row["protocol"], row["test_data"]
        try:
            protocol = spec_of(row).protocol
            demand_other_recordings(
                frozen, protocol, train_data=content.train_data, test_data=fingerprint, named=f"protocol {name}"
            )
        except HarnessError as error:
            refused.append(str(error))
        else:
            yield protocol, fingerprint


def _years(
    frozen: FrozenChoice,
    results: Results,
    protocol: str,
    test_data: str,
    keys: Mapping[int, str],
    *,
    compared: bool,
    resamples: int,
) -> list[CheckedRow]:
    found = results.clip_scores(keys.values(), frozen.scorer)
    if bare := [key for key in keys.values() if key not in found]:
        raise HarnessError(f"A check needs clip scores, but trial {bare[0]} is recorded without any; run it again.")
    clips = pd.concat([found[key].assign(seed=seed) for seed, key in keys.items()])
    rows = []
    for dataset in sorted(clips["dataset"].unique()):
        of_year = clips[clips["dataset"] == dataset]
        estimate = estimate_score(
            of_year, rule_of(dataset), resamples=resamples, seed=int(frozen.content.question.get("seed") or 0)
        )
        promise, names = frozen.content.promise, dict.fromkeys(of_year["clip_id"].astype(str), "")
        seen = [] if compared else seen_clips(frozen, names)
        row: CheckedRow = {
            "protocol": protocol,
            "dataset": dataset,
            "test_data": test_data,
            "seeds": list(keys),
            "keys": list(keys.values()),
            "clips": len(names),
            "clips_seen": len(seen),
            "promised": promise.official_score,
            "promised_low": promise.ci_low,
            "promised_high": promise.ci_high,
            "official_score": estimate.score,
            "ci_low": estimate.ci_low,
            "ci_high": estimate.ci_high,
            "verdict": "unclear" if seen else _verdict(estimate, promise.ci_low),
            "machines": {**estimate.h_means},
            "sentence": "",
        }
        row["sentence"] = _sentence(frozen, row)
        rows.append(row)
    return rows


def _verdict(estimate: Estimate, least: float) -> Held:
    """Judge by the rule that stands in the file: the estimate against the lower end of the promised interval."""
    if estimate.score >= least:
        return "held"
    return "failed" if estimate.ci_high < least else "unclear"


def _sentence(frozen: FrozenChoice, row: CheckedRow) -> str:
    promised = (
        f"the promised {in_percent(row['promised'])} % (95 % CI {in_percent(row['promised_low'])} to "
        f"{in_percent(row['promised_high'])})"
    )
    scored = (
        f"{in_percent(row['official_score'])} % (95 % CI {in_percent(row['ci_low'])} to {in_percent(row['ci_high'])})"
    )
    start = f"{frozen.shown()} on {row['dataset']} of {row['protocol']}: {scored} against {promised}: "
    least = f"{in_percent(row['promised_low'])} %"
    said = {
        "held": f"it held, being at least {least}",
        "failed": f"it did not hold, as its whole interval lies below {least}",
        "unclear": f"these recordings cannot tell, as it is below {least} and its interval is not",
    }
    if row["clips_seen"]:
        names = f"{row['clips_seen']} of {row['clips']} clips have names of clips that it was chosen on"
        other = "; if they are others of the same names, --data ROOT compares their samples" if frozen.sounds() else ""
        said["unclear"] = f"these recordings cannot tell, as {names}{other}"
    caveats = []
    if len(row["seeds"]) == 1:
        caveats.append("one seed, so the interval knows nothing of how seeds differ")
    return "; ".join([start + said[row["verdict"]], *caveats]) + "."
