"""K-means of fine-tuned latents as labels of a second round: which clips are clustered, and how clusters are ranked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labeling.contract import LabelingError
from labeling.strategies import iterated


def test_labeled_clips_keep_their_own_and_move_no_cluster(make_blobs):
    """Only unlabeled clips are clustered, wherever the labeled ones lie; in fragmented all are."""
    request = make_blobs({"a": (5, 5), "b": (5, 5)}, case="partial", k2=2)
    ranked = iterated.rank(request)
    assert set(ranked.names[ranked.labeled, 0]) == {"a", "b"}
    moved = request.features.copy()
    moved[ranked.labeled] += 100.0
    again = iterated.rank(replace(request, features=moved))
    assert (again.names == ranked.names).all()
    np.testing.assert_allclose(again.confidence, ranked.confidence)
    assert not iterated.rank(make_blobs({"a": (5, 5), "b": (5, 5)}, case="fragmented", k2=2)).labeled.any()
    assert iterated.rank(make_blobs({"a": (5, 0)}, case="direct", k2=2)).labeled.all()


def test_no_more_clusters_than_clips(make_blobs):
    """K2 above the clips that are clustered gives each its own cluster; above all clips it is refused."""
    request = make_blobs({"a": (4, 2)}, case="partial", k2=5)
    ranked = iterated.rank(request)
    assert len(set(ranked.names[~ranked.labeled, 0])) == 2
    with pytest.raises(LabelingError, match="k2 must be between 1 and 6"):
        iterated.rank(replace(request, k2=7))
