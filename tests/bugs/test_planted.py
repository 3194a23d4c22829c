"""Every known bug, planted for real: the test that should notice it turns red (see plant.py)."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from plant import ROOT, Mutation, copy_source, mutations, plant, share

MUTATIONS = mutations()
PLANTED = share(MUTATIONS)


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    copy_source(folder)
    return folder


def test_no_two_bugs_share_a_name() -> None:
    assert max(Counter(mutation.name for mutation in MUTATIONS).values()) == 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_every_planting_still_fits_the_source(mutation: Mutation) -> None:
    assert (ROOT / "src" / "palmier" / mutation.file).read_text("utf-8").count(mutation.old) == 1
    for name in mutation.tests:
        assert (ROOT / "tests" / name.partition("::")[0]).is_file()


@pytest.fixture(scope="session")
def budget() -> list[float]:
    """Seconds left for planting, a worker: a slow machine plants fewer, in the same time. No end where none is set."""
    return [float(os.environ.get("PLANTED_SECONDS", "inf"))]


@pytest.mark.long
@pytest.mark.parametrize("mutation", PLANTED, ids=[mutation.name for mutation in PLANTED])
def test_every_planted_bug_is_noticed(mutation: Mutation, copy: Path, budget: list[float]) -> None:
    if budget[0] <= 0:
        pytest.skip("the time for planted bugs is over")
    began = time.monotonic()
    assert plant(mutation, copy)
    budget[0] -= time.monotonic() - began
