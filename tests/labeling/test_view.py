"""Features brought into a plane."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from labeling.distances import standardise
from labeling.view import plane


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_the_plane_is_the_two_first_principal_components(shape):
    """With more clips than dimensions or fewer, the view is scikit-learn's PCA of standardised features up to sign."""
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = PCA(2).fit_transform(standardise(features))
    np.testing.assert_allclose(np.abs(plane(features)), np.abs(expected), atol=1e-4)


def test_signs_do_not_hang_on_the_order_of_clips():
    """Permuted clips have permuted places, signs included."""
    features = np.random.default_rng(1).normal(size=(30, 6))
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_allclose(plane(features[order]), plane(features)[order], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (3, 3), (0, 4), (4, 0)])
def test_thin_tables_have_a_view_too(shape):
    """One clip, one dimension, identical clips or none at all give finite places."""
    drawn = plane(np.ones(shape))
    assert drawn.shape == (shape[0], 2)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("shape", [(40, 5), (6, 6), (5, 40), (3, 4), (3, 1), (1, 3)])
def test_the_view_with_its_signs(shape):
    """Each column is points times a unit axis whose entry of the largest magnitude is positive; missing axes give 0."""
    for seed in range(4):
        features = np.random.default_rng(seed).normal(size=shape) * np.arange(1, shape[1] + 1)
        points = standardise(features)
        drawn = plane(features)
        assert drawn.dtype == np.float32
        axes = np.linalg.svd(points, full_matrices=False).Vh[:2]
        wanted = np.zeros((shape[0], 2))
        for column, axis in enumerate(axes):
            wanted[:, column] = points @ axis * np.sign(axis[np.abs(axis).argmax()])
        np.testing.assert_allclose(drawn, wanted, atol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 3, 50])
def test_two_clips_differ_along_one_axis(dimensions):
    """Two clips lie at either end of the first axis, d^0.5 from its middle, and nowhere on a second one."""
    drawn = plane(np.random.default_rng(0).normal(size=(2, dimensions)))
    np.testing.assert_allclose(np.sort(drawn[:, 0]), [-(dimensions**0.5), dimensions**0.5], rtol=1e-6)
    assert not drawn[:, 1].any()


def test_clips_on_a_line_have_no_second_place():
    """Where all columns are one, times a factor, there is only rounding noise beside the first axis."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        drawn = plane(rng.normal(size=(4, 1)) * rng.uniform(0.5, 2.0, size=1000))
        assert np.abs(drawn[:, 0]).min() > 0 and not drawn[:, 1].any()


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_axes_are_made_of_the_smaller_table(shape, monkeypatch):
    """A table of all pairs of dimensions or of clips, whichever are fewer: 20,000 clips would make one of 3 GB."""
    asked = []
    plain = np.linalg.eigh

    def told(table):
        asked.append(table.shape)
        return plain(table)

    monkeypatch.setattr(np.linalg, "eigh", told)
    plane(np.random.default_rng(0).normal(size=shape))
    assert asked == [(5, 5)]
