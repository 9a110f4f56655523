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
        default: the paper's value, which a space that does not name the axis has alone; None where it must be named.
            Of a recipe's axis, the recipe's default: a space that does not name it has what `[recipe]` says.
        of: where a trial holds the value: in its spec, or in the recipe of its spec.
        number: whether the values are whole numbers; the others are words.
        choices: the words that there are; empty where something else knows them, as the backbones' folder does.
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
)
WORDED = {"fusion": "{}", "labels": "{} labels"}  # how sentences say an axis of words; any other: its heading first

Choice: TypeAlias = int | float | str | None

# Nested loops over a space run through these innermost, in this order, so that trials side by side seldom wait for the
# same latents, which hang on the backbone, nor for the same ranked candidates, which M shares.
INNERMOST = ("m", "backbone", "labels")


def nested_axes() -> tuple[Axis, ...]:
    """Return the axes in the order in which a grid walks through them, the slowest first."""
    inner = {axis.name: axis for axis in AXES if axis.name in INNERMOST}
    return (*(axis for axis in AXES if axis.name not in inner), *(inner[name] for name in INNERMOST))


def axis_values(spec: TrialSpec) -> dict[str, Any]:
    """Return a trial's value of every axis by the axis's name."""
    return {axis.name: axis.value(spec) for axis in AXES}


def study_axes(*, but: Collection[str] = ()) -> list[Axis]:
    """Return the axes of a study, without some: asked anew each time, so that a new entry of AXES is everywhere."""
    return [axis for axis in AXES if axis.name not in but]


def axis_names(*, but: Collection[str] = ()) -> list[str]:
    """Return the names of a study's axes, without some: keys of rows, and columns of the results tables."""
    return [axis.name for axis in study_axes(but=but)]


def choices(row: Mapping[str, Any], chosen: Iterable[Axis]) -> dict[str, Choice]:
    """Return a trial's values of some axes as answers hold them: whole numbers whole, None where it has none."""
    return {axis.name: _choice(axis, row[axis.name]) for axis in chosen}


def _choice(axis: Axis, value: Any) -> Choice:
    if value is None or (isinstance(value, float) and isnan(value)):  # a column of numbers with gaps has NaN there
        return None
    return int(value) if axis.number else value  # a word, or a number of the recipe


def shown_cell(cell: Mapping[str, Any], *, whole: bool = False) -> str:
    """Say a cell in words: "M = 3, K1 = 15, K2 = 15, set".

    Args:
        cell: values by the name of their axis; those that it lacks, and the backbone, are passed over.
        whole: say also the words that are the paper's: "composite".
    """
    said = []
    for axis in study_axes(but=["backbone"]):
        value = cell.get(axis.name)
        if value is None or (not axis.number and value == axis.default and not whole):
            continue
        words = f"{axis.heading} = {value}" if axis.number else WORDED.get(axis.name, f"{axis.heading} {{}}")
        said.append(words if axis.number else words.format(value))
    return ", ".join(said)
