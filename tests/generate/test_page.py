"""The example on the documentation's page runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palmier.data.tokenizer import train
from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Document

PAGE = Path(__file__).parents[2] / "docs" / "generate.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "assistant"
    folder.mkdir()
    tokenizer = train([Document("Ada had tea and Bo paid.", "here")] * 3, 300)
    save(Decoder.create(ModelConfig.palm(tokenizer.size, 32, 2, 2, max_positions=128), 0), folder)
    tokenizer.save(folder)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("length ", "stop ")) for line in lines) == 8
