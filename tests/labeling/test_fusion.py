"""Fusion of the M best candidates into classes."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from labeling.contract import LabelingError, RankedCandidates
from labeling.fusion import check_m, fuse_top_m, label_statistics


def table(rows, *, prefix="", retained=None, labeled=None, confidence=None) -> RankedCandidates:
    """Make candidates by hand: one list of names a clip."""
    width = max(1, *map(len, rows))
    names = np.array([row + [""] * (width - len(row)) for row in rows])
    falling = np.where(names != "", 0.5 ** np.arange(1, width + 1), 0.0)
    n = len(rows)
    return RankedCandidates(
        ids=np.array([f"{prefix}{number}" for number in range(n)]),
        names=names,
        confidence=falling if confidence is None else np.array(confidence),
        retained=np.ones(n, dtype=bool) if retained is None else np.array(retained),
        labeled=np.zeros(n, dtype=bool) if labeled is None else np.array(labeled),
        case="partial",
        strategy="cluster_wise",
    )


def classes_of(labels) -> list[str]:
    """Name each clip's class."""
    return labels.classes[labels.targets].tolist()


def test_composite_keeps_the_order():
    """The paper's label joins the best M by "_", so a_b is not b_a; a clip with fewer uses those it has."""
    labels = fuse_top_m({"fan": table([["a", "b", "c"], ["b", "a"], ["a"], []])}, m=2)
    assert classes_of(labels) == ["fan|a_b", "fan|b_a", "fan|a", "fan"]
    assert labels.classes.tolist() == sorted(labels.classes)


def test_set_ignores_the_order():
    """With fusion "set" the same attributes in another order are the same class."""
    assert classes_of(fuse_top_m({"fan": table([["b", "a"], ["a", "b"]])}, m=2, fusion="set")) == ["fan|a_b"] * 2


def test_soft_weighs_single_attributes():
    """With fusion "soft" the M confidences become weights that sum to 1 over single attributes."""
    candidates = table([["a", "b", "c"], ["c"], []], confidence=[[0.6, 0.2, 0.1], [0.3, 0, 0], [0, 0, 0]])
    labels = fuse_top_m({"fan": candidates}, m=2, fusion="soft")
    assert labels.classes.tolist() == ["fan", "fan|a", "fan|b", "fan|c"]
    np.testing.assert_allclose(labels.targets, [[0, 0.75, 0.25, 0], [0, 0, 0, 1], [1, 0, 0, 0]], rtol=1e-6)
    assert labels.targets.dtype == np.float32


def test_soft_with_no_confidence_at_all_is_even():
    """A forest may give every neighbour's attribute 0; they then share the clip evenly."""
    labels = fuse_top_m({"fan": table([["a", "b"]], confidence=[[0.0, 0.0]])}, m=2, fusion="soft")
    assert labels.targets.tolist() == [[0.5, 0.5]]


def test_machines_do_not_share_classes():
    """The machine type stands in front, so equal attributes of two machine types are two classes."""
    machines = {"fan": table([["a"]], prefix="f"), "pump": table([["a"]], prefix="p")}
    labels = fuse_top_m(machines, m=1)
    assert labels.ids.tolist() == ["f0", "p0"]
    assert classes_of(labels) == ["fan|a", "pump|a"]


def test_tuples_that_join_to_one_string_stay_two_classes():
    """(a_b, c) and (a, b_c) both read "a_b_c"; the second by order of tuples gets a number, however the clips come."""
    rows = [["a_b", "c"], ["a", "b_c"], ["a_b", "c"]]
    assert classes_of(fuse_top_m({"fan": table(rows)}, m=2)) == ["fan|a_b_c#2", "fan|a_b_c", "fan|a_b_c#2"]
    assert classes_of(fuse_top_m({"fan": table(rows[::-1])}, m=2)) == ["fan|a_b_c#2", "fan|a_b_c", "fan|a_b_c#2"]


def test_a_number_that_is_taken_is_passed_over():
    """An attribute that itself ends in "#2" keeps its class apart from a numbered one."""
    labels = fuse_top_m({"fan": table([["a_b", "c"], ["a", "b_c"], ["a_b_c#2"]])}, m=2)
    assert len(labels.classes) == len(set(classes_of(labels))) == 3


def test_a_machine_called_like_a_class_stays_apart():
    """The machine type "fan|a" alone and fan's attribute a are two classes."""
    labels = fuse_top_m({"fan": table([["a"]], prefix="f"), "fan|a": table([[]], prefix="g")}, m=1)
    assert len(labels.classes) == 2


@pytest.mark.parametrize("fusion", ["composite", "set", "soft"])
def test_clips_below_confidence_are_dropped_or_train_under_their_machine(fusion):
    """below="drop" leaves a clip out that is not retained; "machine" trains it under the machine type alone."""
    candidates = {"fan": table([["a"], ["b"]], retained=[True, False])}
    dropped = fuse_top_m(candidates, m=1, fusion=fusion)
    assert dropped.ids.tolist() == ["0"]
    assert dropped.classes.tolist() == ["fan|a"]
    kept = fuse_top_m(candidates, m=1, fusion=fusion, below="machine")
    assert kept.ids.tolist() == ["0", "1"]
    assert kept.classes.tolist() == ["fan", "fan|a"]


def test_a_machine_may_lose_all_its_clips():
    """One machine type without retained clips contributes none; with no clip at all there is nothing to train on."""
    lost = table([["a"]], prefix="l", retained=[False])
    for fusion in ("composite", "soft"):
        labels = fuse_top_m({"fan": lost, "pump": table([["a"]])}, m=1, fusion=fusion)
        assert labels.ids.tolist() == ["0"]
        with pytest.raises(LabelingError, match="no clip is left to train on"):
            fuse_top_m({"fan": lost}, m=1, fusion=fusion)


