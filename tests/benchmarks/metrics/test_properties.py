"""What holds for every set of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.metrics.roc import auc, partial_auc, resampled_auc, resampled_partial_auc


@st.composite
def labeled_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores with many ties and labels of both classes."""
    size = draw(st.integers(2, 40))
    levels = draw(st.integers(1, 30))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=size, max_size=size)), dtype=float)
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    labels[0], labels[1] = False, True
    return scores, labels


@given(labeled_scores(), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.999, 1.0]))
def test_scikit_learn_agrees_with_ties(data: tuple[np.ndarray, np.ndarray], p: float) -> None:
    """AUC and standardised pAUC are scikit-learn's to 1e-12, whatever ties and class counts there are."""
    scores, labels = data
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert partial_auc(scores, labels, max_fpr=p) == pytest.approx(
        roc_auc_score(labels, scores, max_fpr=p), abs=1e-12 / p
    )


@given(labeled_scores())
def test_monotone_transforms_change_nothing(data: tuple[np.ndarray, np.ndarray]) -> None:
    """A rising function of the scores leaves both numbers bit for bit."""
    scores, labels = data
    risen = np.exp(scores / 10) - 7
    assert auc(risen, labels) == auc(scores, labels)
    assert partial_auc(risen, labels) == partial_auc(scores, labels)


@given(labeled_scores())
def test_flipping_labels_mirrors_the_auc(data: tuple[np.ndarray, np.ndarray]) -> None:
    """With normal and anomalous exchanged, or scores negated, the AUC is 1 minus what it was."""
    scores, labels = data
    assert auc(scores, ~labels) == pytest.approx(1 - auc(scores, labels), abs=1e-12)
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels), abs=1e-12)


@given(labeled_scores(), st.randoms(use_true_random=False))
def test_the_order_of_clips_is_irrelevant(data: tuple[np.ndarray, np.ndarray], random) -> None:
    """Shuffled clips give the same numbers bit for bit."""
    scores, labels = data
    order = list(range(scores.size))
    random.shuffle(order)
    assert auc(scores[order], labels[order]) == auc(scores, labels)
    assert partial_auc(scores[order], labels[order]) == partial_auc(scores, labels)


@given(labeled_scores(), st.integers(0, 2**32 - 1))
def test_resamples_equal_repeated_clips(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """The numbers of a resample are those of the clips repeated as often as they were drawn; NaN without a class."""
    scores, labels = data
    counts = np.random.default_rng(seed).integers(0, 4, size=(scores.size, 3))
    areas, partial = resampled_auc(scores, labels, counts), resampled_partial_auc(scores, labels, counts)
    for column in range(3):
        drawn = np.repeat(np.arange(scores.size), counts[:, column])
        if len(set(labels[drawn])) < 2:
            assert np.isnan(areas[column])
            assert np.isnan(partial[column])
            continue
        assert areas[column] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]), abs=1e-12)
        assert partial[column] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn], max_fpr=0.1), abs=1e-11)


def test_two_clips_are_enough() -> None:
    """One normal clip under one anomaly is perfect, above it worst; a tie is chance."""
    labels = [False, True]
    assert [auc(scores, labels) for scores in ([0, 1], [1, 0], [1, 1])] == [1.0, 0.0, 0.5]
    assert partial_auc([0, 1], labels) == 1.0
    assert partial_auc([1, 1], labels) == pytest.approx(0.5)
