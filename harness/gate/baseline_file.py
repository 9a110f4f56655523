"""A baseline as a file: everything that a later candidate is judged by, in one checked JSON document."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError
from harness.files import read_bytes, write_whole
from harness.gate.baselines import FILES, RecordedArm, Setting
from harness.stores.readings import TEST_COLUMNS

FORMAT = "asdbench-baseline"
VERSION = 1

ClipRow: TypeAlias = tuple[str, str, str, str, str | None, str | None]  # TEST_COLUMNS


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Trial(_Document):
    seed: int
    key: str
    scores: list[float]


class _Cell(_Document):
    kind: Literal["trial", "frozen", "level", "external"]
    m: int | None
    k1: int | None
    k2: int | None
    fusion: str
    labels: str
    scorer: str
    trials: list[_Trial]


class _Content(_Document):
    name: str
    backbone: str
    protocol: str
    train_data: str
    test_data: str
    code: str
    columns: list[str]
    clips: list[ClipRow]
    cells: list[_Cell]


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

    Raises:
        HarnessError: the file is missing, cut short, of another kind or version, or was edited.
    """
    document = _loaded(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise HarnessError(
            f"{path} must be a baseline written by `asdbench baseline export`, but it is something else."
        )
    if document.get("version") != VERSION:
        raise HarnessError(
            f"{path} must be a baseline of format version {VERSION}, but has version {document.get('version')!r}; "
            "export it again with this version of asdbench."
        )
    content = document.get("content")
    if not isinstance(content, dict) or document.get("sha256") != checksum(content):
        raise HarnessError(f"{path} must be as it was exported, but its content does not match its checksum.")
    try:
        return _arm(str(path), _Content.model_validate(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise HarnessError(f"{path} must be a whole baseline, but {place}: {first['msg']}.") from error


def _loaded(path: Path) -> Any:
    try:
        raw = read_bytes(path, what="A baseline")
        return json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except gzip.BadGzipFile as error:
        raise HarnessError(f"{path} must be a whole baseline, but its compression is damaged: {error}.") from error
    except OSError as error:
        raise HarnessError(f"{path} must be a file that can be read, but it cannot: {error.strerror}.") from error
    except (EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise HarnessError(
            f"{path} must be a whole baseline written by `asdbench baseline export`, but it cannot be read: {error}."
        ) from error


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
                **setting._asdict(),
                "trials": [
                    {"seed": seed, "key": arm.trials[setting][seed], "scores": scores.tolist()}
                    for seed, scores in sorted(of_setting.items())
                ],
            }
            for setting, of_setting in sorted(arm.scores.items(), key=lambda item: repr(item[0]))
        ],
    }


def _arm(name: str, content: _Content) -> RecordedArm:
    if content.columns != TEST_COLUMNS or not content.cells:
        raise HarnessError(f"{name} must hold trials and clips with {' '.join(TEST_COLUMNS)}, but does not.")
    clips = pd.DataFrame(content.clips, columns=TEST_COLUMNS)
    scores: dict[Setting, dict[int, Any]] = {}
    keys: dict[Setting, dict[int, str]] = {}
    for cell in content.cells:
        setting = Setting(cell.kind, cell.m, cell.k1, cell.k2, cell.fusion, cell.labels, cell.scorer)
        for trial in cell.trials:
            values = np.array(trial.scores, dtype=np.float64)
            if values.size != len(clips) or not np.isfinite(values).all():
                raise HarnessError(
                    f"{name} must hold a finite score a clip, but trial {trial.key} has "
                    f"{int(np.isfinite(values).sum())} for {len(clips)} clips."
                )
            scores.setdefault(setting, {})[trial.seed] = values
            keys.setdefault(setting, {})[trial.seed] = trial.key
    return RecordedArm(
        name, content.backbone, content.protocol, content.train_data, content.test_data, clips, scores, keys
    )


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
