"""A tokenizer, its template and a tiny PaLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from palmier.data import tokenizer
from palmier.data.template import Template
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Document

from .postgres import Cluster, running_cluster


@pytest.fixture(scope="session")
def template() -> Template:
    text = "Dear Ann, the meeting is at noon. Please bring the red book and a cup of tea. Yours, Bob. " * 3
    return Template(tokenizer.train([Document(text, "here")], 320))


@pytest.fixture
def decoder(template: Template) -> Decoder:
    return Decoder.create(ModelConfig.palm(template.tokenizer.size, 32, 2, 2, max_positions=128), seed=3)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server; the test is skipped where there is none."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new store may lie: a file, and a database of PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "home" / "feedback.sqlite"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.new_database()
