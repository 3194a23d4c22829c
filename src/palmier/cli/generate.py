"""`palmier generate`: answers to one prompt, to standard input, or to a file of prompts."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from palmier.cli.options import Option, options, take
from palmier.errors import Refusal

if TYPE_CHECKING:
    from palmier.api import Model
    from palmier.cli.prompts import Answers, Line

MODEL = Option(
    str | None,
    None,
    "a name that `palmier models` lists, a folder, run, version, .gguf or repository; by default what the home answers with",
)
HOME = Option(Path | None, None, "folder of versions and models; by default $PALMIER_HOME or ~/.palmier")
PRECISION = Option(
    Literal["auto", "fp32", "bf16", "int8"], "auto", "number format of the weights; auto takes what is quickest here"
)
STOP = Option(tuple[str, ...], (), "a text before which an answer ends; may be given several times")
SEED = Option(int | None, None, "what the draws are made of; a new one each time where not given")

OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?")
"""What is meant as an option, and would else be taken for the prompt, since a prompt may begin with a dash."""

OWN = {
    "model": MODEL,
    "n": Option(int, 1, "answers to each prompt", "--n"),
    "file": Option(Path | None, None, 'many prompts: JSONL of {"prompt": "…"} or {"messages": […]} a line'),
    "out": Option(Path | None, None, "with --file: write the answers here, whole at the end; can be resumed"),
    "home": HOME,
    "precision": PRECISION,
    "stop": STOP,
    "seed": SEED,
}


def __getattr__(name: str) -> cyclopts.App:
    """`palmier generate`, built out of the fields of `Sampling` when it is asked for."""
    if name != "generate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    command: cyclopts.App = globals().setdefault(name, generate_command())
    return command


def generate_command() -> cyclopts.App:
    """A command whose options are its own and the sampling settings, whatever they are."""
    from palmier.api import DEFAULTS
    from palmier.records import Sampling

    def command(prompt: str | None = None, **values: Any) -> None:
        own = {name: values.pop(name, option.default) for name, option in OWN.items() if name not in ("seed", "stop")}
        run(prompt, own, settings(values))

    about = cyclopts.Parameter(help="the prompt; - or nothing reads it from standard input", allow_leading_hyphen=True)
    first = inspect.Parameter(
        "prompt", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=Annotated[str | None, about]
    )
    app = cyclopts.App(
        name="generate",
        help="Answers to a prompt, to standard input, or to a file of prompts.",
        result_action="return_value",
    )
    app.default(take(command, [first, *options(Sampling, own=OWN, defaults=DEFAULTS)]))
    return app


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """All sampling settings and ``stop``, also those not given; ``seed`` is None where a new one is to be drawn.

    Raises Refusal at once for what would be refused after a model was loaded.
    """
    from palmier.api import DEFAULTS
    from palmier.records import Sampling

    own = {name: given.get(name, option.default) for name, option in (("stop", STOP), ("seed", SEED))}
    sampling = dataclasses.asdict(DEFAULTS) | {name: value for name, value in given.items() if name != "stop"}
    Sampling(**sampling | {"seed": own["seed"] or 0})
    return sampling | own


def run(prompt: str | None, own: dict[str, Any], sampling: dict[str, Any]) -> None:
    """Answer. Raises Refusal, before a model is loaded, where what to answer is not clear."""
    if own["n"] < 1:
        raise Refusal(f"--n {own['n']}: ask for at least one answer")
    if own["file"] is not None:
        if prompt is not None:
            raise Refusal("a prompt and --file are two ways to ask: give one of them")
        _check_out(own["file"], own["out"])
        _many(own, sampling)
        return
    if own["out"] is not None:
        raise Refusal("--out belongs to --file; one prompt's answers go to the terminal, or wherever > leads")
    if prompt is not None and OPTION.fullmatch(prompt):
        raise Refusal(
            f"unknown option {prompt}: `palmier generate --help` lists them; a prompt like that comes by a pipe"
        )
    text = _prompt(prompt)
    with _load(own) as model:
        if own["n"] == 1:
            write_stream(model.stream(text, **sampling))
            return
        for number, answer in enumerate(model.generate(text, own["n"], **sampling), 1):
            write(f"[{number}] {answer.text}\n\n")


def write_stream(pieces: Iterable[str]) -> None:
    """Pieces of an answer as they come, and the line's end."""
    for piece in pieces:
        write(piece)
    write("\n")


