"""`palmier pull`: whole, checked, gone on with after a kill, and one line where it can't be."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.models.names import remove, resolve_model
from palmier.models.pull import pull
from palmier.workspace import Workspace, read_json

from .hub import Hub

NAME = "someone/tiny"
Palmier = Callable[..., subprocess.CompletedProcess[str]]


def same(folder: Path, other: Path) -> bool:
    return all((folder / path.name).read_bytes() == path.read_bytes() for path in other.iterdir())


@pytest.fixture
def offered(hub: Hub, tiny_world: Any, tmp_path: Path) -> Path:
    """A model on the hub, beside files that nobody must ask for."""
    folder = tmp_path / "offered"
    shutil.copytree(tiny_world.model, folder)
    for name in ("pytorch_model.bin", "training_args.bin", "README.md", "evil.py", "model.gguf"):
        (folder / name).write_bytes(b"not asked for")
    hub.hold(NAME, folder)
    hub.repositories[NAME]["onnx/model.safetensors"] = b"elsewhere"
    hub.repositories[NAME]["tokenizer/../../evil.json"] = b"{}"
    return Path(tiny_world.model)


def test_a_pulled_model_is_the_repositorys_and_nothing_else_is_asked_for(
    hub: Hub, offered: Path, palmier: Palmier, tmp_path: Path
) -> None:
    done = palmier("pull", NAME)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "home" / "models" / NAME
    assert same(folder, offered)
    names = {path.rpartition("/")[2] for path, _ in hub.asked}
    assert names == {path.name for path in offered.iterdir()}
    assert {path.name for path in folder.iterdir()} == names | {"source.json"}
    source = read_json(folder / "source.json")
    assert (source["repository"], source["commit"]) == (NAME, hub.commit)
    assert sorted(path.name for path in (tmp_path / "home" / "models").iterdir()) == ["someone"]
    asked = len(hub.asked)
    assert palmier("pull", NAME).returncode == 0
    assert len(hub.asked) == asked, "what is here is not fetched again"


def test_a_repository_as_a_model_is_fetched_and_read(hub: Hub, offered: Path, tmp_path: Path) -> None:
    from palmier.model.checkpoint import load

    home = Workspace(tmp_path / "home")
    folder = resolve_model(NAME, home)
    assert load(folder).config == load(offered).config
    assert resolve_model(NAME, home) == folder == home.models / NAME


def test_killed_in_the_middle_it_goes_on_from_there(hub: Hub, large: Path, palmier: Palmier, tmp_path: Path) -> None:
    hub.hold(NAME, large)
    weights = (large / "model.safetensors").stat().st_size
    hub.hang_after["model.safetensors"] = 22_000_000
    environment = os.environ | {"PALMIER_HOME": str(tmp_path / "home")}
    part = tmp_path / "home" / "models" / ".pulling-someone--tiny" / "model.safetensors.part"
    with subprocess.Popen([sys.executable, "-m", "palmier", "pull", NAME], env=environment) as process:
        deadline = time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size >= 10_000_000):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    arrived = part.stat().st_size
    assert 10_000_000 <= arrived < weights
    with pytest.raises(Refusal, match="can't be reached"):
        _without_hub(tmp_path)
    hub.hang_after.clear()
    hub.asked.clear()
    done = palmier("pull", NAME)
    assert done.returncode == 0, done.stderr
    assert hub.ranges("model.safetensors") == [f"bytes={arrived}-"], "the weights are gone on with"
    assert len(hub.asked) == 1, "and the small files, which were checked before, are not asked for again"
    assert same(tmp_path / "home" / "models" / NAME, large)


def _without_hub(tmp_path: Path) -> None:
    """What was half fetched is no model."""
    os.environ["HF_ENDPOINT"], before = "http://127.0.0.1:9", os.environ["HF_ENDPOINT"]
    try:
        resolve_model(NAME, Workspace(tmp_path / "home"))
    finally:
        os.environ["HF_ENDPOINT"] = before


def test_another_commit_is_begun_anew(hub: Hub, offered: Path, tmp_path: Path) -> None:
    """Bytes of the commit before must not become part of this one's files."""
    home = Workspace(tmp_path / "home")
    partial = home.models / ".pulling-someone--tiny"
    partial.mkdir(parents=True)
    (partial / "source.json").write_text('{"commit": "older"}')
    (partial / "config.json").write_text("{}")
    (partial / "model.safetensors.part").write_bytes(b"older bytes")
    assert same(pull(NAME, home), offered)
    assert hub.ranges("model.safetensors") == [""]


def test_a_connection_that_breaks_is_taken_up_within_one_run(hub: Hub, large: Path, tmp_path: Path) -> None:
    hub.hold(NAME, large)
    hub.break_after["model.safetensors"] = [15_000_000]
    assert same(pull(NAME, Workspace(tmp_path / "home")), large)
    first, second = hub.ranges("model.safetensors")
    assert (first, second) == ("", "bytes=10485760-")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json"])
