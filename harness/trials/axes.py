"""The axes of a study: what of the method its trials vary, one entry each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from harness.trials.contract import TrialSpec


@dataclass(frozen=True)
class Axis:
    """One choice that a study varies.

    Its name is the key in a study's `[space]`, the field of the spec or recipe, the column of the results tables and
    the key in every row of an answer.

    Attributes:
        name: as above, for example "k1".
        heading: of its column in tables, and how sentences call it: "K1".
        default: the paper's value, used for the whole study if `[space]` does not name the axis; None if `[space]` must
            name it, as the backbone. For an axis of the recipe it is the recipe's default, and a study whose `[space]`
            does not name the axis uses the value of `[recipe]`.
        of: where a trial holds the value: "spec" in its `TrialSpec`, "recipe" in the `FinetuneRecipe` of its spec.
        number: whether the values are whole numbers; otherwise they are words.
        choices: the words that are allowed; empty if they are listed elsewhere, as backbones are by their folder.
    """

    name: str
    heading: str
    default: Any = None
    of: Literal["spec", "recipe"] = "spec"
    number: bool = False
    choices: tuple[str, ...] = ()

    def value(self, spec: TrialSpec) -> Any:
        """Return a trial's value; None where the trial has none, as a frozen one has no M."""
        value = getattr(spec.recipe if self.of == "recipe" else spec, self.name)
        return value.name if self.name == "backbone" and value is not None else value


PAPER_K = 15  # paper, section 3.2: K1 = K2 = 15 in all experiments

AXES = (
    Axis("backbone", "backbone"),
    Axis("m", "M", number=True),
    Axis("k1", "K1", default=PAPER_K, number=True),
    Axis("k2", "K2", default=PAPER_K, number=True),
    Axis("fusion", "fusion", default="composite", choices=("composite", "set", "soft")),
    Axis("labels", "labels", default="paper"),
    Axis("train", "train", default="all", of="recipe", choices=("all", "head", "projection")),
    Axis("loss", "loss", default="cross_entropy", of="recipe"),
)
WORDED = {"fusion": "{}", "labels": "{} labels"}  # how sentences say an axis of words; any other: its heading first

Choice: TypeAlias = int | float | str | None

# A grid is walked through by nested loops with these axes innermost, in this order: labels change fastest. Trials that
# run at the same time then mostly have different backbones or labels, and so seldom wait for one another to compute the
# latents (shared by all trials of a backbone) or the ranked candidates (shared by all M).
INNERMOST = ("m", "backbone", "labels")


def nested_axes() -> tuple[Axis, ...]:
    """Return the axes in the order in which a grid walks through them, the slowest first."""
    inner = {axis.name: axis for axis in AXES if axis.name in INNERMOST}
    return (*(axis for axis in AXES if axis.name not in inner), *(inner[name] for name in INNERMOST))


def axis_values(spec: TrialSpec) -> dict[str, Any]:
    """Return a trial's value of every axis by the axis's name."""
    return {axis.name: axis.value(spec) for axis in AXES}


def study_axes(*, but: Collection[str] = ()) -> list[Axis]:
    """Return the axes of a study except those named in `but`. A function, so that entries added to AXES count."""
    return [axis for axis in AXES if axis.name not in but]


def axis_names(*, but: Collection[str] = ()) -> list[str]:
    """Return the names of a study's axes except those in `but`: keys of rows, and columns of the results tables."""
    return [axis.name for axis in study_axes(but=but)]


def choices(row: Mapping[str, Any], chosen: Iterable[Axis]) -> dict[str, Choice]:
    """Return a trial's values of some axes, read from a table's row: whole numbers as int, None instead of NaN."""
    return {axis.name: _choice(axis, row[axis.name]) for axis in chosen}


def _choice(axis: Axis, value: Any) -> Choice:
    if value is None or (isinstance(value, float) and isnan(value)):  # a column of numbers with gaps has NaN there
        return None
    return int(value) if axis.number else value  # a word, or a number of the recipe


def shown_cell(cell: Mapping[str, Any], *, whole: bool = False) -> str:
    """Say a cell in words: "M = 3, K1 = 15, K2 = 15, set".

    Args:
        cell: axis name -> value; axes that are missing or None, and the backbone, are left out.
        whole: name values that are the paper's own, such as "composite", too.
    """
    said = []
    for axis in study_axes(but=["backbone"]):
        value = cell.get(axis.name)
        if value is None or (not axis.number and value == axis.default and not whole):
            continue
        words = f"{axis.heading} = {value}" if axis.number else WORDED.get(axis.name, f"{axis.heading} {{}}")
        said.append(words if axis.number else words.format(value))
    return ", ".join(said)
