"""`palmier improve` killed for good in every part goes on, and ends where an undisturbed one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palmier.versions import Versions
from palmier.workspace import Workspace

pytestmark = pytest.mark.long

PARTS = ("2 of 6", "3 of 6", "4 of 6", "5 of 6", "6 of 6")


def improve_until(home: Path, mark: str, seconds: float) -> int:
    """Run the command; kill it ``seconds`` after it says ``mark``. Returns its exit status, -9 where it was killed."""
    command = [sys.executable, "-m", "palmier", "improve", "--precision", "fp32", "--home", str(home)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith(mark):
            time.sleep(seconds)
            child.send_signal(signal.SIGKILL)
            break
    reader = threading.Thread(target=child.stderr.read)
    reader.start()
    status = child.wait(timeout=120)
    reader.join()
    return status


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_in_every_part_it_ends_where_an_undisturbed_one_does(
    seed: int, home: Path, undisturbed: Path, spoken: Any
) -> None:
    rng = random.Random(seed)
    killed = 0
    for part in PARTS:
        # Twice: at the very beginning of the part, and somewhere in it.
        for seconds in (0.0, rng.random()):
            killed += improve_until(home, part, seconds) == -signal.SIGKILL
            current = Versions(Workspace(home)).current()
            assert current is not None
            Versions(Workspace(home)).verify(current)
    assert killed >= 6
    while not (Workspace(home).improve / "0001" / "outcome.json").is_file():
        assert improve_until(home, "never", 0) == 0
    versions = Versions(Workspace(home))
    first, second = versions.get("0002"), Versions(Workspace(undisturbed)).get("0002")
    assert first.card["hashes"] == second.card["hashes"]
    assert first.card["evidence"] == second.card["evidence"]
    assert [v.card.get("improve") for v in versions.all()].count("0001") == 1
    assert not list(Workspace(home).improve.glob(".partial-*")) or killed
