"""The room's commands, as a person gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmier.cli.app import run
from palmier.data.shards import Shards
from palmier.data.tokenizer import Tokenizer
from palmier.records import Document


@pytest.fixture
def texts(documents: list[Document], tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, document in enumerate(documents[:40]):
        (folder / f"{number}.txt").write_text(document.text, "utf-8")
    return folder


def test_text_becomes_a_tokenizer_and_shards(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokenizer", "train", str(texts), "--out", str(tmp_path / "tok"), "--vocab-size", "300"]) == 0
    assert "300 tokens. Written to" in capsys.readouterr().out
    tokenizer = Tokenizer.load(tmp_path / "tok")
    assert tokenizer.size == 300
    command = ["data", "prepare", str(texts), "--out", str(tmp_path / "shards"), "--tokenizer", str(tmp_path / "tok")]
    assert run(command) == 0
    out = capsys.readouterr().out
    manifest = Shards(tmp_path / "shards", tokenizer).manifest
    assert f"train: {manifest.splits['train'].documents} documents, {manifest.splits['train'].tokens:,} tokens" in out
    assert sum(split.documents for split in manifest.splits.values()) == 40
    assert run([*command, "--validation", "0.5", "--seed", "3"]) == 0
    assert Shards(tmp_path / "shards").manifest.validation == 0.5


def test_a_tokenizer_that_wants_more_than_the_text_has_says_so(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tokenizer", "train", str(texts), "--out", str(tmp_path / "tok"), "--vocab-size", "9000"]) == 0
    assert "no more pairs to merge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "prepare", "EMPTY", "--out", "OUT", "--tokenizer", "nowhere"], "No text in"),
        (["data", "prepare", "TEXTS", "--out", "OUT", "--tokenizer", "nowhere"], "nowhere is no model"),
        (["data", "prepare", "TEXTS", "--out", "OUT"], "--tokenizer"),
        (["data", "prepare", "--out", "OUT", "--tokenizer", "nowhere"], "no files given"),
        (["data", "prepare", "TEXTS", "--out", "OUT", "--tokenizer", "x", "--split", "2"], "--split"),
        (["tokenizer", "train", "TEXTS", "--out", "TEXTS"], "which would be lost"),
        (["tokenizer", "train", "TEXTS", "--out", "OUT", "--vocab-size", "5"], "too small"),
        (["tokenizer", "train", "BAD", "--out", "OUT"], "bad.jsonl:2: not JSON"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    words: list[str], said: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    names = {"TEXTS": texts, "EMPTY": tmp_path / "empty", "OUT": tmp_path / "out", "BAD": tmp_path / "bad.jsonl"}
    before = sorted(path.name for path in texts.iterdir())
    assert run([str(names.get(word, word)) for word in words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in texts.iterdir()) == before
