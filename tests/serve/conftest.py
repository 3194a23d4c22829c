"""The small models, made once for all workers of a test run, and a home for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palmier.workspace import Workspace

from ..feedback.postgres import Cluster, running_cluster  # noqa: TID252  # tests are no package: the one way to a neighbour
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


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    """A server in fp32, where numbers do not depend on the company."""
    home = make_home(tmp_path_factory.mktemp("varied") / "home", models, "varied")
    with running(home, "fp32") as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server; the test is skipped where there is none."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def database(postgresql: Cluster) -> str:
    """The address of a new database of PostgreSQL."""
    return postgresql.new_database()
