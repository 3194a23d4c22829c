"""A model that a request over the network may name: one in the home, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmier.models.names import inside
from palmier.workspace import Workspace


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", "utf-8")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A home with a model beside it, in the folder where the process stands."""
    model(tmp_path / "outside")
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path / "home")
    for name in ("taste", ".hidden"):
        model(workspace.models / name)
    return workspace


def test_by_name_or_by_its_place_in_the_home(workspace: Workspace) -> None:
    assert inside("taste", workspace) == workspace.models / "taste"
    assert inside("models/taste", workspace) == workspace.models / "taste"
    step = model(workspace.home / "improve" / "0003" / "reward" / "step-4")
    (step.parent / "latest").write_text("step-4", "utf-8")
    assert inside("improve/0003/reward", workspace) == step
    assert inside("owner/name", workspace) is None
    owned = model(workspace.models / "owner" / "name")
    assert inside("owner/name", workspace) == owned


@pytest.mark.parametrize(
    "name",
    [
        "outside",
        "../outside",
        "models/../../outside",
        "{home}/../outside",
        "{home}/models/taste",
        ".hidden",
        "./taste",
        "taste/",
        "//taste",
        "",
        ".",
        "..",
        "taste\x00",
        "taste\n",
        "~",
        "smollm2",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "judge.py:taste",
    ],
)
def test_nothing_else(workspace: Workspace, name: str) -> None:
    assert inside(name.format(home=workspace.home), workspace) is None
