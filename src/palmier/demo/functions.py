"""A family of small Python functions: what they are called in words, in code, and what they return.

A list function is an aggregate of a map of a filter ("the sum of the squares of the even numbers
in a list"), a text function a repetition of a case of a slice, a number function one operation.
Composed ones can be held out, because their parts are seen in others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Family = Literal["list", "text", "number"]

AGGREGATES = ("list", "sum", "largest", "smallest", "sorted", "reversed", "count")
FILTERS = ("all", "even", "odd", "positive", "negative", "greater", "smaller")
MAPS = ("itself", "squares", "doubles", "cubes", "negatives")
SLICES = ("whole", "first", "last", "reversed")
CASES = ("same", "upper", "lower")
REPEATS = ("once", "twice")
NUMBERS = ("double", "square", "cube", "half", "next", "negative", "even", "digit")

_FILTER_WORDS = {
    "all": "the numbers",
    "even": "the even numbers",
    "odd": "the odd numbers",
    "positive": "the positive numbers",
    "negative": "the negative numbers",
    "greater": "the numbers greater than {k}",
    "smaller": "the numbers smaller than {k}",
}
_FILTER_CODE = {
    "all": "",
    "even": "x % 2 == 0",
    "odd": "x % 2 == 1",
    "positive": "x > 0",
    "negative": "x < 0",
    "greater": "x > {k}",
    "smaller": "x < {k}",
}
_MAP_CODE = {"itself": "x", "squares": "x * x", "doubles": "2 * x", "cubes": "x * x * x", "negatives": "-x"}
_AGGREGATE_WORDS = {
    "list": "a list of",
    "sum": "the sum of",
    "largest": "the largest of",
    "smallest": "the smallest of",
    "sorted": "a sorted list of",
    "reversed": "a reversed list of",
    "count": "how many there are of",
}
_AGGREGATE_CODE = {
    "list": "[{each}]",
    "sum": "sum({each})",
    "largest": "max({each})",
    "smallest": "min({each})",
    "sorted": "sorted({each})",
    "reversed": "[{each}][::-1]",
    "count": "len([{each}])",
}
_LOOP_RETURN = {
    "list": "out",
    "sum": "sum(out)",
    "largest": "max(out)",
    "smallest": "min(out)",
    "sorted": "sorted(out)",
    "reversed": "out[::-1]",
    "count": "len(out)",
}
_SLICE_WORDS = {
    "whole": "a text",
    "first": "the first {k} letters of a text",
    "last": "the last {k} letters of a text",
    "reversed": "a text backwards",
}
_SLICE_CODE = {"whole": "s", "first": "s[:{k}]", "last": "s[-{k}:]", "reversed": "s[::-1]"}
_CASE_WORDS = {"same": "", "upper": " in capital letters", "lower": " in small letters"}
_CASE_CODE = {"same": "", "upper": ".upper()", "lower": ".lower()"}
_NUMBER_WORDS = {
    "double": "the double of a number",
    "square": "the square of a number",
    "cube": "the cube of a number",
    "half": "half of a number, rounded down",
    "next": "the number after a number",
    "negative": "the negative of a number",
    "even": "whether a number is even",
    "digit": "the last digit of a positive number",
}
_NUMBER_CODE = {
    "double": "2 * n",
    "square": "n * n",
    "cube": "n * n * n",
    "half": "n // 2",
    "next": "n + 1",
    "negative": "-n",
    "even": "n % 2 == 0",
    "digit": "n % 10",
}
_CONFUSED: dict[str, tuple[dict[str, str], ...]] = {
    "list": (
        {"sum": "largest", "largest": "smallest", "smallest": "largest", "sorted": "list", "reversed": "list"}
        | {"list": "sorted", "count": "sum"},
        {"even": "odd", "odd": "even", "positive": "negative", "negative": "positive"}
        | {"greater": "smaller", "smaller": "greater"},
        {"squares": "doubles", "doubles": "squares", "cubes": "squares", "negatives": "itself"},
    ),
    "text": (
        {"first": "last", "last": "first"},
        {"upper": "lower", "lower": "upper"},
        {"once": "twice", "twice": "once"},
    ),
    "number": (
        {"double": "square", "square": "double", "cube": "square", "half": "double", "next": "double"}
        | {"negative": "next", "even": "half", "digit": "half"},
    ),
}
"""What people take for what, place by place of ``Function.parts``."""


@dataclass(frozen=True)
class Function:
    """One function of the family; ``parts`` are (aggregate, filter, map), (slice, case, repeat) or (operation,)."""

    family: Family
    parts: tuple[str, ...]

    @property
    def composed(self) -> bool:
        """Whether at least two of its parts do something, so that it can be held out."""
        plain = {"list", "all", "itself", "whole", "same", "once"}
        return self.family != "number" and sum(part not in plain for part in self.parts) >= 2

    @property
    def takes_k(self) -> bool:
        """Whether the request names a number: "the first 3 letters"."""
        return any(part in ("greater", "smaller", "first", "last") for part in self.parts)

    def words(self, k: int) -> str:
        """What it returns, in words."""
        if self.family == "number":
            return _NUMBER_WORDS[self.parts[0]]
        if self.family == "text":
            piece, case, repeat = self.parts
            twice = ", written twice" if repeat == "twice" else ""
            return _SLICE_WORDS[piece].format(k=k) + _CASE_WORDS[case] + twice
        aggregate, which, mapping = self.parts
        of = "" if mapping == "itself" else f"the {mapping} of "
        return f"{_AGGREGATE_WORDS[aggregate]} {of}{_FILTER_WORDS[which].format(k=k)} in a list"

    def code(self, name: str, k: int, *, docstring: str = "", loop: bool = False, remark: str = "") -> str:
        """A right definition; ``loop`` asks for the long-winded form, ``remark`` is a comment's text."""
        head = [f"def {name}({self.parameter}):"]
        if docstring:
            head.append(f'    """{docstring}"""')
        if remark:
            head.append(f"    # {remark}")
        return "\n".join(head + self._body(k, loop))

    @property
    def parameter(self) -> str:
        return {"list": "xs", "text": "s", "number": "n"}[self.family]

    def _body(self, k: int, loop: bool) -> list[str]:
        if self.family == "number":
            value = _NUMBER_CODE[self.parts[0]]
            return [f"    result = {value}", "    return result"] if loop else [f"    return {value}"]
        if self.family == "text":
            piece, case, repeat = self.parts
            value = _SLICE_CODE[piece].format(k=k) + _CASE_CODE[case]
            times = " * 2" if repeat == "twice" else ""
            if loop:
                return [f"    part = {value}", f"    return part{times}"]
            return [f"    return {value}{times}"]
        aggregate, which, mapping = self.parts
        condition, value = _FILTER_CODE[which].format(k=k), _MAP_CODE[mapping]
        if not loop:
            each = f"{value} for x in xs" + (f" if {condition}" if condition else "")
            return ["    return " + _AGGREGATE_CODE[aggregate].format(each=each)]
        lines = ["    out = []", "    for x in xs:"]
        if condition:
            lines += [f"        if {condition}:", f"            out.append({value})"]
        else:
            lines += [f"        out.append({value})"]
        return [*lines, f"    return {_LOOP_RETURN[aggregate]}"]

    def confused(self, which: int) -> Function:
        """This function with one part mistaken for another, as people do; differs from it."""
        tables = _CONFUSED[self.family]
        places = [i for i, part in enumerate(self.parts) if part in tables[i]]
        place = places[which % len(places)]
        parts = list(self.parts)
        parts[place] = tables[place][parts[place]]
        return Function(self.family, tuple(parts))

    def value(self, argument: object, k: int) -> object:
        """What it returns for one argument: the judge's truth, computed without the code above."""
        if self.family == "number":
            assert isinstance(argument, int)
            return _number(self.parts[0], argument)
        if self.family == "text":
            assert isinstance(argument, str)
            return _text(self.parts, argument, k)
        assert isinstance(argument, list)
        return _numbers(self.parts, argument, k)

    def arguments(self, k: int) -> list[object]:
        """Arguments that tell the functions of the family apart; every filter finds something in every list."""
        if self.family == "number":
            return [7, 12, 3, 40, 125]
        if self.family == "text":
            return ["Palmier Tree", "abcdEFGH", "Good Morning"]
        return [
            [k + 1, -4, k - 1, 6, -3, k, 11, -k],
            [-12, 5, k + 2, 1 - k, 9, -1, 2 * k + 1, -10, 4, k - 1],
            [12, -5, 1, 10, -7, k, 3, -2, k + 3],
            [8, -6, 7, 13, -9, 3, k + 4],
        ]


