"""Bootstraps, intervals and tests on the smallest data that show them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit, stdtrit
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import machine_h_means, measure, official_score
from benchmarks.metrics.sections import split_sections
from harness.errors import HarnessError
from harness.statistics.bootstrap import Bootstrap, bootstrap_sections, draw_clips, resampled_numbers
from harness.statistics.comparison import compare_arms, compare_numbers
from harness.statistics.significance import (
    Spread,
    crossed_spread,
    holm,
    paired_test,
    score_interval,
    stretched_interval,
)


def scored(seed: int, *, apart: float = 1.0, machines: str = "ab", clips: int = 10, run: int = 0) -> pd.DataFrame:
    """Build scored clips of some machines, rounded so that ties occur."""
    random = np.random.default_rng(seed)
    kinds = itertools.product(machines, ("source", "target"), ("normal", "anomaly"), range(clips))
    table = pd.DataFrame(kinds, columns=["machine", "domain", "condition", "place"])
    noise = random.normal(size=len(table))
    return table.assign(
        seed=run,
        dataset="dcase2023",
        section="00",
        clip_id=["/".join(map(str, row)) for row in table.itertuples(index=False)],
        score=np.round(noise + apart * (table["condition"] == "anomaly"), 1),
    )


def resampled(table: pd.DataFrame, rule: RuleName = "dcase2022", *, resamples: int, seed: int = 0) -> Bootstrap:
    """Resample a table's clips."""
    sections = split_sections(table)
    draws = [draw_clips(one, resamples=resamples, seed=seed) for one in sections]
    return bootstrap_sections(sections, draws, rule)


