"""A frozen choice held to its promise, on choices and trials made by hand: which trials count, numbers, sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from benchmarks.contract import DatasetPart, Protocol
from harness.errors import HarnessError
from harness.gate import checks
from harness.gate.checks import Checked, check
from harness.gate.frozen_choice import Content, FrozenChoice, Promise
from harness.statistics.estimate import Estimate, estimate_score
from harness.stores.records import spec_content
from harness.stores.results import Results
from harness.trials.contract import METHOD
from tests.harness.made_up import clips_of, make_spec, result_of, scored

MOMENT = datetime.fromisoformat("2026-01-02T03:04:05+00:00")
SPEC = make_spec(m=3)
PART = (DatasetPart("dcase2023", "dev"),)
TOY = SPEC.protocol


def choice(*, low: float = 0.6, **changes: Any) -> FrozenChoice:
    """M = 3 with two seeds, which promises 70 %."""
    cell = {name: getattr(SPEC, name) for name in ("m", "k1", "k2", "fusion", "labels")}
    known = {
        "chosen": {"backbone": "small", **cell, "train": "all", "loss": "cross_entropy", "scorer": "knn"},
        "seeds": [0, 1], "trials": {str(seed): replace(SPEC, seed=seed).key() for seed in (0, 1)},
        "years": ["dcase2023"], "machines": ["fan", "valve"], "question": {"seed": 0}, "rule": "the best", "cells": 2,
        "families": 1, "protocol": "toy", "train_data": "aaaa", "test_data": "bbbb", "clips": {"seen": ""},
        "seen": ["bbbb"], "method": METHOD, "spec": spec_content(SPEC), "libraries": {"numpy": "2"}, "code": "c",
        "date": MOMENT.isoformat(),
        "promise": Promise(official_score=0.7, ci_low=low, ci_high=0.8, level=0.95, optimistic_score=0.75, holds="if"),
    }  # fmt: skip
    return FrozenChoice(Content(**{**known, **changes}), "0" * 64, SPEC)


def put(
    results: Results, test_data: str, *, seeds: tuple[int, ...] = (0, 1), apart: float = 1.5, seconds: int = 60,
    clips: pd.DataFrame | None = None, scorer: str = "knn", with_clip_scores: bool = True, **changes: Any,
) -> list[pd.DataFrame]:  # fmt: skip
    """Record the choice's trials on other recordings, so long after it was frozen; return their scored clips."""
    clips = clips_of(["fan", "valve"]) if clips is None else clips
    clips = clips.assign(clip_id=test_data + "/" + clips["clip_id"]) if "seen" not in set(clips["clip_id"]) else clips
    tables = []
    for seed in seeds:
        spec = replace(SPEC, seed=seed, test_data=test_data, scorers=(scorer,), **changes)
        table = scored(clips, apart=apart, seed=seed)
        made = result_of(spec, table.rename(columns={"score_knn": f"score_{scorer}"}), scorer=scorer)
        if not with_clip_scores:
            made = replace(made, scored=made.scored.iloc[:0])
        results.put_result(made, run_id=spec.key(), code="test", recorded=MOMENT + timedelta(seconds=seconds))
        tables.append(table.rename(columns={"score_knn": "score"}).assign(seed=seed))
    return tables


def checked(results: Results, frozen: FrozenChoice | None = None, **options: Any) -> Checked:
    """Check the choice, whose trials are of one of three protocols."""
    known = {each.name: each for each in (TOY, AGAIN, CASED)}
    spec_of: Any = lambda row: replace(SPEC, protocol=known[row["protocol"]])  # noqa: E731
    return check(frozen or choice(), results, file="choice.json", spec_of=spec_of, **{"resamples": 20, **options})


AGAIN = Protocol("again", PART, PART)  # the rules of toy under another name
CASED = Protocol("cased", PART, PART, cases={"fan": "direct"})


