"""The judge's interpreter: equal to Python where it allows something, and it allows little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palmier.demo import interpreter
from palmier.demo.functions import FUNCTIONS, Function
from palmier.demo.interpreter import NotRunnable, call


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: "-".join(f.parts))
def test_every_function_of_the_family_runs_to_its_truth_in_both_forms(function: Function) -> None:
    for k in (2, 3, 4):
        for argument in function.arguments(k):
            for loop in (False, True):
                code = function.code("f", k, loop=loop, docstring="What it does.")
                assert call(code, argument) == function.value(argument, k)
                spoilt = function.confused(0).code("f", k, loop=loop)
                try:
                    differs = call(spoilt, argument) != function.value(argument, k)
                except NotRunnable:
                    differs = True
                if differs:
                    break


def test_every_mistaken_form_is_found_out_by_the_arguments() -> None:
    for function in FUNCTIONS:
        for which in range(3):
            wrong = function.confused(which)
            for k in (2, 5, 9) if function.family == "list" else (2, 3, 4):
                results = []
                for argument in function.arguments(k):
                    try:
                        results.append(call(wrong.code("f", k), argument) == function.value(argument, k))
                    except NotRunnable:
                        results.append(False)
                assert not all(results), (function, wrong, k)


@pytest.mark.parametrize(
    "body",
    [
        "import os",
        "return open('/etc/passwd')",
        "return eval('1')",
        "return exec('1')",
        "return __import__('os')",
        "return xs.__class__",
        "return ().__class__.__bases__",
        "return getattr(xs, 'pop')",
        "return [].append.__self__",
        "return f'{xs}'",
        "return lambda: 1",
        "global y",
        "raise ValueError",
        "with xs: pass",
        "try:\n        pass\n    finally:\n        pass",
        "return (yield 1)",
        "return {1: 2}",
        "return '{0.__class__}'.format(xs)",
        "return '%s' % xs",
        "return print(xs)",
        "return sorted(xs, key=len)",
        "return [x for x in xs for y in xs]",
        "del xs",
        "return 1.5",
        "def g(): pass",
        "class A: pass",
        "xs[0] = 1",
        "a, b = xs",
        "return undefined",
        "return xs[99]",
        "return 1 // 0",
        "break",
    ],
)
def test_what_is_not_on_the_list_is_refused(body: str) -> None:
    with pytest.raises(NotRunnable):
        call(f"def f(xs):\n    {body}", [1, 2, 3])


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n        pass",
        "for x in xs:\n        while x == x:\n            x = x",
        "return [x * x for x in range(10 ** 9)]",
        "return 10 ** 10 ** 10",
        "return 'a' * 10 ** 9",
        "return xs * 10 ** 9",
        "a = xs\n    while True:\n        a = a + a",
        "a = 9\n    while True:\n        a = a * a",
        "s = 'a'\n    while True:\n        s = s.replace('a', 'aa')",
        "a = [xs, xs]\n    while True:\n        a = [a, a]",
        "return " + "(" * 500 + "1" + ")" * 500,
        "return " + "-" * 1900 + "1",
        "return " + " + ".join(["1"] * 400) + " + xs",
        "xs.append(xs)\n    return str(xs)",
    ],
)
def test_what_would_never_end_or_fill_the_memory_is_refused_quickly(body: str) -> None:
    start = time.monotonic()
    with pytest.raises(NotRunnable):
        call(f"def f(xs):\n    {body}", [1, 2, 3])
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize("text", ["", "x = 1", "def f(:", "def f():\n    return 1", "def f(a, b):\n    return 1", "\0"])
def test_what_is_no_function_of_one_argument_is_refused(text: str) -> None:
    with pytest.raises(NotRunnable):
        call(text, 1)


def test_a_function_cannot_change_the_judges_list() -> None:
    given_list = [3, 1, 2]
    assert call("def f(xs):\n    xs.sort()\n    return xs", given_list) == [1, 2, 3]
    assert given_list == [3, 1, 2]


_NUMBER = st.one_of(st.integers(-9, 9).map(str), st.just("x"))
_EXPRESSION = st.recursive(
    _NUMBER,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "==", ">=", "and", "or"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        inner.map(lambda part: f"(-{part})"),
        inner.map(lambda part: f"(not {part})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(_EXPRESSION, st.integers(-5, 5))
def test_expressions_have_pythons_value(expression: str, x: int) -> None:
    code = f"def f(x):\n    return {expression}"
    try:
        expected = eval(expression, {"x": x})
    except ZeroDivisionError:
        with pytest.raises(NotRunnable):
            call(code, x)
        return
    assert call(code, x) == expected


def test_the_name_and_the_docstring_are_read() -> None:
    code = 'def pick(xs):\n    """Adds up."""\n    return 1'
    assert interpreter.function_name(code) == "pick"
    assert interpreter.docstring(code) == "Adds up."
    assert interpreter.function_name("nonsense(") is None
    assert interpreter.docstring("nonsense(") == ""
