"""One pytest session that is collected once, and forked for every mutant: a mutant then costs its tests alone.

A changed function's code takes the place of that which is imported already; so do changed defaults and constants. Where
that cannot be done, or might not reach everything that was made of a constant, a mutant needs a process of its own
(`tests.mutants.child.run_tests`).
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal

import pytest

from tests.mutants.changes import Mutant
from tests.mutants.child import OPTIONS, in_profile
from tests.mutants.rooms import ROOT

Defaults = tuple[tuple[Any, ...] | None, dict[str, Any] | None]


class Collected:
    """A session whose tests are collected, and whatever work forks it."""

    def __init__(self, work: Callable[[Collected], None]) -> None:
        self.work: Callable[[Collected], None] | None = work
        self.items: dict[str, pytest.Item] = {}
        self.session: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Work instead of running every test; in a fork, which has no more work, run what was chosen."""
        if self.work is None:
            return None
        self.items, self.session = {item.nodeid: item for item in session.items}, session
        self.work(self)
        return True

    def run(self, tests: Sequence[str]) -> int:
        """Run some tests up to the first failure, in a fork of the session; return 0 where all pass."""
        self.work = None
        self.session.items[:] = [self.items[test] for test in tests]
        try:
            self.session.config.hook.pytest_runtestloop(session=self.session)
        except (pytest.Session.Failed, pytest.Session.Interrupted):
            return 1
        return int(self.session.testsfailed > 0)


def collect(tests: Sequence[str], work: Callable[[Collected], None]) -> None:
    """Collect tests, and do some work with the session."""
    in_profile()
    with contextlib.suppress(SystemExit):
        pytest.main([*OPTIONS, "--capture=no", *tests], plugins=[Collected(work)])


def put_in_place(mutant: Mutant) -> Literal["code", "values", ""]:
    """Change an imported module as a mutant says.

    Returns:
        "code" where a function's code is changed; "values" where defaults or constants are, of which some that others
        made as they were imported may be as they were; "" where it cannot be done.
    """
    name = mutant.file.removesuffix(".py").replace("/", ".")
    module = sys.modules.get(name)
    if module is None:
        return ""
    before, after = (compile(tree, mutant.file, "exec", dont_inherit=True) for tree in (mutant.module, mutant.tree))
    old, new = dict(_functions(before)), dict(_functions(after))
    if old.keys() != new.keys():
        return ""
    changed = [key for key in old if old[key] != new[key]]
    if not changed:
        return "values" if _put_values(module, after) else ""
    found = [each for each in _imported(vars(module), name) if _key(each.__code__) == changed[0]]
    if len(changed) != 1 or len(found) != 1 or found[0].__code__.co_freevars != new[changed[0]].co_freevars:
        return ""
    found[0].__code__ = new[changed[0]]
    return "code"


def _put_values(module: ModuleType, after: CodeType) -> bool:
    """Give a module the constants and its functions the defaults that a changed one has; False if there are none."""
    name = module.__name__
    content: dict[str, Any] = {"__name__": name, "__file__": module.__file__}
    try:
        exec(after, content)
    except Exception:  # noqa: BLE001 - a module that cannot be imported is for a process of its own
        return False
    there = {_key(each.__code__): each for each in _imported(content, name)}
    done = False
    for each in _imported(vars(module), name):
        other = there.get(_key(each.__code__))
        if other is not None and _defaults(each) != _defaults(other):
            each.__defaults__, each.__kwdefaults__ = _defaults(other)
            done = True
    for word, value in content.items():
        if isinstance(value, (int, float, str, tuple)) and vars(module).get(word) != value:
            for holder, called in _holders(module, word):
                setattr(holder, called, value)
            done = True
    return done


def _holders(module: ModuleType, word: str) -> Iterator[tuple[ModuleType, str]]:
    """Yield the module that says a constant, and those that import it, with its name there."""
    yield module, word
    for other in list(sys.modules.values()):
        file = getattr(other, "__file__", None) or ""
        if file.startswith(str(ROOT)) and ".venv" not in file and file.endswith(".py"):
            for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == module.__name__:
                    yield from ((other, each.asname or each.name) for each in node.names if each.name == word)


def _defaults(function: FunctionType) -> Defaults:
    return function.__defaults__, function.__kwdefaults__


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _functions(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Yield a module's functions and methods, not those inside them, by name and first line."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if "__module__" in constant.co_names and "__qualname__" in constant.co_names:  # a class
                yield from _functions(constant)
            else:
                yield _key(constant), constant


def _imported(content: dict[str, Any], name: str) -> Iterator[FunctionType]:
    """Yield the functions and methods of an imported module, without what decorates them."""
    for value in list(content.values()):
        if isinstance(value, type) and value.__module__ == name:
            yield from _imported(dict(vars(value)), name)
            continue
        function = value
        for within in ("__wrapped__", "__func__", "fget", "func"):
            function = getattr(function, within, function)
        if isinstance(function, FunctionType) and function.__module__ == name:
            yield function
