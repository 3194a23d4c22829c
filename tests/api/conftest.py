"""The server tests' small models, loaded as a Python program loads them; closed before other modules count threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import palmier

from ..serve.home import Models, shared_models  # noqa: TID252  # tests are no package: the one way to a neighbour


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return shared_models(tmp_path_factory)


@pytest.fixture(scope="module")
def parrot(models: Models) -> Iterator[palmier.Model]:
    """Says one sentence full of characters of several bytes."""
    with palmier.load(models["unicode"]) as model:
        yield model


@pytest.fixture(scope="module")
def varied(models: Models) -> Iterator[palmier.Model]:
    with palmier.load(models["varied"]) as model:
        yield model


@pytest.fixture(scope="module")
def endless(models: Models) -> Iterator[palmier.Model]:
    """Slow, and never stops by itself."""
    with palmier.load(models["endless"]) as model:
        yield model
