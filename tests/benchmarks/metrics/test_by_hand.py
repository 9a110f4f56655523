"""The metrics written a second time, clip by clip and number by number, against ours on random sections."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.contract import BenchmarkError, MachineMetrics
from benchmarks.metrics import roc, rules
from benchmarks.metrics.measures import (
    entering,
    machine_h_means,
    measure,
    metric_rows,
    official_score,
    section_h_mean,
    section_numbers,
    split_sections,
    why_undefined,
)
from benchmarks.metrics.roc import auc, partial_auc, resampled_auc, resampled_partial_auc
from benchmarks.metrics.rules import RULES, harmonic_of_all

# Of each year: where a number stands, the domains of its normal and of its anomalous clips, whether it is a pAUC.
EVERY, SOURCE, TARGET = ("source", "target", None), ("source",), ("target",)
NUMBERS = {
    "dcase2020": [("auc", EVERY, EVERY, False), ("p_auc", EVERY, EVERY, True)],
    "dcase2021": [("s_auc", SOURCE, SOURCE, False), ("t_auc", TARGET, TARGET, False),
                  ("p_auc_source", SOURCE, SOURCE, True), ("p_auc_target", TARGET, TARGET, True)],
    "dcase2022": [("s_auc", SOURCE, EVERY, False), ("t_auc", TARGET, EVERY, False), ("p_auc", EVERY, EVERY, True)],
}  # fmt: skip


def random_table(seed: int, *, sections: int = 5, clips: int = 24) -> pd.DataFrame:
    """Score clips of several sections of three machines, with ties."""
    rng = np.random.default_rng(seed)
    n = sections * clips
    part = np.repeat(np.arange(sections), clips)
    return pd.DataFrame(
        {
            "dataset": "dcase2023",
            "machine": np.array(["valve", "fan", "fan", "pump", "valve"])[part % 5],
            "section": [f"{number:02d}" for number in part],
            "domain": np.array(["source", "target"])[rng.integers(0, 2, n)],
            "condition": np.array(["normal", "anomaly"])[rng.integers(0, 2, n)],
            "score": rng.integers(0, 12, n) / 4,
            "clip_id": [f"c{number:03d}" for number in rng.permutation(n)],
        }
    ).sample(frac=1, random_state=seed)


def number_by_hand(part: pd.DataFrame, normals, anomalies, partial: bool, repeats=None) -> float:
    """Compute one number of a section with scikit-learn, from the rows that enter it."""
    anomalous = part["condition"] == "anomaly"
    domains = part["domain"]
    enters = (~anomalous & domains.isin(normals)) | (anomalous & domains.isin(anomalies))
    rows = np.flatnonzero(enters)
    if repeats is not None:
        rows = np.repeat(rows, repeats[rows])
    truth, scores = anomalous.to_numpy()[rows], part["score"].to_numpy()[rows]
    return (
        float("nan") if len(set(truth)) < 2 else float(roc_auc_score(truth, scores, max_fpr=0.1 if partial else None))
    )


@pytest.mark.parametrize("rule", RULES)
def test_every_number_of_every_section(rule) -> None:
    """Sections come sorted; each number is scikit-learn's over the clips that enter it, once or as often as drawn."""
    table = random_table(0)
    sections = split_sections(table)
    assert [section.key for section in sections] == sorted(
        set(zip(table["dataset"], table["machine"], table["section"], strict=True))
    )
    metrics = measure(table, rule)
    counts = np.random.default_rng(0).integers(0, 3, size=(24, 2))
    for section, measured in zip(sections, metrics, strict=True):
        part = table[(table["machine"] == section.machine) & (table["section"] == section.section)]
        assert section.ids.tolist() == part["clip_id"].tolist()
        assert section.unlabeled == 0 and type(section.unlabeled) is int
        drawn = section_numbers(section, rule, counts)
        assert measured.auc == pytest.approx(roc_auc_score(part["condition"] == "anomaly", part["score"]), abs=1e-12)
        for place, (field, normals, anomalies, partial) in enumerate(NUMBERS[rule]):
            wanted = number_by_hand(part, normals, anomalies, partial)
            assert getattr(measured, field) == pytest.approx(wanted, abs=1e-12)
            assert type(getattr(measured, field)) is type(measured.auc) is float
            for column in range(2):
                once_more = number_by_hand(part, normals, anomalies, partial, counts[:, column])
                assert drawn[place, column] == pytest.approx(once_more, abs=1e-12, nan_ok=True)
        given = {"dataset", "machine", "section", "undefined", "auc", *(field for field, *_ in NUMBERS[rule])}
        assert all(value is None for name, value in vars_of(measured).items() if name not in given)


