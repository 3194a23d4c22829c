"""The stages as commands: the help is the settings, and what is unknown is one line and exit 2."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palmier.cli.app import run
from palmier.cli.options import comments
from palmier.cli.train import NEXT, STAGES

COMMANDS = {name: "reward train" if name == "reward_train" else name for name in STAGES}


def settings_of(name: str) -> Any:
    return importlib.import_module(STAGES[name]).Settings


@pytest.fixture
def pretrain(tiny_world: Any, tmp_path: Path) -> str:
    return (
        f"pretrain --data {tiny_world.shards} --tokenizer {tiny_world.tokenizer} --layers 1 --hidden-size 32 --heads 1 "
        f"--length 16 --batch 2 --warmup 1 --out {tmp_path / 'run'}"
    )


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_has_a_comment_that_says_what_it_is(name: str) -> None:
    settings = settings_of(name)
    found = comments(settings)
    for field in dataclasses.fields(settings):
        assert len(found.get(field.name, "")) > 10, field.name
    assert len(dataclasses.fields(settings)) <= 25


@pytest.mark.parametrize("name", STAGES)
def test_help_shows_every_setting_its_comment_and_its_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMANDS[name].split(), "--help"]) == 0
    shown = "".join(line.strip("│ ") + " " for line in capsys.readouterr().out.splitlines())
    shown = " ".join(shown.split())
    for field in dataclasses.fields(settings_of(name)):
        assert f"--{field.name.replace('_', '-')} " in shown, field.name
        comment = comments(settings_of(name))[field.name]
        assert comment.split()[0] in shown
        if field.default not in (None, "", dataclasses.MISSING, True, False):
            assert f"[default: {field.default}]" in shown, field.name


@pytest.mark.parametrize("name", STAGES)
def test_an_unknown_option_is_one_line_and_exit_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = [
        f"--{field.name}=x" for field in dataclasses.fields(settings_of(name)) if field.default is dataclasses.MISSING
    ]
    assert run([*COMMANDS[name].split(), *required, "--no-such-thing", "1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--no-such-thing" in said


@pytest.mark.parametrize("name", STAGES)
def test_a_required_setting_that_is_missing_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMANDS[name].split()) == 2
    assert "requires an argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stesp = 3", "unknown setting 'stesp'; known are"),
        ("config = 'x'", "unknown setting 'config'"),
        ("[pretrain]\nsteps = 3", "unknown setting 'pretrain'"),
        ("steps = 2.5", "2.5"),
        ("steps = true", "steps"),
        ("lr = 'fast'", "unable to convert"),
        ("precision = 'fp8'", "fp8"),
        ("steps = ", "is not TOML"),
    ],
)
def test_a_bad_file_of_settings_is_one_line(
    pretrain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    assert run([*pretrain.split(), "--config", str(tmp_path / "bad.toml")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
    assert not (tmp_path / "run").exists()


def test_a_file_of_settings_that_is_missing_is_one_line(pretrain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*pretrain.split(), "--config", "nowhere.toml"]) == 2
    assert capsys.readouterr().err == "palmier: nowhere.toml can not be read: No such file or directory\n"


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(
    pretrain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # "data" is also the name of a command: it must not get lost.
    data = pretrain.split()[2]
    rest = [*pretrain.split()[:1], *pretrain.split()[3:]]
    (tmp_path / "s.toml").write_text(f"data = '{data}'\nsteps = 3\nlr = 1\nprecision = 'fp32'\n")
    assert run([*rest, "--config", str(tmp_path / "s.toml"), "--steps", "4"]) == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (settings["steps"], settings["lr"], settings["precision"], settings["batch"]) == (4, 1.0, "fp32", 2)
    assert (settings["data"], settings["decay"]) == (data, 0.4)


def test_it_ends_with_what_it_made_and_what_to_do_next(
    pretrain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*pretrain.split(), "--steps", "2"]) == 0
    made, then = capsys.readouterr().out.splitlines()
    assert made == f"Made {tmp_path / 'run' / 'step-2'}"
    assert then == NEXT["pretrain"].format(out=tmp_path / "run" / "step-2")
    assert run([*pretrain.split(), "--steps", "2"]) == 0  # finished: says the same again
    assert capsys.readouterr().out.splitlines() == [made, then]
    assert run([*pretrain.split(), "--steps", "3"]) == 2
    assert "begun with steps = 2, not 3" in capsys.readouterr().err


@pytest.mark.parametrize("name", STAGES)
def test_what_to_do_next_is_a_command_that_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(NEXT[name].format(out="DIR").partition(": ")[2])
    assert words[0] == "palmier"
    command = [word for word in words[1:3] if word.islower()]
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word in shown, word


def test_numbers_are_not_rounded(pretrain: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*pretrain.split(), "--steps", "2.5"]) == 2
    assert "--steps" in capsys.readouterr().err


def test_one_stage_does_not_load_another(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom palmier.cli.app import run\nrun(['sft', '--help'])\n"
        "assert 'palmier.train.sft' in sys.modules and 'palmier.train.ppo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["sft", "dpo", "reward", "tokenizer", "data", "serve", "improve", "score"])
def test_a_place_where_nothing_can_be_written_is_one_line(
    tiny_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A folder below a plain file can not be made by anybody, as on a disk that is read only."""
    (tmp_path / "file").write_text("a file", "utf-8")
    (tmp_path / "text.txt").write_text("Ada met Bo. " * 200, "utf-8")
    out = tmp_path / "file" / "out"
    monkeypatch.setenv("PALMIER_HOME", str(out))
    answers = '{"messages": [{"role": "user", "content": "Who?"}], "answers": ["Ada.", "Bo."]}\n'
    (tmp_path / "answers.jsonl").write_text(answers, "utf-8")
    lines = {
        "sft": f"sft --model {tiny_world.model} --data {tiny_world.conversations} --out {out}",
        "dpo": f"dpo --model {tiny_world.model} --data {tiny_world.rankings} --out {out}",
        "reward": f"reward train --model {tiny_world.model} --data {tiny_world.rankings} --out {out}",
        "tokenizer": f"tokenizer train {tmp_path / 'text.txt'} --vocab-size 270 --out {out}",
        "data": f"data prepare {tmp_path / 'text.txt'} --tokenizer {tiny_world.tokenizer} --out {out}",
        "serve": f"serve --model {tiny_world.model} --port 0",
        "improve": "improve",
        "score": f"reward score {tmp_path / 'answers.jsonl'} --model {tiny_world.reward} --out {out / 'x.jsonl'}",
    }
    assert run(shlex.split(lines[command])) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("palmier: ")]
    assert len(said) == 1
    assert str(tmp_path / "file") in said[0]
    assert (tmp_path / "file").read_text("utf-8") == "a file"
