"""Mutants: every small change of a module's code that may change a number, one at a time, on its syntax tree.

A change is one of:

- a number goes up or down by one, or by a tenth and to a half where it is no whole number;
- a comparison takes or leaves the border (`<` and `<=`), or turns round; `==` and `!=`, `in` and `not in` swap;
- `+` and `-`, `*` and `/`, `and` and `or`, `&` and `|`, `min` and `max`, `argmin` and `argmax` and their like swap;
- a minus sign, a `not` or a `~` goes; True and False swap;
- a call gives its first argument back (`standardise(x)` becomes `x`), or loses one of its keywords;
- a statement that is only a call, or adds to something, does nothing;
- a condition is always true, or never.

Left alone: texts, annotations, messages of errors and logs, imports, what is only for type checkers, and `strict` of
`zip`, which checks a promise of the code to itself and never changes a number. Conversions are not dropped either
where the value stays the same and only its type changes, which strict mypy guards: `float(x)`, `tuple(x)`,
`np.asarray(x)`, `np.array([...])` and `np.stack([...])` without any keyword, and `int(x)` of a size, a place or a count
of comparisons. An `int` that may cut decimals is dropped, and so are `str`, `np.array` of a name, which copies, and
every conversion that asks for a dtype or an axis.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHOWN = 90  # characters of the code before and after a change
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
}  # fmt: skip
SWAPS = {
    "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "minimum": "maximum", "maximum": "minimum",
    "any": "all", "all": "any", "mean": "median", "median": "mean", "sum": "mean", "std": "var", "var": "std",
    "zeros": "ones", "ones": "zeros", "floor": "ceil", "ceil": "floor", "sin": "cos", "cos": "sin", "ppf": "cdf",
    "sorted": "list", "zeros_like": "ones_like", "ones_like": "zeros_like", "append": "count",
}  # fmt: skip
SAME_VALUE = {"float", "tuple", "asarray"}  # of one argument: another type of the same value
OF_A_LIST = {"array", "stack"}  # the same, of a list that is written out
SILENT = {"debug", "info", "warning", "warn", "simplefilter", "filterwarnings", "errstate"}  # calls that say something


Path_ = tuple[tuple[str, int | None], ...]  # from the module down: (field, place in its list)


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Attributes:
        name: file, function, code before and after; stays the same while other lines move.
        file: relative to the repository.
        line: of the change.
        function: line on which the function around it begins, so that tests that call it are tried first; 0 outside.
        source: the whole module as it is.
        place: the way to the changed node.
        change: what stands there instead.
    """

    name: str
    file: str
    line: int
    function: int
    source: str
    place: Path_
    change: ast.AST

    @property
    def tree(self) -> ast.Module:
        """Return the whole module as it is changed."""
        module = ast.parse(self.source)
        _replace(module, self.place, copy.deepcopy(self.change))
        return ast.fix_missing_locations(module)


