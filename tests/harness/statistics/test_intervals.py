"""Intervals of a score: over clips, and over machines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, stdtrit

from benchmarks.metrics.measures import measure, official_score
from benchmarks.metrics.sections import split_sections
from harness.statistics.bootstrap import bootstrap_sections, draw_clips
from harness.statistics.intervals import ClipDraws, score_intervals
from harness.trials.measures import joined_official_score, scorer_intervals
from tests.harness.made_up import RULE, clips_of, make_scored, scored

RULES = {"dcase2023": RULE}


def scored_table(**options: float) -> pd.DataFrame:
    """Scored clips with a column `score`."""
    scored = make_scored(**options)
    return scored.assign(score=scored["score_knn"])


def test_an_auc_has_the_bootstraps_error_on_the_logit() -> None:
    """An AUC of 10 normal clips: Student's t with 9 degrees of freedom times the bootstrap's error, on the logit."""
    scored = scored_table()
    sections = split_sections(scored)
    drawn = bootstrap_sections(sections, [draw_clips(one, resamples=1000, seed=0) for one in sections], RULE)
    key = ("dcase2023", "fan", "00")
    value = next(each for each in measure(scored, RULE) if each.machine == "fan").s_auc
    assert value is not None
    half = stdtrit(9, 0.975) * drawn.numbers[key]["s_auc"].std() / (value * (1 - value))
    found = score_intervals(scored, RULES).numbers[key]["s_auc"]
    assert found == pytest.approx((expit(logit(value) - half), expit(logit(value) + half)), abs=1e-12)


def test_a_score_of_many_numbers_has_more_degrees_of_freedom_than_one() -> None:
    """The interval of the official score is narrower than 9 degrees of freedom would make it, and wider than none."""
    scored = scored_table()
    sections = split_sections(scored)
    drawn = bootstrap_sections(sections, [draw_clips(one, resamples=1000, seed=0) for one in sections], RULE)
    found = score_intervals(scored, RULES).official
    score = official_score(measure(scored, RULE), RULE)
    assert found is not None and score is not None
    half = (logit(found[1]) - logit(score)) * score * (1 - score) / drawn.official.std()
    assert stdtrit(30, 0.975) < half < stdtrit(5, 0.975)


@pytest.mark.parametrize("shift", [0.0, 2.0, 4.0, 30.0])
def test_no_interval_leaves_what_a_score_can_be(shift: float) -> None:
    """From chance to perfect: every end lies between 0 and 1, and a perfect score is not called certain."""
    found = score_intervals(scored_table(shift=shift), RULES)
    ends = [found.official, found.official_machines, *found.h_means.values()]
    ends += [each for fields in found.numbers.values() for each in fields.values()]
    for pair in ends:
        assert pair is not None
        assert 0 <= pair[0] <= pair[1] <= 1
    if shift == 30:
        low, high = found.numbers["dcase2023", "fan", "00"]["s_auc"] or (0, 0)
        assert (low, high) == (pytest.approx(0.025**0.1), 1.0)


def test_two_machines_that_differ_leave_nearly_everything_open() -> None:
    """One degree of freedom: the interval over machines is wide, and stays between 0 and 1 where it was -106 to 250."""
    scored = scored_table(per_cell=40)
    scored["score"] += 3 * ((scored["machine"] == "fan") & (scored["condition"] == "anomaly"))
    low, high = score_intervals(scored, RULES).official_machines or (0, 0)
    assert 0 < low < 0.1
    assert 0.99 < high < 1


def test_machines_widen_the_interval() -> None:
    """Two machine types that differ leave more in doubt about other machines than about other clips of these."""
    scored = scored_table(per_cell=40)
    scored["score"] += 3 * ((scored["machine"] == "fan") & (scored["condition"] == "anomaly"))
    found = score_intervals(scored, RULES)
    assert found.official is not None and found.official_machines is not None
    score = official_score(measure(scored, RULE), RULE)
    assert found.official[0] < score < found.official[1]
    assert 0 <= found.official_machines[0] < found.official[0]
    assert found.official[1] < found.official_machines[1] <= 1


def test_one_machine_says_nothing_about_others() -> None:
    """A single machine type has an interval over clips and none over machines."""
    found = score_intervals(scored_table().query("machine == 'fan'"), RULES)
    assert found.official is not None
    assert found.official_machines is None


def test_machines_without_a_number_say_nothing_about_others() -> None:
    """Seven machines of which three have no anomaly: the interval over machines is that of the four; of one, none."""
    clips = clips_of([f"machine {at}" for at in range(7)])
    drawn = scored(clips, apart={f"machine {at}": 0.5 + at / 4 for at in range(7)}, seed=0)
    drawn = drawn.assign(score=drawn["score_knn"])

    def over_machines(known: int, shown: int) -> tuple[float, float] | None:
        place = drawn["machine"].str.removeprefix("machine ").astype(int)
        kept = drawn[(place < shown) & ((place < known) | (drawn["condition"] == "normal"))]
        return score_intervals(kept, RULES, draws=ClipDraws(resamples=50)).official_machines

    assert over_machines(4, 7) == pytest.approx(over_machines(4, 4))
    assert over_machines(1, 7) is None


def test_what_is_undefined_has_no_interval() -> None:
    """A domain without normal clips leaves its AUC without an interval; the other numbers keep theirs."""
    scored = scored_table()
    found = score_intervals(scored[(scored["domain"] == "source") | (scored["condition"] == "anomaly")], RULES)
    fields = found.numbers["dcase2023", "fan", "00"]
    assert fields["t_auc"] is None
    assert fields["s_auc"] is not None and fields["p_auc"] is not None


def test_several_years_are_joined() -> None:
    """Two years that score alike have the interval of the harmonic mean of both, narrower than one year's."""
    scored = scored_table()
    other = scored.assign(dataset="dcase2024", clip_id=scored["clip_id"].str.replace("2023", "2024"))
    one = score_intervals(scored, RULES)
    both = score_intervals(pd.concat([scored, other], ignore_index=True), {**RULES, "dcase2024": RULE})
    assert one.official is not None and both.official is not None
    assert np.diff(both.official) < np.diff(one.official)
    assert len(both.numbers) == 2 * len(one.numbers)


