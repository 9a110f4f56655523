"""Which libraries a trial ran with, and where trials differ in them."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from harness.places import differing_libraries, installed_libraries


def test_the_libraries_that_change_numbers_are_named() -> None:
    """Numpy, scikit-learn, torch and librosa with their versions, without how they were built."""
    said = dict(part.split(" ") for part in installed_libraries().split(", "))
    assert set(said) == {"librosa", "numpy", "scikit-learn", "torch"}
    assert said["numpy"] == version("numpy") and "+" not in said["torch"]


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ([], ""),
        (["", ""], ""),
        (["numpy 2.1, torch 2.9"] * 2, ""),
        (["numpy 2.1, torch 2.9", "numpy 2.3, torch 2.9"], "numpy 2.1 and 2.3"),
        (["numpy 2.1, torch 2.9", "numpy 2.3, torch 2.8"], "numpy 2.1 and 2.3, torch 2.8 and 2.9"),
        (["numpy 2.1", ""], "versions that were not recorded"),
    ],
)
def test_differences_are_said(recorded: list[str], said: str) -> None:
    """Each library with its versions where there are several; an older record is unknown and counts as another."""
    assert differing_libraries(recorded) == said
