"""A tokenizer trained on a little text in several scripts, shared by the room's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palmier.data.template import Template
from palmier.data.tokenizer import Tokenizer, train
from palmier.records import Document

LINES = (
    "The harbour office opens at 8 and the baker's shop at 7; we'll meet there on 24 March 2026.",
    "Dear Mrs Hill,\n\nthe rent for April is late. I'll pay the 350 euros on Friday.\n\nYours,\nAda",
    "def twice(numbers):\n    return [2 * number for number in numbers if number > 10]\n",
    "Ünïcode: naïve café, Привет мир, こんにちは世界, مرحبا, 🦙🌴 — 3½ and ²³.",
    "system user assistant\nYou are a helpful assistant.\n",
)


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return [Document(f"{LINES[n % len(LINES)]} Note {n}.", f"notes.txt:{n + 1}") for n in range(120)]


@pytest.fixture(scope="session")
def tokenizer(documents: list[Document]) -> Tokenizer:
    return train(documents, 500)


@pytest.fixture(scope="session")
def template(tokenizer: Tokenizer) -> Template:
    return Template(tokenizer)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that some tests read; where it is missing they are skipped."""
    folder = Path(os.environ.get("PALMIER_TEST_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set PALMIER_TEST_DATA")
    return folder
