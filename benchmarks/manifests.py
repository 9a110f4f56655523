"""Manifests: JSON objects that stand beside recordings and say where these came from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contract import BenchmarkError
from benchmarks.files import printable, read_text
from benchmarks.folders import whole_file

MOST_BYTES = 2**24  # a whole year's manifest has some 20 kB


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a manifest's object, None where there is no such file.

    Raises:
        BenchmarkError: if something else stands there, or the text is no JSON object.
    """
    if not os.path.lexists(path):
        return None
    text = read_text(path, most=MOST_BYTES)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, lists in lists without end
        raise BenchmarkError(
            f"{path} must be the JSON that an earlier run wrote, but it is damaged ({printable(str(error))}); move it "
            "away, and what is there is checked anew."
        ) from error
    if not isinstance(found, dict):
        raise BenchmarkError(
            f"{path} must be a JSON object as an earlier run wrote it, but it holds a {type(found).__name__}; move it "
            "away, and what is there is checked anew."
        )
    return found


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all, and safe against a power cut."""
    with whole_file(path, durable=True) as file:
        file.write(json.dumps(manifest, indent=1).encode() + b"\n")
