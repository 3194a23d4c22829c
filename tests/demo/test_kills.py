"""The demo killed by -9 at random moments and begun again ends as an undisturbed one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from palmier.demo.sizes import Size
from palmier.workspace import latest_step

SCRIPT = """
import json, sys
from pathlib import Path
from palmier.demo import chain
from palmier.demo.pipeline import Demo
from palmier.demo.sizes import Size
values = json.loads(sys.argv[2])
values["curve"] = tuple(values["curve"])
chain.run(Demo(Path(sys.argv[1]), Size(**values), 5), "palmier demo", print)
"""


def _start(out: Path, size: Size) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(out), json.dumps(dataclasses.asdict(size))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the demo and the server that it may have started, all at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(out: Path) -> dict[str, Any]:
    """All that must not depend on the interruptions."""
    results = json.loads((out / "results.json").read_text())
    kept = {key: results[key] for key in ("requests", "volunteers", "ppo", "comparison", "promoted", "server")}
    for run in ("pretrain", "sft", "dpo", "ppo", "reward-40"):
        weights = latest_step(out / "runs" / run) / "model.safetensors"
        kept[run] = hashlib.sha256(weights.read_bytes()).hexdigest()
    kept["versions"] = sorted(path.name for path in (out / "home" / "versions").iterdir())
    return kept


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_kills_at_random_moments_change_nothing(tiny: Size, tmp_path: Path) -> None:
    started = time.monotonic()
    assert _start(tmp_path / "calm", tiny).wait() == 0
    seconds = time.monotonic() - started
    draw = random.Random(os.environ.get("PALMIER_KILL_SEED", "1"))
    kills = 0
    while True:
        process = _start(tmp_path / "stormy", tiny)
        try:
            process.wait(timeout=draw.uniform(0.1, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 2
    assert _outcome(tmp_path / "stormy") == _outcome(tmp_path / "calm")
