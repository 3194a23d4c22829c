"""Options out of a Settings dataclass: its fields are the options, the comments beside them the help.

Nothing is written twice: what a setting means stands where it is defined.
"""

from __future__ import annotations

import dataclasses
import inspect
import tokenize
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import cyclopts


def comments(settings: type) -> dict[str, str]:
    """The comment on the line of each field of a dataclass, read from its source."""
    fields = {field.name for field in dataclasses.fields(settings)}
    found: dict[str, str] = {}
    line: list[str] = []
    for token in tokenize.generate_tokens(StringIO(inspect.getsource(settings)).readline):
        if token.type == tokenize.NAME:
            line.append(token.string)
        elif token.type == tokenize.COMMENT and line and line[0] in fields:
            found.setdefault(line[0], token.string.lstrip("# "))
        elif token.type in (tokenize.NEWLINE, tokenize.NL):
            line = []
    return found


@dataclass(frozen=True)
class Option:
    """An option of a command: its type, default and help, and its name where it is not the keyword's."""

    kind: Any
    default: Any
    help: str
    name: str | None = None

    def parameter(self, keyword: str) -> inspect.Parameter:
        """The keyword that cyclopts turns into the option."""
        converter = whole if self.kind in (int, int | None) else None
        negative = None if self.kind is bool and self.default else ()
        about = cyclopts.Parameter(name=self.name, help=self.help, converter=converter, negative=negative)
        annotation = typing.cast(Any, Annotated)[self.kind, about]
        return inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default=self.default, annotation=annotation)


CONFIG = Option(Path | None, None, "a TOML file of these settings; the command line wins")


def whole(kind: Any, tokens: Sequence[cyclopts.Token]) -> int:
    """A whole number as it was written; raises ValueError for 1.5, which would else be rounded."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def options(
    settings: type,
    *,
    own: Mapping[str, Option] | None = None,
    called: Mapping[str, str] | None = None,
    defaults: Any = None,
) -> list[inspect.Parameter]:
    """The fields of a stage's Settings as options of a command.

    ``own``: options of the command itself, which replace a field of the same name; ``called``:
    the name of an option where it is not the field's; ``defaults``: settings whose values are the
    options' defaults, where they are not the fields' own.
    """
    hints: dict[str, Any] = get_type_hints(settings)
    notes, own = comments(settings), own or {}
    found = [
        Option(
            hints[field.name],
            _default(field) if defaults is None else getattr(defaults, field.name),
            notes.get(field.name, ""),
            (called or {}).get(field.name),
        ).parameter(field.name)
        for field in dataclasses.fields(settings)
        if field.name not in own
    ]
    return found + [option.parameter(name) for name, option in own.items()]


def _default(field: dataclasses.Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def take(command: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """Give a function of keywords the signature that cyclopts reads."""
    command.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]  # what cyclopts reads
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
