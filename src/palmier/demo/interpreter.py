"""Runs a small Python function that a model wrote, without ever handing it to Python.

The text is parsed to a syntax tree, every node must be on a whitelist, and the tree is walked
here: no import, no attribute but a few methods of texts and lists, no name but the function's own
variables and a few builtins, a limit on steps and on the size of every value. So nothing that a
model writes can reach the machine, loop for ever or fill the memory.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

STEPS = 5000
"""How many nodes one call may visit."""
LARGEST = 10**18
LONGEST = 2000


class NotRunnable(Exception):
    """The text is no function that may or can be run: not Python, not allowed, too long or failing."""


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BUILTINS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": lambda *bounds: list(_bounded_range(*bounds)),
    "reversed": lambda values: list(reversed(values)),
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "pow": lambda base, exponent: _power(base, exponent),
}
_METHODS: dict[type, tuple[str, ...]] = {
    str: ("upper", "lower", "capitalize", "strip", "split", "join", "replace", "count"),
    list: ("append", "extend", "sort", "reverse", "copy", "count", "insert", "pop"),
}
_FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, NameError, TypeError, ValueError, RecursionError)


def function_name(text: str) -> str | None:
    """The name of the first function that the text defines, or None where it is no Python."""
    try:
        return _definition(text).name
    except NotRunnable:
        return None


def docstring(text: str) -> str:
    """The docstring of that function, or "" where it has none or is no Python."""
    try:
        return ast.get_docstring(_definition(text)) or ""
    except NotRunnable:
        return ""


def call(text: str, argument: object) -> object:
    """The first function of ``text`` applied to ``argument``; raises NotRunnable."""
    definition = _definition(text)
    parameters = definition.args
    if len(parameters.args) != 1 or parameters.vararg or parameters.kwarg or parameters.kwonlyargs:
        raise NotRunnable("the function must take one argument")
    # The argument is copied, so that a function that changes its list is judged by what it returns.
    given = list(argument) if isinstance(argument, list) else argument
    walker = _Walker({parameters.args[0].arg: given})
    try:
        walker.block(definition.body)
    except _Return as done:
        return done.value
    except (_Break, _Continue):
        raise NotRunnable("break or continue outside a loop") from None
    except _FAILURES as error:
        raise NotRunnable(f"{type(error).__name__}: {error}") from None
    return None


def _definition(text: str) -> ast.FunctionDef:
    if len(text) > LONGEST:
        raise NotRunnable("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's odd literals are no news to whoever runs the judge
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotRunnable(f"not Python: {error}") from None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef) or tree.body[0].decorator_list:
        raise NotRunnable("it does not begin with a plain function")
    return tree.body[0]


class _Walker:
    """One call: its variables, and the steps that are left."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables
        self.steps = STEPS

    def block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        self._tick()
        match node:
            case ast.Return(value=value):
                raise _Return(None if value is None else self.value(value))
            case ast.Expr(value=value):
                self.value(value)
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.variables[name] = self.binary(op, self.load(name), self.value(value))
            case ast.If(test=test, body=body, orelse=orelse):
                self.block(body if self.value(test) else orelse)
            case ast.For(target=target, iter=values, body=body, orelse=[]):
                self.loop(target, values, body)
            case ast.While(test=test, body=body, orelse=[]):
                self.while_loop(test, body)
            case ast.Pass():
                pass
            case ast.Break():
                raise _Break
            case ast.Continue():
                raise _Continue
            case _:
                raise NotRunnable(f"{type(node).__name__} is not allowed")

    def loop(self, target: ast.expr, values: ast.expr, body: Sequence[ast.stmt]) -> None:
        for item in _iterable(self.value(values)):
            self.assign(target, item)
            try:
                self.block(body)
            except _Break:
                return
            except _Continue:
                continue

    def while_loop(self, test: ast.expr, body: Sequence[ast.stmt]) -> None:
        while self.value(test):
            try:
                self.block(body)
            except _Break:
                return
            except _Continue:
                continue

    def assign(self, target: ast.expr, value: Any) -> None:
        if not isinstance(target, ast.Name):
            raise NotRunnable("only a plain name can be assigned")
        self.variables[target.id] = value

    def value(self, node: ast.expr) -> Any:
        self._tick()
        return _bounded(self._value(node))

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | str() | None as value):
                return value
            case ast.Name(id=name):
                return self.load(name)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.value(left), self.value(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](self.value(operand))
            case ast.BoolOp(op=op, values=values):
                return self.boolean(isinstance(op, ast.And), values)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self.compare(left, ops, comparators)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test) else orelse)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.value(item) for item in items]
            case ast.ListComp(elt=item, generators=generators) | ast.GeneratorExp(elt=item, generators=generators):
                return self.comprehension(item, generators)
            case ast.Subscript(value=container, slice=index):
                return self.subscript(self.value(container), index)
            case ast.Call():
                return self.call(node)
            case _:
                raise NotRunnable(f"{type(node).__name__} is not allowed")

    def load(self, name: str) -> Any:
        if name not in self.variables:
            raise NotRunnable(f"there is no {name}")
        return self.variables[name]

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        if isinstance(op, ast.Pow):
            return _power(left, right)
        if type(op) not in _BINARY:
            raise NotRunnable(f"{type(op).__name__} is not allowed")
        if isinstance(op, ast.Mult) and not all(isinstance(side, int) for side in (left, right)):
            _bounded_repeat(left, right)
        if isinstance(op, ast.Mod) and isinstance(left, str):
            raise NotRunnable("formatting with % is not allowed")
        return _bounded(_BINARY[type(op)](left, right))

    def boolean(self, conjunction: bool, values: Sequence[ast.expr]) -> Any:
        result: Any = conjunction
        for value in values:
            result = self.value(value)
            if bool(result) != conjunction:
                break
        return result

    def compare(self, left: ast.expr, ops: Sequence[ast.cmpop], comparators: Sequence[ast.expr]) -> bool:
        before = self.value(left)
        for op, node in zip(ops, comparators, strict=True):
            after = self.value(node)
            if not _COMPARE[type(op)](before, after):
                return False
            before = after
        return True

    def comprehension(self, item: ast.expr, generators: Sequence[ast.comprehension]) -> list[Any]:
        if len(generators) != 1 or generators[0].is_async:
            raise NotRunnable("one `for` in a comprehension")
        generator, outer, result = generators[0], dict(self.variables), []
        for element in _iterable(self.value(generator.iter)):
            self.assign(generator.target, element)
            if all(self.value(condition) for condition in generator.ifs):
                result.append(self.value(item))
        self.variables = outer
        return result

    def subscript(self, container: Any, index: ast.expr) -> Any:
        if not isinstance(container, list | str):
            raise NotRunnable("only a list or a text has places")
        if isinstance(index, ast.Slice):
            bounds = [None if part is None else self.value(part) for part in (index.lower, index.upper, index.step)]
            return container[slice(*bounds)]
        return container[self.value(index)]

    def call(self, node: ast.Call) -> Any:
        arguments = [self.value(argument) for argument in node.args]
        keywords = {word.arg: self.value(word.value) for word in node.keywords if word.arg in ("reverse", "default")}
        if len(keywords) != len(node.keywords):
            raise NotRunnable("that keyword is not allowed")
        match node.func:
            case ast.Name(id=name) if name in _BUILTINS and name not in self.variables:
                return _BUILTINS[name](*arguments, **keywords)
            case ast.Attribute(value=owner, attr=method):
                target = self.value(owner)
                if method not in _METHODS.get(type(target), ()):
                    raise NotRunnable(f"{method} is not allowed")
                if method in ("join", "replace", "extend", "insert"):
                    self._tick(50)
                return _bounded(getattr(target, method)(*arguments, **keywords))
            case _:
                raise NotRunnable("that call is not allowed")

    def _tick(self, steps: int = 1) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise NotRunnable("it takes too long")


