"""`palmier pretrain | sft | reward train | dpo | ppo`: each stage's Settings as a command.

A stage's dataclass is the command line and the TOML file; the comments beside its fields are
the help. Nothing is written twice, and a stage is imported only when its command is called.
"""

from __future__ import annotations

import importlib
import inspect
import tomllib
from pathlib import Path
from typing import Any

import cyclopts
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from palmier.cli.options import CONFIG, options, take
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
    app.default(take(command, [CONFIG.parameter("config"), *options(stage.Settings)]))
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