def vars_of(metrics: MachineMetrics) -> dict[str, object]:
    """Return fields and values."""
    return {name: getattr(metrics, name) for name in metrics.__dataclass_fields__}


def some_metrics(seed: int) -> list[MachineMetrics]:
    """Make up numbers of seven sections of three machines; some are missing, one is 0."""
    rng = np.random.default_rng(seed)
    fields = ("auc", "s_auc", "t_auc", "p_auc", "p_auc_source", "p_auc_target")
    made = []
    for place in range(7):
        values = {field: None if rng.random() < 0.25 else float(rng.random()) for field in fields}
        made.append(MachineMetrics(f"d{place % 2}", f"m{place % 3}", f"{place:02d}", **values))
    return [replace(made[0], t_auc=0.0, auc=0.0, p_auc_target=0.0), *made[1:]]


def h_mean(values) -> float | None:
    """Return the harmonic mean of what is there, nothing below the smallest step from 1."""
    known = [max(value, 2.0**-52) for value in values if value is not None]
    return len(known) / sum(1 / value for value in known) if known else None


def mean(values) -> float | None:
    """Return the mean of what is there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_scores_over_sections_and_machines(rule, seed: int) -> None:
    """2020: mean over all numbers, and per machine the harmonic mean of its means; later harmonic means of all."""
    metrics = some_metrics(seed)
    fields = [field for field, *_ in NUMBERS[rule]]
    every = [getattr(section, field) for section in metrics for field in fields]
    assert official_score(iter(metrics), rule) == pytest.approx(mean(every) if rule == "dcase2020" else h_mean(every))
    machines = machine_h_means(iter(metrics), rule)
    assert list(machines) == list(dict.fromkeys((one.dataset, one.machine) for one in metrics))
    for key, value in machines.items():
        own = [section for section in metrics if (section.dataset, section.machine) == key]
        parts = [[getattr(section, field) for section in own] for field in fields]
        values = [mean(part) for part in parts] if rule == "dcase2020" else itertools.chain(*parts)
        assert value == pytest.approx(h_mean(values))
    numbers = [official_score(metrics, rule), *machines.values(), *(section_h_mean(one, rule) for one in metrics)]
    assert all(type(each) is float for each in numbers)  # plain numbers, as they are stored
    for section in metrics:
        assert section_h_mean(section, rule) == pytest.approx(h_mean([getattr(section, field) for field in fields]))
    rows = metric_rows(metrics, rule)
    assert rows["value"].tolist() == pytest.approx([math.nan if v is None else v for v in every], nan_ok=True)
    assert rows["section"].tolist() == [section.section for section in metrics for _ in fields]
    assert official_score([], rule) is None and machine_h_means([], rule) == {} and metric_rows([], rule).empty


@pytest.mark.parametrize("rule", RULES)
def test_weighted_means_are_those_of_repeated_sections(rule) -> None:
    """A section of weight w counts w times, of weight 0 not at all, in each resample by its own weights."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((4, 3, 5)) < 0.2, np.nan, rng.random((4, 3, 5)))
    values[:, 0, 3] = np.nan
    values[0, 1, 1] = 0.0
    weights = rng.integers(0, 3, size=(4, 5)).astype(float)
    weights[:, 4] = 0.0
    with np.errstate(all="raise"):  # a resample without any number is no warning
        found = RULES[rule].official(values, weights)
    for column in range(5):
        several = [
            value
            for section, times in enumerate(weights[:, column])
            for value in values[section, :, column].tolist() * int(times)
            if not math.isnan(value)
        ]
        wanted = mean(several) if rule == "dcase2020" else h_mean(several)
        assert found[column] == pytest.approx(math.nan if wanted is None else wanted, nan_ok=True)
    by_machine = RULES[rule].machine(values)
    for column in range(5):
        lists = [[None if math.isnan(v) else v for v in values[:, k, column]] for k in range(3)]
        wanted = h_mean([mean(each) for each in lists] if rule == "dcase2020" else itertools.chain(*lists))
        assert by_machine[column] == pytest.approx(wanted)


