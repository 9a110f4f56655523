"""Metrics of two arms (such as Top-M and Top-1) on the same sections, with or without resampled clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.contract import RuleName
from benchmarks.metrics.rules import metric_rule
from harness.errors import HarnessError
from harness.statistics.bootstrap import (
    Floats,
    Machine,
    Section,
    draw_clips,
    draw_counts,
    generator,
    identified,
    machine_places,
    pair_sections,
    resampled_numbers,
)

Numbers: TypeAlias = Mapping[int, Mapping[Section, Floats]]  # seed -> section -> (k,) in the rule's order


@dataclass(frozen=True)
class Arms:
    """Metrics of an arm and of its reference, by seed and section.

    Attributes:
        seeds: seeds of the arm, then of the reference; equal if the arms are paired.
        sections: (dataset, machine, section) of the s sections.
        values: one array an arm, (seeds, s, k, 1 + b): k metrics in the rule's order. Column 0 of the last axis is
            measured on the recorded clips, columns 1..b on their b resamples.
    """

    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    sections: tuple[Section, ...]
    values: tuple[Floats, Floats]

    @property
    def resamples(self) -> int:
        """Return b; 0 where clips were not resampled."""
        return int(self.values[0].shape[-1]) - 1

    def places(self) -> dict[Machine, NDArray[np.intp]]:
        """Return the indices of each machine's sections, without machines whose metrics are all NaN in both arms."""
        return {
            key: at
            for key, at in machine_places(self.sections).items()
            if not all(np.isnan(of_arm[:, at]).all() for of_arm in self.values)
        }

    def weights(self, seed: int) -> Floats:
        """Return how often each section's machine was drawn: (s, 1 + b).

        Column 0 counts every machine once, for the recorded clips; each later column draws machines with replacement.
        Machines whose metrics are all NaN are not drawn: a resample that consists of them alone would have no score.
        """
        places = self.places()
        weights = np.zeros((len(self.sections), 1 + self.resamples))
        counts = np.ones((len(places), 1))
        if self.resamples and places:
            counts = recorded_first(draw_counts(len(places), self.resamples, generator(seed, "machines")))
        for count, at in zip(counts, places.values(), strict=True):
            weights[at] = count
        return weights


def measured_arms(
    arm: pd.DataFrame, reference: pd.DataFrame, rule: RuleName, *, resamples: int, seed: int, paired: bool = True
) -> Arms:
    """Measure both arms on the clips as recorded and on the same resamples of them, for every seed.

    Args:
        arm: scored clips, a row a seed and clip: `seed dataset machine section domain condition clip_id score`.
        reference: the other arm's scored clips, with the same columns.
        rule: name of the metric rule, such as `dcase2022`.
        resamples: number of resamples of the clips.
        seed: random seed of the resamples.
        paired: whether the arms must have the same seeds.

    Raises:
        BenchmarkError: scores cannot be measured.
        HarnessError: seeds, sections, clips or what is known of them differ between the arms or between seeds.
    """
    arms = [_by_seed(table, name) for table, name in ((arm, "arm"), (reference, "reference"))]
    seeds = _checked_seeds(arms, paired=paired)
    parted = [[identified(of_arm[one]) for one in own] for of_arm, own in zip(arms, seeds, strict=True)]
    first = parted[0][0]
    tables = [[pair_sections(first, one) for one in of_arm] for of_arm in parted]
    sections = [section for section, _ in tables[0][0]]
    values: list[list[Floats]] = [[], []]
    for at, section in enumerate(sections):
        counts = recorded_first(draw_clips(section, resamples=resamples, seed=seed))
        for of_arm, kept in zip(tables, values, strict=True):
            kept.append(np.array([resampled_numbers(pairs[at][1], rule, counts) for pairs in of_arm]))
    arm_values, reference_values = (np.stack(kept, axis=1) for kept in values)  # (seeds, s, k, 1 + b)
    return Arms(seeds, tuple(section.key for section in sections), (arm_values, reference_values))


def recorded_arms(arm: Numbers, reference: Numbers, rule: RuleName, *, paired: bool = True) -> Arms:
    """Put the recorded metrics of both arms side by side, for results whose clip scores are not known.

    Args:
        arm: seed -> section -> (k,) metrics in the rule's order.
        reference: the other arm's metrics, in the same form.
        rule: the year's rule.
        paired: whether the arms must have the same seeds.

    Raises:
        HarnessError: seeds or sections differ between the arms or between seeds.
    """
    seeds = _checked_seeds([arm, reference], paired=paired)
    sections = tuple(sorted(arm[seeds[0][0]]))
    for of_arm in (arm, reference):
        for numbers in of_arm.values():
            if alone := sorted(set(sections) ^ set(numbers)):
                raise HarnessError(
                    f"Both systems must score the same sections, but one alone scored {' '.join(alone[0])}."
                )
    empty = np.empty((0, len(metric_rule(rule).numbers)))
    arm_values, reference_values = (
        np.array([[of_arm[one][key] for key in sections] or empty for one in own])[..., None]
        for of_arm, own in zip((arm, reference), seeds, strict=True)
    )
    return Arms(seeds, sections, (arm_values, reference_values))


def recorded_first(drawn: NDArray[Any]) -> Floats:
    """Prepend the recorded data, in which everything counts once, to drawn counts: (n, b) -> (n, 1 + b)."""
    return np.concatenate([np.ones((drawn.shape[0], 1)), drawn], axis=1)


def pseudo_values(values: Floats, places: Mapping[Machine, NDArray[np.intp]], rule: RuleName) -> Floats:
    """Return each machine's contribution to the official score of each seed.

    The official score is not a mean over machines (most rules take a harmonic mean over all sections), so a machine
    has no exact share of it. The jackknife's pseudo-values (Tukey 1958) stand in: with n machines, n times the score of
    all machines minus n - 1 times the score without this machine.

    Args:
        values: (seeds, s, k) metrics in the rule's order.
        places: indices of each machine's sections along s.
        rule: the year's rule.

    Returns:
        (machines, seeds). Their mean over machines is the jackknife estimate of the official score.
    """
    official = metric_rule(rule).official
    sections = values.shape[1]
    whole = np.array([official(one[..., None], np.ones((sections, 1)))[0] for one in values])
    if len(places) == 1:
        return whole[None]
    without = np.ones((sections, len(places)))
    for column, at in enumerate(places.values()):
        without[at, column] = 0.0
    left = np.stack([official(np.repeat(one[..., None], len(places), axis=-1), without) for one in values])
    return np.asarray(len(places) * whole - (len(places) - 1) * left.T)


def _by_seed(table: pd.DataFrame, name: str) -> dict[int, pd.DataFrame]:
    if "seed" not in table.columns or table.empty or table["seed"].isna().any():
        raise HarnessError(f"The {name} must hold scored clips with a seed each, but has none or misses some.")
    return {int(seed): table[table["seed"] == seed] for seed in table["seed"].unique()}


def _checked_seeds(arms: Sequence[Mapping[int, Any]], *, paired: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    alone = sorted(set(arms[0]) ^ set(arms[1]))
    if paired and alone:
        raise HarnessError(f"Both arms must have the same seeds, but one alone has {', '.join(map(str, alone))}.")
    return tuple(sorted(arms[0])), tuple(sorted(arms[1]))
