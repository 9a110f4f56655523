"""The bootstrap over clips: how much a score would vary on other recordings of the same kind.

Clips are drawn again within their section, domain and condition. What is drawn depends on the seed and on the names of
the section and its clips alone, so two systems that scored the same clips are resampled alike: a paired bootstrap.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import RuleName
from benchmarks.metrics.measures import section_numbers
from benchmarks.metrics.rules import metric_rule
from benchmarks.metrics.sections import SectionScores, split_sections
from harness.errors import HarnessError

CHUNK = 1_000_000  # clips x resamples computed at once, so that memory stays at a few MB

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int32]
Machine: TypeAlias = tuple[str, str]  # (dataset, machine)
Section: TypeAlias = tuple[str, str, str]  # (dataset, machine, section)


@dataclass(frozen=True)
class Bootstrap:
    """Resampled scores, as fractions, or differences of two systems' scores.

    Attributes:
        official: (b,) official scores.
        h_means: (b,) harmonic means by (dataset, machine).
        numbers: (b,) values by (dataset, machine, section) and field of `MachineMetrics`.
    """

    official: Floats
    h_means: Mapping[Machine, Floats]
    numbers: Mapping[Section, Mapping[str, Floats]]


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator that depends on the seed and the names alone, not on the order of other draws.

    Raises:
        HarnessError: the seed is negative.
    """
    if seed < 0:
        raise HarnessError(f"seed must be 0 or more, but got {seed}.")
    words = [zlib.crc32(name.encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def draw_counts(n: int, resamples: int, random: np.random.Generator) -> Counts:
    """Draw n items n times with replacement, once a resample: (n, resamples) counts, each column of which sums to n.

    Raises:
        HarnessError: resamples is below 1.
    """
    if resamples < 1:
        raise HarnessError(f"resamples must be at least 1, but got {resamples}.")
    cells = random.integers(0, n, size=(n, resamples), dtype=np.int64)
    cells *= resamples
    cells += np.arange(resamples)
    return np.bincount(cells.ravel(), minlength=n * resamples).reshape(n, resamples).astype(np.int32)


def draw_clips(section: SectionScores, *, resamples: int, seed: int) -> Counts:
    """Draw a section's clips within domain and condition: (n, resamples), how often each clip was drawn.

    Stratified, as a test set is made of fixed numbers of clips of each kind (Efron and Tibshirani 1993, chapter 8).
    The same clips are drawn the same way in whichever order they come.
    """
    random = generator(seed, *section.key)
    kinds = np.array(
        [f"{domain}/{anomalous}" for domain, anomalous in zip(section.domains, section.anomalous, strict=True)]
    )
    names = section.ids.astype(str)
    counts = np.empty((kinds.size, resamples), dtype=np.int32)
    for kind in np.unique(kinds):
        clips = np.flatnonzero(kinds == kind)
        counts[clips[np.argsort(names[clips], kind="stable")]] = draw_counts(clips.size, resamples, random)
    return counts


def resampled_numbers(section: SectionScores, rule: RuleName, counts: NDArray[Any]) -> Floats:
    """Return a section's metrics in every resample: (n, b) counts -> (k, b) in the rule's order, NaN if undefined."""
    step = max(1, CHUNK // counts.shape[0])
    starts = range(0, counts.shape[1], step)
    return np.concatenate([section_numbers(section, rule, counts[:, at : at + step]) for at in starts], axis=1)


def bootstrap_sections(sections: Sequence[SectionScores], draws: Sequence[Counts], rule: RuleName) -> Bootstrap:
    """Return the metrics of every resample of the clips.

    Args:
        sections: of one year.
        draws: for each section, (n, resamples) how often each clip was drawn, as `draw_clips` gives them.
        rule: the year's rule.
    """
    values = np.stack([resampled_numbers(one, rule, counts) for one, counts in zip(sections, draws, strict=True)])
    definition = metric_rule(rule)
    fields = [number.field for number in definition.numbers]
    return Bootstrap(
        official=definition.official(values, np.ones((values.shape[0], values.shape[2]))),
        h_means={
            key: definition.machine(values[at]) for key, at in machine_places([one.key for one in sections]).items()
        },
        numbers={one.key: dict(zip(fields, of_one, strict=True)) for one, of_one in zip(sections, values, strict=True)},
    )


def machine_places(sections: Sequence[Section]) -> dict[Machine, NDArray[np.intp]]:
    """Return the indices of each machine's sections, by (dataset, machine)."""
    keys = [key[:2] for key in sections]
    return {key: np.array([at for at, one in enumerate(keys) if one == key]) for key in dict.fromkeys(keys)}


def pair_sections(a: Sequence[SectionScores], b: Sequence[SectionScores]) -> list[tuple[SectionScores, SectionScores]]:
    """Return the sections of two systems side by side, the second one's clips in the first one's order.

    Raises:
        HarnessError: the clips, their domains or their conditions differ between the systems.
    """
    of_a, of_b = ({section.key: section for section in sections} for sections in (a, b))
    if alone := sorted(of_a.keys() ^ of_b.keys()):
        raise HarnessError(f"Both systems must score the same sections, but one alone scored {' '.join(alone[0])}.")
    return [(section, _in_order_of(section, of_b[key])) for key, section in of_a.items()]


def _in_order_of(one: SectionScores, other: SectionScores) -> SectionScores:
    """Return the other system's section with its clips in the order of this one's."""
    where = {name: at for at, name in enumerate(other.ids)}
    alone = sorted(str(name) for name in where.keys() ^ set(one.ids))
    if alone:
        raise HarnessError(
            f"Both systems must score the same clips, but {len(alone)} of {' '.join(one.key)} have one score alone: "
            f"{', '.join(alone[:5])}."
        )
    order = np.array([where[name] for name in one.ids])
    paired = replace(
        other,
        ids=one.ids,
        scores=other.scores[order],
        anomalous=other.anomalous[order],
        domains=other.domains[order],
    )
    differ = (paired.anomalous != one.anomalous) | (paired.domains != one.domains)
    if differ.any():
        raise HarnessError(
            f"Both systems must know the same domain and condition of a clip, but differ for {one.ids[differ][0]}."
        )
    return paired


def identified(scored: pd.DataFrame) -> list[SectionScores]:
    """Return the sections of a scored clip table that has clip ids.

    Raises:
        BenchmarkError: the table cannot be measured.
        HarnessError: there is no `clip_id`.
    """
    if "clip_id" not in scored.columns:
        raise HarnessError("Resampled clips must have the column clip_id, which draws and joins go by, but miss it.")
    return split_sections(scored)