def test_a_mean_of_all_wants_all() -> None:
    """The harmonic mean of numbers that must all be there is None where one is missing, or where there is none."""
    assert harmonic_of_all([0.5, 1.0, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_of_all([0.8]) == pytest.approx(0.8)
    assert harmonic_of_all([0.0, 1.0]) == pytest.approx(2 / (2.0**52 + 1), rel=1e-12)
    assert harmonic_of_all([0.5, None]) is None and harmonic_of_all([None]) is None and harmonic_of_all([]) is None


def test_what_the_evaluators_fix() -> None:
    """PAUC goes to a false positive rate of 0.1, and means over max(x, 2^-52)."""
    assert roc.MAX_FPR == 0.1 and rules.EPSILON == 2.0**-52
    scores, labels = np.arange(40.0) % 7, np.arange(40) % 3 == 0
    assert (
        partial_auc(scores, labels)
        == partial_auc(scores, labels, max_fpr=0.1)
        != partial_auc(scores, labels, max_fpr=0.11)
    )
    counts = np.ones((40, 1))
    assert resampled_partial_auc(scores, labels, counts)[0] == partial_auc(scores, labels)


def test_the_whole_range_is_the_plain_area_bit_for_bit() -> None:
    """A pAUC up to a false positive rate of 1 is the AUC in every bit."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = rng.normal(size=29) - np.arange(29) % 2, np.arange(29) % 2 == 0
        assert partial_auc(-scores, labels, max_fpr=1) == auc(-scores, labels)
        assert partial_auc(scores, labels, max_fpr=1.0) == auc(scores, labels)


def test_scores_may_be_whole_numbers() -> None:
    """Unsigned numbers, which have no negative, are scores like others; so are those of a plain list."""
    scores, labels = np.random.default_rng(0).integers(0, 9, 60).astype(np.uint8), np.arange(60) % 2 == 0
    for metric in (auc, partial_auc):
        assert metric(scores, labels) == metric(scores.tolist(), labels) == metric(scores.astype(float), labels)
        assert type(metric(scores, labels)) is float


def test_undefined_numbers_are_nan_in_every_resample() -> None:
    """Clips of no known condition, or of no known domain, leave a section's numbers NaN, both classes or not."""
    table = random_table(0, sections=1)
    for column, undefined in (("condition", [True] * 3), ("domain", [True, True, False])):
        changed = table.copy()
        changed.iloc[3, changed.columns.get_loc(column)] = None
        (section,) = split_sections(changed)
        assert np.isnan(section_numbers(section, "dcase2022", np.ones((24, 2)))).all(axis=1).tolist() == undefined


def test_labels_may_be_numbers() -> None:
    """Labels 0 and 1, in a list or an array of integers, are those of normal clips and anomalies."""
    assert auc([1, 2, 3, 4], [0, 1, 0, 1]) == auc([1, 2, 3, 4], np.array([False, True, False, True])) == 0.75
    assert partial_auc([1, 2, 3, 4], np.array([0, 1, 0, 1])) == partial_auc([1, 2, 3, 4], [False, True, False, True])


@pytest.mark.parametrize(
    ("scores", "labels", "options", "said"),
    [
        ([[1.0, 2.0]], [[True, False]], {}, r"must be \(n,\) alike, but got \(1, 2\) and \(1, 2\)"),
        ([1.0, 2.0, 3.0], [True, False], {}, r"but got \(3,\) and \(2,\)"),
        ([1.0, 2.0, np.inf, np.nan], [True, False, True, True], {}, "but got inf in place 2"),
        ([1.0, 2.0], [False, False], {}, "all 2 are of one class"),
        ([1.0, 2.0, 3.0], [True, True, True], {}, "all 3 are of one class"),
        ([1.0, 2.0], [True, False], {"max_fpr": 1.01}, r"max_fpr must lie in \(0, 1\], .* but got 1.01"),
        ([1.0, 2.0], [True, False], {"max_fpr": -0.5}, "but got -0.5"),
        ([1.0, 2.0], [True, False], {"max_fpr": 0}, "but got 0"),
    ],
)
def test_what_has_no_area_is_refused(scores, labels, options, said: str) -> None:
    """Tables, lengths that differ, scores that are no numbers, one class and rates out of range are refused."""
    with pytest.raises(BenchmarkError, match=said):
        partial_auc(scores, labels, **options)
    if not options:
        with pytest.raises(BenchmarkError, match=said):
            auc(scores, labels)


def test_a_resample_without_a_class_has_no_area() -> None:
    """NaN, and no warning, where a resample drew normal clips or anomalies alone; the others have theirs."""
    scores, labels = np.array([1.0, 2, 3, 4]), np.array([False, True, False, True])
    counts = np.array([[1, 0, 2], [1, 1, 0], [1, 0, 1], [1, 1, 0]])
    for metric in (resampled_auc, resampled_partial_auc):
        with np.errstate(all="raise"):
            found = metric(scores, labels, counts)
        assert np.isfinite(found).tolist() == [True, False, False]


def reasons(clips: list[tuple[str | None, str | None]], rule) -> list[str | None]:
    """Return why each number of a section of these domains and conditions is undefined."""
    table = pd.DataFrame(clips, columns=["domain", "condition"]).assign(
        dataset="d", machine="fan", section="00", score=range(len(clips))
    )
    (section,) = split_sections(table)
    assert section.ids.tolist() == list(range(len(clips)))  # rows, where clips have no ids
    return [why_undefined(section, number) for number in RULES[rule].numbers]


def test_reasons_word_by_word() -> None:
    """A reason names the number, its domain if it has one, the section, and what is absent."""
    rest = "of fan, section 00, d is undefined:"
    assert reasons([("source", "normal"), ("target", "normal")], "dcase2022") == [
        f"s_auc in the source domain {rest} there is no anomalous clip.",
        f"t_auc in the target domain {rest} there is no anomalous clip.",
        f"p_auc {rest} there is no anomalous clip.",
    ]
    assert reasons([("source", "normal"), ("target", "anomaly")], "dcase2021") == [
        f"s_auc in the source domain {rest} there is no anomalous clip of the source domain.",
        f"t_auc in the target domain {rest} there is no normal clip of the target domain.",
        f"p_auc in the source domain {rest} there is no anomalous clip of the source domain.",
        f"p_auc in the target domain {rest} there is no normal clip of the target domain.",
    ]
    assert reasons([(None, "normal"), (None, "anomaly"), (None, None), ("source", None)], "dcase2020") == [
        f"{number} {rest} 2 of 4 clips have no known condition." for number in ("auc", "p_auc")
    ]
    assert reasons([(None, "normal"), (None, "anomaly"), ("source", "anomaly")], "dcase2020") == [None, None]
    assert reasons([(None, "normal"), ("source", "anomaly"), ("source", "normal")], "dcase2022") == [
        f"s_auc in the source domain {rest} 1 of 3 clips have no known domain.",
        f"t_auc in the target domain {rest} 1 of 3 clips have no known domain.",
        None,
    ]


def test_clips_that_enter_each_number() -> None:
    """Which of eight clips, every mix of domain and condition twice, enter which number of which year."""
    mixes = list(itertools.product(("source", "target"), ("normal", "anomaly"))) * 2
    table = pd.DataFrame(mixes, columns=["domain", "condition"]).assign(
        dataset="d", machine="fan", section="00", score=range(8)
    )
    (section,) = split_sections(table)
    for rule, numbers in NUMBERS.items():
        for number, (field, normals, anomalies, partial) in zip(RULES[rule].numbers, numbers, strict=True):
            wanted = [domain in (normals if said == "normal" else anomalies) for domain, said in mixes]
            assert entering(section, number).tolist() == wanted
            assert (number.field, number.partial) == (field, partial)


@pytest.mark.parametrize(
    ("clips", "named"), [(5, "c0, c1, c2, c3, c4"), (6, "c0, c1, c2, c3, c4 and 1 more"), (1, "c0")]
)
def test_errors_name_five_clips(clips: int, named: str) -> None:
    """An error names up to five clips and counts the others."""
    table = pd.DataFrame(
        {"dataset": "d", "machine": "fan", "section": "00", "domain": None, "condition": "normal",
         "score": [np.nan] * clips + [1.0], "clip_id": [f"c{number}" for number in range(clips + 1)]}
    )  # fmt: skip
    with pytest.raises(BenchmarkError, match=f"^Scores must be finite numbers, but {clips} are not: {named}\\.$"):
        split_sections(table)


@pytest.mark.parametrize("kind", [object, "string", "category"])
def test_words_of_any_column_type_and_a_table_that_stays(kind) -> None:
    """Empty cells are None whatever stands in them and however a column keeps its words; the caller's table stays."""
    table = pd.DataFrame(
        {"dataset": "d", "machine": "fan", "section": ["00", "01", "00", "02"], "score": [1, 2, 3, 4],
         "domain": pd.array(["source", "target", None, "source"], dtype=kind),
         "condition": pd.array(["normal", None, "anomaly", "anomaly"], dtype=kind)}
    )  # fmt: skip
    if kind is object:
        table["domain"] = pd.Series(["source", "target", np.nan, "source"], dtype=object)
    before = table.copy(deep=True)
    sections = split_sections(table)
    pd.testing.assert_frame_equal(table, before)
    assert table["domain"].isna().tolist() == [False, False, True, False]
    assert table["domain"][2] is before["domain"][2]
    assert [section.domains.tolist() for section in sections] == [["source", None], ["target"], ["source"]]
    assert [section.anomalous.tolist() for section in sections] == [[False, True], [False], [True]]
    assert [section.unlabeled for section in sections] == [0, 1, 0]
    assert [section.scores.dtype for section in sections] == [np.float64] * 3


@pytest.mark.parametrize("empty", [np.nan, None, pd.NA])
def test_a_column_of_nothing_is_no_word(empty) -> None:
    """Where no clip has a domain, however that is written, 2020's numbers are there."""
    table = random_table(0, sections=1).assign(domain=empty)
    (metrics,) = measure(table, "dcase2020")
    assert metrics.auc is not None and metrics.undefined == ()
    assert all(domain is None for domain in split_sections(table)[0].domains)


def test_one_strange_word_is_enough_and_rows_stand_for_ids() -> None:
    """A single clip of an unknown condition is refused by its id, or by its row where clips have no ids."""
    table = random_table(0, sections=1).reset_index(drop=True)
    table.loc[3, "condition"] = "broken"
    for changed, name in ((table, table["clip_id"][3]), (table.drop(columns="clip_id"), "3")):
        with pytest.raises(BenchmarkError, match=rf"but is 'broken' for {name}\.$"):
            split_sections(changed)
