"""The trials that a study file plans."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones import EMBEDDINGS
from backbones.training.recipe import PROJECTION, FinetuneRecipe
from benchmarks.contract import Protocol
from benchmarks.protocols import find_protocol, parse_protocol
from harness import plugins
from harness.errors import HarnessError
from harness.keys import digest
from harness.plugins import unknown
from harness.scoring.contract import LEVEL_SCORER
from harness.studies.study_file import SEARCHES, BackboneTable, SpaceTable, StudyFile
from harness.trials.axes import AXES, Axis, nested_axes
from harness.trials.choices import (
    TRUTH_COMES_FROM,
    check_rounds,
    choose_backbone,
    frozen_spec,
    labeled_by,
    largest_m,
    level_spec,
    read_by,
    two_rounds,
)
from harness.trials.contract import BackboneChoice, TrialSpec, protocol_content
from labeling.fusion import check_m


@dataclass(frozen=True)
class Plan:
    """A study file with its protocol, weights and recipe looked up. Recordings are not part of it.

    Attributes:
        file: the study file's content.
        protocol: resolved from its name or table.
        backbones: by the study's names.
        recipe: of fine-tuning.
    """

    file: StudyFile
    protocol: Protocol
    backbones: Mapping[str, BackboneChoice]
    recipe: FinetuneRecipe

    def key(self, *, train_data: str, test_data: str, truth_data: str = "") -> str:
        """Return the study's identity on these recordings. Running a study with the same key again continues it.

        Args:
            train_data: fingerprint of the training recordings.
            test_data: fingerprint of the test recordings.
            truth_data: fingerprint of the released attributes; part of the key only if `labels` has "truth".
        """
        return digest(
            {
                **self.file.content(),
                "truth_data": truth_data if "truth" in self.file.space.values("labels") else "",
                "protocol": protocol_content(self.protocol),
                "backbones": {name: choice.content() for name, choice in self.backbones.items()},
                "train_data": train_data,
                "test_data": test_data,
            }
        )

    def specs(self, *, train_data: str, test_data: str, truth_data: str = "", heard: bool = True) -> list[TrialSpec]:
        """Return every trial of the study's grid: references first, then seed by seed, M by M.

        Args:
            train_data: as of `key`.
            test_data: as of `key`.
            truth_data: as of `key`.
            heard: whether there is sound; embeddings alone have no level.
        """
        file = self.file
        base = TrialSpec(
            kind="trial",
            backbone=None,
            m=None,
            k1=None,
            k2=None,
            fusion="composite",
            protocol=self.protocol,
            seed=0,
            recipe=self.recipe,
            min_confidence=file.labeling.min_confidence,
            below=file.labeling.below,
            train_data=train_data,
            test_data=test_data,
            scorers=tuple(name for name in file.scorers if name != LEVEL_SCORER),
        )
        specs = [level_spec(base)] if file.level and heard else []
        inputs = [axis for axis in AXES if axis.of == "recipe"]  # such as clip_seconds, for frozen encoders too
        for seed, name in itertools.product(file.seeds if file.frozen else (), file.space.values("backbone")):
            for values in itertools.product(*map(file.values, inputs)):
                chosen = {"backbone": name, **_named(inputs, values)}
                specs.append(frozen_spec(self.with_choices(replace(base, seed=seed), chosen)))
        axes = nested_axes()
        reads = {labels: read_by(labels) for labels in file.space.values("labels")}
        # not cell by cell: looking a plugin up reads folders, and cells are thousands
        pairs = itertools.product(file.space.values("backbone"), _trains(file))
        learns = {(name, train): _learns(self.backbones[name], train) for name, train in pairs}
        for seed, *choice in itertools.product(file.seeds, *map(file.values, axes)):
            chosen = _named(axes, choice)
            if not learns[chosen["backbone"], chosen["train"]]:
                continue
            labels, read = chosen["labels"], reads[chosen["labels"]]
            if "m" not in read or chosen["m"] in m_values(file.space, labels, **_widths(chosen, read)):
                cell = self.with_choices(replace(base, seed=seed), chosen)
                specs.append(labeled_by(cell, labels, truth_data=truth_data))
        return list({spec.key(): spec for spec in specs}.values())

    def with_choices(self, spec: TrialSpec, chosen: Mapping[str, Any]) -> TrialSpec:
        """Return a copy of a trial with other values of some axes: axis name -> value as `[space]` writes it."""
        own = {axis.name: chosen[axis.name] for axis in AXES if axis.of == "spec" and axis.name in chosen}
        if "backbone" in own:
            own["backbone"] = self.backbones[own["backbone"]]
        recipe = {axis.name: chosen[axis.name] for axis in AXES if axis.of == "recipe" and axis.name in chosen}
        if recipe:
            own["recipe"] = self.file.recipe.model_copy(update=recipe).recipe()
        return replace(spec, **own)


def m_values(space: SpaceTable, labels: str, *, k1: int | None, k2: int | None) -> list[int]:
    """Return the M of a space that have candidates to fuse: those up to `largest_m`.

    Args:
        space: of the study.
        labels: of the trial.
        k1: nearest labeled neighbours; None if the labels do not depend on K1.
        k2: clusters; None if the labels do not depend on K2.
    """
    most = largest_m(labels, k1=k1, k2=k2)
    return [m for m in space.values("m") if most is None or m <= most]


def _named(axes: Sequence[Axis], values: Iterable[Any]) -> dict[str, Any]:
    return {axis.name: value for axis, value in zip(axes, values, strict=True)}


def _widths(chosen: Mapping[str, Any], read: Collection[str]) -> dict[str, int | None]:
    """Return K1 and K2 of a cell, each None if its labels do not depend on it."""
    return {name: chosen[name] if name in read else None for name in ("k1", "k2")}


def _learns(choice: BackboneChoice, train: str) -> bool:
    """Tell whether there is something to learn: an encoder's weights, or a projection of what it gives."""
    return train == PROJECTION or bool(plugins.load("backbone", choice.encoder).learns)


