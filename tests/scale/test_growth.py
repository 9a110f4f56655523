"""The arithmetic of growth, and the tree: else the table would say something else than was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import full_size_table
from tests.scale.growth import Sheet, above_linear, growth, growths
from tests.scale.tree import share_for, training_clips

SIZES = (1_000, 10_000, 150_000)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_a_power_law_gives_its_exponent(exponent: float) -> None:
    """The fitted exponent of a * size ** b is b, and so is the one between the two largest sizes."""
    found = growth({size: 3 * size**exponent for size in SIZES}, least=0)
    assert found.fitted == pytest.approx(exponent)
    assert found.last == pytest.approx(exponent)
    assert found.linear == (exponent <= 1)


def test_constants_do_not_hide_growth() -> None:
    """A second of constant cost lowers the fitted exponent of a quadratic, and the last one still tells it."""
    found = growth({size: 1 + 1e-8 * size**2 for size in SIZES}, least=0)
    assert found.fitted is not None and found.last is not None and found.fitted < 1.15 < found.last
    assert not found.linear


def test_what_is_too_small_to_measure_is_left_out() -> None:
    """Costs below the least are noise: a point that is left alone has no exponent, and is no fault."""
    assert growth({1_000: 0.01, 10_000: 3.0}, least=0.5).fitted is None


def test_named_quantities_may_grow_faster(tmp_path: Path) -> None:
    """A sheet keeps what several runs measured, and a quantity above linear is found unless it is named."""
    for size in SIZES:
        cost = {"cpu_seconds": 1e-6 * size**2, "wall_seconds": 1.0, "peak_mb": 100.0, "private_mb": None, "notes": {}}
        Sheet(tmp_path / "sheet.json", "clips").put("labels", size, cost)
    sheet = Sheet(tmp_path / "sheet.json", "clips")
    assert sheet.sizes("labels") == list(SIZES)
    assert above_linear(sheet.growths("labels")) == ["time"]
    assert above_linear(sheet.growths("labels"), ["time"]) == []


@pytest.mark.parametrize("clips", [1_000, 10_000, 150_000])
def test_a_tree_has_the_clips_that_were_asked_for(clips: int) -> None:
    """Counts are in proportion to the official ones, to a clip a section."""
    assert training_clips(share_for(clips)) == pytest.approx(clips, rel=0.06)


def test_the_table_has_a_row_a_stage_and_says_what_was_not_measured() -> None:
    """A stage's row has its largest size's cost and both exponents; a size without a measurement has none."""
    cost = {"cpu_seconds": 2.0, "wall_seconds": 9.0, "peak_mb": 300.0, "private_mb": None, "notes": {}}
    stages = {"index": {"1000": cost, "10000": {**cost, "cpu_seconds": 20.0}}}
    table = full_size_table.table({"clips": stages, "cores": 2})
    assert "| index | 2.0 s, 300 MiB | 20.0 s, 300 MiB | 1.00 | 0.00 |" in table
    assert growths(stages["index"])["time"].fitted == pytest.approx(1.0)
    node = {"workers": 4, "wait": 5.0, "trials_a_second": 0.77, "driver_seconds_a_trial": 0.2, "statements": 171.2,
            "commits": 20.9}  # fmt: skip
    assert "| 1 | 4 | 0.77 | 0.80 | 0.20 | 171 | 20.9 |" in full_size_table.table({"nodes": {"1": node}})
