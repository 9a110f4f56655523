"""Cells of a column of numbers: what is read, what is not, and what is said of it."""

from __future__ import annotations

import math

import pytest

from benchmarks.metrics.numbers import is_number, read_column

STRANGE = ["0x1f", "1_000", "1 2", "nan", "-inf", "1e", "."]
EITHER = ", which may be decimals or thousands"


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", "-2.5", "+.5", "3.", "1e3", "2E-2", "0", "0e7", "-0.0"], [1, -2.5, 0.5, 3, 1000, 0.02, 0, 0, 0]),
        (["1,5", "2", "-,25"], [1.5, 2, -0.25]),  # the whole column has decimal commas
        (["1,234", "0,5"], [1.234, 0.5]),  # one cell that cannot be thousands settles the others
        (["1,234567"], [1.234567]),
        (["0,500"], [0.5]),  # thousands do not begin with 0
        (["１．５", "－２", "＋３ｅ２", "９Ｅ１", "０４６７８"], [1.5, -2, 300, 90, 4678]),
        (["１，５"], [1.5]),
        (["\u22122.5", "\u22121e\u22121"], [-2.5, -0.1]),  # the true minus
        (["9" * 309 + "e-5"], [float("9" * 304)]),
        (["5e-324"], [5e-324]),
    ],
)
def test_numbers_are_read_as_they_are_written(cells: list[str], numbers: list[float]) -> None:
    """Points, commas of a whole column, exponents, full-width signs and the true minus give the numbers meant."""
    found, wrong = read_column(cells)
    assert found == pytest.approx(numbers, rel=1e-15)
    assert wrong == {}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1,234"], {0: "1,234" + EITHER}),
        (["1,234", "-999,000"], {0: "1,234" + EITHER, 1: "-999,000" + EITHER}),
        (["1,5", "2.5"], {0: "1,5" + EITHER}),  # a point beside it: no decimal commas
        (["1,5", "1,2,3"], {0: "1,5" + EITHER, 1: "1,2,3" + EITHER}),
        (["0.5", "", "x"], {1: "nothing", 2: "x"}),
        (["1e-999", "-0.001E-400"], {0: "1e-999, which is nearer to zero than any float",
                                     1: "-0.001E-400, which is nearer to zero than any float"}),
        (["1e999", "-1e999"], {0: "1e999, which is larger than any float",
                                1: "-1e999, which is larger than any float"}),
        (STRANGE, dict(enumerate(STRANGE))),
        (["x" * 100], {0: "x" * 20 + "[...]" + "x" * 20}),
    ],
)  # fmt: skip
def test_what_is_no_number_is_said_by_its_place(cells: list[str], said: dict[int, str]) -> None:
    """A cell that holds no finite number is NaN, with its text and the reason; the other cells are read."""
    found, wrong = read_column(cells)
    assert wrong == said
    assert [place for place, number in enumerate(found) if math.isnan(number)] == sorted(said)


@pytest.mark.parametrize(
    "text",
    ["1", "-1.5e3", "1,5", "1,234,567", "nan", "-INF", "+Infinity", "1e999", "１．５", "ＮａＮ", "\u22121"],
)
def test_meant_as_a_number(text: str) -> None:
    """Numbers in every notation, too large ones, NaN and infinity are meant as numbers."""
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "normal", "1.5x", "0x1f", "1_000", "infinite", "1.2.3", "1,23,4", "e5"])
def test_not_meant_as_a_number(text: str) -> None:
    """Words, and texts that only begin as a number does, are none."""
    assert not is_number(text)
