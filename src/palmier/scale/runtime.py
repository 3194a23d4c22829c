"""What this machine and this process are: random generators, threads, number format, compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def generator(*parts: int | str) -> torch.Generator:
    """A generator whose seed is a hash of ``parts``, by habit (seed, stage, step, purpose).

    Equal parts give equal draws in every process; there is no global state to save. ``1`` and
    ``"1"`` are different parts.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def threads() -> int:
    """How many threads one operator uses; sums are bit-equal only where this is equal."""
    return torch.get_num_threads()


def default_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it natively (AVX512-BF16, AMX, Arm BF16), else float32."""
    # Older releases cannot say; float32 is right everywhere.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if native else torch.float32


def choose_dtype(precision: str) -> torch.dtype:
    """The number format that a ``precision`` of auto, fp32 or bf16 means on this machine."""
    return {"auto": default_dtype(), "fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def has_compiler() -> bool:
    """Whether torch.compile can build code here: a C++ compiler and Python's C headers."""
    compiler = os.environ.get("CXX") or "g++"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return (shutil.which(compiler) or shutil.which("clang++")) is not None and header.is_file()


def deterministic() -> None:
    """Make every operator of this process give the same bits for the same input.

    Fresh memory is not filled with NaN, as torch would then do by default: it costs time, and
    the tests of resumed runs would show an operator that reads what it has not written.
    """
    torch.use_deterministic_algorithms(True)
    # torch leaves this switch out of its type stubs
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
