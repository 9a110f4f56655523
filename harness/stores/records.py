"""A trial as files among its run's artifacts, from which its rows in the results tables can be written again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from backbones.contract import EpochReport
from backbones.training.recipe import FinetuneRecipe
from benchmarks.contract import MachineMetrics, Protocol
from benchmarks.protocols import parse_protocol
from harness.errors import HarnessError
from harness.stores.readings import TEST_COLUMNS
from harness.stores.results import result_detail
from harness.trials.axes import AXES, Axis
from harness.trials.contract import BackboneChoice, Failure, Kind, TrialResult, TrialSpec, protocol_content
from harness.trials.measures import joined_official_score, machine_scores, measure_years

TRIAL_FILE, SCORES_FILE, STUDY_FILE, CELLS_FILE = "trial.json", "clip_scores.parquet", "study.json", "cells.json"
METRIC_FIELDS = {each.name for each in fields(MachineMetrics)}
MEASURED = ("auc", "s_auc", "t_auc", "p_auc", "p_auc_source", "p_auc_target")
TOLERANCE = 1e-9  # processors may add in different orders
MOST_CLIPS = 5_000_000  # a year's evaluation set has some ten thousand


@dataclass(frozen=True)
class Record:
    """What a run's artifacts say about a trial.

    Attributes:
        spec: what was run.
        result: what it found; None where it failed.
        failure: why it has no result; None where it has one.
        detail: what the tables keep as JSON.
    """

    spec: TrialSpec
    result: TrialResult | None
    failure: Failure | None
    detail: Mapping[str, Any]


def write_result(folder: Path, result: TrialResult) -> None:
    """Write a finished trial: trial.json, and its clips' scores as clip_scores.parquet."""
    result.scored.to_parquet(folder / SCORES_FILE, index=False)
    _write(
        folder,
        {
            **_spec_content(result.spec),
            "official": dict(result.official),
            "machines": {scorer: dict(values) for scorer, values in result.machines.items()},
            "metrics": {scorer: [asdict(each) for each in rows] for scorer, rows in result.metrics.items()},
            **result_detail(result),
        },
    )


def write_failure(folder: Path, spec: TrialSpec, failure: Failure) -> None:
    """Write a trial that failed, with its reason, as trial.json."""
    _write(folder, {**_spec_content(spec), "reason": failure.reason})


def read_record(folder: Path, *, key: str) -> Record:
    """Read a trial's artifacts. They may come from anybody, so types, ranges and numbers are all checked.

    Args:
        folder: holds trial.json and, of a finished trial, clip_scores.parquet.
        key: of the trial, as its run has it; the spec must give the same.

    Raises:
        HarnessError: a file is missing or is not what it should be.
    """
    read, spec = _read_trial(folder, key)
    if read.reason is not None:
        return Record(spec, None, Failure(read.reason), {})
    result = _result(folder, spec, read)
    _demand_numbers(result)
    return Record(spec, result, None, _detail(read))


def read_spec(folder: Path, *, key: str) -> TrialSpec:
    """Read what a trial was from its artifacts, without what it found; see `read_record`."""
    return _read_trial(folder, key)[1]


def parse_spec(content: Mapping[str, Any]) -> TrialSpec:
    """Return the spec that `spec_content` wrote.

    Raises:
        HarnessError: it is none, or one of another version.
    """
    try:
        return _spec(_SpecForm.model_validate_json(json.dumps(content)))
    except ValidationError as error:
        raise HarnessError(f"A trial's spec must be whole, but {_first(error)}.") from error
    except (TypeError, ValueError) as error:
        raise HarnessError(f"A trial's spec must be one that this version knows, but: {error}.") from error


def _read_trial(folder: Path, key: str) -> tuple[_TrialFile, TrialSpec]:
    try:
        read = _TrialFile.model_validate_json((folder / TRIAL_FILE).read_bytes())
        spec = _spec(read.spec)
    except ValidationError as error:
        raise HarnessError(f"{TRIAL_FILE} must be a trial's record, but {_first(error)}.") from error
    except OSError as error:
        raise HarnessError(f"{TRIAL_FILE} must be there and readable, but it is not.") from error
    except (TypeError, ValueError) as error:
        raise HarnessError(f"{TRIAL_FILE} must hold a spec that this version knows, but: {error}.") from error
    if not spec.key() == read.key == key:
        raise HarnessError(f"{TRIAL_FILE} must be the trial {key}, but its content is another: {spec.key()}.")
    return read, spec


# The schema of trial.json: pydantic checks with the types below what is read.

Text: TypeAlias = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name: TypeAlias = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Scalar: TypeAlias = bool | int | float | str | None
Number: TypeAlias = int | float
Ends: TypeAlias = tuple[Number, Number] | None


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _BackboneForm(_Form):
    name: Text
    encoder: Name
    options: tuple[tuple[Name, Scalar | list[Scalar]], ...] = ()
    weights: str = ""
    weights_sha256: Name = ""
    source: Text = ""


