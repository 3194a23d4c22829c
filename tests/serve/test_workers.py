"""Whose products have worker threads: the engine's alone, or each of them ends in a sleep (`runtime.release_workers`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palmier.workspace import Workspace

from ..conftest import TinyWorld  # noqa: TID252  # tests are no package: the one way to a neighbour

TASKS = Path("/proc/self/task")

pytestmark = pytest.mark.skipif(
    not (TASKS.is_dir() and "/libgomp" in Path("/proc/self/maps").read_text("utf-8")),
    reason="the system does not tell a process's threads, or torch's OpenMP isn't libgomp",
)

BEGIN = """
import asyncio, os, sys, threading
from pathlib import Path
import palmier, torch
from palmier.records import Conversation
from palmier.serve.score import Scorer
from palmier.versions import Versions
from palmier.workspace import Workspace

def native():
    "Threads that Python knows nothing of."
    return len(os.listdir("/proc/self/task")) - threading.active_count()

idle = native()
"""

LOADED = (
    BEGIN
    + """
folder = Path(sys.argv[1])
torch.ones(2000, 2000).exp()  # what the program had done itself
assert native() - idle == 1
with palmier.load(folder) as model:
    assert native() - idle == 0, "who has loaded keeps none"
    model.generate("Who are you?", 2, max_tokens=4)
    print(native() - idle)
"""
)

FOLLOWED = (
    BEGIN
    + """
from palmier.serve.live import Live
versions = Versions(Workspace(Path(sys.argv[1])))
live = Live(versions)

async def scene():
    asked = Conversation.ask("Who are you?")
    from palmier.records import Sampling
    for name in ("0001", "0002"):
        turn = await live.answer(asked, Sampling(max_tokens=4), version=name)
        async for _ in turn.pieces():
            pass

asyncio.run(scene())
print(native() - idle)
live.close()
"""
)

SCORED = (
    BEGIN
    + """
async def scene():
    await Scorer(Workspace(Path(sys.argv[1]))).score("taste", Conversation.ask("Who met Ada?"), ["Bo did."] * 40)
    print(native() - idle)

asyncio.run(scene())
"""
)


def workers(program: str, *words: Path) -> int:
    """How many worker threads a process of its own tells, whose products are cut in two."""
    settings = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_whoever_has_loaded_a_model_keeps_none(home: Callable[..., Workspace]) -> None:
    """Nor what the program's own products had, before it loaded one."""
    assert workers(LOADED, home("first").versions / "0001") == 1


def test_nor_does_the_thread_that_loads_another_version(home: Callable[..., Workspace]) -> None:
    assert workers(FOLLOWED, home("first", "second").home) == 1


def test_nor_does_a_thread_that_has_scored(tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "taste").symlink_to(tiny_world.reward)
    assert workers(SCORED, tmp_path) == 0
