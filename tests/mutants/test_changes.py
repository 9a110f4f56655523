"""The changes that `make mutants` tries: each kind is there, and what nobody computes with is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.changes import mutants_of

SOURCE = '''
"""A docstring with 7."""

LEVEL = 0.9


def answer(values, *, k=1):
    """Return 3 things."""
    if not values:
        raise ValueError(f"{len(values) + 1} is wrong")
    best = min(standardise(values, axis=0))
    note(best)
    return best if best >= LEVEL and k > 0 else -best
'''


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Names of all mutants of a few lines, without the file's."""
    (tmp_path / "a.py").write_text(SOURCE)
    return [mutant.name.removeprefix("a.py:") for mutant in mutants_of(tmp_path, "a.py")]


@pytest.mark.parametrize(
    "name",
    [
        "module: LEVEL = 0.9 -> LEVEL = 0.45",
        "answer: best >= LEVEL -> best > LEVEL",
        "answer: best >= LEVEL and k > 0 -> best >= LEVEL or k > 0",
        "answer: min(standardise(values, axis=0)) -> max(standardise(values, axis=0))",
        "answer: standardise(values, axis=0) -> values",
        "answer: standardise(values, axis=0) -> standardise(values)",
        "answer: standardise(values, axis=0) -> standardise(values, axis=1)",
        "answer: note(best) -> pass",
        "answer: not values -> values",
        "answer: -best -> best",
    ],
)
def test_every_kind_is_tried(names: list[str], name: str) -> None:
    """Numbers, borders, swaps, calls and their keywords, statements, conditions and signs change, one at a time."""
    assert name in names


def test_texts_are_left_alone(names: list[str]) -> None:
    """Docstrings and the messages of errors are no numbers, and every mutant has a name of its own."""
    assert not any("docstring" in name or "ValueError" in name.split(" -> ")[0][:20] for name in names)
    assert len(set(names)) == len(names)


def of_expression(tmp_path: Path, code: str) -> list[str]:
    """What stands in place of one expression, mutants of its parts apart."""
    (tmp_path / "a.py").write_text(f"def f(x):\n    return {code}\n")
    names = [mutant.name.removeprefix("a.py:f: ").split(" -> ") for mutant in mutants_of(tmp_path, "a.py")]
    return [after for before, after in names if before == code]


@pytest.mark.parametrize(
    "code",
    ["float(x)", "tuple(x)", "np.asarray(x + 1)", "np.array([x, x])", "np.stack([each for each in x])",
     "int(x.shape[0])", "int(x.size)", "int((x > 0).sum())", "int(x.argmax())"],
)  # fmt: skip
def test_what_only_converts_stays(tmp_path: Path, code: str) -> None:
    """A type that changes without the value is for mypy: such calls are not dropped."""
    assert of_expression(tmp_path, code) == []


@pytest.mark.parametrize(
    ("code", "dropped"),
    [("int(x)", "x"), ("int(x.sum())", "x.sum()"), ("int(x.max())", "x.max()"), ("int(x[0])", "x[0]"), ("str(x)", "x"),
     ("np.array(x)", "x"), ("np.stack(x)", "x"), ("np.asarray(x, dtype=int)", "x"), ("np.stack([x], axis=1)", "[x]"),
     ("np.array([x], int)", "[x]"), ("round(x)", "x"), ("abs(x)", "x")],
)  # fmt: skip
def test_what_may_change_a_value_is_dropped(tmp_path: Path, code: str, dropped: str) -> None:
    """What cuts decimals, copies, turns axes or takes a dtype is tried without."""
    assert dropped in of_expression(tmp_path, code)