def test_a_wrong_checksum_is_refused_and_leaves_no_model(
    hub: Hub, offered: Path, palmier: Palmier, tmp_path: Path, name: str
) -> None:
    right = hub.repositories[NAME][name]
    hub.lies[name] = bytes([right[0] ^ 1]) + right[1:]
    done = palmier("pull", NAME)
    assert done.returncode == 2
    assert f"{name} arrived otherwise" in done.stderr
    models = tmp_path / "home" / "models"
    assert not (models / NAME).exists()
    assert not list(models.rglob(f"{name}*")), "what is wrong is not kept"
    hub.lies.clear()
    assert palmier("pull", NAME).returncode == 0
    assert same(models / NAME, offered)


def test_what_was_spoilt_on_the_disk_is_noticed(hub: Hub, large: Path, tmp_path: Path) -> None:
    """A part of another file: the length fits, the content does not."""
    hub.hold(NAME, large)
    home = Workspace(tmp_path / "home")
    partial = home.models / ".pulling-someone--tiny"
    partial.mkdir(parents=True)
    (partial / "source.json").write_text(f'{{"commit": "{hub.commit}"}}')
    (partial / "model.safetensors.part").write_bytes(b"x" * 1000)
    with pytest.raises(Refusal, match=r"model\.safetensors arrived otherwise"):
        pull(NAME, home)
    assert same(pull(NAME, home), large)


def test_what_the_decoder_does_not_read_is_refused_before_its_weights(hub: Hub, offered: Path, tmp_path: Path) -> None:
    hub.repositories[NAME]["config.json"] = b'{"model_type": "mamba"}'
    with pytest.raises(Refusal, match="mamba"):
        pull(NAME, Workspace(tmp_path / "home"))
    assert [path.rpartition("/")[2] for path, _ in hub.asked] == ["config.json"]
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_repository_of_pickles_is_refused(hub: Hub, offered: Path, tmp_path: Path) -> None:
    del hub.repositories[NAME]["model.safetensors"]
    with pytest.raises(Refusal, match=r"no config\.json with safetensors"):
        pull(NAME, Workspace(tmp_path / "home"))
    assert hub.asked == []


def test_whether_a_pulled_model_can_be_talked_with_is_told(hub: Hub, offered: Path, palmier: Palmier) -> None:
    assert f"Talk with it: palmier chat --model {NAME}" in palmier("pull", NAME).stdout
    config = json.loads(hub.repositories[NAME]["tokenizer_config.json"])
    config["chat_template"] = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    hub.repositories["someone/other"] = hub.repositories[NAME] | {
        "tokenizer_config.json": json.dumps(config).encode(),
        "chat_template.jinja": config["chat_template"].encode(),
    }
    told = palmier("pull", "someone/other").stdout
    assert "can't talk with it" in told
    assert "models/someone/other: the tokenizer's chat_template is not ChatML" in told
    assert "Talk with it" not in told


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_refusals_are_one_line(hub: Hub, palmier: Palmier, tmp_path: Path) -> None:
    hub.gated.add("meta-llama/Llama-3.2-1B-Instruct")
    line = one_line(palmier("pull", "meta-llama/Llama-3.2-1B-Instruct"))
    assert "accept its licence at https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct" in line
    assert "nobody/nothing is neither" in one_line(palmier("pull", "nobody/nothing"))
    for name in ("nonsense", "../models", "owner/..", "/owner/name"):
        assert "palmier models" in one_line(palmier("pull", name))
    offline = one_line(palmier("pull", "smollm2-360m", HF_ENDPOINT="http://127.0.0.1:9"))
    assert "HuggingFaceTB/SmolLM2-360M-Instruct" in offline
    assert "can't be reached" in offline
    assert "HF_HUB_OFFLINE" in one_line(palmier("pull", "smollm2-360m", HF_HUB_OFFLINE="1"))
    models = tmp_path / "home" / "models"
    assert not [path for path in models.iterdir() if not path.name.endswith(".lock")], "a refusal leaves nothing"


def test_two_pulls_of_one_model_do_not_meet(hub: Hub, offered: Path, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    home.models.mkdir(parents=True)
    with (home.models / ".pulling-someone--tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another process"):
            pull(NAME, home)
    assert same(pull(NAME, home), offered)


def test_too_small_a_disk_is_said_before(hub: Hub, offered: Path, tmp_path: Path) -> None:
    from palmier.models.pull import Remote, _gather

    partial = tmp_path / "partial"
    partial.mkdir()
    with pytest.raises(Refusal, match="GB are free"):
        _gather(NAME, hub.commit, [Remote("model.safetensors", 1 << 60, "0" * 64, None)], partial, None)
    assert hub.asked == []


def test_rm_frees_the_space_of_a_model_and_of_half_of_one(hub: Hub, offered: Path, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    size = sum(path.stat().st_size for path in pull(NAME, home).iterdir())
    partial = home.models / ".pulling-someone--tiny"
    partial.mkdir()
    (partial / "model.safetensors.part").write_bytes(b"x" * 77)
    assert remove(NAME, home) == size + 77
    assert not (home.models / NAME).exists()
    assert not partial.exists()
    with pytest.raises(Refusal, match="no model in"):
        remove(NAME, home)
