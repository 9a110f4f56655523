"""What generated machines do, and how each year writes it in the names of its clips."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cache
from itertools import product

from benchmarks.contract import Domain

NUMBER = re.compile(r"[0-9.]+")


@dataclass(frozen=True)
class Axis:
    """One thing about a machine that differs between clips.

    Attributes:
        name: as attributes write it.
        source: levels of the source domain.
        target: levels of the target domain.
        glue: between name and level; some machine types write none.
    """

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    glue: str = "_"


@dataclass(frozen=True)
class State:
    """A physical state of a machine type; it does not depend on the year, its name does.

    Attributes:
        machine: machine type.
        domain: in which it occurs.
        levels: level of each axis, the same in every year.
        speeds: a number in 0..1 for each axis whose levels are numbers, None for the others.
        attribute: the year's name for it; None in years without attributes.
    """

    machine: str
    domain: Domain
    levels: tuple[str, ...]
    speeds: tuple[float | None, ...]
    attribute: str | None


CARS = Axis("car", ("B1", "C1", "D1"), ("A1", "E1"))
MICROPHONES = Axis("mic", ("1",), ("2",))
# Axes and levels as in the names of the official sets where those are known (2022 and 2023 development sets; 2023 and
# 2024 evaluation lists of the baseline); fewer levels, so that a small set still has some clips of each.
AXES: dict[str, tuple[Axis, ...]] = {
    "bearing": (Axis("vel", ("6", "12", "18"), ("9", "21")), Axis("loc", ("A", "B"), ("C", "D"))),
    "fan": (Axis("m-n", ("W", "X"), ("Y", "Z")), Axis("n-lv", ("L1", "L3"), ("L2",))),
    "gearbox": (Axis("volt", ("1.5", "2.5"), ("2.0",)), Axis("wt", ("0", "100", "200"), ("50", "130"))),
    "slider": (Axis("vel", ("300", "490", "730"), ("620",)), Axis("ac", ("0.05", "0.30"), ("0.03", "0.08"))),
    "valve": (Axis("pat", ("00", "01"), ("02", "03")),),
    "ToyCar": (CARS, Axis("spd", ("31V", "40V"), ("28V", "37V")), MICROPHONES),
    "ToyTrain": (CARS, Axis("spd", ("7", "10"), ("6", "9")), MICROPHONES),
    "grinder": (Axis("grindstone", ("1", "2"), ("3",)), Axis("plate", ("1", "2"), ("3",))),
    "3DPrinter": (Axis("mdl", ("A",), ("B",)), Axis("spd", ("1", "2"), ("3",))),
    "AirCompressor": (Axis("fl", ("1", "2"), ("0",)), Axis("nos", ("0", "2"), ("1", "3"))),
    "RoboticArm": (Axis("weight", ("5", "10"), ("15",), glue=""), Axis("Bckg", ("A", "B"), ("F",), glue="")),
}
AXES |= {
    # 2026, as in the names of its official sets
    "ToyCarEmu": (CARS, Axis("spd", ("2", "3", "5"), ("1", "4"))),
    "gearboxEmu": (Axis("pro", ("A", "B", "C"), ("X", "Z")),),
    "BlowerDustCollector": (Axis("nzl", ("1", "2"), ("1", "2")), Axis("pow", ("1", "3"), ("2",))),
    "Sander": (Axis("spd", ("2", "4"), ("1", "3", "5")), Axis("grit", ("60", "120"), ("60", "240"))),
    "ToyDrone": (CARS, Axis("spd", ("1", "2"), ("3",))),
}
OTHER_AXES = (Axis("spd", ("1", "2", "3"), ("4",)), Axis("nos", ("A", "B"), ("C",)))

# {0}, {1}: levels; {letter}: a letter a state; {number}: its number from 1 in its domain; {place}: by domain.
FREE_TEXT = "strength_{number}_{place}"  # 2021 writes such words in training names
NAMES: dict[tuple[str, str], str] = {
    # fan's states go by other names, and coarser or finer ones, from year to year: labels that conflict
    ("dcase2022", "fan"): "m-n_{0}",
    ("dcase2023", "fan"): "m-n_{0}",
    ("dcase2024", "fan"): "n_{letter}",
    ("dcase2025", "fan"): "n-lv_{1}_m-n_{0}",
    # in 2026 the fan's states have one name in both domains, and a key stands twice
    ("dcase2026", "fan"): "spd_{number}",
    ("dcase2026", "ToyCarEmu"): "car_{0}_spd_{1}_mic_2_mic_1",
    ("dcase2026", "ToyDrone"): "car_{0}_spd_{1}_mic_2_mic_1",
    ("dcase2022", "ToyCar"): "car_{0}_spd_{1}_mic_{2}_noise_{2}",
    ("dcase2022", "ToyTrain"): "car_{0}_spd_{1}_mic_{2}_noise_{2}",
}
PLACES: dict[Domain, str] = {"source": "ambient", "target": "factory"}


@cache
def list_states(machine: str, dataset: str, domain: Domain) -> tuple[State, ...]:
    """List the states of a machine type in one domain, with the names that a year gives them.

    Args:
        machine: machine type; one that is not in `AXES` has `OTHER_AXES`.
        dataset: year, for example "dcase2023".
        domain: source or target.
    """
    axes = AXES.get(machine, OTHER_AXES)
    own = [axis.source if domain == "source" else axis.target for axis in axes]
    before = 0 if domain == "source" else len(list(product(*(axis.source for axis in axes))))
    plain = "_".join(f"{axis.name}{axis.glue}{{{position}}}" for position, axis in enumerate(axes))
    template = FREE_TEXT if dataset == "dcase2021" else NAMES.get((dataset, machine), plain)
    return tuple(
        State(
            machine,
            domain,
            levels,
            tuple(_speed(axis, level) for axis, level in zip(axes, levels, strict=True)),
            None
            if dataset == "dcase2020"
            else template.format(
                *levels, letter=string.ascii_uppercase[before + number], number=number + 1, place=PLACES[domain]
            ),
        )
        for number, levels in enumerate(product(*own))
    )


def list_columns(state: State, dataset: str) -> tuple[str, ...]:
    """Return a state's cells for `attributes_NN.csv`: parameter, value, parameter, value ..."""
    axes = AXES.get(state.machine, OTHER_AXES)
    if (dataset, state.machine) in NAMES or dataset == "dcase2021":
        return tuple((state.attribute or "").split("_"))
    return tuple(cell for axis, level in zip(axes, state.levels, strict=True) for cell in (axis.name, level))


def _speed(axis: Axis, level: str) -> float | None:
    """Place a level among its axis' numbers, 0..1; None where levels are no numbers or there is one alone."""
    numbers = [NUMBER.match(other) for other in (*axis.source, *axis.target)]
    own = NUMBER.match(level)
    if axis.name == MICROPHONES.name or own is None or not all(numbers):
        return None
    values = [float(number[0]) for number in numbers if number]
    return (float(own[0]) - min(values)) / (max(values) - min(values))
