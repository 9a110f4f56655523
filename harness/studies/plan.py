"""A study file, read and checked, and the trials that it plans."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backbones.contract import FinetuneRecipe
from benchmarks.contract import Protocol
from benchmarks.protocols import find_protocol, parse_protocol
from harness import plugins
from harness.errors import HarnessError
from harness.keys import digest
from harness.plugins import unknown
from harness.scoring.contract import LEVEL_SCORER
from harness.studies.study_file import SEARCHES, BackboneTable, SpaceTable, StudyFile, unsaid_later
from harness.trials.choices import TRUTH_COMES_FROM, WITHOUT_M, choose_backbone, frozen_spec, labeled_by, level_spec
from harness.trials.contract import BackboneChoice, TrialSpec, protocol_content
from labeling.fusion import check_m


@dataclass(frozen=True)
class Plan:
    """A study with everything resolved: what its trials are, whatever recordings it meets.

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
        """Return the study's identity on some recordings; running it again goes on where it stopped.

        Args:
            train_data: fingerprint of the training recordings.
            test_data: fingerprint of the test recordings.
            truth_data: fingerprint of the released attributes; it counts where labels are made from them.
        """
        left_out = dict.fromkeys(("resources", "pruning", "summary", "protocol", "backbones", "scorers"), True)
        budget = {"trials", "hours"}  # more of it goes on with the same study
        exclude: dict[str, Any] = {
            **left_out, "labeling": {"truth"}, "sampler": budget, "recipe": unsaid_later(self.file.recipe)
        }  # fmt: skip
        file = self.file.model_dump(exclude=exclude)
        return digest(
            {
                **file,
                "truth_data": truth_data if "truth" in self.file.space.labels else "",
                "protocol": protocol_content(self.protocol),
                "backbones": {name: choice.content() for name, choice in self.backbones.items()},
                "train_data": train_data,
                "test_data": test_data,
            }
        )

    def specs(self, *, train_data: str, test_data: str, truth_data: str = "") -> list[TrialSpec]:
        """Return every trial of the study's grid: references first, then seed by seed, M by M."""
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
        specs = [level_spec(base)] if file.level else []
        for seed, name in itertools.product(file.seeds, file.space.backbone):
            if file.frozen:
                specs.append(frozen_spec(replace(base, backbone=self.backbones[name], seed=seed)))
        space = file.space
        learning = [name for name in space.backbone if _learns(self.backbones[name])]
        # backbone by backbone innermost: trials side by side then seldom wait for the same latents
        for seed, k1, k2, fusion, m, name, labels in itertools.product(
            file.seeds, space.k1, space.k2, space.fusion, space.m, learning, space.labels
        ):
            if labels in WITHOUT_M or m in m_values(space, k1=None if labels == "gmm" else k1, k2=k2):
                cell = replace(base, backbone=self.backbones[name], m=m, k1=k1, k2=k2, fusion=fusion, seed=seed)
                specs.append(labeled_by(cell, labels, truth_data=truth_data))
        return list({spec.key(): spec for spec in specs}.values())


def m_values(space: SpaceTable, *, k1: int | None, k2: int) -> list[int]:
    """Return the M of a space that K1 and K2 give candidates for; more would repeat the cell below.

    Args:
        space: of the study.
        k1: nearest labeled neighbours; None where the labels know none.
        k2: clusters.
    """
    return [m for m in space.m if m <= max(k1 or 0, k2)]


def _learns(choice: BackboneChoice) -> bool:
    return bool(plugins.load("backbone", choice.encoder).learns)


def make_plan(file: StudyFile) -> Plan:
    """Resolve a study file: protocol, weights, recipe.

    Raises:
        ValueError: a protocol, plugin or checkpoint is not there, or M is outside the candidates.
    """
    protocol = find_protocol(file.protocol) if isinstance(file.protocol, str) else parse_protocol(file.protocol)
    for strategy in protocol.strategies.values():
        if strategy not in plugins.names("strategy"):
            raise HarnessError(unknown("strategy", strategy, plugins.names("strategy")))
    if "truth" in file.space.labels and not file.labeling.truth and not protocol.withhold:
        raise HarnessError(f"space.labels can hold truth only where the truth is known; {TRUTH_COMES_FROM}.")
    widest = max(*file.space.k1, *file.space.k2)
    for m in file.space.m:
        check_m(m, widest)
    tables = {name: file.backbones.get(name) or BackboneTable(encoder=name) for name in file.space.backbone}
    choices = {
        name: choose_backbone(name, table.encoder, weights=table.weights, options=table.options)
        for name, table in tables.items()
    }
    fixed = [name for name, choice in choices.items() if not _learns(choice)]
    if fixed and not file.frozen:
        raise HarnessError(
            f"The backbone {fixed[0]} has no weights to learn, so frozen must be true, but it is false; "
            "set frozen = true, or leave that backbone out."
        )
    return Plan(file, protocol, choices, file.recipe.recipe())


def planned_keys(plan: Plan, specs: Mapping[str, TrialSpec]) -> list[str]:
    """Return the cells that are known before a study begins, in order: of a search, its references."""
    sampler, keys = plan.file.sampler, list(specs)
    references = [key for key in keys if specs[key].kind != "trial"]
    cells = [key for key in keys if specs[key].kind == "trial"]
    if sampler.name in SEARCHES:
        return references[: planned_trials(plan, specs)]
    if sampler.name == "random":
        cells = order_of(cells, seed=sampler.seed)
    return [*references, *cells][: planned_trials(plan, specs)]


def planned_trials(plan: Plan, specs: Mapping[str, TrialSpec]) -> int:
    """Return how many trials a study plans, references included."""
    return min(plan.file.sampler.trials or len(specs), len(specs))


def order_of(keys: Sequence[str], *, seed: int) -> list[str]:
    """Return keys in a random order: random search without repeats."""
    return random.Random(seed).sample(list(keys), len(keys))
