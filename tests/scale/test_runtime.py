"""Random draws that depend on their parts alone, and what this machine is."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.scale import runtime
from palmier.train.pretrain import Settings, run

ROOT = Path(__file__).parents[2]


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


def told(script: str, *words: str, **settings: str) -> float:
    """The number that a program prints in a process of its own, which knows benchmarks/ and bounds no programs yet."""
    bounds = (*runtime._CACHES, "MKL_DISABLE_FAST_MM")
    inherited = {name: value for name, value in os.environ.items() if name not in bounds}
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"} | settings
    command = [sys.executable, "-c", script, *words]
    return float(subprocess.run(command, env=inherited | own, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what it keeps")
def test_freed_memory_stays_with_the_process() -> None:
    """100 MB in blocks of 20 are freed: what the C library itself says that it holds on to, by malloc's books."""
    script = (
        "import sys, torch; from benchmarks.memory import idle; from palmier.scale.runtime import keep_memory\n"
        "assert sys.argv[1] == 'plain' or keep_memory()\n"
        "blocks = [torch.ones(5_000_000) for _ in range(5)]; del blocks\n"
        "print(idle())"
    )
    plain, kept = (told(script, how) for how in ("plain", "kept"))
    assert kept > 90e6 > 10e6 > plain, (kept, plain)


def test_without_glibc_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: object())
    assert not runtime.keep_memory()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize(("own", "found"), [(None, "miss"), ("2000", "hit")])
def test_onednn_forgets_programs_beyond_the_bound(own: str | None, found: str) -> None:
    """Products of one more shape than are kept, and then the first one again: oneDNN tells whether it still had it."""
    script = (
        "import torch; from palmier.scale.runtime import FEW, keep_programs\n"
        "keep_programs(FEW)\n"
        "ordered = torch.ops.mkldnn._reorder_linear_weight(torch.ones(8, 8), 16)\n"
        "for rows in (*range(1, FEW + 2), 1):\n"
        "    torch.ops.mkldnn._linear_pointwise(torch.ones(rows, 8), ordered, None, 'none', [], '')\n"
    )
    settings = {"ONEDNN_VERBOSE": "profile_create"} | ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": own} if own else {})
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=inherited | settings, capture_output=True, text=True, check=True
    )
    products = [line for line in done.stdout.splitlines() if "create:cache_" in line and "inner_product" in line]
    assert f"create:cache_{found}" in products[-1]


SHAPES = """
import torch
from benchmarks.memory import in_use
from palmier.scale.runtime import FEW, keep_programs
keep_programs(FEW)
ordered = torch.ops.mkldnn._reorder_linear_weight(torch.ones(64, 64), 16)
def meet(rows):
    for count in rows:
        torch.ops.mkldnn._linear_pointwise(torch.ones(count, 64), ordered, None, "none", [], "")
meet(range(1, FEW + 100))
before = in_use()
meet(range(FEW + 100, FEW + 500))
print((in_use() - before) / 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what is in use")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_memory_does_not_grow_with_the_shapes_of_products() -> None:
    """400 shapes more than are kept: a few MiB stay in use with the bound, a hundred with torch's own."""
    bounded, unbounded = (told(SHAPES, **own) for own in ({}, dict.fromkeys(runtime._CACHES, "1024")))
    assert bounded < 10 < 40 < unbounded


BUFFERS = """
import sys
if sys.argv[1] == "palmier":
    import palmier
import torch
from benchmarks.memory import in_use
torch.ones(8, 8) @ torch.ones(8, 8)
before = in_use()
for rows in range(300, 1500, 100):
    torch.ones(rows, 576) @ torch.ones(576, 2 * rows)
print((in_use() - before) / 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc from 2.33 on tells what is in use")
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch without MKL")
def test_mkl_keeps_no_buffers() -> None:
    """Products of growing size: nothing stays in use, where MKL by its own choice keeps MiB of them."""
    with_palmier, by_itself = (told(BUFFERS, who) for who in ("palmier", "torch alone"))
    assert with_palmier < 1 < 4 < by_itself  # 8 to 46, by the processor


API = "import palmier; palmier.load"
COMMAND = "import sys; from palmier.cli.app import run; run([*sys.argv[1:], '--model', '/nowhere'])"


@pytest.mark.parametrize(
    ("script", "words", "own", "spins"),
    [
        (API, [], {}, "5000"),
        (API, [], {"GOMP_SPINCOUNT": "70"}, "70"),
        (API, [], {"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
        (COMMAND, ["generate", "Hello"], {}, "5000"),
        (COMMAND, ["chat"], {}, "5000"),
        (COMMAND, ["serve", "--port", "0"], {}, "5000"),
        ("import palmier, torch", [], {}, "300000"),
    ],
    ids=["the API", "a number is set", "a policy is set", "generate", "chat", "serve", "training"],
)
def test_threads_of_what_answers_spin_for_microseconds(
    script: str, words: list[str], own: dict[str, str], spins: str, tmp_path: Path
) -> None:
    """As libgomp itself tells it, once torch is there; whoever set a variable is obeyed."""
    variables = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    inherited = {name: value for name, value in os.environ.items() if name not in variables}
    settings = {"OMP_DISPLAY_ENV": "VERBOSE", "PALMIER_HOME": str(tmp_path)} | own
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=True, input="")
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch's OpenMP is not GNU's")
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr) == [spins]


def test_training_keeps_many_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_world: Any) -> None:
    """Its shapes come again with every batch, forward and backward."""
    for name in runtime._CACHES:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    settings = Settings(
        out=tmp_path / "base", data=tiny_world.shards, tokenizer=tiny_world.tokenizer, layers=1, hidden_size=32,
        heads=2, length=32, batch=4, steps=1, precision="fp32",
    )  # fmt: skip
    run(settings)
    assert {os.environ[name] for name in runtime._CACHES} == {str(runtime.MANY)}