class TestNumbers:
    @pytest.mark.parametrize(("question", "seed"), [({"seed": 5}, 5), ({"seed": 0}, 0), ({}, 0), ({"seed": None}, 0)])
    def test_the_estimate_of_one_machine_is_drawn_as_the_choice_was(
        self, results: Results, question: dict[str, int | None], seed: int
    ) -> None:
        """A single machine's interval comes from resampled clips: with the choice's seed, a thousand unless asked."""
        tables = pd.concat(put(results, "cccc", clips=clips_of(["fan"])))
        frozen = choice(question=question)
        for options, resamples in (({"resamples": 30}, 30), ({}, 1000)):
            (row,) = check(frozen, results, file="f", spec_of=lambda _: SPEC, **options)["rows"]
            by_hand = estimate_score(tables, "dcase2022", resamples=resamples, seed=seed)
            assert row["official_score"] == by_hand.score
            assert (row["ci_low"], row["ci_high"]) == (by_hand.ci_low, by_hand.ci_high)
            assert row["machines"] == by_hand.h_means

    def test_a_row_says_what_was_checked(self, results: Results) -> None:
        """Protocol, recordings, seeds with their keys, clips, and the promise beside what was found."""
        put(results, "cccc")
        found = checked(results)
        (row,) = found["rows"]
        keys = [replace(SPEC, seed=seed, test_data="cccc").key() for seed in (0, 1)]
        assert {name: found[name] for name in ("file", "sha256", "frozen", "held", "verdict")} == {  # type: ignore[literal-required]
            "file": "choice.json", "sha256": "0" * 64, "frozen": MOMENT.isoformat(), "held": True, "verdict": "held",
        }  # fmt: skip
        assert (found["chosen"]["m"], found["chosen"]["scorer"]) == (3, "knn")
        assert (row["protocol"], row["dataset"], row["test_data"]) == ("toy", "dcase2023", "cccc")
        assert (row["seeds"], row["keys"], row["clips"], row["clips_seen"]) == ([0, 1], keys, 2 * 48, 0)
        assert (row["promised"], row["promised_low"], row["promised_high"]) == (0.7, 0.6, 0.8)
        assert set(row["machines"]) == {"fan", "valve"}

    def test_years_stand_in_order(self, results: Results) -> None:
        """Recordings of two years are two rows, each measured by itself, whichever comes first among the clips."""
        years = [clips_of(["fan", "valve"], year=year) for year in ("dcase2024", "dcase2023")]
        clips = pd.concat(years, ignore_index=True)
        put(results, "cccc", clips=clips.assign(clip_id=[f"{at:04d}" for at in range(len(clips))]))
        rows = checked(results)["rows"]
        assert [(row["dataset"], row["clips"]) for row in rows] == [("dcase2023", 96), ("dcase2024", 96)]


@pytest.mark.parametrize(
    ("score", "high", "verdict"),
    [(0.6, 0.7, "held"), (0.61, 0.61, "held"), (0.59, 0.6, "unclear"), (0.59, 0.7, "unclear"), (0.59, 0.599, "failed")],
)
def test_at_the_promised_end_it_held(score: float, high: float, verdict: str) -> None:
    """An estimate at the lower end of the promised interval holds; an interval that reaches it cannot tell."""
    assert checks._verdict(Estimate(score, 0.5, high, {}), 0.6) == verdict


class TestWhichTrials:
    def test_what_is_refused_leaves_the_others(self, results: Results) -> None:
        """A missing seed, trials of before, another protocol: each is passed over, and later recordings are checked."""
        put(results, "cccc", seeds=(0,))
        put(results, "dddd", seconds=0)
        put(results, "eeee", protocol=CASED)
        put(results, "ffff")
        assert [row["test_data"] for row in checked(results)["rows"]] == ["ffff"]

    @pytest.mark.parametrize(
        ("made", "said"),
        [
            ({"seeds": (0,)}, "every frozen seed, but on toy (cccc) the choice is not recorded with 1; run it with"),
            ({"scorer": "gwrp"}, "every frozen seed, but on toy (cccc) the choice is not recorded with 0, 1; run it"),
            ({"seconds": 0}, f"frozen on {MOMENT.isoformat()}, but on toy (cccc) that of seed 0 had ended before"),
            ({"protocol": CASED}, "only what is scored may differ, but protocol cased has another cases; name"),
            ({"kind": "frozen"}, "on other test recordings, but none is recorded yet; run them with `asdbench select"),
            ({"train_data": "other"}, "on other test recordings, but none is recorded yet; run them"),
            ({"min_confidence": 0.1}, "on other test recordings, but none is recorded yet; run them"),
        ],
    )  # fmt: skip
    def test_why_nothing_could_be_checked(self, results: Results, made: dict[str, Any], said: str) -> None:
        """The first reason, or that nothing is recorded there."""
        put(results, "cccc", **made)
        with pytest.raises(HarnessError) as caught:
            checked(results)
        assert said in str(caught.value)

    def test_trials_of_the_choices_own_recordings_are_no_check(self, results: Results) -> None:
        """What it was chosen on is left out without a word."""
        put(results, "bbbb")
        with pytest.raises(HarnessError, match="but none is recorded yet"):
            checked(results)
        put(results, "cccc")
        assert [row["test_data"] for row in checked(results)["rows"]] == ["cccc"]

    def test_only_some_recordings(self, results: Results) -> None:
        """All others unless they are named."""
        for test_data in ("cccc", "dddd"):
            put(results, test_data)
        assert [row["test_data"] for row in checked(results)["rows"]] == ["cccc", "dddd"]
        assert [row["test_data"] for row in checked(results, test_data="dddd")["rows"]] == ["dddd"]

    def test_two_names_of_one_protocol_are_checked_once(self, results: Results) -> None:
        """Seeds that were recorded under two names of the same rules are one set of trials."""
        put(results, "cccc", seeds=(0,))
        put(results, "cccc", seeds=(1,), protocol=AGAIN)
        put(results, "dddd")
        assert [(row["test_data"], row["protocol"]) for row in checked(results)["rows"]] == [
            ("cccc", "toy"), ("dddd", "toy"),
        ]  # fmt: skip

    def test_a_trial_without_clip_scores_is_named(self, results: Results) -> None:
        """The first seed's that has none."""
        put(results, "cccc", with_clip_scores=False)
        key = replace(SPEC, seed=0, test_data="cccc").key()
        with pytest.raises(HarnessError, match=f"needs clip scores, but trial {key} is recorded without any"):
            checked(results)