def _number(operation: str, n: int) -> object:
    results: dict[str, object] = {
        "double": n + n,
        "square": n**2,
        "cube": n**3,
        "half": n // 2,
        "next": n + 1,
        "negative": 0 - n,
        "even": n % 2 == 0,
        "digit": int(str(n)[-1]),
    }
    return results[operation]


def _text(parts: tuple[str, ...], s: str, k: int) -> str:
    piece = {"whole": s, "first": s[:k], "last": s[len(s) - k :], "reversed": "".join(reversed(s))}[parts[0]]
    piece = {"same": piece, "upper": piece.upper(), "lower": piece.lower()}[parts[1]]
    return piece + piece if parts[2] == "twice" else piece


def _numbers(parts: tuple[str, ...], xs: list[int], k: int) -> object:
    aggregate, which, mapping = parts
    keeps: dict[str, Callable[[int], bool]] = {
        "all": lambda x: True,
        "even": lambda x: abs(x) % 2 == 0,
        "odd": lambda x: abs(x) % 2 == 1,
        "positive": lambda x: x > 0,
        "negative": lambda x: x < 0,
        "greater": lambda x: x > k,
        "smaller": lambda x: x < k,
    }
    changes: dict[str, Callable[[int], int]] = {
        "itself": lambda x: x,
        "squares": lambda x: x**2,
        "doubles": lambda x: x + x,
        "cubes": lambda x: x**3,
        "negatives": lambda x: 0 - x,
    }
    kept = [changes[mapping](x) for x in xs if keeps[which](x)]
    results: dict[str, object] = {
        "list": kept,
        "sum": sum(kept),
        "largest": max(kept),
        "smallest": min(kept),
        "sorted": sorted(kept),
        "reversed": kept[::-1],
        "count": len(kept),
    }
    return results[aggregate]


def _family() -> tuple[Function, ...]:
    lists = [Function("list", (a, f, m)) for a in AGGREGATES[:-1] for f in FILTERS for m in MAPS]
    counts = [Function("list", ("count", f, "itself")) for f in FILTERS]
    texts = [Function("text", (s, c, r)) for s in SLICES for c in CASES for r in REPEATS]
    idle = {Function("list", ("list", "all", "itself")), Function("text", ("whole", "same", "once"))}
    return tuple(f for f in lists + counts + texts if f not in idle) + tuple(Function("number", (n,)) for n in NUMBERS)


FUNCTIONS = _family()
"""Every function of the family: 216 of lists, 23 of texts, 8 of numbers."""
