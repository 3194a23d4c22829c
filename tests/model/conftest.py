"""Tokenizers and small models that the GGUF tests write into folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palmier.data.tokenizer import Tokenizer, train
from palmier.model import checkpoint
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Document

LINES = (
    "The harbour office opens at 8 and the baker's shop at 7; we'll meet there on 24 March 2026.",
    "def twice(numbers):\n    return [2 * number for number in numbers if number > 10]\n",
    "Ünïcode: naïve café, Привет мир, こんにちは世界, مرحبا, 🦙🌴 — 3½ and ²³.",
)


@pytest.fixture(scope="session")
def own() -> Tokenizer:
    """What `palmier tokenizer train` makes: 400 tokens."""
    return train([Document(f"{LINES[n % len(LINES)]} Note {n}.", f"{n}") for n in range(90)], 400)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that some tests read; where it is missing they are skipped."""
    folder = Path(os.environ.get("PALMIER_TEST_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set PALMIER_TEST_DATA")
    return folder


@pytest.fixture
def folder_of(own: Tokenizer, tmp_path: Path) -> Callable[[ModelConfig, int], Path]:
    """Writes a model's folder, its weights by a seed and scaled so that greedy answers wander."""

    def write(config: ModelConfig, seed: int = 0) -> Path:
        folder = tmp_path / f"{config.family}-{seed}"
        folder.mkdir()
        checkpoint.save(wandering(config, seed), folder)
        own.save(folder)
        return folder

    return write


def wandering(config: ModelConfig, seed: int) -> Decoder:
    """Random weights that fp16 holds as they are; norms that are not 1, biases that are not 0."""
    decoder = Decoder.create(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.mul_(3.0 if config.family == "palm" else 12.0)
        if config.family == "palm":
            decoder.model.embed_tokens.weight.mul_(0.03)
            decoder.model.norm.weight.mul_(30.0)
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
    return decoder
