"""Which number format answers, and that a folder is read into it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from palmier.model import checkpoint
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.scale import precision, runtime

LARGE = 135_000_000


@pytest.mark.parametrize(
    ("bf16", "capability", "count", "expected"),
    [
        (True, "AVX512", LARGE, "int8"),
        (True, "AVX512", 3_400_000, "bf16"),
        (True, "AVX2", LARGE, "bf16"),
        (True, "DEFAULT", LARGE, "bf16"),
        (False, "AVX512", LARGE, "int8"),
        (False, "AVX2", LARGE, "int8"),
        (False, "AVX2", 3_400_000, "fp32"),
        (False, "DEFAULT", LARGE, "fp32"),
    ],
)
def test_auto_is_what_is_quickest_here(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, capability: str, count: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert precision.choose("auto", count) == expected
    for asked in ("fp32", "bf16", "int8"):
        assert precision.choose(asked, count) == asked


@pytest.mark.parametrize("asked", ["fp32", "bf16", "int8"])
def test_a_folder_is_read_into_what_was_asked_for(tmp_path: Path, asked: precision.Precision) -> None:
    config = ModelConfig.palm(97, 64, 2, 4, max_positions=32)
    decoder = Decoder.create(config, 0)
    checkpoint.save(decoder, tmp_path)
    assert precision.parameters(tmp_path) == sum(one.numel() for one in decoder.parameters())
    read = precision.load(tmp_path, asked)
    assert read.precision == asked
    assert not read.training
    native = runtime.default_dtype()
    assert read.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": native}[asked]
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        expected, found = decoder.logits(decoder(ids)), read.logits(read(ids))
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < (1e-6 if asked == "fp32" else 0.05)
    assert (error > 1e-4) == (asked != "fp32")


def test_without_a_compiler_int8_answers_all_the_same(tmp_path: Path) -> None:
    """The plain path needs neither a compiler nor Python's headers."""
    checkpoint.save(Decoder.create(ModelConfig.palm(97, 64, 2, 4, max_positions=32), 0), tmp_path)
    program = (
        "import sys, pathlib; from palmier.scale import precision, runtime\n"
        "from palmier.generate.engine import Engine; from palmier.generate.requests import Request\n"
        "from palmier.records import Sampling; assert not runtime.has_compiler()\n"
        "engine = Engine(precision.load(pathlib.Path(sys.argv[1]), 'int8'), slots=1)\n"
        "print(len(engine.run([Request('a', (1, 2, 3), Sampling(0.0, max_tokens=5))])[0][0].tokens))"
    )
    environment = {"PATH": "", "PYTHONPATH": str(Path(runtime.__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "5", done.stderr


def test_the_example_of_the_models_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "assistant").mkdir()
    checkpoint.save(Decoder.create(ModelConfig.palm(97, 64, 2, 4, max_positions=32), 0), tmp_path / "assistant")
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "model.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(compile(example, str(page), "exec"), {})
    assert capsys.readouterr().out.strip() == f"int8 {runtime.default_dtype()}"
