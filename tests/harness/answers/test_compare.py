"""Top-M against Top-1: what is paired, what is refused, and what the sentence says."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.contract import DatasetPart, Protocol
from harness.answers.columns import compare_columns
from harness.answers.compare import compare, comparisons
from harness.answers.question import Question
from harness.errors import HarnessError
from harness.stores.results import Results
from harness.tables import csv_table, text_table, written
from tests.harness.made_up import MACHINES, clips_of, record


def test_a_gain_is_said_with_its_interval(results: Results) -> None:
    """A gain on every machine and seed beats M = 1, on all machines, and asks for no more seeds."""
    record(results, m=1, apart=0.5)
    record(results, m=3, apart=1.5, luck=50)
    (row,) = compare(results, Question(resamples=100))
    assert row["differs"]
    assert row["ci_low"] > 0
    assert (row["machines_won"], row["machines_tied"], row["machines_lost"]) == (5, 0, 0)
    assert row["seeds_needed"] is None
    assert row["sentence"].startswith("M = 3 beats M = 1 for small on dcase2023 by ")
    assert row["sentence"].endswith("on 5 of 5 machines.")


def test_no_difference_names_the_seeds_that_would_show_one(results: Results) -> None:
    """Where nothing shows, the sentence says how many seeds would show a difference of the size seen, or that none."""
    record(results, m=1, apart=1.0)
    record(results, m=3, apart=1.05, luck=50)
    (row,) = compare(results, Question(resamples=100))
    assert not row["differs"]
    assert "no difference that these data can show" in row["sentence"]
    assert "seeds would" in row["sentence"]


def test_of_many_families_the_best_are_compared(results: Results) -> None:
    """Of more families than asked for, those with the best scores are compared, in order, and a sentence counts them.

    A family that has no M = 1 takes no other one's place, and without a limit all are compared.
    """
    for backbone, apart in (("weak", 0.2), ("strong", 1.2), ("fair", 0.8)):
        for m in (1, 3):
            record(results, backbone=backbone, m=m, apart=apart, seeds=(0,))
    record(results, backbone="alone", m=3, apart=3.0, seeds=(0,))
    rows, said = comparisons(results, Question(resamples=100), most=2)
    assert [row["backbone"] for row in rows] == ["strong", "fair"]
    assert said[0].startswith("2 of 3 families") and "--all" in said[0]
    rows, said = comparisons(results, Question(resamples=100))
    assert [row["backbone"] for row in rows] == ["weak", "strong", "fair"]
    assert len(said) == 1 and "alone" in said[0]


def test_equal_arms_tie(results: Results) -> None:
    """The same scores under another M are ties, a difference of 0, and no number of seeds is asked for."""
    record(results, m=1)
    record(results, m=3)
    (row,) = compare(results, Question(resamples=100))
    assert (row["delta"], row["ci_low"], row["ci_high"], row["p_corrected"]) == (0.0, 0.0, 0.0, 1.0)
    assert row["machines_tied"] == 5
    assert row["seeds_needed"] is None


def test_one_seed_is_said(results: Results) -> None:
    """With one seed the sentence says that the interval knows nothing of seeds, and that one cannot say how many."""
    record(results, m=1, seeds=[0])
    record(results, m=3, seeds=[0], apart=1.02, luck=9)
    (row,) = compare(results, Question(resamples=100))
    assert not row["seeds_vary"]
    assert "one seed, so the interval knows nothing of how seeds differ" in row["sentence"]
    assert "one seed cannot say" in row["sentence"]


def test_seeds_of_one_arm_alone_are_said(results: Results) -> None:
    """Shared seeds are compared, and those that one arm alone has are named."""
    record(results, m=1, seeds=[0, 1])
    record(results, m=3, seeds=[0, 1, 5])
    (row,) = compare(results, Question(resamples=100))
    assert (row["seeds"], row["seeds_left_out"]) == ([0, 1], [5])
    assert row["sentence"].endswith("without seeds 5, which one arm alone has.")


def test_an_m_without_shared_seeds_is_refused_and_the_others_stay(
    results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    """M = 7 with seeds of its own is left out with a reason in the log; M = 3 is compared, corrected for itself."""
    record(results, m=1, seeds=[0, 1])
    record(results, m=3, seeds=[0, 1], luck=4)
    record(results, m=7, seeds=[8, 9])
    (row,) = compare(results, Question(resamples=100))
    assert row["m"] == 3
    assert row["p_corrected"] == row["p_value"]
    assert "Not compared: M = 7 and M = 1 must share a seed to be paired, but small" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_data": "cccc"}, "M = 1 is recorded for other test recordings (test_data bbbb, not cccc)"),
        ({"train_data": "cccc"}, "M = 1 is recorded for other training recordings (train_data aaaa, not cccc)"),
        ({"min_confidence": 0.1}, "M = 1 is recorded for another recipe"),
        ({"k1": 3}, "run the others"),
    ],
)
def test_unlike_arms_are_not_compared(results: Results, change: dict[str, object], said: str) -> None:
    """Other recordings or another recipe than M = 1 has are no comparison, and the reason names both."""
    record(results, m=1)
    record(results, m=3, **change)
    rows, refused = comparisons(results, Question(resamples=100))
    assert rows == []
    assert any(said in reason for reason in refused), refused
    with pytest.raises(HarnessError, match="A comparison needs M = 1 and another M"):
        compare(results)


def test_machines_missing_in_one_arm_are_refused(results: Results) -> None:
    """Two arms under one fingerprint that scored other machines are refused with the machine's name."""
    record(results, m=1, with_clip_scores=False)
    record(results, m=3, clips=clips_of(MACHINES[:4]), with_clip_scores=False)
    with pytest.raises(HarnessError, match=r"M = 3 against M = 1 .* one alone scored dcase2023 valve 00"):
        compare(results)


