"""`palmier chat`: talk with a model in the terminal, or through a pipe, a line a turn."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cyclopts

from palmier.cli.generate import HOME, MODEL, PRECISION, SEED, STOP, settings, utf8_lines, write
from palmier.cli.options import Option, options, take
from palmier.errors import Refusal
from palmier.records import Conversation, Message

if TYPE_CHECKING:
    from palmier.api import Model

OWN = {
    "model": MODEL,
    "system": Option(str, "", "how the assistant should behave: a system prompt"),
    "home": HOME,
    "precision": PRECISION,
    "stop": STOP,
    "seed": SEED,
}

HELP = """/reset         forget what was said
/system TEXT   tell the assistant how to behave; without TEXT: show it
/quit          end (or Ctrl-D)
Ctrl-C stops an answer and keeps what was said of it."""


def __getattr__(name: str) -> cyclopts.App:
    """`palmier chat`, built out of the fields of `Sampling` when it is asked for."""
    if name != "chat":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    command: cyclopts.App = globals().setdefault(name, chat_command())
    return command


def chat_command() -> cyclopts.App:
    """A command whose options are its own and the sampling settings, whatever they are."""
    from palmier.api import DEFAULTS
    from palmier.records import Sampling

    def command(system: str = "", **given: Any) -> None:
        source = {name: given.pop(name, OWN[name].default) for name in ("model", "home", "precision")}
        sampling = settings(given)
        person = sys.stdin.isatty() and sys.stdout.isatty()
        with _loaded(source, person) as loaded:
            talk = Talk(loaded, system, sampling)
            if person:
                _in_the_terminal(talk)
            else:
                _through_a_pipe(talk)

    app = cyclopts.App(name="chat", help="Talk with a model in the terminal.", result_action="return_value")
    app.default(take(command, options(Sampling, own=OWN, defaults=DEFAULTS)))
    return app


class Talk:
    """One conversation: what was said, the system prompt, and the commands that begin with a slash."""

    def __init__(self, model: Model, system: str, sampling: dict[str, Any]) -> None:
        self.model = model
        self.system = system
        self.sampling = sampling
        self.turns: tuple[Message, ...] = ()
        self.ended = False

    def hear(self, line: str) -> Iterator[str]:
        """Pieces of the answer to a line, or of what a command says.

        What was said up to an interruption (the iterator closed early) stays in the conversation.
        """
        if not line.strip():
            return
        if line.startswith("/"):
            yield self._obey(*line[1:].strip().partition(" ")[::2])
            return
        head = (Message("system", self.system),) if self.system else ()
        asked = (*self.turns, Message("user", line))
        said = ""
        try:
            for piece in self.model.stream(Conversation((*head, *asked)), **self.sampling):
                said += piece
                yield piece
        finally:
            if said:
                self.turns = (*asked, Message("assistant", said))

    def _obey(self, name: str, text: str) -> str:
        if name in ("quit", "exit"):
            self.ended = True
            return ""
        if name == "reset":
            self.turns = ()
            return "What was said is forgotten."
        if name == "system":
            self.system = text.strip() or self.system
            return f"System prompt: {self.system or 'the model’s own'}"
        return HELP if name == "help" else f"There is no command /{name}.\n{HELP}"


def _in_the_terminal(talk: Talk) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # importing it gives input() line editing and earlier lines by ↑
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    # Readline must know which characters take no room: they stand between \001 and \002.
    mark = "› " if plain else "\001\033[1;32m\002› \001\033[0m\002"
    print(f"{talk.model.name} ({talk.model.precision}). /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.")
    while not talk.ended:
        try:
            line = input(mark)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\nCtrl-D or /quit ends.")
            continue
        pieces = talk.hear(line)
        try:
            for piece in pieces:
                write(piece)
            write("\n" * (not talk.ended))
        except KeyboardInterrupt:
            write(" … (stopped)\n")
        except Refusal as refusal:
            print(f"palmier: {refusal}" + " (/reset forgets what was said)" * bool(talk.turns), file=sys.stderr)
        finally:
            pieces.close()  # type: ignore[attr-defined]  # a generator, promised as an iterator


def _through_a_pipe(talk: Talk) -> None:
    """A line is a turn, and nothing but the answers is printed; what is refused ends it."""
    for line in utf8_lines():
        said = False
        for piece in talk.hear(line.rstrip("\r\n")):
            write(piece)
            said = said or bool(piece)
        if talk.ended:
            return
        write("\n" * said)


@contextlib.contextmanager
def _loaded(source: dict[str, Any], person: bool) -> Iterator[Model]:
    from rich.console import Console

    from palmier.api import load

    with contextlib.ExitStack() as waiting:
        if person:
            name = source["model"] or "the assistant"
            waiting.enter_context(Console(stderr=True).status(f"Loading {name}"))
        loaded = load(source["model"], home=source["home"], precision=source["precision"])
    with loaded:
        yield loaded
