"""`palmier pretrain | sft | reward train | dpo | ppo`: each stage's Settings as a command.

A stage's dataclass is the command line and the TOML file; the comments beside its fields are
the help. Nothing is written twice, and a stage is imported only when its command is called.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import tokenize
import tomllib
import typing
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import cyclopts
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from palmier.errors import Refusal

STAGES = {
    "pretrain": "palmier.train.pretrain",
    "sft": "palmier.train.sft",
    "reward_train": "palmier.train.reward_model",
    "dpo": "palmier.train.dpo",
    "ppo": "palmier.train.ppo",
}

NEXT = {
    "pretrain": "Teach it to answer: palmier sft --model {out} --data CONVERSATIONS.jsonl --out DIR",
    "sft": "Talk with it: palmier serve --model {out}",
    "reward_train": "Let it sort answers: palmier reward score FILE --model {out} --sort --best 1",
    "dpo": "Talk with it: palmier serve --model {out}",
    "ppo": "Talk with it: palmier serve --model {out}",
}
"""What a person may do with each stage's result."""


def __getattr__(name: str) -> cyclopts.App:
    """The command of a stage, built when it is asked for."""
    if name not in STAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    command: cyclopts.App = globals().setdefault(name, stage_command(name))
    return command


def stage_command(name: str) -> cyclopts.App:
    """A command whose options are the fields of the stage's Settings, and ``--config FILE.toml``."""
    stage = importlib.import_module(STAGES[name])

    def command(config: Path | None = None, **values: Any) -> None:
        finish(name, stage.run(stage.Settings(**values)))

    title = (inspect.getdoc(stage) or name).partition("\n")[0]
    called = "train" if name == "reward_train" else name
    app = cyclopts.App(name=called, help=title, config=read_config, result_action="return_value")
    app.default(_with_signature(command, stage.Settings))
    return app


def finish(name: str, folder: Path) -> None:
    """Say what was made and what to do next."""
    print(f"Made {folder}")
    print(NEXT[name].format(out=folder))


def read_config(app: cyclopts.App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let the TOML file named by --config give the options that the command line does not.

    Raises Refusal where the file can not be read or holds a key that is no setting.
    """
    given = next((a for a in arguments if a.name == "--config"), None)
    if given is None or not given.tokens:
        return
    path = Path(given.tokens[0].value)
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise Refusal(f"{path} can not be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} is not TOML: {error}") from None
    known = {a.field_info.name for a in arguments} - {"config"}
    for key in values:
        if key not in known:
            raise Refusal(f"{path}: unknown setting {key!r}; known are {', '.join(sorted(known))}")
    nested: dict[str, Any] = values
    for command in reversed(commands):
        nested = {command: nested}
    Dict(nested, source=str(path))(app, commands, arguments)


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


def whole(kind: Any, tokens: Sequence[cyclopts.Token]) -> int:
    """A whole number as it was written; raises ValueError for 1.5, which would else be rounded."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _with_signature(command: Callable[..., None], settings: type) -> Callable[..., None]:
    hints: dict[str, Any] = get_type_hints(settings)
    notes = comments(settings)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = []
    for field in dataclasses.fields(settings):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        hint = hints[field.name]
        converter = whole if hint in (int, int | None) else None
        about = cyclopts.Parameter(help=notes.get(field.name, ""), converter=converter)
        annotation = typing.cast(Any, Annotated)[hint, about]
        parameters.append(inspect.Parameter(field.name, keyword, default=default, annotation=annotation))
    about = cyclopts.Parameter(help="a TOML file of these settings; the command line wins")
    config = inspect.Parameter("config", keyword, default=None, annotation=Annotated[Path | None, about])
    command.__signature__ = inspect.Signature([config, *parameters])  # type: ignore[attr-defined]  # what cyclopts reads
    command.__annotations__ = {p.name: p.annotation for p in (config, *parameters)}
    return command