class TestVerdicts:
    SEEN = clips_of(["fan", "valve"]).assign(clip_id=lambda table: ["seen", *table["clip_id"][1:]])

    def test_the_worst_recordings_are_the_verdict(self, results: Results) -> None:
        """Held and unclear is unclear, with one that failed it is failed; compared samples tell them apart."""
        put(results, "cccc", apart=3.0)
        assert checked(results)["verdict"] == "held"
        put(results, "dddd", apart=3.0, clips=self.SEEN)
        found = checked(results)
        assert [(row["verdict"], row["clips_seen"]) for row in found["rows"]] == [("held", 0), ("unclear", 1)]
        assert (found["held"], found["verdict"]) == (False, "unclear")
        apart = checked(results, compared=True)
        assert [(row["verdict"], row["clips_seen"]) for row in apart["rows"]] == [("held", 0)] * 2
        assert (apart["held"], apart["verdict"]) == (True, "held")
        put(results, "eeee", apart=-3.0)
        assert (checked(results)["held"], checked(results)["verdict"]) == (False, "failed")

    @pytest.mark.parametrize(
        ("changes", "clips", "said"),
        [
            ({"verdict": "held"}, {}, "it held, being at least 60.00 %."),
            ({"verdict": "failed"}, {}, "it did not hold, as its whole interval lies below 60.00 %."),
            (
                {"verdict": "unclear", "seeds": [4]},
                {},
                "these recordings cannot tell, as it is below 60.00 % and its interval is not; one seed, so the "
                "interval knows nothing of how seeds differ.",
            ),
            (
                {"verdict": "unclear", "clips_seen": 3},
                {"seen": ""},
                "these recordings cannot tell, as 3 of 96 clips have names of clips that it was chosen on.",
            ),
            (
                {"verdict": "unclear", "clips_seen": 3},
                {"seen": "a sound"},
                "these recordings cannot tell, as 3 of 96 clips have names of clips that it was chosen on; if they are "
                "others of the same names, --data ROOT compares their samples.",
            ),
        ],
    )  # fmt: skip
    def test_each_has_its_sentence(self, changes: Mapping[str, Any], clips: dict[str, str], said: str) -> None:
        """What was chosen, what it scores, what it promised, and whether that holds."""
        row: Any = {
            "protocol": "toy", "dataset": "dcase2023", "seeds": [0, 1], "clips": 96, "clips_seen": 0, "promised": 0.7,
            "promised_low": 0.6, "promised_high": 0.8, "official_score": 0.65, "ci_low": 0.55, "ci_high": 0.75,
            **changes,
        }  # fmt: skip
        frozen = choice(**({"clips": clips} if clips else {}))
        assert checks._sentence(frozen, row) == (
            f"{frozen.shown()} on dcase2023 of toy: 65.00 % (95 % CI 55.00 to 75.00) against the promised 70.00 % "
            f"(95 % CI 60.00 to 80.00): {said}"
        )
