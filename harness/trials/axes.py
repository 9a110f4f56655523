"""The axes of a study: what of the method its trials vary, one entry each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
)

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
