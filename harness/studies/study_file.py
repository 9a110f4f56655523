"""A study file: its tables, read from TOML and checked."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backbones import named_weights
from backbones.contract import FinetuneRecipe
from harness import plugins
from harness.errors import HarnessError
from harness.plugins import unknown
from harness.scoring.choice import canonical_scorers
from harness.studies.goals import Goal
from labeling.contract import MIN_CONFIDENCE, LabelSource
from labeling.fusion import Fusion

PAPER_K = 15  # paper, section 3.2: K1 = K2 = 15 in all experiments
SEARCHES = ("tpe", "nsga2")  # samplers that propose; the others walk through the cells
Positive = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneTable(_Table):
    """`[backbones.NAME]`: an encoder with options and weights, under a name of the study's own."""

    encoder: str
    weights: str = ""
    options: dict[str, int | float | str | bool] = {}


class SpaceTable(_Table):
    """`[space]`: what is varied."""

    backbone: list[str] = Field(min_length=1)
    m: list[Positive] = Field(min_length=1)
    k1: list[Positive] = Field(default=[PAPER_K], min_length=1)
    k2: list[Positive] = Field(default=[PAPER_K], min_length=1)
    fusion: list[Fusion] = Field(default=["composite"], min_length=1)
    labels: list[LabelSource] = Field(default=["paper"], min_length=1)


class RecipeTable(_Table):
    """`[recipe]`: of fine-tuning; what is not said is the paper's."""

    epochs: Positive = FinetuneRecipe.epochs
    batch_size: Positive = FinetuneRecipe.batch_size
    micro_batch: Positive | None = None
    learning_rate: float = Field(default=FinetuneRecipe.learning_rate, gt=0)
    weight_decay: float = Field(default=FinetuneRecipe.weight_decay, ge=0)
    warmup_epochs: float = Field(default=FinetuneRecipe.warmup_epochs, ge=0)
    clip_seconds: float | Literal["longest"] = Field(default=10.0)
    fit: Literal["repeat", "pad"] = "repeat"
    time_mask: int = Field(default=FinetuneRecipe.time_mask, ge=0)
    mel_mask: int = Field(default=FinetuneRecipe.mel_mask, ge=0)
    masks: int = Field(default=FinetuneRecipe.masks, ge=0)
    gradient_clip: float = Field(default=FinetuneRecipe.gradient_clip, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    layer_decay: float = Field(default=FinetuneRecipe.layer_decay, gt=0, le=1)
    gradient_decay: float = Field(default=FinetuneRecipe.gradient_decay, gt=0, le=1)
    train: Literal["all", "head"] = "all"
    freeze_layers: int = Field(default=FinetuneRecipe.freeze_layers, ge=0)
    lora_rank: int = Field(default=FinetuneRecipe.lora_rank, ge=0)
    lora_alpha: float = Field(default=FinetuneRecipe.lora_alpha, gt=0)
    lora_targets: Literal["attention", "all"] = "attention"

    def recipe(self) -> FinetuneRecipe:
        """Return the recipe as the backbones take it."""
        values = self.model_dump()
        values["clip_seconds"] = None if self.clip_seconds == "longest" else float(self.clip_seconds)
        return FinetuneRecipe(**values)


LATER = ("gradient_decay", "freeze_layers", "lora_rank", "lora_alpha", "lora_targets")  # after studies were recorded


def unsaid_later(table: RecipeTable) -> set[str]:
    """Return the later fields that a recipe leaves at their default: they stay out of keys."""
    fields = RecipeTable.model_fields
    return {name for name in LATER if getattr(table, name) == fields[name].default}


class LabelingTable(_Table):
    """`[labeling]`: what a pseudo-label must reach, what happens below it, and where the truth is.

    `truth` is a folder with released attributes: every trial's labels are judged by them, and none is made from them
    unless `space.labels` asks for "truth" by name.
    """

    truth: str = ""
    min_confidence: float = Field(default=MIN_CONFIDENCE, ge=0, le=1)
    below: Literal["drop", "machine"] = "drop"


class SamplerTable(_Table):
    """`[sampler]`: how the space is walked through, what for, and for how long.

    - "grid": every cell, in order. "random": every cell, in a random order.
    - "tpe", "nsga2": Optuna proposes; a choice that it proposes again is run with the next of the study's seeds.

    `trials` counts references too. `hours` are those of all runs of the study together: when they are spent no trial
    begins, and those that run go on to their end. Raising either and running the study again goes on.
    """

    name: Literal["grid", "random", "tpe", "nsga2"] = "grid"
    goals: list[Goal] = Field(default=["score"], min_length=1, max_length=3)
    trials: Positive | None = None
    hours: float | None = Field(default=None, gt=0)
    population: int = Field(default=20, ge=2)
    seed: int = 0

    @model_validator(mode="after")
    def _distinct(self) -> SamplerTable:
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"sampler.goals must differ, but are {', '.join(self.goals)}.")
        return self


