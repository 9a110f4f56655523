"""Plugins by name: files of an open folder, entry points of other packages, and names with options behind them."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import math
import reprlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

Refuse: TypeAlias = Callable[[str], Exception]  # makes a room's own error of a sentence

_SHORT = reprlib.Repr()
_SHORT.maxstring = 120  # letters of a wrong name that a sentence repeats


@dataclass(frozen=True)
class OpenFolder:
    """Where the plugins of one kind are: a folder, and packages outside the repository that name its group.

    Attributes:
        kind: what sentences call one of them, for example "loss".
        package: the folder; a file in it is a plugin of the file's name.
        constant: the name under which a file declares its plugin, for example "LOSS".
        contract: "module:class" of what is declared, imported only when a plugin is.
        group: the group of entry points.
        refuse: makes the error of a sentence.
    """

    kind: str
    package: str
    constant: str
    contract: str
    group: str
    refuse: Refuse

    def names(self) -> list[str]:
        """List what can be named, sorted, without importing any of it."""
        return sorted({*self._files(), *self._outside()})

    def summaries(self) -> dict[str, str]:
        """Return name -> one line, read from the files without importing them.

        A plugin of another package says its `summary`, or else the first line of its file, and then its package.
        """
        files, outside = self._files(), self._outside()
        said = {
            name: f"{_said_outside(point) or f'from {point.value}'} (of the package {_distribution(point)})"
            for name, point in outside.items()
        }
        for name, path in files.items():
            said[name] = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        return {name: said[name] for name in sorted(said)}

    def load(self, name: str) -> Any:
        """Import one plugin and return what it declares.

        Raises:
            Exception: as `refuse` makes it. Nothing has that name, two have it, it cannot be imported, or it does not
                declare what the contract asks for.
        """
        inside, found = name in self._files(), self._outside().get(name)
        if found is None and not inside:
            raise self.refuse(unknown(self.kind, name, self.names()))
        if found is None:
            declared = getattr(importlib.import_module(f"{self.package}.{name}"), self.constant, None)
            place = f"{self.package.replace('.', '/')}/{name}.py"
        elif inside:
            raise self.refuse(
                f"The {self.kind} {name} comes with asdbench, but {_distribution(found)} adds one of that name too "
                f"({self.group}); rename its entry point, or uninstall it."
            )
        else:
            declared, place = self._loaded(found), f"The entry point {self.group}:{name}"
        module, _, contract = self.contract.partition(":")
        if not isinstance(declared, getattr(importlib.import_module(module), contract)):
            raise self.refuse(
                f"{place} must declare {self.constant}, a {contract}, but got {_SHORT.repr(declared)}; see another "
                f"file of {self.package.replace('.', '/')}."
            )
        return declared

    def _loaded(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise self.refuse(
                f"The entry point {self.group}:{point.name} = {point.value} of {_distribution(point)} must be "
                f"importable, but: {error}; install the package again, or remove it."
            ) from error

    def _files(self) -> dict[str, Path]:
        spec = importlib.util.find_spec(self.package)
        folders = (spec.submodule_search_locations if spec else None) or ()
        return {path.stem: path for folder in folders for path in Path(folder).glob("[!_]*.py")}

    def _outside(self) -> dict[str, EntryPoint]:
        return _installed(self.group, tuple((each, _changed(each)) for each in sys.path))


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say in one sentence that a name is unknown, which there are, and which of them is nearest."""
    known = sorted(known)
    listed = ", ".join(known) if known else "(there is none)"
    return f"{what} must be one of {listed}, but got {_SHORT.repr(name)}.{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'X'?" for the known name nearest to a wrong one, "" where none is near."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.5)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def split_options(kind: str, text: str, *, refuse: Refuse) -> tuple[str, dict[str, str]]:
    """Split `NAME:option=value,option=value` into the name and its options, each as the text that it is given as.

    Args:
        kind: what sentences call the thing that is named, for example "loss".
        text: as a study or a flag has it.
        refuse: makes the error of a sentence.

    Raises:
        Exception: as `refuse` makes it: something behind the name is no `option=value`, or stands twice.
    """
    name, _, said = text.strip().partition(":")
    given: dict[str, str] = {}
    for pair in said.split(",") if said else ():
        option, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise refuse(
                f"A {kind}'s options must read option=value,option=value after its name, but got {pair!r} in {text!r}."
            )
        if option in given:
            raise refuse(f"Each option of a {kind} may be given once, but {option} stands twice in {text!r}.")
        given[option] = value
    return name, given


def join_options(name: str, options: Iterable[tuple[str, Any]]) -> str:
    """Return the canonical text of a name and its options: what `split_options` reads."""
    said = ",".join(f"{option}={_written(value)}" for option, value in options)
    return f"{name}:{said}" if said else name


def typed(text: str, default: Any) -> Any:
    """Return an option's text as a value of its default's type; None where it is none, or no finite number."""
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower())
    try:
        value = type(default)(text)
    except ValueError:
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=16)
def _installed(group: str, path: tuple[tuple[str, int], ...]) -> dict[str, EntryPoint]:
    """Return a group's entry points by name; reading them opens a file for each installed package."""
    del path  # what the answer depends on: where packages are, and when one was last put there or taken away
    return {point.name: point for point in entry_points(group=group)}


def _said_outside(point: EntryPoint) -> str:
    """Return the `summary` that an entry point's file gives its plugin, else the file's first line; "" if unknown.

    The file is parsed and never run: a listing imports nothing of anybody's.
    """
    try:
        top, *rest = point.module.split(".")
        spec = importlib.util.find_spec(top)  # of a module at the top, so that no parent is imported
        place = Path(spec.origin) if spec is not None and spec.origin else None
        if place is None:
            return ""
        if rest:
            inner = place.parent.joinpath(*rest)
            place = inner.with_suffix(".py") if inner.with_suffix(".py").exists() else inner / "__init__.py"
        tree = ast.parse(place.read_text(encoding="utf-8"))
    except (ImportError, AttributeError, OSError, SyntaxError, ValueError):
        return ""
    for node in tree.body:
        names = [each.id for each in getattr(node, "targets", ()) if isinstance(each, ast.Name)]
        if point.attr in names and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for keyword in node.value.keywords:
                if keyword.arg == "summary" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _changed(place: str) -> int:
    try:
        return Path(place or ".").stat().st_mtime_ns
    except OSError:
        return 0


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "another package"