class TestBootstrap:
    def test_resamples_give_what_scikit_learn_gives_for_the_clips_drawn(self) -> None:
        """Source AUC, target AUC and pAUC of each resample equal roc_auc_score on the drawn clips to 1e-12."""
        (section,) = split_sections(scored(0, machines="a"))
        counts = draw_clips(section, resamples=20, seed=3)
        numbers = dict(zip(("s_auc", "t_auc", "p_auc"), resampled_numbers(section, "dcase2022", counts), strict=True))
        for column in range(20):
            drawn = np.repeat(np.arange(len(section.ids)), counts[:, column])
            labels, scores, domains = section.anomalous[drawn], section.scores[drawn], section.domains[drawn]
            for field, domain in (("s_auc", "source"), ("t_auc", "target")):
                taken = labels | (domains == domain)
                expected = roc_auc_score(labels[taken], scores[taken])
                assert numbers[field][column] == pytest.approx(expected, abs=1e-12)
            expected = roc_auc_score(labels, scores, max_fpr=0.1)
            assert numbers["p_auc"][column] == pytest.approx(expected, abs=1e-12)

    def test_domains_and_conditions_keep_their_sizes(self) -> None:
        """Every resample draws as many clips of each domain and condition as there are."""
        (section,) = split_sections(scored(0, machines="a", clips=7))
        counts = draw_clips(section, resamples=50, seed=0)
        for domain, anomalous in itertools.product(("source", "target"), (False, True)):
            kind = (section.domains == domain) & (section.anomalous == anomalous)
            assert (counts[kind].sum(axis=0) == 7).all()

    def test_official_scores_are_those_of_the_resampled_numbers(self) -> None:
        """Each official score and harmonic mean is what the rule makes of that resample's clips."""
        table = scored(1)
        found = resampled(table, resamples=5, seed=2)
        for column in range(5):
            drawn = []
            for section in split_sections(table):
                counts = draw_clips(section, resamples=5, seed=2)[:, column]
                of_section = table.set_index("clip_id").loc[list(np.repeat(section.ids, counts))].reset_index()
                drawn.append(of_section.assign(clip_id=[f"{section.machine}{at}" for at in range(len(of_section))]))
            metrics = measure(pd.concat(drawn), "dcase2022")
            assert found.official[column] == pytest.approx(official_score(metrics, "dcase2022"), abs=1e-12)
            for machine, value in machine_h_means(metrics, "dcase2022").items():
                assert found.h_means[machine][column] == pytest.approx(value, abs=1e-12)

    def test_clip_order_and_other_machines_change_no_resample(self) -> None:
        """A machine's resamples depend on the seed and its clips' names, not on rows or on other machines."""
        table = scored(1)
        whole = resampled(table, resamples=9, seed=0)
        shuffled = resampled(table.sample(frac=1, random_state=0), resamples=9, seed=0)
        alone = resampled(table[table["machine"] == "b"], resamples=9, seed=0)
        np.testing.assert_array_equal(whole.official, shuffled.official)
        np.testing.assert_array_equal(whole.h_means["dcase2023", "b"], alone.h_means["dcase2023", "b"])
        assert not np.array_equal(whole.official, resampled(table, resamples=9, seed=1).official)

    def test_many_resamples_are_worked_on_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks of a few resamples give the same numbers as all at once."""
        table = scored(1)
        whole = resampled(table, "dcase2021", resamples=11, seed=0)
        monkeypatch.setattr("harness.statistics.bootstrap.CHUNK", 100)
        np.testing.assert_array_equal(whole.official, resampled(table, "dcase2021", resamples=11).official)

    def test_two_systems_are_resampled_alike(self) -> None:
        """A system against itself in another order of clips differs in no resample: the interval is no wider than 0."""
        one = scored(1)
        result = compare_arms(one, one.sample(frac=1, random_state=0), "dcase2022", resamples=30, seed=5)
        assert (result.delta, result.ci_low, result.ci_high) == (0.0, 0.0, 0.0)
        assert all((machine.ci_low, machine.ci_high) == (0.0, 0.0) for machine in result.machines)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda t: t.iloc[1:], "1 of dcase2023 a 00 have one score alone: a/source/normal/0"),
            (lambda t: t[t["machine"] == "a"], "same sections, but one alone scored dcase2023 b 00"),
            (lambda t: t.assign(condition=t["condition"].iloc[::-1].to_numpy()), "same domain and condition"),
            (lambda t: t.drop(columns="clip_id"), "must have the column clip_id"),
        ],
    )
    def test_systems_with_other_clips_are_refused(self, change, sentence: str) -> None:
        """Clips that one system lacks or knows otherwise are an error with their names."""
        with pytest.raises(HarnessError, match=sentence):
            compare_arms(scored(1), change(scored(2)), "dcase2022", resamples=2)

    def test_no_resamples_and_negative_seeds_are_refused(self) -> None:
        """At least one resample is drawn, from a seed of 0 or more."""
        with pytest.raises(HarnessError, match="resamples must be at least 1, but got 0"):
            resampled(scored(0), resamples=0)
        with pytest.raises(HarnessError, match="seed must be 0 or more, but got -1"):
            resampled(scored(0), resamples=1, seed=-1)


class TestIntervals:
    @pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
    def test_a_level_is_a_share(self, level: float) -> None:
        """A level outside 0 to 1 is refused, so 95 is not read as 95 %."""
        with pytest.raises(HarnessError, match="level must lie between 0 and 1"):
            stretched_interval([0.0, 0.1], around=0.0, spread=Spread(0.1, 3), level=level)

    def test_samples_must_be_finite(self) -> None:
        """NaN among the samples is refused."""
        with pytest.raises(HarnessError, match="1 of 2 are not"):
            stretched_interval([0.0, np.nan], around=0.0, spread=Spread(0.1, 3))

    @given(
        st.floats(0, 1), st.floats(0, 100), st.floats(1, 1000), st.sampled_from([0.5, 0.9, 0.95, 0.999]),
    )  # fmt: skip
    def test_a_scores_interval_holds_it_and_stays_a_score(
        self, score: float, error: float, freedom: float, level: float
    ) -> None:
        """Whatever the spread is, both ends lie between 0 and 1, the score between them."""
        low, high = score_interval(score, Spread(error, freedom), level=level)
        assert 0 <= low <= score + 1e-8
        assert score - 1e-8 <= high <= 1

    @given(st.floats(-1, 1), st.floats(0, 100), st.floats(1, 1000), st.lists(st.floats(-1, 1), max_size=9))
    def test_a_differences_interval_holds_it_and_stays_a_difference(
        self, difference: float, error: float, freedom: float, samples: list[float]
    ) -> None:
        """Whatever spread and samples are, both ends lie between -1 and 1, the difference between them."""
        low, high = stretched_interval(samples, around=difference, spread=Spread(error, freedom))
        assert -1 <= low <= difference + 1e-8
        assert difference - 1e-8 <= high <= 1

    def test_a_narrow_interval_is_the_plain_one(self) -> None:
        """Two points about 60 %, and about no difference, are what Student's t says to a hundredth of a point."""
        spread = Spread(0.01, 1e9)
        assert score_interval(0.6, spread) == pytest.approx((0.6 - 0.0196, 0.6 + 0.0196), abs=2e-4)
        assert stretched_interval((), around=0.0, spread=spread) == pytest.approx((-0.0196, 0.0196), abs=1e-5)
        assert score_interval(0.99, spread)[1] < 0.999 < 0.99 + 0.0196

    def test_equal_distances_on_the_logit(self) -> None:
        """Both ends are as far from the score on the logit, by the interval's width there."""
        low, high = score_interval(0.9, Spread(0.02, 4))
        reach = stdtrit(4, 0.975) * 0.02 / (0.9 * 0.1)
        assert (logit(0.9) - logit(low), logit(high) - logit(0.9)) == pytest.approx((reach, reach))

    def test_a_stretched_interval_holds_its_difference_whatever_the_samples(self) -> None:
        """Samples that are nearly all one value have no shape: the interval is symmetric about the difference."""
        samples = np.r_[np.zeros(990), np.full(10, 0.02)]
        low, high = stretched_interval(samples, around=0.0, spread=Spread(0.001, 6))
        assert low < 0 < high
        assert -low == pytest.approx(high)

    def test_a_stretched_interval_keeps_shape_and_takes_width(self) -> None:
        """Skewed samples give a skewed interval of the width that the spread says for normal ones."""
        skewed = np.random.default_rng(0).exponential(size=20_000)
        low, high = stretched_interval(skewed, around=0.0, spread=Spread(0.01, 1e9))
        assert high > 1.5 * -low
        normal = np.random.default_rng(0).normal(size=200_000)
        low, high = stretched_interval(normal, around=0.0, spread=Spread(0.02, 6))
        assert (low, high) == pytest.approx((-0.02 * 2.447, 0.02 * 2.447), rel=0.02)

    def test_one_seed_leaves_students_t_over_machines(self) -> None:
        """With one seed the p-value is the one-sample t-test's over machines."""
        gains = np.array([0.1, 0.3, -0.05, 0.2])
        assert crossed_spread(gains[:, None]).p_value(float(gains.mean())) == pytest.approx(
            ttest_1samp(gains, 0).pvalue
        )

    def test_seeds_that_all_machines_share_widen_the_spread(self) -> None:
        """A luck that a run brings to all its machines counts once a seed, not once a pair."""
        shared = np.tile([0.1, 0.0, -0.1], (7, 1)) + 0.001 * np.random.default_rng(0).normal(size=(7, 3))
        assert crossed_spread(shared).error == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
        assert crossed_spread(shared).freedom == pytest.approx(2, rel=0.05)

    def test_one_machine_counts_its_clips(self) -> None:
        """One machine and one seed leave the variance over clips, as good as known."""
        assert crossed_spread([[0.1]], clips=0.04) == Spread(pytest.approx(0.2), 1e9)


