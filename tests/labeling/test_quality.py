"""Pseudo-labels judged against withheld attributes."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from labeling.contract import LabelingError, RankedCandidates
from labeling.quality import label_quality
from labeling.withhold import withhold


def candidates(rows, *, retained=None, labeled=None) -> RankedCandidates:
    """Make candidates by hand: one list of names a clip, all of one length."""
    n = len(rows)
    return RankedCandidates(
        ids=np.array([str(number) for number in range(n)]),
        names=np.array(rows),
        confidence=np.full(np.shape(rows), 0.5),
        retained=np.ones(n, dtype=bool) if retained is None else np.array(retained),
        labeled=np.zeros(n, dtype=bool) if labeled is None else np.array(labeled),
        case="sample-wise",
        strategy="sample_wise",
    )


TRUTH = {"0": "a", "1": "a", "2": "b", "3": "b"}


def test_right_labels_are_pure_and_found():
    """Labels equal to the truth have purity, NMI, ARI and recall 1, and the truth's entropy."""
    quality = label_quality({"fan": candidates([["a"], ["a"], ["b"], ["b"]])}, TRUTH, m=1)["fan"]
    assert (quality.purity, quality.ari, quality.recall_at_m, quality.entropy) == (1.0, 1.0, 1.0, 1.0)
    assert quality.nmi == pytest.approx(1.0)
    assert (quality.clips, quality.classes, quality.true_classes, quality.left_out) == (4, 2, 2, 0.0)


def test_measures_are_plain_numbers():
    """Python's own, since they are written to files; one class has the entropy 0, and not -0."""
    quality = asdict(label_quality({"fan": candidates([["a"], ["a"], ["b"], ["b"]])}, TRUTH, m=1)["fan"])
    assert {type(value) for value in quality.values()} == {int, float}
    alone = label_quality({"fan": candidates([["a"]] * 4)}, TRUTH, m=1)["fan"]
    assert str(alone.entropy) == "0.0"


def test_renamed_labels_are_pure_but_not_found():
    """A partition may be right under other names: purity sees the partition, recall the names."""
    quality = label_quality({"fan": candidates([["b"], ["b"], ["a"], ["a"]])}, TRUTH, m=1)["fan"]
    assert (quality.purity, quality.recall_at_m) == (1.0, 0.0)


def test_one_class_for_all_says_nothing():
    """One class has the purity of the most frequent truth, NMI and ARI 0 and no entropy."""
    quality = label_quality({"fan": candidates([["a"]] * 4)}, TRUTH, m=1)["fan"]
    assert (quality.purity, quality.ari, quality.entropy, quality.recall_at_m) == (0.5, 0.0, 0.0, 0.5)
    assert quality.nmi == pytest.approx(0.0)


def test_more_candidates_find_more_and_split_more():
    """Recall rises with M while the classes multiply."""
    table = candidates([["a", "b"], ["b", "a"], ["b", "a"], ["a", "b"]])
    one, two = (label_quality({"fan": table}, TRUTH, m=m)["fan"] for m in (1, 2))
    assert (one.recall_at_m, two.recall_at_m) == (0.5, 1.0)
    assert label_quality({"fan": table}, TRUTH, m=2, fusion="set")["fan"].classes == 1


def test_only_unlabeled_clips_with_known_truth_are_judged():
    """Clips that keep their own attribute, and clips of unknown truth, are not judged."""
    table = candidates([["b"], ["a"], ["b"], ["a"]], labeled=[True, False, False, False])
    quality = label_quality({"fan": table}, {"0": "a", "1": "a", "2": "b"}, m=1)["fan"]
    assert (quality.clips, quality.recall_at_m) == (2, 1.0)


def test_left_out_clips_are_counted_and_their_candidates_still_judged():
    """A share is left out; labels are judged without it, the ranking with and without."""
    table = candidates([["a"], ["b"], ["b"], ["a"]], retained=[True, False, True, False])
    quality = label_quality({"fan": table}, TRUTH, m=1)["fan"]
    assert (quality.left_out, quality.purity) == (0.5, 1.0)
    assert (quality.recall_at_m, quality.recall_at_m_retained) == (0.5, 1.0)


def test_nothing_retained_or_judged_is_undefined():
    """Measures without clips are None, not 0."""
    none_retained = label_quality({"fan": candidates([["a"]] * 4, retained=[False] * 4)}, TRUTH, m=1)["fan"]
    assert (none_retained.left_out, none_retained.purity, none_retained.recall_at_m) == (1.0, None, 0.5)
    assert none_retained.recall_at_m_retained is None
    none_judged = label_quality({"fan": candidates([["a"]] * 4)}, {}, m=1)["fan"]
    assert (none_judged.clips, none_judged.left_out, none_judged.recall_at_m) == (0, None, None)


def test_soft_labels_have_recall_alone():
    """Soft labels are no partition: purity, agreement and entropy are undefined, recall is the composite label's."""
    table = {"fan": candidates([["a", "b"], ["b", "a"], ["b", "a"], ["a", "c"]])}
    soft, composite = (label_quality(table, TRUTH, m=2, fusion=fusion)["fan"] for fusion in ("soft", "composite"))
    assert (soft.purity, soft.nmi, soft.ari, soft.entropy, soft.classes) == (None, None, None, None, 0)
    assert soft.recall_at_m == composite.recall_at_m == 0.75


