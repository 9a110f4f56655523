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


def uneven(dataset: str, seed: int, cells: tuple[int, int, int, int], *, shift: float = 1.2) -> pd.DataFrame:
    """Clips of three machines, one with two sections: so many source and target normal ones, then anomalies."""
    random = np.random.default_rng(seed)
    kinds = [("source", "normal"), ("target", "normal"), ("source", "anomaly"), ("target", "anomaly")]
    rows = [
        (dataset, machine, section, domain, condition, f"{dataset}{machine}{section}{domain}{condition}{at:02d}")
        for machine, section in (("fan", "00"), ("fan", "01"), ("gear", "00"), ("valve", "00"))
        for (domain, condition), count in zip(kinds, cells, strict=True)
        for at in range(count)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "machine", "section", "domain", "condition", "clip_id"])
    worth = shift * table["machine"].map({"fan": 0.6, "gear": 1.0, "valve": 1.3})
    return table.assign(score=random.normal(size=len(table)) + worth * (table["condition"] == "anomaly"))


def satterthwaite(parts: list[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances."""
    return sum(part for part, _ in parts) ** 2 / sum(part**2 / freedom for part, freedom in parts)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("cells", [[(35, 8, 9, 11)], [(35, 8, 9, 11), (12, 50, 4, 3)], [(9, 8, 9, 11)]])
def test_intervals_by_hand(level: float, cells: list[tuple[int, int, int, int]]) -> None:
    """Bootstrap errors with the freedom of the clips a number hangs on; slopes of harmonic means from calculus.

    Source 35, target 8 normal clips and 20 anomalies: an AUC hangs on the fewer of both, a pAUC on a tenth of 43,
    and on one at least: of 17 normal clips it has one degree of freedom.
    """
    years = len(cells)
    tables = [uneven(f"dcase202{3 + at}", at, each) for at, each in enumerate(cells)]
    table = pd.concat(tables, ignore_index=True)
    asked = {"draws": ClipDraws(resamples=40, seed=2), "level": level}
    found = score_intervals(table, {"dcase2023": RULE, "dcase2024": RULE}, **asked)

    def ends(score: float, samples: np.ndarray, freedom: float) -> tuple[float, float]:
        half = stdtrit(freedom, (1 + level) / 2) * samples.std() / (score * (1 - score))
        return float(expit(logit(score) - half)), float(expit(logit(score) + half))

    officials, drawn_officials, official_parts, without = [], [], [], []
    for of_year, (source, target, *anomalous) in zip(tables, cells, strict=True):
        sections, anomalies = split_sections(of_year), sum(anomalous)
        hung = [min(source, anomalies), min(target, anomalies), min((source + target) * 0.1, anomalies)]
        drawn = bootstrap_sections(sections, [draw_clips(one, resamples=40, seed=2) for one in sections], RULE)
        rows = {one.machine + one.section: (one.s_auc, one.t_auc, one.p_auc) for one in measure(of_year, RULE)}
        parts: dict[str, list[tuple[float, float, float]]] = {}
        for section in sections:
            numbers = rows[section.machine + section.section]
            samples = drawn.numbers[section.key]
            for name, value, clips in zip(("s_auc", "t_auc", "p_auc"), numbers, hung, strict=True):
                freedom = max(clips - 1, 1)
                assert found.numbers[section.key][name] == pytest.approx(ends(value, samples[name], freedom), rel=1e-9)
                parts.setdefault(section.machine, []).append((value, samples[name].var(), freedom))
        for machine, of_machine in parts.items():
            score = len(of_machine) / sum(1 / value for value, _, _ in of_machine)
            slopes = [score**2 / (len(of_machine) * value**2) for value, _, _ in of_machine]
            freedom = satterthwaite([(slope**2 * v, f) for slope, (_, v, f) in zip(slopes, of_machine, strict=True)])
            key = (sections[0].dataset, machine)
            assert found.h_means[key] == pytest.approx(ends(score, drawn.h_means[key], freedom), rel=1e-4)
        every = [one for of_machine in parts.values() for one in of_machine]
        official = len(every) / sum(1 / value for value, _, _ in every)
        officials.append(official)
        drawn_officials.append(drawn.official)
        official_parts.append([((official**2 / (len(every) * value**2)) ** 2 * v, f) for value, v, f in every])
        without.append([official_score(measure(of_year[of_year["machine"] != machine], RULE), RULE)
                        for machine in ("fan", "gear", "valve")])  # fmt: skip
    joined = years / sum(1 / each for each in officials)
    samples = years / sum(1 / each for each in drawn_officials)
    weighed = [
        ((joined**2 / (years * official**2)) ** 2 * part, freedom)
        for official, parts in zip(officials, official_parts, strict=True)
        for part, freedom in parts
    ]
    assert found.official == pytest.approx(ends(joined, samples, satterthwaite(weighed)), rel=1e-4)
    pseudo = []
    for at, of_year in enumerate(without):
        for left in of_year:
            others = [left if place == at else official for place, official in enumerate(officials)]
            pseudo.append(3 * years * joined - (3 * years - 1) * years / sum(1 / each for each in others))
    half = stdtrit(len(pseudo) - 1, (1 + level) / 2) * np.std(pseudo, ddof=1) / len(pseudo) ** 0.5
    half /= joined * (1 - joined)
    assert found.official_machines == pytest.approx((expit(logit(joined) - half), expit(logit(joined) + half)))


def test_perfect_and_hopeless_scores() -> None:
    """What no resample moves hangs on its clips: 2.5 % is the chance of so perfect a sample, or of so bad a one."""
    for shift, place in ((60.0, 0), (-60.0, 1)):
        found = score_intervals(uneven("dcase2023", 0, (9, 8, 9, 11), shift=shift), RULES, draws=ClipDraws(20))
        of = found.numbers["dcase2023", "gear", "00"]
        for name, clips in (("s_auc", 9), ("t_auc", 8)):
            reach = 0.025 ** (1 / clips)
            assert of[name] == pytest.approx((reach, 1.0) if not place else (0.0, 1 - reach))
        if not place:
            for ends in (of["p_auc"], found.h_means["dcase2023", "gear"], found.official):
                assert ends == pytest.approx((0.025 ** (1 / 1.7), 1.0))


def test_undefined_years_and_numbers() -> None:
    """A year without any number leaves the joined score undefined; a number without one leaves the others' freedom."""
    good, none = uneven("dcase2023", 0, (9, 8, 9, 11)), uneven("dcase2024", 1, (9, 8, 0, 0))
    both = score_intervals(pd.concat([good, none], ignore_index=True), {**RULES, "dcase2024": RULE},
                           draws=ClipDraws(20))  # fmt: skip
    assert (both.official, both.official_machines) == (None, None)
    assert both.h_means["dcase2024", "fan"] is None
    alone = score_intervals(good, RULES, draws=ClipDraws(20))
    assert both.h_means["dcase2023", "fan"] == alone.h_means["dcase2023", "fan"] is not None
    content = alone.content()
    assert content["official"] == alone.official and content["official_machines"] == alone.official_machines
    assert len(content["rows"]) == 12
    row = content["rows"][4]
    assert row["interval"] == alone.numbers[row["dataset"], row["machine"], row["section"]][row["field"]]
    half = good[(good["machine"] != "fan") | (good["domain"] == "source") | (good["condition"] == "anomaly")]
    less = score_intervals(half, RULES, draws=ClipDraws(20))
    assert less.numbers["dcase2023", "fan", "00"]["t_auc"] is None
    assert less.h_means["dcase2023", "fan"] is not None and less.official is not None
    assert less.h_means["dcase2023", "gear"] == alone.h_means["dcase2023", "gear"]


def test_few_normal_clips_are_one() -> None:
    """A pAUC of seven normal clips hangs on one, not on seven tenths; a joined score on the year with the fewest."""
    few, more = uneven("dcase2023", 0, (4, 3, 9, 11), shift=60), uneven("dcase2024", 0, (20, 30, 9, 11), shift=60)
    rules = {**RULES, "dcase2024": RULE}
    found = score_intervals(pd.concat([few, more], ignore_index=True), rules, draws=ClipDraws(20))
    reach = found.numbers["dcase2023", "gear", "00"]["p_auc"], found.numbers["dcase2024", "gear", "00"]["p_auc"]
    assert reach == (pytest.approx((0.025, 1.0)), pytest.approx((0.025 ** (1 / 5), 1.0)))
    assert found.official == pytest.approx((0.025, 1.0))


def test_scores_that_no_resample_moves_inside_the_scale() -> None:
    """Clips that all score alike have an AUC of a half in every resample, which is no perfect sample: no width."""
    found = score_intervals(uneven("dcase2023", 0, (4, 3, 9, 11)).assign(score=0.5), RULES, draws=ClipDraws(20))
    for ends in (*found.numbers["dcase2023", "fan", "00"].values(), *found.h_means.values(), found.official):
        assert ends == pytest.approx((0.5, 0.5), abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_machines_with_some_numbers_count() -> None:
    """A machine that lacks one AUC is left out in turn as the others are, and nothing is computed of no sample."""
    whole = uneven("dcase2023", 0, (9, 8, 9, 11))
    half = whole[(whole["machine"] != "fan") | (whole["domain"] == "source") | (whole["condition"] == "anomaly")]
    official = official_score(measure(half, RULE), RULE) or 0.0
    without = [
        official_score(measure(half[half["machine"] != machine], RULE), RULE) for machine in half.machine.unique()
    ]
    pseudo = [3 * official - 2 * (left or 0.0) for left in without]
    reach = stdtrit(2, 0.975) * np.std(pseudo, ddof=1) / 3**0.5 / (official * (1 - official))
    ends = expit(logit(official) - reach), expit(logit(official) + reach)
    assert score_intervals(half, RULES, draws=ClipDraws(20)).official_machines == pytest.approx(ends, rel=1e-9)


def test_a_year_of_one_machine_leaves_nothing_without_it() -> None:
    """Beside a year of three machines one of a single machine has no score without it: no interval over machines."""
    three, one = uneven("dcase2023", 0, (9, 8, 9, 11)), uneven("dcase2024", 1, (9, 8, 9, 11))
    both = pd.concat([three, one[one["machine"] == "gear"]], ignore_index=True)
    found = score_intervals(both, {**RULES, "dcase2024": RULE}, draws=ClipDraws(20))
    assert found.official is not None and found.official_machines is None


def test_clips_are_drawn_once() -> None:
    """A second scorer gets the very draws of the first."""
    draws, sections = ClipDraws(20), split_sections(uneven("dcase2023", 0, (4, 3, 9, 11)))
    first = [draws.of(one) for one in sections]
    assert all(draws.of(one) is kept for one, kept in zip(sections, first, strict=True))
