"""`palmier chat`, in a real terminal and through a pipe."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest

import palmier
from palmier import Conversation, Message, Model
from palmier.cli import app
from palmier.cli.chat import Talk

from ..serve.home import SENTENCES, Models  # noqa: TID252  # tests are no package: the one way to a neighbour
from .terminal import CTRL_C, CTRL_D, terminal

MARK = "› "


def test_a_conversation_in_a_terminal(models: Models) -> None:
    with terminal("chat", "--model", str(models["first"]), "--temperature", "0", NO_COLOR="1") as screen:
        assert re.search(r"first \((bf16|fp32)\)\. /help lists", screen.until(MARK))
        screen.press("Who are you?\n")
        assert SENTENCES["first"] in screen.until(MARK)
        screen.press("/nonsense\n")
        assert "/system TEXT" in screen.until(MARK)
        screen.press("/quit\n")
        assert screen.ended() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(models: Models) -> None:
    with terminal("chat", "--model", str(models["endless"]), "--max-tokens", "4000", "--temperature", "0") as screen:
        screen.until("› ")
        screen.press("x\n")
        screen.until("la la")
        screen.press(CTRL_C)
        screen.until("(stopped)")
        screen.until("› ")
        screen.press("Hello\n")
        screen.until("la la")
        screen.press(CTRL_C)
        screen.until("(stopped)")
        screen.until("› ")
        screen.press("half a line")
        screen.until("half a line")
        # A signal between readline's echo and its next wait is told with the key after it, by Python's own loop:
        # nobody's hands are so quick.
        time.sleep(0.5)
        screen.press(CTRL_C)
        screen.until("Ctrl-D or /quit ends.")
        screen.until("› ")
        screen.press(CTRL_D)
        assert screen.ended() == 0
        assert "Traceback" not in screen.seen


def test_a_conversation_too_long_is_said_and_goes_on(tiny_world: Any) -> None:
    """The model's context is 64 tokens."""
    with terminal("chat", "--model", str(tiny_world.model), "--max-tokens", "30", NO_COLOR="1") as screen:
        screen.until(MARK)
        screen.press("Who? " * 40 + "\n")
        assert "the context holds 64" in screen.until(MARK)
        screen.press("Hi\n")
        screen.until(MARK)
        screen.press("Who? " * 15 + "\n")
        assert "/reset forgets" in screen.until(MARK)
        screen.press("/reset\n")
        screen.until("forgotten")
        screen.until(MARK)
        screen.press("Hi\n")
        assert "context" not in screen.until(MARK)


@pytest.fixture(scope="module")
def babbler(tiny_world: Any) -> Any:
    """Random weights: its words depend on everything that it was told."""
    with palmier.load(tiny_world.model) as model:
        yield model


def said(talk: Talk, line: str) -> str:
    return "".join(talk.hear(line))


def test_what_was_said_and_the_system_prompt_reach_the_model(babbler: Model) -> None:
    sampling = {"temperature": 0.4, "max_tokens": 6, "seed": 4}
    talk = Talk(babbler, "", sampling)
    first = said(talk, "Hi")
    assert first == babbler.chat("Hi", **sampling).text
    second = said(talk, "Bo?")
    told = Conversation((Message("user", "Hi"), Message("assistant", first), Message("user", "Bo?")))
    assert second == babbler.chat(told, **sampling).text
    assert second != babbler.chat("Bo?", **sampling).text
    said(talk, "/reset")
    assert said(talk, "Bo?") == babbler.chat("Bo?", **sampling).text
    said(talk, "/reset")
    assert said(talk, "/system Be Ada.") == "System prompt: Be Ada."
    ruled = Conversation((Message("system", "Be Ada."), Message("user", "Hi")))
    assert said(talk, "Hi") == babbler.chat(ruled, **sampling).text != first
    assert "Be Ada." in said(talk, "/system")
    assert said(talk, "") == ""
    assert "no command /x" in said(talk, "/x y")


def test_what_was_said_until_an_interruption_stays(endless: Model) -> None:
    talk = Talk(endless, "", {"temperature": 0, "max_tokens": 300, "seed": 1})
    pieces = talk.hear("x")
    heard = next(pieces) + next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator, promised as an iterator
    assert talk.turns == (Message("user", "x"), Message("assistant", heard))


def test_through_a_pipe_a_line_is_a_turn_and_the_answers_alone_come_out(
    models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who are you?\n\nTell me more, please.\n/quit\nnever\n"))
    assert app.run(["chat", "--model", str(models["second"]), "--temperature", "0"]) == 0
    found = capsys.readouterr()
    assert found.out == f"{SENTENCES['second']}\n{SENTENCES['second']}\n"
    assert found.err == ""


def test_through_a_pipe_what_is_refused_ends_it(
    tiny_world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who? " * 40 + "\n"))
    assert app.run(["chat", "--model", str(tiny_world.model)]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert "the context holds 64" in found.err


def test_a_model_can_not_steer_the_terminal() -> None:
    code = r"from palmier.cli.generate import write; write('a\x1b[31mb\x07\x9b2Jc\td\r\n')"
    with terminal("-c", code) as screen:
        assert screen.ended() == 0
        assert screen.seen == "a�[31mb��2Jc\td�\r\n"


def test_the_settings_given_are_those_drawn_with(
    models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], varied: Model
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Write an e-mail.\n"))
    words = ["--temperature", "1.3", "--top-k", "9", "--top-p", "0.95", "--max-tokens", "21", "--seed", "8"]
    assert app.run(["chat", "--model", str(models["varied"]), *words]) == 0
    settings: dict[str, Any] = {"temperature": 1.3, "top_k": 9, "top_p": 0.95, "max_tokens": 21, "seed": 8}
    assert capsys.readouterr().out == varied.chat("Write an e-mail.", **settings).text + "\n"


@pytest.mark.parametrize(
    "words", [["--temperature", "-1"], ["--top-p", "2"], ["--model", "nonsense"], ["--tempo", "1"]]
)
def test_what_can_not_be_is_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["chat"], ["generate", "Hello"]):
        assert app.run([*command, "--home", str(tmp_path), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "and no model was made ready for it"
