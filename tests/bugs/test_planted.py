"""Every known bug, planted for real: the test that should notice it turns red (see plant.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_planted_bug_is_noticed() -> None:
    command = [sys.executable, str(Path(__file__).parent / "plant.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