def _trains(file: StudyFile) -> list[str]:
    """Return what learns in a study's trials: the values of `train`."""
    return file.space.values("train") or [file.recipe.recipe().train]


def make_plan(file: StudyFile, *, root: Path | None = None) -> Plan:
    """Resolve a study file: protocol, weights, recipe.

    Args:
        file: of the study.
        root: of the recordings; where it is a file of embeddings, that is what the backbone `emb` means.

    Raises:
        ValueError: a protocol, plugin or checkpoint is not there, or M is outside the candidates.
    """
    protocol = find_protocol(file.protocol) if isinstance(file.protocol, str) else parse_protocol(file.protocol)
    for strategy in protocol.strategies.values():
        if strategy not in plugins.names("strategy"):
            raise HarnessError(unknown("strategy", strategy, plugins.names("strategy")))
        if two_rounds(strategy):
            raise HarnessError(
                f"A protocol's strategies must label in one round, but {strategy} needs an encoder that a first round "
                f"has trained; choose it for all machine types, with labels = {strategy}."
            )
    if "truth" in file.space.values("labels") and not file.labeling.truth and not protocol.withhold:
        raise HarnessError(f"space.labels can hold truth only where the truth is known; {TRUTH_COMES_FROM}.")
    trains = _trains(file)
    for labels, train in itertools.product(file.space.values("labels"), trains):
        check_rounds(labels, train=train)
    # K1 makes room for a larger M where some labels rank by it
    by_k1 = [] if all(map(two_rounds, file.space.values("labels"))) else file.space.values("k1")
    widest = max(*by_k1, *file.space.values("k2"), 0)
    for m in file.space.values("m"):
        check_m(m, widest)
    tables = {name: file.backbones.get(name) or BackboneTable(encoder=name) for name in file.space.values("backbone")}
    choices = {
        name: choose_backbone(name, table.encoder, weights=table.weights, options=table.options, root=root)
        for name, table in tables.items()
    }
    if file.keep != "none" and (named := [name for name, choice in choices.items() if choice.encoder == EMBEDDINGS]):
        raise HarnessError(
            f"An encoder is kept to hear new clips, but the backbone {named[0]} is a file of embeddings, which hears "
            "none; leave keep out."
        )
    fixed = [name for name, choice in choices.items() if not any(_learns(choice, train) for train in trains)]
    if fixed and not file.frozen:
        raise HarnessError(
            f"The backbone {fixed[0]} has no weights to learn, so frozen must be true, but it is false; "
            f'set frozen = true, let a projection learn (train = "{PROJECTION}"), or leave that backbone out.'
        )
    return Plan(file, protocol, choices, file.recipe.recipe())


def planned_keys(plan: Plan, specs: Mapping[str, TrialSpec]) -> list[str]:
    """Return the keys of trials that are known in advance, in order: all of a grid, the references of a search."""
    sampler = plan.file.sampler
    references = [key for key, spec in specs.items() if spec.kind != "trial"]
    if sampler.name in SEARCHES:
        return references
    cells = [key for key, spec in specs.items() if spec.kind == "trial"]
    if sampler.name == "random":
        cells = order_of(cells, seed=sampler.seed)
    return [*references, *cells[: sampler.trials]]


def planned_trials(plan: Plan, specs: Mapping[str, TrialSpec]) -> int:
    """Return how many trials a study plans: every reference, and as many others as its sampler may take."""
    cells = sum(spec.kind == "trial" for spec in specs.values())
    return len(specs) - cells + min(plan.file.sampler.trials or cells, cells)


def order_of(keys: Sequence[str], *, seed: int) -> list[str]:
    """Return keys in a random order: random search without repeats."""
    return random.Random(seed).sample(list(keys), len(keys))