class TestPairedTest:
    def test_all_sign_patterns_are_counted(self) -> None:
        """Five differences of one sign are as extreme in 2 of 32 patterns."""
        assert paired_test([1, 2, 3, 4, 5]) == 2 / 32
        assert paired_test([[1, 2], [3, 4]]) == 2 / 16

    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
    def test_it_is_the_share_of_patterns_as_extreme(self, differences: list[int]) -> None:
        """The p-value equals a count over all patterns, ties counted in."""
        sums = [
            abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))
        ]
        assert paired_test(differences) == np.mean([value >= abs(sum(differences)) for value in sums])

    def test_the_sign_of_all_differences_does_not_matter(self) -> None:
        """The test is two-sided."""
        assert paired_test([0.1, 0.3, -0.2]) == paired_test([-0.1, -0.3, 0.2])

    def test_beyond_sixteen_differences_patterns_are_drawn(self) -> None:
        """The drawn p-value is near the exact one, depends on its seed alone and is never 0."""
        gains = np.random.default_rng(0).normal(0.4, 1, size=16)
        padded = [*gains, 0.0]  # a difference of 0 changes no sum
        assert paired_test(padded) == pytest.approx(paired_test(gains), abs=0.01)
        assert paired_test(padded, seed=1) == paired_test(padded, seed=1)
        assert paired_test(np.ones(40), draws=999) == 1 / 1000

    def test_no_difference_at_all_is_no_evidence(self) -> None:
        """Differences of 0 give a p-value of 1; none at all is an error."""
        assert paired_test([0.0, 0.0, 0.0]) == 1.0
        with pytest.raises(HarnessError, match="There must be differences"):
            paired_test([])


