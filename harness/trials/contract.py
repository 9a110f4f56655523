"""The types that describe a trial: its choices with their key (`TrialSpec`), its result, or why it failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.keys import digest
from harness.trials.axes import AXES

if TYPE_CHECKING:  # so that a listing, which needs the errors alone, waits for no framework
    import pandas as pd

    from backbones.contract import EpochReport
    from backbones.training.recipe import FinetuneRecipe
    from benchmarks.contract import MachineMetrics, Protocol
    from harness.scoring.thresholds import Threshold
    from harness.statistics.intervals import ScoreIntervals
    from labeling.fusion import Fusion

Kind: TypeAlias = Literal["trial", "frozen", "level", "external"]

SAID_APART = ("backbone", "labels", "fusion")  # axes that `label` writes in its own way; others as " M=3"
ALWAYS_SAID = ("m", "k1", "k2")  # axes that a trial's label shows even if they have the paper's value
METHOD = 1  # part of every key: raise it when a change of code changes a trial's numbers


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone as a study names it: an encoder with its options and weights.

    Attributes:
        name: what leaderboards print.
        encoder: the plugin's name.
        options: what its `build` takes, as sorted (name, value) pairs.
        weights: path of a checkpoint; empty is random weights from the trial's seed.
        weights_sha256: of that file; the key holds it instead of the path.
        source: of a model that the hub brought, ORG/NAME@COMMIT; else empty.
    """

    name: str
    encoder: str
    options: tuple[tuple[str, Any], ...] = ()
    weights: str = ""
    weights_sha256: str = ""
    source: str = ""

    def content(self) -> dict[str, Any]:
        """Return what can change a trial's numbers: not the printed name, nor where the weights are stored."""
        return {"encoder": self.encoder, "options": dict(self.options), "weights": self.weights_sha256}


@dataclass(frozen=True)
class TrialSpec:
    """Everything that determines a trial's numbers: the method's choices, the data and a seed. One cell of a study.

    Attributes:
        kind: "trial", "frozen" (no fine-tuning, so no labels), "level" (no network at all) or "external" (somebody
            else's scores).
        backbone: None for the level row.
        m: attributes joined in a pseudo-label; None if it makes no difference (`harness.trials.choices.read_by`).
        k1: nearest labeled neighbours; None if their number makes no difference.
        k2: clusters; None if their number makes no difference.
        fusion: how the M attributes become a target.
        protocol: which recordings train and which are scored.
        seed: of weights, forests, clusterings, shuffling and masks.
        recipe: of fine-tuning; of a frozen trial, how clips become inputs.
        min_confidence: a sample-wise pseudo-label with a lower confidence is not retained.
        below: what becomes of a clip that is not retained.
        train_data: fingerprint of the training recordings with their labels.
        test_data: fingerprint of the test recordings with their labels.
        scorers: canonical texts of the scorers (`harness.scoring.choice`). They are not part of the key, since scorers
            do not change the training: another scorer can be added to a recorded trial.
        labels: what labels the training clips: the paper's method, or a baseline (`harness.trials.choices.labeled_by`).
        truth_data: fingerprint of the released attributes that a trial with labels "truth" trains on, else empty;
            those that only judge are no part of a spec.
        rounds: how often the encoder is fine-tuned: 2 if the labels are made of the latents of an encoder that a first
            round has fine-tuned (`harness.trials.choices.first_round`).
    """

    kind: Kind
    backbone: BackboneChoice | None
    m: int | None
    k1: int | None
    k2: int | None
    fusion: Fusion
    protocol: Protocol
    seed: int
    recipe: FinetuneRecipe
    min_confidence: float
    below: Literal["drop", "machine"]
    train_data: str
    test_data: str
    scorers: tuple[str, ...] = ("knn",)
    labels: str = "paper"
    truth_data: str = ""
    rounds: int = 1

    def key(self) -> str:
        """Return the trial's identity, 16 hexadecimal digits: equal in every study that has the same trial."""
        return self._key

    def ranking_key(self) -> str:
        """Return a digest of all that ranked candidates depend on: M and fusion, which come later, are left out."""
        return digest(self._ranking_content())

    @cached_property  # a study of 10,000 cells asks for its keys many times
    def _key(self) -> str:
        return digest(
            {
                **self._ranking_content(),
                "kind": self.kind,
                "m": self.m,
                "fusion": self.fusion,
                "below": self.below,
                "recipe": self.recipe.content(),
                "test_data": self.test_data,
            }
        )

    def recipe_key(self) -> str:
        """Return a digest of recipe, backbone and threshold: a leaderboard never averages over different ones."""
        rest = {"below": self.below, "min_confidence": self.min_confidence} if self.kind == "trial" else {}
        content = self.backbone.content() if self.backbone else None
        return digest({**self.recipe.content(), **rest, "backbone": content})[:8]

    def label(self) -> str:
        """Return a name that tells people what the trial is."""
        if self.kind == "level":
            return "level only"
        name = self.backbone.name if self.backbone else ""
        if self.kind == "frozen":
            return f"{name} frozen seed={self.seed}"
        if self.kind == "external":
            return f"{name} external"
        labels = "" if self.labels == "paper" else f" labels={self.labels}"
        values = {axis: axis.value(self) for axis in AXES if axis.name not in SAID_APART}
        chosen = "".join(
            f" {axis.heading}={value}"
            for axis, value in values.items()
            if value is not None and (value != axis.default or axis.name in ALWAYS_SAID)
        )
        fusion = "" if self.fusion == "composite" else f" {self.fusion}"
        return f"{name}{labels}{chosen}{fusion} seed={self.seed}"

    def _ranking_content(self) -> dict[str, Any]:
        first = {"first_round": [self.recipe.content(), self.below]} if self.rounds > 1 else {}
        return {
            "method": METHOD,
            "backbone": self.backbone.content() if self.backbone else None,
            "k1": self.k1,
            "k2": self.k2,
            "min_confidence": self.min_confidence,
            "protocol": protocol_content(self.protocol),
            "train_data": self.train_data,
            "input": [self.recipe.clip_seconds, self.recipe.fit],
            "seed": self.seed,
            "labels": self.labels,
            "truth_data": self.truth_data,
            **first,
            **{name: getattr(self, name) for name, default in _LATER if getattr(self, name) != default},
        }


