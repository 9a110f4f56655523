"""Sample-wise transfer on blobs whose answer is plain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from labeling.contract import LabelingError, RankRequest
from labeling.quality import label_quality
from labeling.strategies.sample_wise import rank


def test_takes_the_blob_it_lies_in(make_blobs):
    """An unlabeled clip in the middle of a labeled blob gets that blob's attribute first, for sure, and is retained."""
    request = make_blobs({"a": (8, 2), "b": (8, 2)})
    ranked = rank(request)
    unlabeled = np.array([a is None for a in request.attributes])
    blob = np.array([clip[0] for clip in request.ids])
    assert (ranked.names[:, 0] == blob).all()
    assert (ranked.confidence[unlabeled, 0] > 0.9).all()
    assert ranked.retained.all()


def test_labeled_clips_keep_their_own(make_blobs):
    """A labeled clip has its own attribute alone, with confidence 1."""
    request = make_blobs({"a": (4, 1), "b": (4, 1)}, spread=20.0)
    ranked = rank(request)
    known = ranked.labeled
    assert known.tolist() == [a is not None for a in request.attributes]
    assert (ranked.names[known, 0] == request.attributes[known]).all()
    assert (ranked.names[known, 1:] == "").all()
    assert (ranked.confidence[known, 0] == 1.0).all()


def test_candidates_come_from_the_k1_nearest(make_blobs):
    """With K1 no larger than a blob, the far blob's attribute is no candidate; with a larger K1 it is."""
    request = make_blobs({"a": (4, 1), "b": (4, 1)}, k1=4)
    far = list(request.ids).index("a-004")
    assert rank(request).names[far].tolist() == ["a", "", "", ""]
    assert rank(replace(request, k1=5)).names[far].tolist() == ["a", "b", "", "", ""]


def test_below_min_confidence_is_not_retained(make_blobs):
    """A clip between two blobs stays in the table and is marked as not retained."""
    request = make_blobs({"a": (8, 1), "b": (8, 0)}, k1=16)
    middle = list(request.ids).index("a-008")
    request.features[middle] = 5.0
    ranked = rank(replace(request, min_confidence=1.0))
    assert not ranked.retained[middle]
    assert set(ranked.names[middle][:2]) == {"a", "b"}
    assert rank(replace(request, min_confidence=0.0)).retained.all()


def test_one_attribute_only(make_blobs):
    """With a single attribute every clip takes it with confidence 1."""
    ranked = rank(make_blobs({"a": (3, 3)}))
    assert (ranked.names[:, 0] == "a").all()
    assert (ranked.confidence[:, 0] == 1.0).all()


def test_recall_rises_with_m_and_beats_guessing():
    """On six overlapping attributes withheld from a later year, top-M recall rises with M and beats M blind guesses."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 6, 400)
    features = 2.0 * rng.normal(size=(6, 10))[kind] + 3.0 * rng.normal(size=(400, 10))
    true = np.array([f"vel_{number}" for number in kind], dtype=object)
    ids = np.array([f"{2024 + (number >= 200)}-{number:03d}" for number in range(400)])
    seen = np.where(np.arange(400) < 200, true, None)
    table = {"bearing": rank(RankRequest(ids, features, seen, "sample-wise", k1=15, k2=15))}
    truth = dict(zip(ids[200:].tolist(), true[200:].tolist(), strict=True))
    recalls = [label_quality(table, truth, m=m)["bearing"].recall_at_m for m in (1, 2, 3, 4)]
    assert recalls == sorted(recalls)
    assert all(recall > m / 6 + 0.1 for m, recall in zip((1, 2, 3, 4), recalls, strict=True))
    assert recalls[3] > recalls[0]


def test_labels_of_one_domain_serve_the_other(make_blobs):
    """When all labeled clips come from the source domain, target clips are ranked by them all the same."""
    request = make_blobs({"a": (4, 2), "b": (4, 2)})
    domains = np.where([a is None for a in request.attributes], "target", "source").astype(object)
    with_domains = rank(replace(request, domains=domains))
    assert (with_domains.names == rank(request).names).all()


def test_attributes_with_underscores_stay_whole(make_blobs):
    """An attribute that contains "_" is one candidate."""
    ranked = rank(make_blobs({"car_A1_spd_28V": (4, 1), "car_B1_spd_31V": (4, 1)}))
    assert set(ranked.names[:, 0]) == {"car_A1_spd_28V", "car_B1_spd_31V"}


def test_a_sweep_over_k1_searches_once(make_blobs, memo):
    """Every K1 up to 64 shares one neighbour search and one forest; a larger one searches again, the forest stays."""
    request = make_blobs({"a": (40, 3), "b": (40, 3)}, memo=memo)
    for k1 in (1, 5, 15, 64):
        rank(replace(request, k1=k1))
    assert memo.made == ["neighbours", "forest"]
    rank(replace(request, k1=65))
    assert memo.made == ["neighbours", "forest", "neighbours"]


def test_a_shared_search_answers_as_a_fresh_one(make_blobs, memo):
    """What the memo kept for another K1 gives the same table as no memo at all."""
    request = make_blobs({"a": (40, 3), "b": (40, 3)}, spread=8.0)
    rank(replace(request, k1=30, memo=memo))
    kept, fresh = rank(replace(request, k1=7, memo=memo)), rank(replace(request, k1=7))
    assert (kept.names == fresh.names).all()
    assert (kept.confidence == fresh.confidence).all()


def test_other_withheld_labels_do_not_share(make_blobs, memo):
    """Withholding other attributes over the same features makes its own search and forest."""
    rank(make_blobs({"a": (5, 2), "b": (5, 2)}, memo=memo))
    rank(make_blobs({"a": (4, 3), "b": (5, 2)}, memo=memo))
    assert memo.made == ["neighbours", "forest"] * 2


def test_identical_features_leave_it_to_the_labels(make_blobs):
    """Where no clip differs from another, the forest gives every unlabeled clip the attributes' frequencies."""
    request = make_blobs({"a": (6, 1), "b": (2, 1)}, k1=8, min_confidence=0.0)
    ranked = rank(replace(request, features=np.ones_like(request.features)))
    guessed = ~ranked.labeled
    assert (ranked.names[guessed, :2] == ["a", "b"]).all()
    assert (ranked.confidence[guessed, 0] == ranked.confidence[guessed, 0][0]).all()
    assert np.allclose(ranked.confidence[guessed, :2].sum(axis=1), 1.0)