def write(text: str) -> None:
    """Text to standard output at once. To a terminal without control characters: a model may say anything."""
    if sys.stdout.isatty():
        text = "".join("�" if _controls(character) else character for character in text)
    sys.stdout.write(text)
    sys.stdout.flush()


def _controls(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\t"


def _load(own: dict[str, Any]) -> Model:
    """The model; a person is told which it is, and in which number format, beside the answers and not among them."""
    from palmier.api import load

    model = load(own["model"], home=own["home"], precision=own["precision"])
    if sys.stderr.isatty():
        print(f"{model.name} ({model.precision})", file=sys.stderr)
    return model


def _prompt(prompt: str | None) -> str:
    if prompt is None or prompt == "-":
        if sys.stdin.isatty() and prompt is None:
            raise Refusal('what to answer? palmier generate "…", or - to type it, or --file PROMPTS.jsonl')
        prompt = "".join(utf8_lines())
    elif prompt != prompt.encode("utf-8", "replace").decode():  # bytes that were none stand there as lone surrogates
        raise Refusal("the prompt is not UTF-8: give it by a file or a pipe that is")
    if not prompt.strip():
        raise Refusal("the prompt is empty")
    return prompt


def utf8_lines() -> Iterator[str]:
    """The lines of standard input. Raises Refusal where one is not UTF-8, whatever the locale says."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # in the C locale Python would pass on whatever comes
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    try:
        yield from sys.stdin
    except UnicodeDecodeError:
        raise Refusal("standard input is not UTF-8: save the text as UTF-8") from None


def _check_out(file: Path, out: Path | None) -> None:
    """Refuse at once what would fail after every answer was drawn, or would replace the prompts."""
    if out is None:
        return
    if out.is_dir():
        raise Refusal(f"--out {out} is a folder: name a file")
    if not out.parent.is_dir():
        raise Refusal(f"--out {out}: there is no folder {out.parent}: make it first")
    if out.exists() and file.exists() and out.samefile(file):
        raise Refusal(f"--out {out} is the file of the prompts: name another one")


def _many(own: dict[str, Any], sampling: dict[str, Any]) -> None:
    """The answers to a file's prompts, in its order."""
    from palmier.cli.prompts import Answers, read_prompts
    from palmier.serve.chat import fresh_seed

    lines = read_prompts(own["file"])
    with _load(own) as model:
        for line in lines:
            _check(model, line)
        deciding = {"model": str(model.folder.resolve()), "precision": model.precision, "n": own["n"]} | sampling
        answers = Answers(own["out"], lines, deciding, fresh_seed())
        try:
            _answer(model, answers, own["n"], sampling | {"seed": answers.seed})
        except KeyboardInterrupt:
            answers.say_what_is_kept()
            raise
        answers.finish()
    if own["out"] is not None:
        print(f"{len(lines)} lines written to {own['out']}", file=sys.stderr)


def _check(model: Model, line: Line) -> None:
    """Refuse a prompt that can't be answered before any is."""
    try:
        count = model.count(line.conversation)
    except Refusal as refusal:
        raise Refusal(f"{line.where}: {refusal}") from None
    if count >= model.context:
        raise Refusal(
            f"{line.where}: the prompt has {count} tokens and the context holds {model.context}, the answer included: "
            "shorten the prompt"
        )


def _answer(model: Model, answers: Answers, n: int, sampling: dict[str, Any]) -> None:
    """Draw what is not there yet, under a progress bar where a person looks on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("Answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(answers.lines), completed=len(answers.done))
        prompts = [line.conversation for line in answers.lines]
        for index, found in model.generate_all(prompts, n, skip=frozenset(answers.done), **sampling):
            answers.add(index, found)
            bar.advance(task)
