"""What a trial's key holds and what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backbones.training.recipe import FinetuneRecipe
from harness.trials.choices import frozen_spec, level_spec
from harness.trials.contract import BackboneChoice
from tests.harness.made_up import make_spec


@pytest.mark.parametrize(
    "changes",
    [
        {"m": 3},
        {"k1": 5},
        {"k2": 5},
        {"fusion": "set"},
        {"seed": 1},
        {"recipe": FinetuneRecipe(epochs=3)},
        {"min_confidence": 0.5},
        {"below": "machine"},
        {"train_data": "cccc"},
        {"test_data": "cccc"},
        {"backbone": BackboneChoice("small", "beats")},
        {"backbone": BackboneChoice("small", "tiny", (("dim", 3),))},
        {"backbone": BackboneChoice("small", "tiny", weights="x.pt", weights_sha256="12")},
    ],
)
def test_key_changes_with_content(changes: dict[str, object]) -> None:
    """Whatever changes a trial's numbers changes its key."""
    assert make_spec(**changes).key() != make_spec().key()


@pytest.mark.parametrize(
    "changes",
    [
        {"scorers": ("knn", "mahalanobis")},
        {"backbone": BackboneChoice("another name", "tiny")},
        {"protocol": replace(make_spec().protocol, name="another name")},
    ],
)
def test_key_ignores_names(changes: dict[str, object]) -> None:
    """Names and scorers are not content: scoring costs no training."""
    assert make_spec(**changes).key() == make_spec().key()


@pytest.mark.parametrize("changes", [{"m": 7}, {"fusion": "set"}, {"below": "machine"}, {"test_data": "cccc"}])
def test_ranking_does_not_depend_on_m(changes: dict[str, object]) -> None:
    """Ranked candidates are shared by every M and know nothing of the test clips."""
    assert make_spec(**changes).ranking_key() == make_spec().ranking_key()


def test_references_are_shared_by_cells() -> None:
    """Cells that differ only in labeling and training have one frozen reference, and all have one level row."""
    one, other = make_spec(m=1, min_confidence=0.9), make_spec(m=7, min_confidence=0.5, recipe=FinetuneRecipe(epochs=9))
    assert frozen_spec(one).key() == frozen_spec(other).key()
    assert level_spec(one).key() == level_spec(make_spec(seed=5)).key()
