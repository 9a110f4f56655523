"""The rules of the years: which clips enter which number, and what is said where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.contract import BenchmarkError, MachineMetrics
from benchmarks.metrics.measures import (
    auc,
    entering,
    machine_h_means,
    measure,
    metric_rows,
    official_score,
    partial_auc,
    section_h_mean,
    split_sections,
)
from benchmarks.metrics.rules import RULES

# one clip each: source normal, source anomaly, target normal, target anomaly
FOUR = [("source", "normal", 1.0), ("source", "anomaly", 3.0), ("target", "normal", 4.0), ("target", "anomaly", 5.0)]


def table(
    clips: list[tuple[str | None, str | None, float]], *, machine: str = "fan", section: str = "00"
) -> pd.DataFrame:
    """Build scored clips of one section."""
    scored = pd.DataFrame(clips, columns=["domain", "condition", "score"])
    return scored.assign(
        dataset="dcase2023",
        machine=machine,
        section=section,
        clip_id=[f"{machine}/{section}/{place}" for place in range(len(clips))],
    )


def test_since_2022_a_domains_normals_meet_the_anomalies_of_both_domains() -> None:
    """The target normal at 4 beats the source anomaly at 3, so t_auc is 1/2 while the same-domain reading says 1."""
    (metrics,) = measure(table(FOUR), "dcase2022")
    assert (metrics.s_auc, metrics.t_auc, metrics.auc) == (1.0, 0.5, 0.75)


def test_in_2021_a_domains_normals_meet_its_own_anomalies() -> None:
    """Each domain alone is separated, and there is no pAUC over both domains."""
    (metrics,) = measure(table(FOUR), "dcase2021")
    assert (metrics.s_auc, metrics.t_auc, metrics.p_auc_source, metrics.p_auc_target) == (1.0, 1.0, 1.0, 1.0)
    assert metrics.p_auc is None
    assert metrics.undefined == ()


def test_in_2020_domains_do_not_exist() -> None:
    """A clip table without domains gives AUC and pAUC over all clips of a machine ID."""
    (metrics,) = measure(table([(None, "normal", 1.0), (None, "anomaly", 0.5), (None, "anomaly", 2.0)]), "dcase2020")
    assert metrics.auc == 0.5
    assert metrics.p_auc is not None
    assert metrics.s_auc is None


def test_entering_names_the_clips_of_each_number() -> None:
    """Source AUC of 2023 takes the source normal and both anomalies."""
    (section,) = split_sections(table(FOUR))
    taken = {number.field: list(section.ids[entering(section, number)]) for number in RULES["dcase2022"].numbers}
    assert taken["s_auc"] == ["fan/00/0", "fan/00/1", "fan/00/3"]
    assert taken["p_auc"] == list(section.ids)


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "b", "ä"],
        pd.Categorical(["b", "a", "b", "c"], categories=["c", "b", "a"]),
        pd.array([2, 10, 2, 1], dtype="Int64"),
        np.array([0.1, 1.7, 0.1, 0.0], np.float32),
        [1, 1.0, "1", True],
        pd.array(["b", "a", "b", "a"], dtype="string"),
        pd.to_datetime(["2024-01-02", "2023-01-01", "2024-01-02", "2023-01-01"]),
    ],
)
def test_sections_are_parted_by_the_words_of_their_names(values: object) -> None:
    """Whatever type a column has, clips whose names print alike are one section, in the order of these words."""
    scored = table(FOUR).assign(machine=values).iloc[[2, 0, 3, 1]]
    words = scored["machine"].astype(str)
    expected = [(word, scored["clip_id"][words == word].tolist()) for word in sorted(set(words))]
    assert [(section.machine, section.ids.tolist()) for section in split_sections(scored)] == expected


@pytest.mark.parametrize("absent", [None, np.nan, pd.NA])
def test_a_clip_without_a_section_is_named(absent: object) -> None:
    """An empty name is told with the clip's."""
    with pytest.raises(BenchmarkError, match=r"must have a dataset, machine and section; not so: fan/00/1\."):
        split_sections(table(FOUR).assign(section=["00", absent, "00", "01"]))


@pytest.mark.parametrize(
    ("clips", "missing"),
    [
        ([("source", "normal", 1.0), ("target", "normal", 1.0)], "no anomalous clip"),
        ([("source", "anomaly", 1.0), ("target", "anomaly", 1.0)], "no normal clip"),
    ],
)
def test_one_class_has_no_metric_but_a_reason(clips: list[tuple[str | None, str | None, float]], missing: str) -> None:
    """With normal or anomalous clips alone every number is None, never 0.5 or 0, and a sentence says why."""
    (metrics,) = measure(table(clips), "dcase2022")
    assert (metrics.s_auc, metrics.t_auc, metrics.p_auc, metrics.auc) == (None, None, None, None)
    assert len(metrics.undefined) == 3
    assert all(missing in reason for reason in metrics.undefined)
    assert official_score([metrics], "dcase2022") is None
    assert machine_h_means([metrics], "dcase2022") == {("dcase2023", "fan"): None}


def test_a_domain_without_normals_leaves_the_other_numbers() -> None:
    """Without target normals only t_auc is missing, and the official score goes over what is defined."""
    (metrics,) = measure(table([clip for clip in FOUR if clip[:2] != ("target", "normal")]), "dcase2022")
    assert (metrics.s_auc, metrics.t_auc, metrics.p_auc) == (1.0, None, 1.0)
    assert metrics.undefined == (
        "t_auc in the target domain of fan, section 00, dcase2023 is undefined: "
        "there is no normal clip of the target domain.",
    )
    assert official_score([metrics], "dcase2022") == 1.0