def mutants_of(root: Path, file: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    source = (root / file).read_text(encoding="utf-8")
    module = ast.parse(source)
    seen: Counter[str] = Counter()
    for path, function, begins in _places(module):
        node = _at(module, path)
        said, before = _shown(module, path)
        for change in list(_changes(node)):
            _replace(module, path, change)
            # the smallest piece of code around the change says what it means: `clips // 5` -> `clips // 6`
            after = ast.unparse(ast.fix_missing_locations(_at(module, said)))
            _replace(module, path, node)
            text = f"{file}:{function or 'module'}: {_short(before)} -> {_short(after)}"
            seen[text] += 1
            name = text if seen[text] == 1 else f"{text} #{seen[text]}"
            yield Mutant(name, file, _line(module, path), begins, source, path, change)


def _places(module: ast.Module) -> Iterator[tuple[Path_, str, int]]:
    """Yield the way to every node whose change may matter, and the function that it stands in with its first line."""
    stack: list[tuple[ast.AST, Path_, str, int]] = [(module, (), "", 0)]
    while stack:
        node, path, function, begins = stack.pop()
        if path:
            yield path, function, begins
        below: list[tuple[ast.AST, Path_, str, int]] = []
        for field, value in ast.iter_fields(node):
            inside, line = function, begins
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and field == "body":
                inside = f"{function}.{node.name}" if function else node.name
            if isinstance(node, ast.FunctionDef) and field == "body":
                line = first_line(node)
            if field in {"annotation", "returns", "decorator_list", "type_params", "bases"}:
                continue
            for place, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(child, ast.AST) and not _left_alone(child):
                    below.append((child, (*path, (field, place)), inside, line))
        stack.extend(reversed(below))


def first_line(function: ast.FunctionDef) -> int:
    """Return the line on which a function begins, decorators apart."""
    return function.lineno


def _left_alone(node: ast.AST) -> bool:  # noqa: PLR0911 - one answer a kind of node, as the page lists them
    if isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Assert)):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return True  # a docstring
        return isinstance(node.value, ast.Call) and _called(node.value) in SILENT
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in {"logger", "__all__"}
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _changes(node: ast.AST) -> Iterator[ast.AST]:  # noqa: PLR0912 - one branch a kind of change, as the page lists them
    """Yield what may stand in place of a node."""
    if isinstance(node, ast.Constant):
        yield from map(ast.Constant, _numbers(node.value))
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[place] = other()
                yield changed
    elif isinstance(node, (ast.BinOp, ast.AugAssign)):
        if isinstance(node, ast.AugAssign):
            yield ast.Pass()
        if type(node.op) in OPERATORS:
            changed = copy.deepcopy(node)
            changed.op = OPERATORS[type(node.op)]()
            yield changed
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.If):
        for always in (True, False):
            yield ast.If(ast.Constant(always), node.body, node.orelse)
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()


def _numbers(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, float):
        yield value * 1.1 if value else 1.0
        if value:
            yield value / 2


def _calls(call: ast.Call) -> Iterator[ast.AST]:
    if _called(call) in SWAPS:
        other = copy.deepcopy(call)
        if isinstance(other.func, ast.Attribute):
            other.func.attr = SWAPS[_called(call)]
        else:
            assert isinstance(other.func, ast.Name)
            other.func.id = SWAPS[_called(call)]
        yield other
    if call.args and not isinstance(call.args[0], (ast.Starred, ast.GeneratorExp)) and not _only_converts(call):
        yield call.args[0]
    for place, keyword in enumerate(call.keywords):
        if _called(call) == "zip" and keyword.arg == "strict":
            continue
        yield ast.Call(call.func, call.args, call.keywords[:place] + call.keywords[place + 1 :])


def _only_converts(call: ast.Call) -> bool:
    """Tell whether a call gives back the value of its argument in another type."""
    if len(call.args) != 1 or call.keywords:
        return False
    name, argument = _called(call), call.args[0]
    if name in OF_A_LIST:
        return isinstance(argument, (ast.List, ast.ListComp))
    return name in SAME_VALUE or (name == "int" and _whole(argument))


def _whole(node: ast.expr) -> bool:
    """Tell whether an expression is a whole number by its form: a size, a place or a count of comparisons."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    if isinstance(node, ast.Attribute):
        return node.attr == "size"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    counted = node.func.attr == "sum" and isinstance(node.func.value, ast.Compare)
    return counted or node.func.attr in {"argmin", "argmax"}


def _at(node: ast.AST, path: Path_) -> ast.AST:
    for field, place in path:
        value = getattr(node, field)
        node = value if place is None else value[place]
    return node


def _replace(module: ast.Module, path: Path_, new: ast.AST) -> None:
    field, place = path[-1]
    above, old = _at(module, path[:-1]), _at(module, path)
    ast.copy_location(new, old)
    if place is None:
        setattr(above, field, new)
    else:
        getattr(above, field)[place] = new


def _shown(module: ast.Module, path: Path_) -> tuple[Path_, str]:
    """Return the way to the piece of code that is shown for a change at a place, and its text."""
    node = _at(module, path)
    if isinstance(node, ast.Constant):
        path = path[:-1]
        while path and (
            not isinstance(_at(module, path), (ast.expr, ast.stmt))
            or isinstance(_at(module, path), (ast.Tuple, ast.List, ast.Slice, ast.UnaryOp))
        ):
            path = path[:-1]
    return path, ast.unparse(_at(module, path))


def _line(module: ast.Module, path: Path_) -> int:
    while path:
        line = getattr(_at(module, path), "lineno", None)
        if line is not None:
            return int(line)
        path = path[:-1]
    return 1


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
