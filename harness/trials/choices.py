"""The choices that define a trial, as a user gives them, and how they are turned into a `TrialSpec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from backbones import EMBEDDINGS, named_weights
from backbones.contract import Backbone
from backbones.released.hub import source_of
from backbones.training.recipe import HEAD, PROJECTION, FinetuneRecipe
from backbones.weights import find_checkpoint, sha256_of
from harness import plugins
from harness.bounds import checked
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.scoring.contract import LEVEL_SCORER
from harness.trials.axes import PAPER_K
from harness.trials.contract import BackboneChoice, TrialSpec
from labeling.contract import FINETUNED, MIN_CONFIDENCE, Strategy
from labeling.fusion import Fusion

PAPER, TRUTH = "paper", "truth"  # the two labels that are no strategy's name
LABELING = frozenset(("m", "k1", "k2", "fusion"))  # the axes that labels may or may not read
TRUTH_COMES_FROM = (
    "name the folder of the released attributes with --truth, in a study under [labeling] as truth, "
    "or let the protocol withhold some"
)


@dataclass(frozen=True)
class TrialChoices:
    """A trial as a user asks for it, by names and numbers; nothing is looked up yet. The defaults are the paper's.

    Attributes:
        protocol: by name.
        backbone: by name.
        m: attributes joined in a pseudo-label; None leaves the encoder frozen.
        k1: nearest labeled neighbours.
        k2: clusters.
        fusion: how the M attributes become a target.
        seed: of everything that draws.
        weights: a checkpoint; empty is random weights from the seed.
        options: of the backbone.
        scorers: by name, with options as in `knn:k=5,metric=euclidean`.
        recipe: what differs from the paper's recipe.
        min_confidence: a sample-wise pseudo-label with a lower confidence is not retained.
        below: what becomes of a clip that is not retained: "drop" leaves it out of training, "machine" trains it under
            its machine type.
        labels: how clips are labeled: "paper", "truth" or a strategy's name (`labeled_by`).
        truth: folder with released attributes, by which the labels are judged; none is made from them unless `labels`
            is "truth".
        ground_truth: the user's copy of the official files about evaluation clips.
        skip_bad: go on without files that cannot be used.

    Raises:
        HarnessError: a number is out of its bounds (`harness.bounds`), or nothing labels by that name.
    """

    protocol: str
    backbone: str
    m: int | None = 1
    k1: int = PAPER_K
    k2: int = PAPER_K
    fusion: Fusion = "composite"
    seed: int = 0
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    scorers: Sequence[str] = ("knn",)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    min_confidence: float = MIN_CONFIDENCE
    below: Literal["drop", "machine"] = "drop"
    labels: str = PAPER
    truth: Path | None = None
    ground_truth: Path | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        """Refuse what no trial could be made of, before recordings are read for minutes."""
        for name in ("k1", "k2", "seed", "min_confidence", *(("m",) if self.m is not None else ())):
            checked(name, getattr(self, name))
        check_labels(self.labels)
        check_rounds(self.labels, train=str(self.recipe.get("train", FinetuneRecipe.train)))


def check_labels(labels: str, *, what: str = "labels") -> None:
    """Refuse what does not label training clips: neither the paper's method, nor the truth, nor a baseline.

    Raises:
        HarnessError: with what there is and the nearest of it.
    """
    if labels in (PAPER, TRUTH):
        return
    if labels not in plugins.names("strategy") or not _strategy(labels).stands_alone:
        baselines = [name for name in plugins.names("strategy") if _strategy(name).stands_alone]
        raise HarnessError(unknown(what, labels, [PAPER, TRUTH, *baselines]))


def two_rounds(labels: str) -> bool:
    """Tell whether labels are made of an encoder that was fine-tuned in a first round, as "iterated" ones are."""
    return labels not in (PAPER, TRUTH) and _strategy(labels).features == FINETUNED


def check_rounds(labels: str, *, train: str) -> None:
    """Refuse labels of a second round where the first would leave the encoder as it is.

    Args:
        labels: of the trial.
        train: what its recipe lets learn.

    Raises:
        HarnessError: with the way out.
    """
    if train == HEAD and two_rounds(labels):
        raise HarnessError(
            f"labels = {labels} are clusters of latents that a first round of training has changed, but train = {HEAD} "
            f"leaves the encoder as it is, so that both rounds would see the same; choose train = all or {PROJECTION}."
        )


def first_round(spec: TrialSpec) -> TrialSpec:
    """Return the trial whose encoder makes the latents for labels of a second round: the paper's labels with M = 1.

    Everything else is the same: clips, K1, K2, recipe, seed. So all M of a study share one first round.
    """
    return replace(spec, labels=PAPER, rounds=1, m=1, fusion="composite")


def read_by(labels: str) -> frozenset[str]:
    """Return which of the axes M, K1, K2 and fusion make a difference to trials with these labels.

    The paper's method reads all of them, the truth none. A baseline says which numbers it reads; one that reads M has
    several candidates a clip, and so reads the fusion too. Labels of a second round read whatever the first does.
    """
    if labels == PAPER or two_rounds(labels):
        return LABELING
    if labels == TRUTH:
        return frozenset()
    choices = frozenset(_strategy(labels).choices)
    return choices | {"fusion"} if "m" in choices else choices


def largest_m(labels: str, *, k1: int | None, k2: int | None) -> int | None:
    """Return the largest M that has candidates to fuse; None where only the strategy knows how many there are.

    The paper's method has K1 of them or K2, by the machine type. Labels of a second round are clusters for every
    machine type, so that K1, which only their first round reads, makes no room for a larger M.

    Args:
        labels: of the trial.
        k1: nearest labeled neighbours; None if the labels do not depend on K1.
        k2: clusters; None if the labels do not depend on K2.
    """
    if two_rounds(labels):
        return k2
    return max((width for width in (k1, k2) if width is not None), default=None)


@lru_cache(maxsize=64)  # a plan asks for it with every cell, and finding a plugin looks through folders
def _strategy(name: str) -> Strategy:
    strategy: Strategy = plugins.load("strategy", name)
    return strategy


def frozen_spec(spec: TrialSpec) -> TrialSpec:
    """Return the frozen reference of a trial: the same encoder and clips, no labels, no fine-tuning."""
    heard = {name: getattr(spec.recipe, name) for name in ("clip_seconds", "fit", "embed")}
    recipe = FinetuneRecipe(epochs=0, **heard)
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
        rounds=1,
    )


def labeled_by(spec: TrialSpec, labels: str, *, truth_data: str = "") -> TrialSpec:
    """Return a trial whose training clips are labeled by the paper's method or by a baseline.

    - "paper": each machine type by its case's strategy.
    - "truth": the attribute that was withheld, an upper bound.
    - A strategy that stands alone, for every machine type: "machine" is the machine type alone, a lower bound; "gmm" a
      Gaussian mixture per domain, the other published pseudo-labeling for this task; "ward" Ward's clusters.
    - "iterated": K-means of the latents of an encoder that a first round has fine-tuned (`first_round`). Such a trial
      trains twice, and thresholds for the paper's labels stay, since the first round uses them.

    Axes that make no difference to a baseline are None in its spec. So a study that varies M and K1 has "machine",
    which reads neither, as one trial a seed and not as one for each M and K1.

    Args:
        spec: a trial with all of M, K1, K2 and fusion.
        labels: one of these.
        truth_data: fingerprint of the withheld attributes; empty if none are known.

    Raises:
        HarnessError: labels are "truth" and there is none, there is no such strategy, or a first round would change
            nothing.
    """
    if labels == PAPER:
        return spec
    if labels == TRUTH and not truth_data:
        raise HarnessError(f"labels can be truth only where the truth is known, but it is not; {TRUTH_COMES_FROM}.")
    read = read_by(labels)
    if two_rounds(labels):
        check_rounds(labels, train=spec.recipe.train)
        return replace(spec, labels=labels, rounds=2)
    return replace(
        spec,
        labels=labels,
        m=spec.m if "m" in read else None,
        k1=spec.k1 if "k1" in read else None,
        k2=spec.k2 if "k2" in read else None,
        fusion=spec.fusion if "fusion" in read else "composite",
        min_confidence=MIN_CONFIDENCE,
        below="drop",
        truth_data=truth_data if labels == TRUTH else "",
    )


def level_spec(spec: TrialSpec) -> TrialSpec:
    """Return the level-only reference of a protocol: clips are scored by their loudness alone, without a network."""
    return replace(
        frozen_spec(spec), kind="level", backbone=None, seed=0, recipe=FinetuneRecipe(epochs=0), scorers=(LEVEL_SCORER,)
    )


def choose_backbone(
    name: str,
    encoder: str,
    *,
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> BackboneChoice:
    """Return a backbone choice whose weights, if it names any, have been found, brought from the hub, and summed.

    Args:
        name: as a study calls it.
        encoder: the plugin's name, `hf:FOLDER` or `emb:FILE`.
        weights: a checkpoint; empty is random weights.
        options: of the backbone.
        root: of the recordings; where it is a file of embeddings, that is the one which `emb` alone means.

    Raises:
        HarnessError: there is no such backbone.
        BackboneError: the weights are not there.
    """
    encoder, named = named_weights(encoder)
    weights = weights or named
    backbone: Backbone = plugins.load("backbone", encoder)
    if encoder == EMBEDDINGS and not weights and root is not None and root.is_file():
        weights = named = str(root)
    path = (backbone.find_weights or find_checkpoint)(weights) if weights else None
    by_place = named and name.partition(":")[0] == encoder  # each folder or file is a backbone of its own
    return BackboneChoice(
        name=f"{encoder}:{Path(named).name}" if by_place else name,
        encoder=encoder,
        options=tuple(sorted((options or {}).items())),
        weights=str(path.absolute()) if path else "",
        weights_sha256=sha256_of(path) if path else "",
        source=source_of(path) if path else "",
    )
