"""The small models, made once for all workers of a test run, and a home for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palmier.workspace import Workspace

from .home import Models, Server, make_home, running, shared_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return shared_models(tmp_path_factory)


@pytest.fixture
def home(tmp_path: Path, models: Models) -> Callable[..., Workspace]:
    """Make this test's home out of models' names: 0001, 0002 … in this order, 0001 answers."""
    return lambda *names: make_home(tmp_path / "home", models, *names)


@pytest.fixture
def first(home: Callable[..., Workspace]) -> Iterator[Server]:
    """A server whose one version says that it is the first."""
    with running(home("first")) as server:
        yield server
