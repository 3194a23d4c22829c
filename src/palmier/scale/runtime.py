"""What this machine and this process are: random generators, threads, number format, compiler."""

from __future__ import annotations

import contextlib
import ctypes
import functools
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


KEPT = 512 << 20
"""Bytes of freed memory that `keep_memory` lets a process hold on to."""

_MMAP_LIMIT = 32 << 20
"""The largest value that glibc takes: blocks of up to so many bytes come out of the memory that is kept."""

_OPTIONS = {-1: KEPT, -3: _MMAP_LIMIT, -8: 1}
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of malloc.h."""


def keep_memory() -> bool:
    """Let freed memory of up to ``KEPT`` bytes stay with the process; False where the C library isn't glibc.

    By default glibc hands a freed block of a few MB back to the system at once, and the next operator's result
    is fresh memory, which the system clears page by page: for a norm of a few hundred rows that takes longer than
    the norm. What is kept is kept once, for all threads: with an arena for each, memory freed in one is of no use in
    another. It changes speed and resident memory, never a number.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl have none, Windows no library without a name
        return False
    return all(mallopt(option, value) == 1 for option, value in _OPTIONS.items())


def give_back() -> None:
    """Return to the system what was freed and stayed with the process; nothing where the C library isn't glibc.

    `keep_memory` keeps pages that small blocks still in use hold apart, and under ever new shapes they become more.
    What is needed again afterwards comes as fresh memory.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


_PAUSE_HARD = 2
"""omp_pause_hard of omp.h."""


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """The libgomp that torch multiplies with; None where it has another OpenMP."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text("utf-8", "replace").splitlines() if maps.is_file() else []
    found = next((line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line), None)
    return None if found is None else ctypes.CDLL(found)


def release_workers() -> None:
    """End the OpenMP threads that work for the calling thread; its next large product starts new ones.

    Whoever has loaded a model and leaves the products to another thread calls it. libgomp spins at the end of a product
    only while a process has no more such threads than processors, idle ones included; with one more each product ends
    in a sleep, and a model of 135 M parameters then decodes at two thirds of its speed. Nothing where OpenMP is another
    library. It changes speed, never a number.
    """
    library = _openmp()
    if library is not None:
        with contextlib.suppress(AttributeError):  # older than OpenMP 5.0
            library.omp_pause_resource_all(_PAUSE_HARD)


FEW, MANY = 64, 4096
"""Products' programs that a server and a training keep: each is for one shape, 60 to 180 KB. The libraries' own bound is 1,024."""

_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""The variables of oneDNN's own cache of programs, and of the one that torch (through ideep) keeps above it."""


def keep_programs(count: int) -> None:
    """Let oneDNN, and torch above it, keep the programs of ``count`` products' shapes.

    ``FEW`` for a server, which meets ever new shapes and grows with each. ``MANY`` for training: forward and backward
    have more than a thousand, all of which the next batch needs again, and what was forgotten is made anew in
    milliseconds: with ``FEW``, PPO took a quarter longer. Read once, at a process's first product, so later calls change
    nothing; whoever set a variable is obeyed. It changes speed and memory, never a number.
    """
    for name in _CACHES:
        os.environ.setdefault(name, str(count))


def deterministic() -> None:
    """Make every operator of this process give the same bits for the same input.

    Fresh memory is not filled with NaN, as torch would then do by default: it costs time, and
    the tests of resumed runs would show an operator that reads what it has not written.
    """
    torch.use_deterministic_algorithms(True)
    # torch leaves this switch out of its type stubs
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