# Fields that `TrialSpec` had when trials were first recorded; the methods above say what keys hold of them. A field
# added later is part of both keys unless it has its default, so that trials recorded before it existed keep their keys.
FIRST_RELEASE = (
    "kind", "backbone", "m", "k1", "k2", "fusion", "protocol", "seed", "recipe", "min_confidence", "below",
    "train_data", "test_data", "scorers", "labels", "truth_data",
)  # fmt: skip
_LATER = tuple((each.name, each.default) for each in fields(TrialSpec) if each.name not in FIRST_RELEASE)


@dataclass(frozen=True)
class TrialResult:
    """What one trial found.

    Attributes:
        spec: what was run.
        metrics: by scorer, each machine type's sections.
        official: by scorer, the official score as a fraction; None where undefined.
        machines: by scorer, the harmonic mean of each machine type, as a fraction.
        labels: one row a machine type: strategy, why it was chosen, counts of clips, classes and singletons,
            confidence; and `labeling.quality.LabelQuality` if the withheld attributes are known.
        epochs: loss, accuracy and so on of each epoch of fine-tuning.
        seconds: stage -> seconds.
        peak_mb: resident memory by stage, MiB.
        scored: test clips with a column `score_<scorer>` each.
        pseudo_labels: training clips with their class and candidates.
        pictures: file name -> PNG, drawn where the trial ran.
        reused: stages that were taken from the cache; `seconds` says what they cost when they ran.
        intervals: by scorer, of every number and of the official score.
        thresholds: by scorer, above which score a section's clip is called anomalous.
        libraries: versions where the trial ran (`harness.places.installed_libraries`); "" is not known.
    """

    spec: TrialSpec
    metrics: Mapping[str, tuple[MachineMetrics, ...]]
    official: Mapping[str, float | None]
    machines: Mapping[str, Mapping[str, float]]
    labels: tuple[Mapping[str, Any], ...]
    epochs: tuple[EpochReport, ...]
    seconds: Mapping[str, float]
    peak_mb: Mapping[str, float]
    scored: pd.DataFrame = field(repr=False)  # tables take milliseconds to show, and Tune shows every result it gets
    pseudo_labels: pd.DataFrame = field(repr=False)
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    reused: tuple[str, ...] = ()
    intervals: Mapping[str, ScoreIntervals] = field(default_factory=dict, repr=False)
    thresholds: Mapping[str, tuple[Threshold, ...]] = field(default_factory=dict, repr=False)
    libraries: str = ""


@dataclass(frozen=True)
class Failure:
    """Why a trial has no result.

    Attributes:
        reason: one sentence.
        trace: the traceback, for the run's artifact.
        again: whether another try may help, as after a lost worker. It is False after one of asdbench's own errors,
            which would only come again.
    """

    reason: str
    trace: str = field(default="", repr=False)
    again: bool = False


def machine_name(spec: TrialSpec, dataset: str, machine: str) -> str:
    """Return how a machine type is called in a trial's results: with its year where several are scored."""
    years = {part.dataset for part in spec.protocol.score}
    return machine if len(years) == 1 else f"{dataset}/{machine}"


def protocol_content(protocol: Protocol) -> dict[str, Any]:
    """Return the parts of a protocol that can change a trial's numbers: all but its name."""
    return {
        "train": sorted(str(part) for part in protocol.train),
        "score": sorted(str(part) for part in protocol.score),
        "machines": sorted(protocol.machines),
        "cases": dict(sorted(protocol.cases.items())),
        "strategies": dict(sorted(protocol.strategies.items())),
        "withhold": [asdict(each) for each in protocol.withhold],
        # left out if not set: trials recorded before this field existed keep their keys
        **({} if protocol.channels is None else {"channels": protocol.channels}),
    }


@dataclass(frozen=True)
class Measured:
    """The numbers of a finished trial that a search's goals are computed from, of a result or of the results tables.

    Attributes:
        official: official score of the study's first scorer, a fraction; None where undefined.
        s_auc: of each section; None where undefined.
        t_auc: of each section; None where undefined.
        seconds: by stage.
        peak_mb: resident memory by stage, MiB.
    """

    official: float | None
    s_auc: Sequence[float | None] = ()
    t_auc: Sequence[float | None] = ()
    seconds: Mapping[str, float] | None = None
    peak_mb: Mapping[str, float] | None = None
