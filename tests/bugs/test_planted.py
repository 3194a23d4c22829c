"""Every known bug, planted for real: the test that should notice it turns red (see plant.py)."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import palmier

HERE = Path(__file__).parent
MUTATIONS = tomllib.loads((HERE / "mutations.toml").read_text("utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation["name"] for mutation in MUTATIONS])
def test_every_planting_still_fits_the_source(mutation: dict[str, str]) -> None:
    text = (Path(palmier.__file__).parent / mutation["file"]).read_text("utf-8")
    assert text.count(mutation["old"]) == 1
    for name in mutation["tests"]:
        assert (HERE.parent / name).is_file()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_planted_bug_is_noticed() -> None:
    done = subprocess.run([sys.executable, str(HERE / "plant.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