@pytest.mark.parametrize("m", [0, 16, 20])
def test_refuses_m_outside_the_candidates(m):
    """M must be between 1 and the candidates per clip."""
    with pytest.raises(LabelingError) as error:
        check_m(m, 15)
    assert str(error.value) == f"m must be between 1 and 15, the candidates per clip, but got {m}."


def test_m_may_be_as_wide_as_the_widest_machine():
    """A directly labeled machine type beside a wide one uses the one attribute that it has."""
    machines = {"fan": table([["a", "b", "c"]], prefix="f"), "pump": table([["a"]], prefix="p")}
    assert classes_of(fuse_top_m(machines, m=3)) == ["fan|a_b_c", "pump|a"]
    with pytest.raises(LabelingError, match="between 1 and 3"):
        fuse_top_m(machines, m=4)


def test_refuses_what_it_does_not_know():
    """Unknown fusions, unknown below, no machine and shared clips are refused in one sentence."""
    candidates = {"fan": table([["a"]])}
    with pytest.raises(LabelingError, match="fusion must be one of composite, set, soft, but got sum"):
        fuse_top_m(candidates, m=1, fusion="sum")
    with pytest.raises(LabelingError, match="below must be one of drop, machine, but got keep"):
        fuse_top_m(candidates, m=1, below="keep")
    with pytest.raises(LabelingError, match="at least one machine type"):
        fuse_top_m({}, m=1)
    with pytest.raises(LabelingError, match="one machine type, but 0 stand in two"):
        fuse_top_m({"fan": table([["a"]]), "pump": table([["a"]])}, m=1)


@pytest.mark.parametrize("fusion", ["composite", "soft"])
def test_statistics_count_every_clip_once(fusion):
    """Labeled, pseudo-labeled, machine-alone and left-out clips sum to the clips; classes are counted."""
    ranked = table(
        [["a"], ["a"], ["a", "b"], [], ["b"]],
        retained=[True, True, True, True, False],
        labeled=[True, False, False, False, False],
        confidence=[[1.0, 0.0], [0.5, 0.0], [0.7, 0.3], [0.0, 0.0], [0.1, 0.0]],
    )
    statistics = label_statistics({"fan": ranked}, fuse_top_m({"fan": ranked}, m=2, fusion=fusion))["fan"]
    assert asdict(statistics) == {
        "clips": 5,
        "labeled": 1,
        "pseudo_labeled": 2,
        "machine_alone": 1,
        "left_out": 1,
        "classes": 3,
        "singletons": 2,
        "mean_confidence": pytest.approx(0.6),
        "candidates": 1.5,
        "distinct_m": 2,
    }


def test_statistics_of_a_fully_labeled_machine_have_no_confidence():
    """Without pseudo-labeled clips there is no mean confidence to speak of."""
    ranked = table([["a"], ["b"]], labeled=[True, True])
    assert label_statistics({"fan": ranked}, fuse_top_m({"fan": ranked}, m=1))["fan"].mean_confidence is None


@pytest.mark.parametrize("fusion", ["composite", "set", "soft"])
def test_a_machine_type_of_which_no_clip_is_kept(fusion):
    """It has no class and no confidence; the others' targets are whole numbers all the same."""
    kept, none = table([["b", "a"], ["a"]], prefix="f"), table([["c"], ["d"]], prefix="p", retained=[False, False])
    labels = fuse_top_m({"pump": none, "fan": kept}, m=2, fusion=fusion)
    assert labels.targets.dtype == (np.float32 if fusion == "soft" else np.int64) and labels.ids.tolist() == [
        "f0",
        "f1",
    ]
    assert asdict(label_statistics({"pump": none, "fan": kept}, labels)["pump"]) == {
        "clips": 2, "labeled": 0, "pseudo_labeled": 0, "machine_alone": 0, "left_out": 2, "classes": 0,
        "singletons": 0, "mean_confidence": None, "candidates": None, "distinct_m": 0,
    }  # fmt: skip


@pytest.mark.parametrize("fusion", ["composite", "soft"])
@pytest.mark.parametrize("below", ["drop", "machine"])
def test_statistics_are_plain_numbers(fusion, below):
    """Counts are Python's own, since they are written to files; the machine type's class is there or not."""
    kept = table([["b", "a"], ["a"], ["c"]], prefix="f", labeled=[True, False, False], retained=[True, True, False])
    labels = fuse_top_m({"fan": kept}, m=2, fusion=fusion, below=below)
    found = asdict(label_statistics({"fan": kept}, labels)["fan"])
    assert {type(value) for value in found.values()} == {int, float}
    alone = below == "machine"
    assert (found["labeled"], found["pseudo_labeled"]) == (1, 1)
    assert (found["machine_alone"], found["left_out"]) == ((1, 0) if alone else (0, 1))


def test_clips_of_two_machine_types_are_named():
    """Those that stand in two are named, in the order of their ids, and no others."""
    two = {"fan": table([["a"]] * 3, prefix="c"), "pump": table([["a"]] * 2, prefix="c")}
    two["pump"].ids[:] = ["c2", "c1"]
    two["fan"].ids[:] = ["c2", "c0", "c1"]
    with pytest.raises(LabelingError, match="one machine type, but c1, c2 stand in two"):
        fuse_top_m(two, m=1)