def test_years_are_joined_harmonically() -> None:
    """The interval of a good and a bad year lies about the harmonic mean of both, not about the arithmetic one."""
    good, bad = scored_table(shift=3.0, per_cell=30), scored_table(shift=0.0, per_cell=30)
    bad = bad.assign(dataset="dcase2024", clip_id=bad["clip_id"].str.replace("2023", "2024"))
    found = score_intervals(pd.concat([good, bad], ignore_index=True), {**RULES, "dcase2024": RULE})
    scores = [official_score(measure(table, RULE), RULE) or 0.0 for table in (good, bad)]
    joined = 2 / sum(1 / score for score in scores)
    assert joined < np.mean(scores) - 0.02
    for ends in (found.official, found.official_machines):
        assert ends is not None
        assert expit(logit(np.array(ends)).mean()) == pytest.approx(joined, abs=1e-9)
    rows = [each for table in (good, bad) for each in measure(table, RULE)]
    assert joined_official_score(tuple(rows)) == pytest.approx(joined, abs=1e-12)


def test_scorers_share_the_draws_of_clips() -> None:
    """Two scorers of one trial are resampled alike: equal scores have equal intervals, however drawn."""
    scored = make_scored()
    found = scorer_intervals(scored.assign(score_other=scored["score_knn"]), ["knn", "other"])
    assert found["knn"] == found["other"]
    fewer = score_intervals(scored_table(), RULES, draws=ClipDraws(resamples=200, seed=1))
    assert fewer.official != found["knn"].official
    assert fewer.official == pytest.approx(found["knn"].official, abs=0.05)
