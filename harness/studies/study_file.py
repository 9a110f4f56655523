"""A study file: its tables, read from TOML and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from backbones import named_weights
from backbones.training.loss_choice import parse_loss
from backbones.training.recipe import FIRST_RELEASE, FinetuneRecipe
from harness import plugins
from harness.bounds import bound_of, shortened
from harness.errors import HarnessError
from harness.plugins import did_you_mean, unknown
from harness.scoring.choice import with_layers
from harness.studies.goals import Goal
from harness.studies.shipped import shipped_file, study_names
from harness.studies.toml_file import check_content, read_toml
from harness.trials.axes import AXES, Axis
from harness.trials.choices import check_labels
from labeling.contract import MIN_CONFIDENCE

# what pydantic appends to the key in its errors if a value may have several types: "clip_seconds.constrained-float"
BRANCH = re.compile(r"constrained-\w+|literal\[.*\]|float|int|str|bool")
SEARCHES = ("tpe", "gp", "nsga2")  # samplers that propose; the others walk through the cells


def bounded(name: str, *, whole: bool = True, **options: Any) -> Any:
    """Return a pydantic field for a number, with its bounds from `harness.bounds` and any options such as `default`."""
    bound = bound_of(name, whole=whole)
    kind = int if bound.whole else float
    limits: dict[str, Any] = {"gt" if bound.above else "ge": kind(bound.low), "le": kind(bound.high)}
    if not bound.whole:
        limits["allow_inf_nan"] = False
    return Field(**limits, **options)


class _Table(BaseModel):
    """A table of a study file.

    Attributes:
        FIRST_RELEASE: fields that are always part of a study's key. Every other field was added later, and is part of
            the key only if it does not have its default: studies recorded before it existed keep their keys.
        NEVER: fields that are never part of a key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)  # TOML has types: true is no 1
    FIRST_RELEASE: ClassVar[tuple[str, ...]] = ()
    NEVER: ClassVar[tuple[str, ...]] = ()

    def content(self) -> dict[str, Any]:
        """Return the fields that are part of a study's key, by name."""
        said = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            later = name not in self.FIRST_RELEASE
            if name in self.NEVER or (later and value == field.default):
                continue
            said[name] = value.content() if isinstance(value, _Table) else value
        return said


class BackboneTable(_Table):
    """`[backbones.NAME]`: an encoder with options and weights, under a name of the study's own."""

    encoder: str
    weights: str = ""
    options: dict[str, int | float | str | bool] = {}


class _Recipe(_Table):
    """`[recipe]`: how to fine-tune. Its keys are the fields of `FinetuneRecipe`; the defaults are the paper's."""

    # `gradient_decay` was a field of the recipe before study files could set it
    FIRST_RELEASE = tuple(name for name in FIRST_RELEASE if name != "gradient_decay")

    @field_validator("loss", check_fields=False)
    @classmethod
    def _canonical_loss(cls, text: str) -> str:
        return str(parse_loss(text))

    def recipe(self) -> FinetuneRecipe:
        """Return the recipe as the backbones take it."""
        values = self.model_dump()
        seconds = values["clip_seconds"]
        values["clip_seconds"] = None if seconds == "longest" else float(seconds)
        return FinetuneRecipe(**values)


def _recipe_field(name: str, kind: Any, default: Any) -> tuple[Any, Any]:
    """Return the type and default of a key of `[recipe]`; a number has its bounds (`harness.bounds`)."""
    if name == "clip_seconds":
        return Annotated[float, bounded(name)] | Literal["longest"], default
    return kind, bounded(name, whole=kind is not float, default=default) if kind in (
        int,
        float,
        int | None,
    ) else default


if TYPE_CHECKING:  # type checkers do not understand a class that `create_model` makes
    RecipeTable: TypeAlias = _Recipe
else:
    kinds = get_type_hints(FinetuneRecipe)
    recipe_fields = {
        each.name: _recipe_field(each.name, kinds[each.name], each.default) for each in fields(FinetuneRecipe)
    }
    RecipeTable = create_model("RecipeTable", __base__=_Recipe, __doc__=_Recipe.__doc__, **recipe_fields)


