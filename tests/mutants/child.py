"""One pytest session in a process of its own, forked where the heavy packages are imported already.

With a mutant, its module is compiled from the changed tree instead of its file; nothing on the disk changes. Most
mutants change the inside of a function, and need not even that: tests are collected once (`Collected`), and each mutant
is tried in a fork in which the function's code alone is exchanged.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutants.changes import Mutant, first_line
from tests.mutants.rooms import ROOT

CALLED = "_asdbench_mutants_called"  # the name by which functions say that they are called
LEAST_S, FACTOR = 60.0, 20.0  # a test may take so long, and so many times what it takes without a change


def warm_up(packages: Sequence[str]) -> None:
    """Import what every session needs, once, and nothing of the project."""
    for name in packages:
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

    Each function says so itself, in its first line. What a fixture of a module does counts for every test of that file,
    what a wider one does for every test ("*"), and what is called while tests are collected stands under "".
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
            self.now = request.node.nodeid.split("::")[0] if fixturedef.scope in {"module", "class"} else "*"
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


class Patience:
    """Ends the process where a test takes far longer than it does without a change: the mutant loops for ever.

    Args:
        seconds: that each test takes without a change.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Set the alarm, whose signal ends a process that does not listen to it, and take it away after the test."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(LEAST_S, FACTOR * self.seconds.get(item.nodeid, 0.0)))
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def run_tests(
    tests: Sequence[str],
    *,
    mutant: Mutant | None = None,
    seconds: Mapping[str, float] | None = None,
    trace: Sequence[str] = (),
) -> int:
    """Run tests in this process, and return pytest's exit code.

    Args:
        tests: files or node ids, run in this order.
        mutant: what is changed; None leaves the code as it is.
        seconds: that each test takes without a change; one that takes far longer ends the process.
        trace: files of which to note the functions that tests call, in the file named by ASDBENCH_REACHED.
    """
    if mutant is not None:
        sys.meta_path.insert(0, _Finder({mutant.file: mutant.tree}))
    plugins: list[object] = [] if seconds is None else [Patience(seconds)]
    return _session(tests, *plugins, *([_Reached(trace)] if trace else []))


class Collected:
    """A session whose tests are collected once, and in whose forks mutants are tried.

    A fork knows the changed function by its file, its name and its first line, and gives it the code that the changed
    module would have given it. So this holds for changes inside functions that nothing calls while tests are collected.
    """

    def __init__(self, files: Sequence[str], loop: Callable[[Collected], None], seconds: Mapping[str, float]) -> None:
        self.files = files
        self.patience = Patience(seconds)
        self.loop = loop
        self.items: dict[str, pytest.Item] = {}
        self.functions: dict[str, dict[tuple[str, int], list[FunctionType]]] = {}

    def run(self, tests: Sequence[str]) -> int:
        """Collect tests, do the loop and return pytest's exit code."""
        return _session(tests, self, self.patience)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do the loop instead of running tests."""
        self.session = session
        self.items = {item.nodeid: item for item in session.items}
        known = {str(ROOT / file): file for file in self.files}
        for each in gc.get_objects():
            if type(each) is FunctionType and each.__code__.co_filename in known:
                by_place = self.functions.setdefault(known[each.__code__.co_filename], {})
                by_place.setdefault(_place(each.__code__), []).append(each)
        gc.freeze()  # else each fork writes to every page as its collector looks at it
        self.loop(self)
        return True

    def try_mutant(self, mutant: Mutant, tests: Sequence[str]) -> int:
        """Exchange a function's code and run tests until one fails; return 0 where all pass."""
        sys.meta_path.insert(0, _Finder({mutant.file: mutant.tree}))  # where a test is the first to import the module
        for code in _codes(compile(mutant.tree, str(ROOT / mutant.file), "exec", dont_inherit=True)):
            for function in self.functions.get(mutant.file, {}).get(_place(code), []):
                if function.__code__ != code:
                    function.__code__ = code
        items = [self.items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.session.testsfailed:
                return 1
        return 0


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of every function of a module and of its classes, without those inside functions."""
    for each in code.co_consts:
        if isinstance(each, CodeType) and "<locals>" not in each.co_qualname:
            yield each
            yield from _codes(each)


def _session(tests: Sequence[str], *plugins: object) -> int:
    settings.load_profile("mutants")
    said = ["-x", "-q", "-s", "--tb=line", "--no-header"]
    said += [part for name in ("cacheprovider", "randomly", "unraisableexception") for part in ("-p", f"no:{name}")]
    with contextlib.suppress(SystemExit):
        return int(pytest.main([*said, *tests], plugins=plugins))
    return 1