def _iterable(value: Any) -> Iterator[Any]:
    if not isinstance(value, list | str):
        raise NotRunnable("only a list or a text can be walked over")
    # A copy: a loop that appends to its own list ends all the same.
    return iter(list(value))


def _bounded(value: Any) -> Any:
    """The value, where it is of an allowed type and size."""
    if isinstance(value, float | int) and abs(value) > LARGEST:
        raise NotRunnable("a number grew too large")
    if isinstance(value, str | list) and len(value) > LONGEST:
        raise NotRunnable("a value grew too long")
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        # Lists of lists of lists double in size at every step without growing in length.
        raise NotRunnable("a list in a list is not allowed")
    if value is not None and not isinstance(value, bool | int | float | str | list):
        raise NotRunnable(f"{type(value).__name__} is not allowed")
    return value


def _bounded_repeat(left: Any, right: Any) -> None:
    for values, times in ((left, right), (right, left)):
        if isinstance(values, str | list) and isinstance(times, int) and len(values) * times > LONGEST:
            raise NotRunnable("a value grew too long")


def _bounded_range(*bounds: int) -> range:
    result = range(*bounds)
    if len(result) > LONGEST:
        raise NotRunnable("a range is too long")
    return result


def _power(base: Any, exponent: Any) -> Any:
    if not isinstance(base, int) or not isinstance(exponent, int) or abs(base) > 10**6 or not 0 <= exponent <= 10:
        raise NotRunnable("a power is too large")
    return base**exponent
