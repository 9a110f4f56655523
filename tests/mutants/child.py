"""One pytest session in a process of its own, forked where the heavy packages are imported already.

With a mutant, its module is compiled from the changed tree instead of its file; nothing on the disk changes.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutants.changes import Mutant, first_line
from tests.mutants.rooms import ROOT

HEAVY = ("torch", "torchaudio", "numpy", "scipy.stats", "scipy.linalg", "scipy.cluster.hierarchy", "pandas",
         "sklearn.cluster", "sklearn.mixture", "sklearn.ensemble", "sklearn.covariance", "sklearn.metrics", "librosa",
         "soundfile", "pydantic")  # fmt: skip
OPTIONS = ("-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly")
CALLED = "_asdbench_mutants_called"  # the name by which functions say that they are called


def warm_up() -> None:
    """Import what every session needs, once, and nothing of the project."""
    for name in HEAVY:
        importlib.import_module(name)
    settings.register_profile(
        "mutants",
        # the first failure is enough, and the same examples every time
        phases=[Phase.explicit, Phase.generate], database=None, derandomize=True, deadline=None, max_examples=10,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a changed tree in place of a module's file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> CodeType:
        """Return the changed module."""
        del fullname
        code: CodeType = compile(self.tree, self.path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules that are changed: by file, their trees."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.files = {file.removesuffix(".py").replace("/", "."): file for file in trees}
        self.trees = trees

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Return a changed module's spec, or None for every other."""
        del path, target
        if fullname not in self.files:
            return None
        file = self.files[fullname]
        place = str(ROOT / file)
        loader = _Loader(fullname, place, self.trees[file])
        return importlib.util.spec_from_file_location(fullname, place, loader=loader)


class _Reached:
    """Notes which functions of the room each test calls, and how long it takes.

    Each function says so itself, in its first line. What a fixture of a module or wider does counts for every test of
    that file.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.calls: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.seconds: dict[str, float] = {}
        self.now = ""
        setattr(builtins, CALLED, lambda file, line: self.calls[self.now].add((file, line)))
        sys.meta_path.insert(0, _Finder({file: self._telling(file) for file in files}))

    @staticmethod
    def _telling(file: str) -> ast.Module:
        module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                say = ast.parse(f"{CALLED}({file!r}, {first_line(node)})").body[0]
                node.body.insert(1 if ast.get_docstring(node) and len(node.body) > 1 else 0, say)
        return ast.fix_missing_locations(module)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Listen to one test."""
        self.now, began = item.nodeid, time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.perf_counter() - began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        """Note a wider fixture's calls for the whole file."""
        before = self.now
        if fixturedef.scope != "function":
            self.now = request.node.nodeid.split("::")[0]
        try:
            return (yield)
        finally:
            self.now = before

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        seen = {test: sorted(calls) for test, calls in self.calls.items()}
        Path(os.environ["ASDBENCH_REACHED"]).write_text(
            json.dumps({"calls": seen, "seconds": self.seconds}), encoding="utf-8"
        )


def in_profile() -> None:
    """Draw few examples, and the same ones every time."""
    settings.load_profile("mutants")


def run_tests(tests: Sequence[str], *, mutant: Mutant | None = None, trace: Sequence[str] = ()) -> int:
    """Run tests in this process, and return pytest's exit code.

    Args:
        tests: files or node ids, run in this order.
        mutant: what is changed; None leaves the code as it is.
        trace: files of which to note the functions that tests call, in the file named by ASDBENCH_REACHED.
    """
    in_profile()
    if mutant is not None:
        sys.meta_path.insert(0, _Finder({mutant.file: mutant.tree}))
    plugins = [_Reached(trace)] if trace else []
    with contextlib.suppress(SystemExit):
        return int(pytest.main([*OPTIONS, *tests], plugins=plugins))
    return 1