def test_clips_without_ground_truth_have_no_metric() -> None:
    """A clip whose condition nobody knows leaves its section's numbers undefined, with the count."""
    (metrics,) = measure(table([*FOUR, (None, None, 2.0)]), "dcase2022")
    assert metrics.s_auc is None
    assert "1 of 5 clips have no known condition" in metrics.undefined[0]


def test_clips_without_a_domain_have_no_domain_metric() -> None:
    """A clip of no known domain leaves s_auc and t_auc undefined, and p_auc as it is."""
    (metrics,) = measure(table([*FOUR, (None, "normal", 2.0)]), "dcase2022")
    assert metrics.s_auc is None
    assert metrics.p_auc is not None
    assert "1 of 5 clips have no known domain" in metrics.undefined[0]


def test_2020_averages_over_ids_before_its_harmonic_mean() -> None:
    """A machine's value is the harmonic mean of its mean AUC and mean pAUC; the official score averages all four."""
    metrics = [
        MachineMetrics("dcase2020", "fan", "00", auc=0.6, s_auc=None, t_auc=None, p_auc=0.5),
        MachineMetrics("dcase2020", "fan", "02", auc=0.8, s_auc=None, t_auc=None, p_auc=0.5),
    ]
    assert machine_h_means(metrics, "dcase2020")["dcase2020", "fan"] == pytest.approx(2 / (1 / 0.7 + 1 / 0.5))
    assert official_score(metrics, "dcase2020") == pytest.approx(0.6)


def test_an_auc_of_zero_counts_as_epsilon_in_the_harmonic_mean() -> None:
    """The harmonic mean goes over max(x, epsilon), so a zero gives nearly zero and no division by zero."""
    metrics = MachineMetrics("dcase2023", "fan", "00", auc=None, s_auc=0.0, t_auc=1.0, p_auc=1.0)
    assert official_score([metrics], "dcase2022") == pytest.approx(3 * np.finfo(float).eps, rel=1e-9)
    assert section_h_mean(metrics, "dcase2022") == official_score([metrics], "dcase2022")


def test_mean_auc_is_the_papers_average() -> None:
    """The average AUC is that of source and target, and None where one of them is."""
    assert MachineMetrics("d", "fan", "00", None, 0.2, 0.6, 0.5).mean_auc == pytest.approx(0.4)
    assert MachineMetrics("d", "fan", "00", None, None, 0.6, 0.5).mean_auc is None


def test_metric_rows_report_2021s_two_partial_aucs() -> None:
    """A listing of 2021 has p_auc twice, once a domain."""
    rows = metric_rows(measure(table(FOUR), "dcase2021"), "dcase2021")
    assert list(zip(rows["metric"], rows["domain"], strict=True)) == [
        ("s_auc", "source"),
        ("t_auc", "target"),
        ("p_auc", "source"),
        ("p_auc", "target"),
    ]
    assert rows["value"].eq(1.0).all()


def test_sections_and_machines_stay_apart() -> None:
    """Two machines of two sections give four metrics and two harmonic means."""
    scored = pd.concat([table(FOUR, machine=machine, section=section) for machine in "ab" for section in ("00", "01")])
    metrics = measure(scored, "dcase2022")
    assert [(one.machine, one.section) for one in metrics] == [("a", "00"), ("a", "01"), ("b", "00"), ("b", "01")]
    assert set(machine_h_means(metrics, "dcase2022")) == {("dcase2023", "a"), ("dcase2023", "b")}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None, pd.NA])
def test_a_score_that_is_not_finite_is_an_error_with_the_clip(bad: object) -> None:
    """NaN, infinite or missing scores are refused by the names of their clips."""
    scored = table(FOUR)
    scored["score"] = scored["score"].astype(object)
    scored.loc[2, "score"] = bad
    with pytest.raises(BenchmarkError, match=r"Scores must be finite numbers, but 1 are not: fan/00/2\."):
        measure(scored, "dcase2022")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop(columns="domain"), "but miss domain"),
        (lambda t: t.iloc[:0], "at least one scored clip"),
        (lambda t: pd.concat([t, t, t.iloc[:1]]), r"several scores: fan/00/0, fan/00/1, fan/00/2, fan/00/3\.$"),
        (lambda t: t.assign(condition="broken"), "must be 'normal', 'anomaly' or empty, but is 'broken'"),
        (lambda t: t.assign(domain="shift"), "must be 'source', 'target' or empty, but is 'shift'"),
        (lambda t: t.assign(machine=None), "must have a dataset, machine and section"),
    ],
)
def test_a_table_that_cannot_be_measured_is_refused_in_one_sentence(change, sentence: str) -> None:
    """Missing columns, no clips, doubled clips and unknown words are errors that say what is wrong."""
    with pytest.raises(BenchmarkError, match=sentence):
        measure(change(table(FOUR)), "dcase2022")


def test_an_unknown_rule_is_refused_with_those_that_exist() -> None:
    """A rule of no year is answered with the names that exist."""
    with pytest.raises(BenchmarkError, match="dcase2020, dcase2021, dcase2022"):
        measure(table(FOUR), "dcase2019")  # type: ignore[arg-type]  # the mistake under test


def test_scores_and_labels_that_do_not_fit_are_refused() -> None:
    """Both areas check shapes, values, classes and the range of p."""
    with pytest.raises(BenchmarkError, match="alike"):
        auc([1.0, 2.0], [True])
    with pytest.raises(BenchmarkError, match="finite numbers, but got nan in place 1"):
        auc([1.0, np.nan], [True, False])
    with pytest.raises(BenchmarkError, match="all 2 are of one class"):
        auc([1.0, 2.0], [True, True])
    with pytest.raises(BenchmarkError, match=r"max_fpr must lie in \(0, 1\]"):
        partial_auc([1.0, 2.0], [True, False], max_fpr=0.0)