class PruningTable(_Table):
    """`[pruning]`: trials that learn worse than others are stopped early; without the table none is.

    The signal is the training loss divided by the logarithm of the number of classes: 1 is guessing, 0 is perfect.
    The bare loss would favour small M, which makes fewer classes. No test clip has a part in it.

    - "asha": at `grace`, `grace * reduction`, ... epochs the best 1 / `reduction` of those that came so far go on.
    - "median": a trial whose best signal is worse than the median of the others' means stops; at least `least` others.

    The last epoch stops nobody. `every` says how many epochs lie between two looks.
    """

    name: Literal["asha", "median"]
    grace: Positive = 3
    reduction: float = Field(default=3, gt=1)
    least: Positive = 3
    every: Positive = 1


class ResourcesTable(_Table):
    """`[resources]`: what one trial gets and may take, how many run at once, how often a lost one is tried again.

    A trial that runs longer than `minutes` or whose worker holds more than `memory_gb` is ended and recorded as failed.
    """

    workers: Positive | None = None
    cpus: float = Field(default=1, gt=0)
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    retries: int = Field(default=2, ge=0)
    minutes: float | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)


class StudyFile(_Table):
    """A study as its TOML file says it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    summary: str = ""
    protocol: str | dict[str, Any]
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    scorers: list[str] = Field(default=["knn"], min_length=1)
    frozen: bool = True
    level: bool = True
    space: SpaceTable
    backbones: dict[str, BackboneTable] = {}
    recipe: RecipeTable = RecipeTable()
    labeling: LabelingTable = LabelingTable()
    sampler: SamplerTable = SamplerTable()
    pruning: PruningTable | None = None
    resources: ResourcesTable = ResourcesTable()

    @model_validator(mode="after")
    def _consistent(self) -> StudyFile:
        self.scorers[:] = canonical_scorers(self.scorers)
        for table in self.backbones.values():
            if named_weights(table.encoder)[0] not in plugins.names("backbone"):
                raise ValueError(unknown("encoder", table.encoder, plugins.names("backbone")))
        known = {*self.backbones, *plugins.names("backbone")}
        for name in self.space.backbone:
            if named_weights(name)[0] not in known:
                raise ValueError(unknown("space.backbone", name, known))
        return self


def study_names() -> list[str]:
    """List the studies that come with asdbench."""
    return sorted(path.name[: -len(".toml")] for path in _shipped().iterdir() if path.name.endswith(".toml"))


def read_study(study: str) -> StudyFile:
    """Read a study by name or by the path of a TOML file.

    Raises:
        HarnessError: there is none of that name, or a key or value is wrong.
    """
    if study in study_names():
        source, text = study, (_shipped() / f"{study}.toml").read_text()
    elif study.endswith(".toml") and Path(study).is_file():
        source, text = study, Path(study).read_text()
    else:
        raise HarnessError(
            unknown("study", study, study_names()) + " A study of your own is named by the path of its .toml file."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HarnessError(f"The study file {source} must be TOML, but: {error}.") from error
    return checked_study(table, source)


def checked_study(table: Mapping[str, Any], source: str) -> StudyFile:
    """Return a study from a table of its file's keys.

    Raises:
        HarnessError: a key or value is wrong.
    """
    try:
        return StudyFile.model_validate(table)
    except ValidationError as error:
        raise HarnessError(f"The study {source} has a mistake: {_sentence(error)}") from error


def read_recipe(values: Mapping[str, Any]) -> FinetuneRecipe:
    """Read what differs from the paper's recipe, under the names of a study's `[recipe]`.

    Raises:
        HarnessError: a name or value is wrong.
    """
    try:
        return RecipeTable.model_validate(dict(values)).recipe()
    except ValidationError as error:
        raise HarnessError(f"The recipe has a mistake: {_sentence(error, inside=('recipe',))}") from error


def _shipped() -> Any:
    return files("benchmarks") / "studies"


def _sentence(error: ValidationError, *, inside: tuple[str, ...] = ()) -> str:
    first = error.errors()[0]
    place = ".".join(str(step) for step in (*inside, *first["loc"]))
    if first["type"] == "extra_forbidden":
        known = _keys_beside((*inside, *first["loc"]))
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"the key {place} is unknown; there are {', '.join(known)}.{hint}"
    if first["type"] == "missing":
        return f"the key {place} must be there, but it is missing."
    if first["type"] == "value_error":
        return str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
    return f"{place}: {first['msg']}, but got {first['input']!r}."


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    table: Any = StudyFile
    for step in place[:-1]:
        field = table.model_fields.get(step) if hasattr(table, "model_fields") else None
        inner = field.annotation if field is not None else None
        inner = next((each for each in get_args(inner) if hasattr(each, "model_fields")), inner)
        table = inner if inner is not None else BackboneTable
        if not hasattr(table, "model_fields"):
            table = BackboneTable
    return sorted(table.model_fields)