@pytest.mark.parametrize("k1", [0, 7])
def test_refuses_k1_outside_the_labeled_clips(make_blobs, k1):
    """K1 must be 1 to the number of labeled clips."""
    with pytest.raises(LabelingError, match=f"k1 must be between 1 and 6, the labeled clips .* but got {k1}"):
        rank(make_blobs({"a": (3, 1), "b": (3, 1)}, k1=k1))


def test_refuses_a_confidence_outside_0_to_1(make_blobs):
    """min_confidence is a fraction, not percent."""
    with pytest.raises(LabelingError, match="min_confidence must be between 0 and 1, but got 90"):
        rank(make_blobs({"a": (3, 1)}, min_confidence=90))


def test_refuses_a_machine_without_labels(make_blobs):
    """Without a labeled clip there is nothing to transfer."""
    with pytest.raises(LabelingError, match="at least one labeled clip, but none of the 4 clips"):
        rank(make_blobs({"a": (0, 4)}))


def test_one_search_serves_every_k1_up_to_its_size(make_blobs, memo):
    """Searches keep 64 neighbours, or the power of two that holds K1, or all labeled clips: with them goes a name."""
    request = make_blobs({"a": (150, 2), "b": (150, 2)}, memo=memo)
    sizes = []
    for k1 in (1, 64, 65, 128, 129, 256, 257, 300):
        rank(replace(request, k1=k1))
        sizes.append(sorted(int(name.split("kept=")[1].split()[0]) for name in memo.kept if "kept=" in name))
    assert [len(each) for each in sizes] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert sizes[-1] == [64, 128, 256, 300]
    assert sum(name.startswith("forest trees=100 ") for name in memo.kept) == 1


def test_all_labeled_needs_no_forest(make_blobs, memo):
    """Where every clip is labeled nothing is searched or grown, and rows are K1 wide."""
    ranked = rank(make_blobs({"a": (3, 0), "b": (3, 0)}, k1=4, memo=memo))
    assert memo.made == [] and ranked.names.shape == (6, 4) and ranked.labeled.all() and ranked.retained.all()


def test_the_borders_of_confidence(make_blobs):
    """0 and 1 are confidences, what lies outside is none."""
    for confidence in (0.0, 1.0):
        rank(make_blobs({"a": (3, 1)}, min_confidence=confidence))
    for confidence in (-0.01, 1.01):
        with pytest.raises(LabelingError, match="min_confidence must be between 0 and 1"):
            rank(make_blobs({"a": (3, 1)}, min_confidence=confidence))


def test_a_forest_grows_and_answers_in_one_thread(make_blobs, monkeypatch):
    """Threads add up trees' answers in the order in which they end, which moves last digits: one is asked for."""
    asked = []

    class Told(RandomForestClassifier):
        def predict_proba(self, X):  # noqa: N803 - scikit-learn's name
            asked.append((self.n_estimators, self.n_jobs))
            return super().predict_proba(X)

    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier", Told)
    rank(make_blobs({"a": (4, 1), "b": (4, 1)}))
    assert asked == [(100, 1)]