class TestHolm:
    def test_the_smallest_is_multiplied_by_their_number(self) -> None:
        """Holm's steps on four values, in the order given."""
        assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_one_test_needs_no_correction(self) -> None:
        """A single p-value stays, and none gives none."""
        assert holm([0.3]).tolist() == [0.3]
        assert holm([]).tolist() == []

    @pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
    def test_what_is_no_p_value_is_refused(self, bad: float) -> None:
        """Values outside 0 to 1 and NaN are errors."""
        with pytest.raises(HarnessError, match="between 0 and 1"):
            holm([0.5, bad])


def arm(base: int, *, apart: float, runs: int = 3, machines: str = "abc") -> pd.DataFrame:
    """Build an arm of several seeds."""
    return pd.concat([scored(base + run, apart=apart, machines=machines, run=run) for run in range(runs)])


class TestCompareArms:
    def test_delta_is_the_mean_difference_of_official_scores(self) -> None:
        """The difference averages official(arm) - official(reference) over the seeds."""
        better, worse = arm(0, apart=2.0), arm(100, apart=0.5)
        result = compare_arms(better, worse, "dcase2022", resamples=50)
        official = [
            [official_score(measure(table[table["seed"] == run], "dcase2022"), "dcase2022") for run in range(3)]
            for table in (better, worse)
        ]
        assert result.delta == pytest.approx(np.mean(np.subtract(*official)), abs=1e-12)
        assert result.ci_low < result.delta < result.ci_high
        assert (result.pairs, result.seeds, result.seeds_vary) == (9, (0, 1, 2), True)
        assert (result.machines_won, result.machines_lost, result.machines_tied) == (3, 0, 0)
        assert [one.machine for one in result.machines] == ["a", "b", "c"]
        assert result.p_value == max(result.p_pairs, result.p_spread)

    def test_exchanged_arms_change_signs_alone(self) -> None:
        """The other way round the difference and won and lost are exchanged, and the p-value stays."""
        a, b = arm(0, apart=2.0), arm(100, apart=1.0)
        one, other = (compare_arms(*pair, "dcase2022", resamples=50) for pair in ((a, b), (b, a)))
        assert other.delta == -one.delta
        assert (other.machines_won, other.machines_lost) == (one.machines_lost, one.machines_won)
        assert other.p_value == pytest.approx(one.p_value)
        assert (other.ci_low, other.ci_high) == pytest.approx((-one.ci_high, -one.ci_low))

    def test_an_arm_against_itself_is_no_difference(self) -> None:
        """Equal arms give 0, an interval of 0, a p-value of 1 and ties, in whichever order their rows stand."""
        a = arm(0, apart=1.0)
        result = compare_arms(a, a.sample(frac=1, random_state=0), "dcase2022", resamples=20)
        assert (result.delta, result.ci_low, result.ci_high, result.p_value) == (0.0, 0.0, 0.0, 1.0)
        assert result.machines_tied == 3

    def test_one_seed_is_flagged(self) -> None:
        """With one seed the interval is over clips and machines alone, and says so."""
        result = compare_arms(arm(0, apart=2.0, runs=1), arm(9, apart=1.0, runs=1), "dcase2022", resamples=20)
        assert not result.seeds_vary
        assert result.ci_low < result.delta < result.ci_high

    def test_one_machine_has_an_interval_over_clips(self) -> None:
        """With one machine and one seed the interval's width is that of the bootstrap over clips."""
        a, b = arm(0, apart=2.0, runs=1, machines="a"), arm(9, apart=1.0, runs=1, machines="a")
        result = compare_arms(a, b, "dcase2022", resamples=500)
        clips = resampled(a, resamples=500).official - resampled(b, resamples=500).official
        low, high = np.quantile(clips, (0.025, 0.975))
        assert result.ci_high - result.ci_low == pytest.approx(high - low, rel=0.1)
        assert (result.machines[0].ci_low, result.machines[0].ci_high) == pytest.approx((result.ci_low, result.ci_high))

    def test_a_machine_without_metrics_is_left_out(self) -> None:
        """A machine without anomalies counts in neither pairs nor machines."""
        a, b = arm(0, apart=2.0), arm(100, apart=1.0)
        a, b = (t[(t["machine"] != "c") | (t["condition"] == "normal")] for t in (a, b))
        result = compare_arms(a, b, "dcase2022", resamples=20)
        assert (result.pairs, result.machines_won) == (6, 2)

    def test_machines_without_metrics_are_never_drawn(self) -> None:
        """Two machines with metrics beside six without: each resample has a score, the interval is theirs alone."""
        names = "abcdefgh"
        whole = [arm(of, apart=apart, runs=2, machines=names) for of, apart in ((0, 2.0), (100, 1.0))]
        few = [t[t["machine"].isin(["a", "b"]) | (t["condition"] == "normal")] for t in whole]
        alone = [t[t["machine"].isin(["a", "b"])] for t in whole]
        found, expected = (compare_arms(*both, "dcase2022", resamples=60) for both in (few, alone))
        assert (found.ci_low, found.ci_high) == pytest.approx((expected.ci_low, expected.ci_high), abs=1e-12)
        assert np.isfinite([found.ci_low, found.ci_high]).all()

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda t: t[t["seed"] != 2], "same seeds, but one alone has 2"),
            (lambda t: t[t["machine"] != "c"], "one alone scored dcase2023 c 00"),
            (lambda t: t.iloc[:-1], "1 of dcase2023 c 00 have one score alone: c/target/anomaly/9"),
            (lambda t: t.drop(columns="seed"), "a seed each"),
            (lambda t: t.iloc[:0], "a seed each"),
        ],
    )
    def test_arms_that_do_not_pair_are_refused(self, change, sentence: str) -> None:
        """Seeds, machines or clips that one arm lacks are an error with their names."""
        with pytest.raises(HarnessError, match=sentence):
            compare_arms(arm(0, apart=1.0), change(arm(9, apart=1.0)), "dcase2022", resamples=2)

    def test_nothing_to_compare_is_refused(self) -> None:
        """Without an anomaly anywhere there is no comparison."""
        normal = arm(0, apart=1.0).query("condition == 'normal'")
        with pytest.raises(HarnessError, match="normal and anomalous clips, but there is none"):
            compare_arms(normal, normal, "dcase2022", resamples=2)


