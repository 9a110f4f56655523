"""How many test clips the official development sets have, to say what a folder of scores lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from benchmarks.contract import Condition, Dataset, Domain
from benchmarks.recordings.names import NO_ATTRIBUTE, parse_name

Kind: TypeAlias = tuple[Domain | None, Condition]
Section: TypeAlias = tuple[str, str]  # machine type, section or machine ID

SHOWN = 3  # sections that a note gives
# clips of each domain and condition of a section
EACH: Mapping[str, int] = {
    "dcase2021": 100, "dcase2022": 50, "dcase2023": 50, "dcase2024": 50, "dcase2025": 50, "dcase2026": 50,
}  # fmt: skip
# gearbox and slider alone differ: (source normal, source anomaly, target normal, target anomaly)
ODD_2021: Mapping[Section, tuple[int, int, int, int]] = {
    ("gearbox", "00"): (195, 105, 96, 108),
    ("gearbox", "01"): (108, 108, 108, 108),
    ("gearbox", "02"): (108, 138, 105, 120),
    ("slider", "01"): (100, 100, 98, 100),
    ("slider", "02"): (110, 102, 102, 102),
}
# (normal, anomaly) of each machine ID; daisukelab/dcase2020_task2_variants, file_info.csv
OF_2020: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "fan": {"00": (100, 407), "02": (100, 359), "04": (100, 348), "06": (100, 361)},
    "pump": {"00": (100, 143), "02": (100, 111), "04": (100, 100), "06": (100, 102)},
    "slider": {"00": (100, 356), "02": (100, 267), "04": (100, 178), "06": (100, 89)},
    "valve": {"00": (100, 119), "02": (100, 120), "04": (100, 120), "06": (100, 120)},
    "ToyCar": {"01": (350, 264), "02": (350, 265), "03": (350, 265), "04": (350, 265)},
    "ToyConveyor": {"01": (800, 400), "02": (800, 355), "03": (799, 355)},
}


def official_counts(dataset: Dataset, machine: str, section: str) -> dict[Kind, int]:
    """Return how many test clips of each domain and condition a section of the development set has, if known."""
    if dataset.name == "dcase2020":
        normal, anomaly = OF_2020[machine][section]
        return {(None, "normal"): normal, (None, "anomaly"): anomaly}
    if dataset.name not in EACH:
        return {}
    counts = ODD_2021.get((machine, section)) if dataset.name == "dcase2021" else None
    kinds: tuple[Kind, ...] = (
        ("source", "normal"),
        ("source", "anomaly"),
        ("target", "normal"),
        ("target", "anomaly"),
    )
    return dict(zip(kinds, counts or (EACH[dataset.name],) * len(kinds), strict=True))


def other_counts(dataset: Dataset, clips: Iterable[tuple[str, str, Kind, str]]) -> str | None:
    """Return a note on sections whose numbers of clips are not the official ones; None where all are.

    Args:
        dataset: a year of the challenge.
        clips: (machine type, section, (domain, condition), stem) of its development set's test clips.
    """
    found: dict[Section, dict[Kind, list[str]]] = defaultdict(lambda: defaultdict(list))
    for machine, section, kind, stem in clips:
        found[machine, section][kind].append(stem)
    said = []
    for (machine, section), stems in found.items():
        official = official_counts(dataset, machine, section)
        wrong = [
            f"{len(stems[kind])} of {number} {' '.join(word for word in kind if word)} clips"
            + _absent(dataset, stems[kind], number)
            for kind, number in official.items()
            if len(stems[kind]) != number
        ]
        if wrong:
            said.append(f"{machine} {section} has {', '.join(wrong)}")
    if not said:
        return None
    more = f"; so do {len(said) - SHOWN} more sections" if len(said) > SHOWN else ""
    return f"These are not the official {dataset.name} test clips in number: {'; '.join(said[:SHOWN])}{more}."


def _absent(dataset: Dataset, stems: list[str], number: int) -> str:
    """Name the clips that lack between the first and the last index, where these are just those that lack."""
    if not stems:
        return ""
    digits = [parse_name(stem, with_ids=not dataset.has_domains).index for stem in stems]
    there = {int(index) for index in digits}
    if max(there) - min(there) + 1 != number or len(there) == number:  # first: an index may be as far off as 10^20
        return ""
    holes = [at for at in range(min(there), max(there)) if at not in there]
    front = stems[0].split(digits[0])[0]
    shown = ", ".join(f"{front}{at:0{len(digits[0])}d}" for at in holes[:SHOWN])
    return f" (there is no {shown}{' and more' if len(holes) > SHOWN else ''})"


def other_years_attributes(dataset: Dataset, stems: Iterable[tuple[str, str]]) -> str | None:
    """Return a note on machine types whose names tell attributes that this year withholds, or withhold others.

    Args:
        dataset: a year of the challenge.
        stems: (machine type, stem) of its development set's test clips.
    """
    withheld = dataset.withheld.get("dev", ())
    telling, silent = dict[str, str](), dict[str, str]()
    for machine, stem in stems:
        if machine in withheld and dataset.has_domains and parse_name(stem).attribute is not None:
            telling.setdefault(machine, stem)
        if machine not in withheld and stem.endswith(f"_{NO_ATTRIBUTE}"):
            silent.setdefault(machine, stem)
    for machines, does in ((telling, "withholds the attributes"), (silent, "gives the attributes")):
        if machines:
            return (
                f"{dataset.name} {does} of {', '.join(machines)}, but these names are like "
                f"{next(iter(machines.values()))}: check that --dataset names their own year."
            )
    return None