def test_a_seed_that_stands_twice_is_refused(results: Results) -> None:
    """Two protocols of one name that differ give two trials of one seed, which are not averaged or dropped."""
    other = Protocol(
        "toy", (DatasetPart("dcase2023", "dev"),), (DatasetPart("dcase2023", "dev"),), cases={"fan": "direct"}
    )
    record(results, m=1)
    record(results, m=1, seeds=[1], protocol=other)
    record(results, m=3)
    with pytest.raises(
        HarnessError, match=r"one trial a seed, but .* seed 1 is recorded as .* choose one with --study"
    ):
        compare(results)


def test_each_year_has_a_row_and_a_correction_of_its_own(results: Results) -> None:
    """Trials that score two years are compared by each year's own rule."""
    clips = pd.concat([clips_of(), clips_of(year="dcase2024")], ignore_index=True)
    for m in (1, 3, 7):
        record(results, m=m, clips=clips, luck=10 * m)
    rows = compare(results, Question(resamples=100))
    assert sorted((row["dataset"], row["m"]) for row in rows) == [
        ("dcase2023", 3), ("dcase2023", 7), ("dcase2024", 3), ("dcase2024", 7),
    ]  # fmt: skip


def test_metrics_alone_are_compared_without_clips(results: Results) -> None:
    """Trials recorded without clip scores have the same difference, an interval over machines and seeds, and say so."""
    record(results, m=1, apart=0.5)
    record(results, m=3, apart=1.5, luck=50)
    (by_clips,) = compare(results, Question(resamples=100))
    for m in (1, 3):
        record(results, backbone="bare", m=m, apart=m / 2, luck=0 if m == 1 else 50, with_clip_scores=False)
    (bare,) = compare(results, Question(backbone="bare"))
    assert bare["delta"] == pytest.approx(by_clips["delta"], abs=1e-12)
    assert bare["p_value"] == pytest.approx(by_clips["p_value"], abs=1e-9)
    low, middle, high = np.arctanh([bare["ci_low"], bare["delta"], bare["ci_high"]])
    assert high - middle == pytest.approx(middle - low)
    assert (by_clips["clips_vary"], bare["clips_vary"]) == (True, False)
    assert "no clip scores are recorded" in bare["sentence"]


def test_one_machine_without_clips_is_refused(results: Results) -> None:
    """One machine's metrics alone say nothing of chance."""
    for m in (1, 3):
        record(results, m=m, clips=clips_of(["fan"]), with_clip_scores=False)
    with pytest.raises(HarnessError, match="without clip scores needs two machines with metrics, but has 1"):
        compare(results)


def test_an_interval_without_zero_that_shows_nothing_says_why(results: Results) -> None:
    """Five pairs cannot reject: the sentence names the test beside an interval that leaves out zero."""
    record(results, m=1, seeds=[0], apart=0.5)
    record(results, m=3, seeds=[0], apart=1.5, luck=50)
    record(results, m=7, seeds=[0], apart=1.4, luck=80)
    first = compare(results, Question(resamples=100))[0]
    assert (first["ci_low"] > 0, first["differs"]) == (True, False)
    assert "the interval leaves out zero, but the paired test does not (p = 0.06)" in first["sentence"]


def test_csv_has_a_column_a_machine_and_number(results: Results) -> None:
    """What a comparison says of each machine stands in columns of its own, not as text of a structure."""
    for m in (1, 3):
        record(results, m=m, apart=m / 2)
    rows = compare(results, Question(resamples=100))
    frame = pd.read_csv(io.StringIO(csv_table(rows)))
    assert frame["machines.fan.delta"].tolist() == [rows[0]["machines"][1]["delta"]]
    assert "{" not in csv_table(rows)


def test_names_are_shown_as_they_are(results: Results) -> None:
    """Brackets in names are no markup of the terminal, angle brackets no markup of a markdown viewer."""
    name = "[/red]<b>x|y"
    for m in (1, 3):
        record(results, backbone=name, m=m)
    rows = compare(results, Question(resamples=100))
    console = Console(file=io.StringIO(), width=200)
    console.print(text_table(compare_columns(rows), rows))
    assert name in console.file.getvalue()
    assert "| [/red]&lt;b>x\\|y |" in written("markdown", compare_columns(rows), rows, {})


def test_arms_of_other_libraries_are_said(results: Results) -> None:
    """A pair that ran with other versions is compared and says so; equal or both unknown versions are not mentioned."""
    record(results, m=1, libraries="numpy 2.1, torch 2.9")
    record(results, m=3, apart=1.5, libraries="numpy 2.3, torch 2.9")
    record(results, m=7, apart=1.5, libraries="numpy 2.1, torch 2.9")
    three, seven = compare(results, Question(resamples=100))
    assert three["sentence"].endswith("ran with different libraries, which may change digits: numpy 2.1 and 2.3.")
    assert "libraries" not in seven["sentence"]