class _SpecBase(_Form):
    kind: Kind
    backbone: _BackboneForm | None
    protocol: dict[str, Any]
    seed: Count
    recipe: dict[str, Scalar]
    min_confidence: int | float
    below: Literal["drop", "machine"]
    train_data: Name
    test_data: Name
    truth_data: Name = ""
    rounds: Annotated[int, Field(ge=1)] = 1
    scorers: tuple[Name, ...]


def _axis_form(axis: Axis) -> tuple[Any, Any]:
    """Return the type of an axis's value in trial.json, and its value in files written before the axis existed."""
    kind: Any = Count | None if axis.number else Literal[axis.choices] if axis.choices else Name
    return kind, axis.default


if TYPE_CHECKING:  # a class that is made from a table is none to a type checker
    _SpecForm: TypeAlias = _SpecBase
else:
    _SpecForm = create_model(
        "_SpecForm",
        __base__=_SpecBase,
        **{axis.name: _axis_form(axis) for axis in AXES if axis.of == "spec" and axis.name != "backbone"},
    )


class _MetricsForm(_Form):
    dataset: Name
    machine: Name
    section: Annotated[Name, StringConstraints(max_length=16)]
    auc: Fraction | None
    s_auc: Fraction | None
    t_auc: Fraction | None
    p_auc: Fraction | None
    p_auc_source: Fraction | None = None
    p_auc_target: Fraction | None = None
    undefined: tuple[str, ...] = ()


class _LabelsForm(_Form):
    machine: Name
    classes: Count | None = None
    singletons: Count | None = None
    left_out: Count | None = None


class _EpochForm(_Form):
    """One epoch. int and float are kept as written, so that the JSON in the tables is identical to the original."""

    epoch: Count
    loss: Number
    accuracy: Number
    learning_rate: Number
    seconds: Number
    classes: Count = 0
    precision: Name = ""


class _IntervalForm(_Form):
    dataset: Name
    machine: Name
    section: Name
    field: Name
    interval: Ends


class _IntervalsForm(_Form):
    official: Ends
    official_machines: Ends
    rows: list[_IntervalForm]


class _ThresholdForm(_Form):
    dataset: Name
    machine: Name
    section: Name
    value: Finite | None
    why: str = Field(default="", max_length=10_000)


class _TrialFile(_Form):
    key: Name
    spec: _SpecForm
    reason: str | None = Field(default=None, max_length=100_000)
    official: dict[Name, Fraction | None] = {}
    machines: dict[Name, dict[Text, Fraction]] = {}
    metrics: dict[Name, list[_MetricsForm]] = {}
    labels: list[_LabelsForm] = []
    epochs: list[_EpochForm] = []
    seconds: dict[Name, Finite] = {}
    peak_mb: dict[Name, Finite] = {}
    recipe: dict[Name, Scalar] = {}
    reused: list[Name] = []
    libraries: Text = ""
    intervals: dict[Name, _IntervalsForm] = {}
    thresholds: dict[Name, list[_ThresholdForm]] = {}
    undefined: list[str] = []


def _detail(read: _TrialFile) -> dict[str, Any]:
    columns = {"key", "spec", "reason", "official", "machines", "metrics"}
    return {name: value for name, value in read.model_dump(exclude_unset=True).items() if name not in columns}


def spec_content(spec: TrialSpec) -> dict[str, Any]:
    """Return a spec ready for JSON; `parse_spec` reads it back."""
    return {**asdict(spec), "protocol": {"name": spec.protocol.name, **protocol_content(spec.protocol)}}


def _spec_content(spec: TrialSpec) -> dict[str, Any]:
    return {"key": spec.key(), "spec": spec_content(spec)}


def _spec(read: _SpecForm) -> TrialSpec:
    """Build the spec. An int stays an int and a float a float, since the key depends on it."""
    values = {name: getattr(read, name) for name in (*_SpecForm.model_fields, *(read.model_extra or {}))}
    if read.backbone is not None:
        values["backbone"] = BackboneChoice(**read.backbone.model_dump())
    values["protocol"] = _protocol(read)
    values["recipe"] = FinetuneRecipe(**read.recipe)  # type: ignore[arg-type]
    return TrialSpec(**values)


def _protocol(read: _SpecForm) -> Protocol:
    """Build the protocol. That of an external system has no training parts, since it was trained elsewhere."""
    if read.kind == "external" and not read.protocol.get("train"):
        return replace(parse_protocol({**read.protocol, "train": read.protocol.get("score")}), train=())
    return parse_protocol(read.protocol)