class _Space(_Table):
    """`[space]`: what is varied."""

    FIRST_RELEASE = ("backbone", "m", "k1", "k2", "fusion", "labels")

    def values(self, name: str) -> list[Any]:
        """Return the values of an axis in `[space]`; [] for an axis of the recipe that it does not name."""
        return list(getattr(self, name) or ())

    @field_validator("labels", check_fields=False)
    @classmethod
    def _known(cls, labels: list[str]) -> list[str]:
        for name in labels:
            check_labels(name, what="space.labels")
        return labels

    @field_validator("loss", check_fields=False)
    @classmethod
    def _canonical_losses(cls, losses: list[str] | None) -> list[str] | None:
        return None if losses is None else [str(parse_loss(text)) for text in losses]


def _axis_field(axis: Axis) -> tuple[Any, Any]:
    """Return the type and default of an axis's list in `[space]`."""
    if axis.of == "recipe":  # each value is as `[recipe]` would have it
        field = RecipeTable.model_fields[axis.name]
        one: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        return list[one] | None, Field(default=None, min_length=1)
    words = Literal[axis.choices] if axis.choices else str
    one = Annotated[int, bounded(axis.name)] if axis.number else words
    return list[one], Field(min_length=1) if axis.default is None else Field(default=[axis.default], min_length=1)


if TYPE_CHECKING:
    SpaceTable: TypeAlias = _Space
else:
    space_fields = {axis.name: _axis_field(axis) for axis in AXES}
    SpaceTable = create_model("SpaceTable", __base__=_Space, __doc__=_Space.__doc__, **space_fields)


class LabelingTable(_Table):
    """`[labeling]`: the least confidence, what happens to clips below it, and where the withheld attributes are.

    `truth` is a folder with attributes that the organisers released later. Every trial's pseudo-labels are compared
    with them. No label is made from them, except in trials whose `labels` are "truth".
    """

    FIRST_RELEASE = ("min_confidence", "below")
    NEVER = ("truth",)  # a path; its fingerprint is part of the key instead

    truth: str = ""
    min_confidence: float = bounded("min_confidence", default=MIN_CONFIDENCE)
    below: Literal["drop", "machine"] = "drop"


class SamplerTable(_Table):
    """`[sampler]`: in which order trials are chosen from the space, what is optimised, and how many or how long.

    - "grid": every cell, in order. "random": every cell, in a random order.
    - "tpe", "gp", "nsga2": Optuna proposes, by tree-structured Parzen estimators, a Gaussian process (few and costly
      trials), or a genetic algorithm (several goals). If it proposes the same values again, they are run with the next
      of the study's seeds.

    `trials` counts trials with pseudo-labels; the references (level, and a frozen one a backbone and seed) come on top,
    so that `trials = 2` gives two results to compare with them. `hours` limits the total time of all runs of the study:
    after that no trial begins, but those that are running finish. To continue the study, raise either number and run
    it again.
    """

    FIRST_RELEASE = ("name", "goals", "population", "seed")
    NEVER = ("trials", "hours")  # raising either continues the same study

    name: Literal["grid", "random", "tpe", "gp", "nsga2"] = "grid"
    goals: list[Goal] = Field(default=["score"], min_length=1, max_length=3)
    trials: int | None = bounded("trials", default=None)
    hours: float | None = bounded("hours", default=None)
    population: int = bounded("population", default=20)
    seed: int = bounded("seed", default=0)

    @model_validator(mode="after")
    def _distinct(self) -> SamplerTable:
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"sampler.goals must differ, but are {', '.join(self.goals)}.")
        return self


class PruningTable(_Table):
    """`[pruning]`: trials that learn worse than others are stopped early; without the table none is.

    Trials are compared by their training loss divided by log(number of classes), "the signal": 1 is the loss of
    guessing, 0 is perfect. The loss itself would favour small M, which gives fewer classes. Test clips play no part.

    - "asha": after `grace`, `grace * reduction`, `grace * reduction**2`, ... epochs, only the best 1 / `reduction` of
      the trials that have come so far go on.
    - "median": a trial stops if its best signal so far is worse than the median of the other trials' mean signals, once
      there are at least `least` others.

    No trial is stopped at its last epoch. `every` is the number of epochs between two comparisons.
    """

    name: Literal["asha", "median"]
    grace: int = bounded("grace", default=3)
    reduction: float = bounded("reduction", default=3)
    least: int = bounded("least", default=3)
    every: int = bounded("every", default=1)


class ResourcesTable(_Table):
    """`[resources]`: cores and GPUs of one trial, its limits, how many run at once, how often a lost one is retried.

    A trial that runs longer than `minutes` or whose worker holds more than `memory_gb` is ended and recorded as failed.
    """

    workers: int | None = bounded("workers", default=None)
    cpus: float = bounded("cpus", default=1)
    gpus: Annotated[float, bounded("gpus")] | Literal["auto"] = "auto"
    retries: int = bounded("retries", default=2)
    minutes: float | None = bounded("minutes", default=None)
    memory_gb: float | None = bounded("memory_gb", default=None)


