"""What `experiments.busy` does: processes that take turns, each with its own number of spins, beside others that count."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import busy

from palmier.workspace import read_json

from ..serve.home import Models  # noqa: TID252  # tests are no package: the one way to a neighbour


@pytest.mark.long
def test_each_program_is_measured_in_each_round(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy, "SPINS", (70, 0))
    monkeypatch.setattr(busy, "BUSY", (0, 1))
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")  # so that it is as before afterwards
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    out = tmp_path / "busy.json"
    words = ["busy", "--model", str(models["varied"]), "--rounds", "2", "--tokens", "4", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    assert busy.main() == 0
    found = read_json(out)["beside"]
    assert {others: sorted(programs) for others, programs in found.items()} == {"0": ["0", "70"], "1": ["0", "70"]}
    assert all(len(rounds) == 2 and min(rounds) > 0 for programs in found.values() for rounds in programs.values())
