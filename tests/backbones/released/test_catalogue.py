"""The catalogue is what was found in public repositories, and every entry is one that can be asked for."""

from __future__ import annotations

import re

import pytest

from backbones.contract import BackboneError
from backbones.released.catalogue import RELEASED, Released, find_released, released_called, released_with
from backbones.released.place import parse_place

BEATS = [each for each in RELEASED if each.backbone == "beats"]  # as imported, before the tests' own takes its place


def test_every_file_of_beats_has_its_size_and_sum() -> None:
    """All 15 released files are there, each with a sum of its own; fine-tuned ones have a head more."""
    assert len(BEATS) == 15
    assert len({each.sha256 for each in BEATS}) == 15
    for each in BEATS:
        assert re.fullmatch(r"[0-9a-f]{64}", each.sha256 or "")
        assert each.bytes == (363_145_291 if "_finetuned_" in each.name else 361_499_833)
        assert each.stage == ("fine-tuned" if "_finetuned_" in each.name else "pre-trained")
        assert each.licence == "MIT"


def test_the_best_known_sum_is_the_one_that_ten_repositories_agree_on() -> None:
    """BEATs_iter3_plus_AS2M is known by the sum that stands in ten independent repositories."""
    (known,) = (each for each in BEATS if each.name == "BEATs_iter3_plus_AS2M")
    assert known.sha256 == "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34"


@pytest.mark.parametrize("released", RELEASED, ids=lambda each: each.name)
def test_every_entry_can_be_asked_for(released: Released) -> None:
    """Its places on the hub are well formed; where there is none, it says where else the file is."""
    assert released.sources or released.elsewhere
    for each in released.sources:
        assert str(parse_place(each)) == each
    assert released.backbone == "beats" or released.licence == "CC BY-NC 4.0"


def test_found_by_name_file_or_sum() -> None:
    """A name with its suffix is the same file; an unknown one is not guessed."""
    small = find_released("BEATs_small")
    assert released_called("BEATs_small.pt") is small
    assert released_with(small.sha256 or "") is small
    assert released_called("small") is None
    with pytest.raises(BackboneError, match="must be one that `asdbench weights ls` lists"):
        find_released("small")
