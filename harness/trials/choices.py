"""What a trial's choices become: its backbone with weights found, its references, its source of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones import HUGGING_FACE, named_weights
from backbones.contract import FinetuneRecipe
from backbones.weights import find_checkpoint, find_model_folder, sha256_of
from harness import plugins
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.scoring.contract import LEVEL_SCORER
from harness.trials.contract import BackboneChoice, TrialSpec
from labeling.contract import MIN_CONFIDENCE, LabelSource

WITHOUT_M: tuple[LabelSource, ...] = ("machine", "truth")  # one label a clip, whatever M, K1, K2 and fusion
TRUTH_COMES_FROM = (
    "name the folder of the released attributes with --truth, in a study under [labeling] as truth, "
    "or let the protocol withhold some"
)


def frozen_spec(spec: TrialSpec) -> TrialSpec:
    """Return the frozen reference of a trial: the same encoder and clips, no labels, no fine-tuning."""
    recipe = FinetuneRecipe(epochs=0, clip_seconds=spec.recipe.clip_seconds, fit=spec.recipe.fit)
    return replace(
        spec,
        kind="frozen",
        m=None,
        k1=None,
        k2=None,
        fusion="composite",
        recipe=recipe,
        min_confidence=MIN_CONFIDENCE,
        below="drop",
        labels="paper",
        truth_data="",
    )


def labeled_by(spec: TrialSpec, labels: LabelSource, *, truth_data: str = "") -> TrialSpec:
    """Return a trial whose training clips are labeled by the paper's method or by a baseline.

    - "paper": each machine type by its case's strategy.
    - "machine": the machine type alone, a lower bound.
    - "gmm": a Gaussian mixture per domain, the other published pseudo-labeling for this task.
    - "truth": the attribute that was withheld, an upper bound.

    What a baseline does not read is left out of its spec, so that it stands once whatever M, K1 and K2 there are.

    Args:
        spec: a trial with all of M, K1, K2 and fusion.
        labels: one of these.
        truth_data: fingerprint of the truth.

    Raises:
        HarnessError: labels are "truth" and there is none.
    """
    if labels == "paper":
        return spec
    if labels == "truth" and not truth_data:
        raise HarnessError(f"labels can be truth only where the truth is known, but it is not; {TRUTH_COMES_FROM}.")
    bare = replace(spec, labels=labels, k1=None, min_confidence=MIN_CONFIDENCE, below="drop")
    if labels not in WITHOUT_M:
        return bare
    return replace(bare, m=None, k2=None, fusion="composite", truth_data=truth_data if labels == "truth" else "")


def level_spec(spec: TrialSpec) -> TrialSpec:
    """Return the level-only reference of a protocol: no network, no seed."""
    return replace(
        frozen_spec(spec), kind="level", backbone=None, seed=0, recipe=FinetuneRecipe(epochs=0), scorers=(LEVEL_SCORER,)
    )


def choose_backbone(
    name: str, encoder: str, *, weights: str = "", options: Mapping[str, Any] | None = None
) -> BackboneChoice:
    """Return a backbone choice whose checkpoint, if it names one, has been found and summed."""
    encoder, named = named_weights(encoder)
    weights = weights or named
    if encoder not in plugins.names("backbone"):
        raise HarnessError(unknown("backbone", encoder, plugins.names("backbone")))
    path = None
    if weights:
        path = find_model_folder(weights) if encoder == HUGGING_FACE else find_checkpoint(weights)
    return BackboneChoice(
        name=f"{HUGGING_FACE}:{Path(weights).name}" if named and name.startswith(f"{HUGGING_FACE}:") else name,
        encoder=encoder,
        options=tuple(sorted((options or {}).items())),
        weights=str(path.absolute()) if path else "",
        weights_sha256=sha256_of(path) if path else "",
    )
