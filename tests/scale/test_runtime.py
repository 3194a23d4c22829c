"""Random draws that depend on their parts alone, and what this machine is."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from palmier.scale import runtime


def draw(*parts: int | str) -> list[int]:
    return torch.randint(1 << 30, (4,), generator=runtime.generator(*parts)).tolist()


def test_equal_parts_give_equal_draws_in_every_process() -> None:
    program = (
        "import torch; from palmier.scale.runtime import generator; "
        "print(torch.randint(1 << 30, (4,), generator=generator(7, 'sft', 3, 'order')).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(draw(7, "sft", 3, "order"))


def test_other_parts_give_other_draws() -> None:
    parts = [(1,), ("1",), (1, 1), (11,), (1, "a"), ("1a",), ("a", 1), (2,), ()]
    assert len({tuple(draw(*part)) for part in parts}) == len(parts)


def test_global_state_is_neither_read_nor_moved() -> None:
    before = torch.get_rng_state()
    first = draw("x")
    torch.manual_seed(5)
    assert draw("x") == first
    torch.set_rng_state(before)
    draw("y")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_format_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, dtype in (({"avx2": True}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert runtime.default_dtype() == dtype == runtime.choose_dtype("auto")
    assert runtime.choose_dtype("fp32") == torch.float32
    assert runtime.choose_dtype("bf16") == torch.bfloat16


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert not runtime.has_compiler()
