"""Resamples in blocks, and two systems' sections side by side, whatever their order and their names are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.metrics.measures import section_numbers
from benchmarks.metrics.sections import SectionScores
from harness.errors import HarnessError
from harness.statistics import bootstrap
from harness.statistics.bootstrap import draw_clips, pair_sections, resampled_numbers

RULE = "dcase2022"


def section(count: int = 12, *, machine: str = "fan", seed: int = 0) -> SectionScores:
    """A section whose clips are named by whole numbers."""
    return SectionScores(
        "dcase2023", machine, "00", ids=np.arange(100, 100 + count).astype(object),
        scores=np.random.default_rng(seed).normal(size=count), anomalous=np.arange(count) % 3 == 0,
        domains=np.where(np.arange(count) % 2, "source", "target").astype(object), unlabeled=0,
    )  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 30, 12 * 7, 10**6])
@pytest.mark.parametrize("resamples", [1, 5, 31])
def test_blocks_of_any_size_give_every_resample(monkeypatch: pytest.MonkeyPatch, chunk: int, resamples: int) -> None:
    """More clips than a block holds, more resamples than clips, and fewer: all columns, in their order."""
    one = section()
    counts = draw_clips(one, resamples=resamples, seed=3)
    monkeypatch.setattr(bootstrap, "CHUNK", chunk)
    np.testing.assert_array_equal(resampled_numbers(one, RULE, counts), section_numbers(one, RULE, counts))


def test_the_second_systems_clips_follow_the_firsts() -> None:
    """In reverse order the second system's clips are turned round with all that is known of them."""
    one, other = section(), section(seed=1)
    turned = replace(other, ids=other.ids[::-1], scores=other.scores[::-1], anomalous=other.anomalous[::-1],
                     domains=other.domains[::-1])  # fmt: skip
    ((mine, theirs),) = pair_sections([one], [turned])
    assert mine is one
    for field in ("ids", "scores", "anomalous", "domains"):
        assert getattr(theirs, field).tolist() == getattr(other, field).tolist()


def test_what_one_system_lacks_is_named_in_order() -> None:
    """The first section of many; the first five clips of many, whole numbers too."""
    many = [section(machine=f"m{at:02d}") for at in range(60)]
    with pytest.raises(HarnessError, match="one alone scored dcase2023 m00 00"):
        pair_sections(many[::-1], [])
    with pytest.raises(HarnessError, match=r"28 of dcase2023 fan 00 have one score alone: 112, 113, 114, 115, 116\.$"):
        pair_sections([section(40)], [section(12)])