def _result(folder: Path, spec: TrialSpec, read: _TrialFile) -> TrialResult:
    for name, scorers in (("metrics", read.metrics), ("machines", read.machines)):
        if set(scorers) != set(read.official) or not scorers:
            raise HarnessError(
                f"{TRIAL_FILE} must have {name} of every scorer, but has {sorted(scorers)} of {sorted(read.official)}."
            )
    try:
        epochs = tuple(EpochReport(**each.model_dump(exclude_unset=True)) for each in read.epochs)
    except TypeError as error:
        raise HarnessError(f"{TRIAL_FILE} must hold epochs as they are reported, but: {error}.") from error
    return TrialResult(
        spec=spec,
        metrics={
            scorer: tuple(MachineMetrics(**each.model_dump(include=METRIC_FIELDS)) for each in rows)
            for scorer, rows in read.metrics.items()
        },
        official=read.official,
        machines=read.machines,
        labels=tuple(row.model_dump(exclude_unset=True) for row in read.labels),
        epochs=epochs,
        seconds=read.seconds,
        peak_mb=read.peak_mb,
        scored=_read_scores(folder / SCORES_FILE, list(read.metrics)),
        pseudo_labels=pd.DataFrame(),
        libraries=read.libraries,
    )


def _demand_numbers(result: TrialResult) -> None:
    """Check that a trial's metrics follow from its clips' scores, since leaderboards rank by them.

    Each section's metrics are computed again from the scores, and from these the official score and the harmonic means
    of the machine types. For an external system without clip scores, only the last two are checked against its metrics.
    """
    if not len(result.scored) and result.spec.kind != "external":
        raise HarnessError(f"{SCORES_FILE} must hold the scores of a trial's test clips, but is empty.")
    for scorer, said in result.metrics.items():
        try:
            metrics = measure_years(result.scored, scorer) if len(result.scored) else said
            official, machines = joined_official_score(metrics), machine_scores(result.spec, metrics)
        except ValueError as error:
            raise HarnessError(f"{SCORES_FILE} must hold clips that can be measured, but: {error}") from error
        units = [(each.dataset, each.machine, each.section) for each in said]
        there = {(each.dataset, each.machine, each.section): each for each in metrics}
        if len(set(units)) < len(units) or set(units) != there.keys():
            raise HarnessError(f"{TRIAL_FILE} must have metrics of the sections that were scored, but has others.")
        numbers = [
            (f"{name} of {each.dataset} {each.machine} section {each.section}", getattr(each, name), measured)
            for each in said
            for name, measured in asdict(there[each.dataset, each.machine, each.section]).items()
            if name in MEASURED
        ]
        numbers += [
            (f"the harmonic mean of {name}", result.machines[scorer].get(name), machines.get(name))
            for name in sorted({*result.machines[scorer], *machines})
        ]
        for name, value, measured in [("the official score", result.official[scorer], official), *numbers]:
            if value != measured and (value is None or measured is None or not abs(value - measured) <= TOLERANCE):
                raise HarnessError(
                    f"{TRIAL_FILE} must hold the numbers of its clips' scores, but {name} by {scorer} reads {value} "
                    f"where they give {measured}."
                )


def _read_scores(path: Path, scorers: list[str]) -> pd.DataFrame:
    """Read scored clips, ignoring the metadata that pandas writes into a parquet file."""
    columns = [f"score_{scorer}" for scorer in scorers]
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_CLIPS:
                raise HarnessError(f"{SCORES_FILE} must hold at most {MOST_CLIPS} clips, but has more.")
            table = file.read([*TEST_COLUMNS, *columns])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise HarnessError(f"{SCORES_FILE} must be there and be parquet, but it cannot be read.") from error
    if missing := {*TEST_COLUMNS, *columns} - set(table.column_names):
        raise HarnessError(f"{SCORES_FILE} must have the column {sorted(missing)[0]}, but has it not.")
    if not all(pa.types.is_float64(table.schema.field(name).type) for name in columns):
        raise HarnessError(f"{SCORES_FILE} must hold scores as float64, but does not.")
    clips = {name: _texts(table.column(name), name) for name in TEST_COLUMNS}
    scores = {name: table.column(name).to_numpy() for name in columns}
    if not all(np.isfinite(values).all() for values in scores.values()):
        raise HarnessError(f"{SCORES_FILE} must hold finite scores, but does not.")
    if len(set(clips["clip_id"])) < len(clips["clip_id"]) or not set(clips["condition"]) <= {"normal", "anomaly", None}:
        raise HarnessError(f"{SCORES_FILE} must hold each clip once, normal, anomaly or not known, but does not.")
    return pd.DataFrame({**clips, **scores})


def _texts(column: pa.ChunkedArray, name: str) -> list[str | None]:
    values = column.to_pylist()
    allowed = (str, type(None)) if name in ("section", "domain", "condition") else (str,)
    if not all(isinstance(value, allowed) for value in values):
        raise HarnessError(f"{SCORES_FILE} must hold texts as {name}, but does not.")
    return list(values)


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / TRIAL_FILE).write_text(json.dumps(record, indent=1, sort_keys=True))


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(step) for step in first['loc']) or 'it'}: {first['msg'].lower()}"