class TestUnpairedArms:
    def test_seeds_that_do_not_pair_are_averaged_arm_by_arm(self) -> None:
        """The difference is that of both means over seeds, whatever the seeds are called and in whichever order."""
        better, worse = arm(0, apart=2.0, runs=3), arm(100, apart=0.5, runs=2)
        result = compare_arms(better, worse, "dcase2022", resamples=50, paired=False)
        means = [
            np.mean([official_score(measure(t[t["seed"] == run], "dcase2022"), "dcase2022") for run in range(runs)])
            for t, runs in ((better, 3), (worse, 2))
        ]
        assert result.delta == pytest.approx(means[0] - means[1], abs=1e-12)
        assert (result.arm, result.reference) == pytest.approx(tuple(means))
        assert result.ci_low < result.delta < result.ci_high
        assert (result.seeds, result.reference_seeds, result.pairs) == ((0, 1, 2), (0, 1), 3)
        renamed = better.assign(seed=better["seed"].map({0: 7, 1: 5, 2: 6}))
        again = compare_arms(renamed, worse, "dcase2022", resamples=50, paired=False)
        assert again.delta == pytest.approx(result.delta, abs=1e-12)
        assert again.p_value == pytest.approx(result.p_value, abs=1e-9)

    def test_an_arm_against_itself_has_no_difference(self) -> None:
        """Equal arms differ by 0 though their seeds are taken as draws of their own; the interval is not 0 then."""
        a = arm(0, apart=1.0)
        result = compare_arms(a, a, "dcase2022", resamples=50, paired=False)
        assert result.delta == pytest.approx(0.0, abs=1e-12)
        assert result.p_value == 1.0
        assert result.ci_low <= 0.0 <= result.ci_high


class TestCompareNumbers:
    def test_it_is_the_comparison_of_the_same_clips_without_their_bootstrap(self) -> None:
        """Difference, p-values, machines and counts are those of the clips; the interval is symmetric in Fisher's z."""
        a, b = arm(0, apart=2.0), arm(100, apart=1.0)
        by_clips = compare_arms(a, b, "dcase2022", resamples=50)
        numbers = [
            {
                run: {
                    (one.dataset, one.machine, one.section): np.array([one.s_auc, one.t_auc, one.p_auc], dtype=float)
                    for one in measure(table[table["seed"] == run], "dcase2022")
                }
                for run in range(3)
            }
            for table in (a, b)
        ]
        result = compare_numbers(*numbers, "dcase2022")
        assert result.delta == pytest.approx(by_clips.delta, abs=1e-12)
        assert result.p_value == pytest.approx(by_clips.p_value, abs=1e-9)
        assert (result.pairs, result.machines_won, result.clips_vary) == (9, by_clips.machines_won, False)
        low, middle, high = np.arctanh([result.ci_low, result.delta, result.ci_high])
        assert high - middle == pytest.approx(middle - low)
