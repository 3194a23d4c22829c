"""A hub, models to offer on it, and `palmier` as a process with a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder

from .hub import Hub, running_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield running


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory, tiny_world: Any) -> Path:
    """A model of 27 MB: larger than what the hub's client writes at a time (10 MB)."""
    from palmier.train.checkpoint import copy_tokenizer

    folder = tmp_path_factory.mktemp("large")
    save(Decoder.create(ModelConfig.palm(300, 512, 2, 8, max_positions=64), 1), folder)
    copy_tokenizer(tiny_world.tokenizer, folder)
    return folder


@pytest.fixture
def palmier(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in the home ``tmp_path/home``."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PALMIER_HOME": str(tmp_path / "home")} | variables
        command = [sys.executable, "-m", "palmier", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run
