"""A baseline as a file: recorded clip scores that later candidates are compared with, as JSON with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.files import write_whole
from harness.gate.baselines import RecordedArm, Setting, whole_recipe
from harness.gate.named import FILES
from harness.stores.readings import TEST_COLUMNS
from harness.tables import brief
from harness.trials.axes import Choice, study_axes

FORMAT = "asdbench-baseline"
VERSION = 1
FIRST_AXES = ("m", "k1", "k2", "fusion", "labels")  # axes of the first release, in every file; others may be missing
MOST_BYTES = 128 * 2**20  # of a file's JSON; a hundred cells of five seeds on a year's test set take 30 MB
LONGEST = 1000  # characters of a name
MOST_CHOICE = 10**6  # of M, K1 and K2; a study's are below a hundred

Name: TypeAlias = Annotated[str, Field(strict=True, max_length=LONGEST)]
Seed: TypeAlias = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Score: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# TEST_COLUMNS: clip, year, machine, section, domain, condition
ClipRow: TypeAlias = tuple[
    Name, Name, Name, Name, Literal["source", "target"] | None, Literal["normal", "anomaly"] | None
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Trial(_Document):
    seed: Seed
    key: Name
    scores: list[Score]


class _Cell(_Document):
    """A setting and its trials; the values of the study's axes are the further fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal["trial", "frozen", "level", "external"]
    scorer: Name
    trials: Annotated[list[_Trial], Field(min_length=1)]
    recipe: dict[Name, bool | int | float | Name | None] | None = None  # absent in files of the first version


class _Content(_Document):
    name: Name
    backbone: Name
    protocol: Name
    train_data: Name
    test_data: Name
    code: Name
    columns: list[Name]
    clips: Annotated[list[ClipRow], Field(min_length=1)]
    cells: Annotated[list[_Cell], Field(min_length=1)]


def write_baseline(arm: RecordedArm, path: Path, *, code: str) -> None:
    """Write an arm to a file, whole or not at all; the same arm gives the same bytes.

    Args:
        arm: what later candidates are judged by.
        path: ends in .json or .json.gz.
        code: revision that the file was made with.

    Raises:
        HarnessError: the name ends otherwise, or the file cannot be written.
    """
    if not path.name.endswith(FILES):
        raise HarnessError(f"A baseline's file must end in {' or '.join(FILES)}, but got {path.name!r}.")
    content = _content(arm, code)
    document = {"format": FORMAT, "version": VERSION, "sha256": checksum(content), "content": content}
    written = json.dumps(document, separators=(",", ":")).encode()
    if path.name.endswith(".gz"):
        written = gzip.compress(written, mtime=0)
    try:
        write_whole(path, written)
    except OSError as error:
        raise HarnessError(
            f"A baseline must be written to a place that takes it, but {path}: {error.strerror}."
        ) from error


def read_baseline(path: Path) -> RecordedArm:
    """Read an arm from a file, and refuse one that is not what `write_baseline` wrote.

    The file holds clip scores but no metrics, so every number of a verdict is computed again.

    Raises:
        HarnessError: the file is missing, no regular file, cut short, too large, of another kind or version, was
            edited, or holds what no recorded study can: a seed or setting twice, a clip twice, no clip, no trial.
    """
    try:
        return _checked(path, _parsed(_read(path)))
    except HarnessError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        place = brief(".".join(str(step) for step in first["loc"]))
        raise HarnessError(f"{path} must be a whole baseline, but {place}: {brief(first['msg'])}.") from error
    # json gives up on deep nesting with a RecursionError, on numbers of thousands of digits with a plain ValueError
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError) as error:
        raise HarnessError(
            f"{path} must be a whole baseline written by `asdbench baseline export`, but it cannot be read: "
            f"{brief(str(error))}."
        ) from error


