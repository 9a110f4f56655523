"""Backbones, strategies, datasets and scorers, found by file name and by entry point."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.bounds import shortened
from harness.errors import HarnessError

PluginKind: TypeAlias = Literal["backbone", "strategy", "dataset", "scorer"]

# kind -> (open folder's package, the constant a file there declares, entry-point group)
PLACES: dict[str, tuple[str, str, str]] = {
    "backbone": ("backbones.encoders", "BACKBONE", "asdbench.backbones"),
    "strategy": ("labeling.strategies", "STRATEGY", "asdbench.strategies"),
    "dataset": ("benchmarks.datasets", "DATASET", "asdbench.datasets"),
    "scorer": ("harness.scorers", "SCORER", "asdbench.scorers"),
}


def names(kind: PluginKind) -> list[str]:
    """List what can be named, sorted, without importing any of it."""
    return sorted({*_files(kind), *_entry_points(kind)})


def summaries(kind: PluginKind) -> dict[str, str]:
    """Return name -> one line, read from the files' docstrings without importing them."""
    said = {}
    for name in names(kind):
        path = _files(kind).get(name)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
        found = _entry_points(kind).get(name)
        said[name] = text.splitlines()[0] if text else f"from {found.value}" if found else ""
    return said


def load(kind: PluginKind, name: str) -> Any:
    """Import one plugin and return the constant that it declares.

    Raises:
        HarnessError: nothing has that name, or the file does not declare its constant.
    """
    package, constant, group = PLACES[kind]
    found = _entry_points(kind).get(name)
    if name in _files(kind) and found is not None:
        package = found.dist.name if found.dist else "another package"
        raise HarnessError(
            f"The {kind} {name} comes with asdbench, but {package} adds one of that name too ({group}); "
            "rename its entry point, or uninstall it."
        )
    if name in _files(kind):
        plugin = getattr(importlib.import_module(f"{package}.{name}"), constant, None)
        place = f"{package.replace('.', '/')}/{name}.py"
    elif found is not None:
        plugin, place = _loaded(found), f"entry point {group}:{name}"
    else:
        raise HarnessError(unknown(kind, name, names(kind)))
    if plugin is None:
        raise HarnessError(f"{place} must declare {constant}, but it does not; see another file beside it.")
    return plugin


def _loaded(found: EntryPoint) -> Any:
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        package = found.dist.name if found.dist else "a package"
        raise HarnessError(
            f"The entry point {found.group}:{found.name} = {found.value} of {package} must be importable, but: "
            f"{error}; install the package again, or remove it."
        ) from error


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say in one sentence that a name is unknown, with the nearest right one."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), [other.lower() for other in known], n=1, cutoff=0.5)
    hint = f" Did you mean {next(other for other in known if other.lower() == near[0])!r}?" if near else ""
    listed = ", ".join(known) if known else "(there is none)"
    return f"{what} must be one of {listed}, but got {shortened(repr(name))}.{hint}"


def _files(kind: PluginKind) -> dict[str, Path]:
    spec = importlib.util.find_spec(PLACES[kind][0])
    folders = (spec.submodule_search_locations if spec else None) or ()
    return {path.stem: path for folder in folders for path in Path(folder).glob("[!_]*.py")}


def _entry_points(kind: PluginKind) -> dict[str, EntryPoint]:
    return _installed(PLACES[kind][2], _search_path())


@lru_cache(maxsize=16)
def _installed(group: str, path: tuple[tuple[str, int], ...]) -> dict[str, EntryPoint]:
    """Return a group's entry points by name; reading them opens a file for each installed package."""
    del path  # what the answer depends on
    return {point.name: point for point in entry_points(group=group)}


def _search_path() -> tuple[tuple[str, int], ...]:
    """Return where packages are looked for, and when something was last put there or taken away."""
    return tuple((each, _changed(each)) for each in sys.path)


def _changed(place: str) -> int:
    try:
        return Path(place or ".").stat().st_mtime_ns
    except OSError:
        return 0
