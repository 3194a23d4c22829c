"""`palmier export` and `palmier import`, as a person gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palmier.cli.app import run
from palmier.model import checkpoint
from palmier.model.config import ModelConfig

from .llama_cpp import LlamaCpp

Write = Callable[[ModelConfig, int], Path]

PALM = ModelConfig.palm(400, 64, 2, 4, max_positions=64)


@pytest.mark.parametrize(("kind", "megabytes"), [(None, "0.3"), ("bf16", "0.3"), ("q8_0", "0.2")])
def test_out_to_llama_cpp_and_back(
    kind: str | None, megabytes: str, folder_of: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file, back = folder_of(PALM, 0), tmp_path / "made" / "palm.gguf", tmp_path / "back"
    assert run(["export", str(folder), "--out", str(file), *(["--type", kind] if kind else [])]) == 0
    out = capsys.readouterr().out
    assert f"command-r, 144,576 parameters, {megabytes} MB. Written to {file}" in out
    assert f"Next: llama-cli -m {file}" in out
    assert LlamaCpp(file).greedy([5, 9], 3)
    assert run(["import", str(file), "--out", str(back)]) == 0
    out = capsys.readouterr().out
    assert f"PaLM, 2 blocks, 400 tokens. Written to {back}" in out
    assert f"Next: palmier serve --model {back}" in out
    assert checkpoint.load(back).config.family == "palm"
    assert (back / "tokenizer.json").is_file()
    assert run(["import", str(file), "--out", str(back)]) == 0, "a model's folder may be made again"
    assert run(["export", str(back), "--out", str(file)]) == 0, "so may a GGUF"
    assert [path.name for path in file.parent.iterdir()] == ["palm.gguf"]


def test_what_lies_at_the_target_is_not_lost(
    folder_of: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file, other = folder_of(PALM, 0), tmp_path / "palm.gguf", tmp_path / "letters"
    assert run(["export", str(folder), "--out", str(file)]) == 0
    other.mkdir()
    (other / "letter.txt").write_text("Dear Ada")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refusals = [
        (["import", str(file), "--out", str(other)], "letter.txt"),
        (["import", str(file), "--out", str(file)], "is a file"),
        (["export", str(folder), "--out", str(other)], "is a folder"),
        (["export", str(folder), "--out", str(other / "letter.txt")], "another kind of file"),
        (["export", str(other), "--out", str(tmp_path / "x.gguf")], "is no model"),
        (["export", str(folder), "--out", str(tmp_path / "x.gguf"), "--type", "q4_0"], "q4_0"),
        (["import", str(folder), "--out", str(tmp_path / "x")], "missing"),
    ]
    capsys.readouterr()
    for command, words in refusals:
        assert run(command) == 2, command
        error = capsys.readouterr().err
        assert words in error
        assert error.startswith("palmier: ")
        assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_reward_model_is_not_exported(folder_of: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from palmier.model.heads import RewardModel

    folder = folder_of(PALM, 0)
    checkpoint.save(RewardModel.from_decoder(checkpoint.load(folder), 0), folder, torch.float32)
    assert run(["export", str(folder), "--out", str(tmp_path / "x.gguf")]) == 2
    assert "holds a reward model" in capsys.readouterr().err