def test_one_candidate_wide_tables_are_judged_at_any_m():
    """Where K1 and K2 allow M, a machine type with one candidate a clip is judged by the one that it has."""
    narrow = {"fan": candidates([["a"], ["a"], ["b"], ["a"]])}
    assert label_quality(narrow, TRUTH, m=3, widest=15)["fan"].recall_at_m == 0.75
    with pytest.raises(LabelingError, match="m must be between 1 and 1"):
        label_quality(narrow, TRUTH, m=3)
    beside = {**narrow, "pump": candidates([["a", "b", "c"]] * 4), "valve": candidates([["a", "b"]] * 4)}
    found = label_quality(beside, TRUTH, m=3)  # the widest row of all counts
    assert [found[machine].recall_at_m for machine in beside] == [0.75, 1.0, 1.0]
    with pytest.raises(LabelingError, match="m must be between 1 and 3"):
        label_quality(beside, TRUTH, m=4)


def test_what_attributes_are_called_moves_no_digit():
    """The same attributes under names that sort otherwise have the same quality to the last digit."""
    rng = np.random.default_rng(0)
    names = np.array([f"vel_{number}" for number in range(7)])
    for _ in range(5):
        true, first = rng.integers(0, 7, 90), rng.integers(0, 7, 90)
        found = []
        for called in (names, names[::-1], rng.permutation(names)):
            truth = {str(clip): str(name) for clip, name in enumerate(called[true])}
            found.append(label_quality({"fan": candidates(called[first][:, None])}, truth, m=1)["fan"])
        assert found[0] == found[1] == found[2]


def test_refuses_m_above_the_candidates():
    """M is bounded by the widest table."""
    with pytest.raises(LabelingError, match="m must be between 1 and 1"):
        label_quality({"fan": candidates([["a"]] * 4)}, TRUTH, m=2)


IDS = np.array([f"clip_{number:04d}" for number in range(1000)])
ATTRIBUTES = np.array(["a", None, "b", "c"] * 250, dtype=object)


def test_withheld_attributes_become_the_truth():
    """What is hidden is exactly what the truth holds; the rest stays, and the input is left alone."""
    seen, truth = withhold(IDS, ATTRIBUTES, share=0.8, seed=1)
    for clip, before, after in zip(IDS, ATTRIBUTES, seen, strict=True):
        assert (after is None and truth.get(str(clip)) == before) or (after == before and str(clip) not in truth)
    assert sum(a is None for a in ATTRIBUTES) == 250
    assert len(truth) / 750 == pytest.approx(0.8, abs=0.05)


def test_withholding_hangs_on_id_and_seed_alone():
    """Other clips beside them change nothing, another seed hides others, a larger share hides the same and more."""
    whole = withhold(IDS, ATTRIBUTES, share=0.5, seed=3)[1]
    part = withhold(IDS[::-2], ATTRIBUTES[::-2], share=0.5, seed=3)[1]
    assert part == {clip: a for clip, a in whole.items() if clip in set(IDS[::-2].tolist())}
    assert withhold(IDS, ATTRIBUTES, share=0.5, seed=4)[1] != whole
    assert whole.items() <= withhold(IDS, ATTRIBUTES, share=0.7, seed=3)[1].items()


def test_the_whole_share_and_a_domain():
    """Share 1 hides all, 0 none; a domain hides only its own clips."""
    assert len(withhold(IDS, ATTRIBUTES)[1]) == 750
    assert withhold(IDS, ATTRIBUTES, share=0.0)[1] == {}
    domains = np.array(["source", "source", "target", "source"] * 250, dtype=object)
    assert set(withhold(IDS, ATTRIBUTES, domains=domains, domain="target")[1].values()) == {"b"}


def test_refuses_shares_and_domains_that_are_none():
    """A share in percent, an unknown domain and a domain without a column are refused."""
    with pytest.raises(LabelingError, match="share must be between 0 and 1, but got 80"):
        withhold(IDS, ATTRIBUTES, share=80)
    with pytest.raises(LabelingError, match="must be one of source, but got tgt"):
        withhold(IDS, ATTRIBUTES, domains=np.array(["source"] * 1000, dtype=object), domain="tgt")
    with pytest.raises(LabelingError, match="domains must have one row a clip, 1000, but got none"):
        withhold(IDS, ATTRIBUTES, domain="target")
    many = np.array(["e", "b", None, "d", "a", "f", "c", "h"] * 125, dtype=object)
    with pytest.raises(LabelingError, match="must be one of None, a, b, c, d, e, f, h, but got tgt"):
        withhold(IDS, ATTRIBUTES, domains=many, domain="tgt")
    with pytest.raises(LabelingError, match="attributes must have one row a clip, 1000, but got 5"):
        withhold(IDS, ATTRIBUTES[:5])