def _read(path: Path) -> bytes:
    """Return the bytes of a regular file of limited size.

    Reading anything else, such as a pipe that nobody writes to, might never end.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise HarnessError(f"A baseline must be a regular file, but {path} is a folder, pipe or device.")
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise HarnessError(f"A baseline must be a file that exists, but there is no {path}.") from error
    except IsADirectoryError as error:
        raise HarnessError(f"A baseline must be a regular file, but {path} is a folder.") from error
    except OSError as error:
        raise HarnessError(f"{path} must be a file that can be read, but it cannot: {error.strerror}.") from error


def _parsed(raw: bytes) -> Any:
    """Decompress and parse a file's JSON, up to a limit, since a small compressed file may unpack to any size."""
    if raw.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            raw = packed.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"its JSON must have at most {MOST_BYTES:,} bytes, but has more")
    return json.loads(raw, parse_constant=_no_number)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _checked(path: Path, document: Any) -> RecordedArm:
    """Return the arm of a document of this format, version and checksum."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise HarnessError(
            f"{path} must be a baseline written by `asdbench baseline export`, but it is something else."
        )
    version, content = document.get("version"), document.get("content")
    if type(version) is not int or version != VERSION:  # True and 1.0 equal 1, but are not valid versions
        raise HarnessError(
            f"{path} must be a baseline of format version {VERSION}, but has version {brief(repr(version))}; "
            "export it again with this version of asdbench."
        )
    if not isinstance(content, dict) or document.get("sha256") != checksum(content):
        raise HarnessError(f"{path} must be as it was exported, but its content does not match its checksum.")
    return _arm(str(path), _Content.model_validate(content))


def _content(arm: RecordedArm, code: str) -> dict[str, Any]:
    cells = arm.clips[TEST_COLUMNS].astype(object)
    return {
        "name": arm.name,
        "backbone": arm.backbone,
        "protocol": arm.protocol,
        "train_data": arm.train_data,
        "test_data": arm.test_data,
        "code": code,
        "columns": list(TEST_COLUMNS),
        "clips": cells.where(cells.notna(), None).to_numpy().tolist(),
        "cells": [
            {
                **setting.as_json(),
                **({"recipe": dict(recipe)} if (recipe := arm.recipes.get(setting)) else {}),
                "trials": [
                    {"seed": seed, "key": arm.trials[setting][seed], "scores": scores.tolist()}
                    for seed, scores in sorted(of_setting.items())
                ],
            }
            for setting, of_setting in sorted(arm.scores.items(), key=lambda item: repr(item[0]))
        ],
    }


def _arm(name: str, content: _Content) -> RecordedArm:
    if content.columns != TEST_COLUMNS:
        raise HarnessError(f"{name} must hold clips with {' '.join(TEST_COLUMNS)}, but does not.")
    clips = pd.DataFrame(content.clips, columns=TEST_COLUMNS)
    if (twice := clips["clip_id"][clips["clip_id"].duplicated()]).any():
        raise HarnessError(f"{name} must hold each clip once, but has {brief(twice.iloc[0])} twice.")
    scores: dict[Setting, dict[int, Any]] = {}
    keys: dict[Setting, dict[int, str]] = {}
    recipes: dict[Setting, Mapping[str, Any]] = {}
    met: dict[tuple[str, str], str] = {}  # trial and scorer -> where it stands
    for cell in content.cells:
        setting = Setting(cell.kind, _cell(name, cell), cell.scorer)
        if setting in scores:
            raise HarnessError(f"{name} must hold each setting once, but has {brief(setting.shown())} twice.")
        scores[setting], keys[setting] = {}, {}
        recipes[setting] = whole_recipe(cell.recipe or {})
        for trial in cell.trials:
            place = f"{brief(setting.shown())}, seed {trial.seed}"
            if trial.seed in scores[setting]:
                raise HarnessError(f"{name} must hold one trial a setting and seed, but has two of {place}.")
            if (before := met.setdefault((trial.key, cell.scorer), place)) != place:
                raise HarnessError(
                    f"{name} must hold each trial once, but {brief(trial.key)} stands for {before} and for {place}."
                )
            if len(trial.scores) != len(clips):
                raise HarnessError(
                    f"{name} must hold a score a clip, but trial {brief(trial.key)} has {len(trial.scores)} for "
                    f"{len(clips)} clips."
                )
            scores[setting][trial.seed] = np.array(trial.scores, dtype=np.float64)
            keys[setting][trial.seed] = trial.key
    return RecordedArm(
        name, content.backbone, content.protocol, content.train_data, content.test_data, clips, scores, keys, recipes
    )


def _cell(name: str, cell: _Cell) -> tuple[Choice, ...]:
    """Return a setting's values of the axes; for an axis that did not exist when the file was written, its default."""
    said = dict(cell.model_extra or {})
    values: list[Choice] = []
    for axis in study_axes(but=["backbone"]):
        if axis.name not in said and axis.name in FIRST_AXES:
            raise HarnessError(f"{name} must say each setting's {axis.name}, but one lacks it.")
        value = said.pop(axis.name, axis.default)
        right = type(value) is int and 0 < value <= MOST_CHOICE if axis.number else _is_word(value)
        if not right and not (axis.number and value is None):
            rule = f"a whole number up to {MOST_CHOICE:,}, or null" if axis.number else f"up to {LONGEST:,} letters"
            raise HarnessError(f"{name} must give {axis.heading} as {rule}, but has {brief(repr(value))}.")
        values.append(value)
    if said:
        raise HarnessError(f"{name} must hold what this version of asdbench knows, but has {brief(next(iter(said)))}.")
    return tuple(values)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
