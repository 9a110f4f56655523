"""A study's trials as workers receive them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from harness.engine.shelf import TOGETHER, SpecShelf
from tests.harness.made_up import make_spec


def test_a_shelf_is_the_mapping_that_it_was_made_of() -> None:
    """Every key gives its own spec, at the ends of blocks too, and a key of no trial is refused as a dict does."""
    specs = {spec.key(): spec for seed in range(2 * TOGETHER + 1) for spec in [make_spec(seed=seed)]}
    shelf = pickle.loads(pickle.dumps(SpecShelf(specs)))
    assert dict(shelf) == specs
    assert len(shelf) == len(specs)
    for missing in ("", "zzzz", next(iter(specs))[:-1]):
        with pytest.raises(KeyError):
            shelf[missing]


def test_what_is_unpacked_for_each_trial_does_not_grow_with_the_study() -> None:
    """Beside the arrays, which Ray maps instead of copying, ten times the trials take no more bytes."""

    def own_bytes(trials: int) -> int:
        specs = {spec.key(): spec for seed in range(trials) for spec in [make_spec(seed=seed)]}
        mapped: list[Any] = []
        return len(pickle.dumps(SpecShelf(specs), protocol=5, buffer_callback=mapped.append))

    assert own_bytes(1000) < own_bytes(100) + 50