class StudyFile(_Table):
    """A study as its TOML file says it."""

    FIRST_RELEASE = ("name", "seeds", "frozen", "level", "space", "recipe", "labeling", "sampler")
    # `Plan.key` adds the protocol and backbones after looking them up; the other fields change no trial's numbers
    NEVER = ("resources", "pruning", "summary", "protocol", "backbones", "scorers", "layers", "keep")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    summary: str = ""
    protocol: str | dict[str, Any]
    seeds: list[Annotated[int, bounded("seed")]] = Field(default=[0], min_length=1)
    scorers: list[str] = Field(default=["knn"], min_length=1)
    layers: list[int | str] = []  # each scorer that names no layer itself hears each of these
    frozen: bool = True
    level: bool = True
    keep: Literal["none", "best", "all"] = "none"  # which fine-tuned encoders are kept, for `asdbench detect`
    space: SpaceTable
    backbones: dict[str, BackboneTable] = {}
    recipe: RecipeTable = RecipeTable()
    labeling: LabelingTable = LabelingTable()
    sampler: SamplerTable = SamplerTable()
    pruning: PruningTable | None = None
    resources: ResourcesTable = ResourcesTable()

    @model_validator(mode="after")
    def _consistent(self) -> StudyFile:
        self.scorers[:] = with_layers(self.scorers, self.layers)
        for table in self.backbones.values():
            if named_weights(table.encoder)[0] not in plugins.names("backbone"):
                raise ValueError(unknown("encoder", table.encoder, plugins.names("backbone")))
        known = {*self.backbones, *plugins.names("backbone")}
        for name in self.space.values("backbone"):
            if named_weights(name)[0] not in known:
                raise ValueError(unknown("space.backbone", name, known))
        for axis in AXES:
            if axis.of == "recipe" and self.space.values(axis.name) and axis.name in self.recipe.model_fields_set:
                raise ValueError(
                    f"{axis.name} must be said once, but both space and recipe have it; leave it out of recipe."
                )
        return self

    def values(self, axis: Axis) -> list[Any]:
        """Return the values of an axis in this study: those in `[space]`, else the single one of `[recipe]`."""
        return self.space.values(axis.name) or [getattr(self.recipe, axis.name)]


def read_study(study: str) -> StudyFile:
    """Read a study by name or by the path of a TOML file.

    Raises:
        HarnessError: there is none of that name, or a key or value is wrong.
    """
    if study in study_names():
        return checked_study(read_toml(shipped_file(study)), study)
    if study.endswith(".toml"):
        path = Path(study)
        if path.exists():
            return checked_study(read_toml(path), study)
    raise HarnessError(
        unknown("study", study, study_names()) + " A study of your own is named by the path of its .toml file."
    )


def checked_study(table: Mapping[str, Any], source: str) -> StudyFile:
    """Return a study from a table of its file's keys.

    Raises:
        HarnessError: a key or value is wrong.
    """
    check_content(table, source=source)
    try:
        return StudyFile.model_validate(table)
    except ValidationError as error:
        raise HarnessError(f"The study {shortened(source)} has a mistake: {_sentence(error)}") from error


def read_recipe(values: Mapping[str, Any]) -> FinetuneRecipe:
    """Read what differs from the paper's recipe, under the names of a study's `[recipe]`.

    Raises:
        HarnessError: a name or value is wrong.
    """
    try:
        return RecipeTable.model_validate(dict(values)).recipe()
    except ValidationError as error:
        raise HarnessError(f"The recipe has a mistake: {_sentence(error, inside=('recipe',))}") from error


def _sentence(error: ValidationError, *, inside: tuple[str, ...] = ()) -> str:
    first = error.errors()[0]
    place = shortened(".".join(str(step) for step in (*inside, *first["loc"]) if not BRANCH.fullmatch(str(step))))
    if first["type"] == "extra_forbidden":
        known = _keys_beside((*inside, *first["loc"]))
        return f"the key {place} is unknown; there are {', '.join(known)}.{did_you_mean(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"the key {place} must be there, but it is missing."
    if first["type"] == "value_error":
        return str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
    return f"{place}: {first['msg']}, but got {shortened(repr(first['input']))}."


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
