"""Which clips a generated data set has, what is true of them, and what their names say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.contract import Condition, Dataset, Domain, Part
from benchmarks.recordings.index import NO_ATTRIBUTE, ClipName, format_name
from benchmarks.synthetic.names import State, list_states
from benchmarks.synthetic.sounds import seed_of

PART_FOLDERS: dict[Part, str] = {"dev": "dev_data", "additional": "eval_data", "eval": "eval_data"}
DOMAINS: tuple[Domain, ...] = ("source", "target")
CONDITIONS: tuple[Condition, ...] = ("normal", "anomaly")


@dataclass(frozen=True)
class PlannedClip:
    """A clip to be generated.

    Attributes:
        part: of the data set.
        machine: machine type.
        folder: of the machine type that holds it, such as "train".
        truth: everything that is true of it.
        stem: its file name without ending, which may say less.
        state: of the machine.
    """

    part: Part
    machine: str
    folder: str
    truth: ClipName
    stem: str
    state: State

    @property
    def path(self) -> Path:
        """Return where it stands below the year's folder."""
        return Path(PART_FOLDERS[self.part], "raw", self.machine, self.folder, f"{self.stem}.wav")


def plan_clips(
    dataset: Dataset, part: Part, machines: Iterable[str], *, counts: Mapping[str, int]
) -> Iterator[PlannedClip]:
    """Yield the clips of a part, each with its truth and the name that the year gives it.

    Args:
        dataset: year.
        part: dev has both splits, additional training clips, eval test clips that do not tell their condition.
        machines: machine types.
        counts: clips of a section: "source" and "target" for training, "test" for each domain and condition.
    """
    for machine in machines:
        first = 1 if machine.startswith("Toy") and dataset.has_domains else 0  # as officially; it means nothing
        for section in dataset.sections[part][machine]:
            if part != "eval":
                for domain in DOMAINS if dataset.has_domains else DOMAINS[:1]:
                    truth = ClipName(section, "", "train", domain, "normal")
                    for number in range(counts[domain]):
                        yield _plan(dataset, part, machine, replace(truth, index=str(first + number)), number)
            if part == "dev":
                for domain, condition in _cells(dataset):
                    truth = ClipName(section, "", "test", domain, condition)
                    for number in range(counts["test"]):
                        yield _plan(dataset, part, machine, replace(truth, index=str(first + number)), number)
            if part == "eval":
                for number, truth in _shuffled_cells(dataset, machine, section, counts["test"]):
                    index = str(first + int(truth.index))
                    yield _plan(dataset, part, machine, replace(truth, index=index), number)


def _cells(dataset: Dataset) -> list[tuple[Domain, Condition]]:
    """List the domains and conditions of a section's test clips; the one domain where there are none is source."""
    domains = DOMAINS if dataset.has_domains else DOMAINS[:1]
    return [(domain, condition) for domain in domains for condition in CONDITIONS]


def _shuffled_cells(dataset: Dataset, machine: str, section: str, rounds: int) -> Iterator[tuple[int, ClipName]]:
    """Yield (round, truth) of a section's evaluation clips, numbered across conditions so that numbers tell nothing.

    Numbers run across domains too, except in 2021, whose names tell the domain.
    """
    cells = _cells(dataset)
    separate = len(dataset.test_folders) > 1
    for group in [cells[:2], cells[2:]] if separate else [cells]:
        for number in range(rounds):
            rng = np.random.default_rng(seed_of("eval", dataset.name, machine, section, group, number))
            for place, cell in enumerate(rng.permutation(len(group))):
                domain, condition = group[cell]
                yield number, ClipName(section, str(number * len(group) + place), "test", domain, condition)


def _plan(dataset: Dataset, part: Part, machine: str, truth: ClipName, number: int) -> PlannedClip:
    """Give a clip its state, in turn, and the name that is written."""
    assert truth.domain is not None and truth.split is not None
    states = list_states(machine, dataset.name, truth.domain)
    state = states[number % len(states)]
    tells = dataset.attribute_files or truth.split == "train"  # 2021 has attributes in training names alone
    truth = replace(
        truth,
        index=truth.index.zfill(4 if dataset.has_domains else 8),
        domain=truth.domain if dataset.has_domains else None,
        attribute=state.attribute if tells else None,
    )
    folder: str = truth.split or ""
    if folder == "test" and len(dataset.test_folders) > 1:
        folder = next(name for name in dataset.test_folders if name.startswith(f"{truth.domain}_"))
    stem = format_name(_public(dataset, part, machine, truth), with_ids=not dataset.has_domains)
    return PlannedClip(part, machine, folder, truth, stem, state)


def _public(dataset: Dataset, part: Part, machine: str, truth: ClipName) -> ClipName:
    """Return what a clip's file name says."""
    if part == "eval" and len(dataset.test_folders) == 1:
        return ClipName(truth.section, truth.index)
    if part == "eval":
        return replace(truth, condition=None)
    return withhold(truth) if machine in dataset.withheld.get(part, ()) else truth


def withhold(truth: ClipName) -> ClipName:
    """Return a name as it is written where attributes are withheld."""
    return replace(truth, attribute=NO_ATTRIBUTE)
