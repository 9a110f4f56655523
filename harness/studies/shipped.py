"""The studies that come with asdbench: their names and files, found without reading what is in them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from harness.studies.toml_file import read_toml


def study_names() -> list[str]:
    """List the studies that come with asdbench."""
    return sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml"))


def shipped_file(study: str) -> Path:
    """Return where the file of a study that comes with asdbench stands."""
    return _folder() / f"{study}.toml"


def study_summaries() -> dict[str, str]:
    """Return name -> one line, as the files say; no study is checked for it, which would take torch's import."""
    return {name: str(read_toml(shipped_file(name)).get("summary", "")) for name in study_names()}


def _folder() -> Path:
    return Path(str(files("benchmarks"))) / "studies"
