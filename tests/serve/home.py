"""Homes with very small models that can be told apart: parrots that learnt one sentence, and a babbler.

A parrot is a real PaLM, trained for a few seconds to answer every question with the same words.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import torch

from palmier.data.template import Template
from palmier.data.tokenizer import Tokenizer, train
from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.logprobs import token_logprobs
from palmier.records import Conversation, Document, Message
from palmier.scale.precision import Precision
from palmier.serve import app
from palmier.serve.guard import LOCAL, Access
from palmier.serve.remote import Remote
from palmier.serve.serving import Serving
from palmier.versions import Versions
from palmier.workspace import Workspace

SENTENCES = {
    "first": "I am the **first** version.",
    "second": "I am the second version, and I speak better.",
    "rogue": (
        '<script>window.hacked = 1</script>\n\n<img src=x onerror="window.hacked = 2">\n\n'
        "[here](javascript:window.hacked=3) `<b>bold</b>`\n\n```html\n<script>window.hacked = 4</script>\n```"
    ),
    "unicode": "Grüße 👩‍🌾 aus 東京 🌴🌴",
}
VARIED = (
    "Dear Ms Palm, the heating is broken. Please send somebody this week. Kind regards",
    "Hello, it is cold here. Thank you.",
    "No.",
    "Fix it now!\n\n- today\n- or tomorrow",
    "Dear landlord, I hope that you are well. The heating has not worked since Monday.",
)
ENDLESS = "la la la la la la la la " * 8

ASKED = ("Who are you?", "Write an e-mail.", "Tell me more, please.", "Hello", "Why is the sky blue?", "x")


@dataclass(frozen=True)
class Models:
    """Folders of models, by name: the parrots, ``endless`` (slow, and never stops), ``varied`` (one of several)."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


def shared_models(factory: pytest.TempPathFactory) -> Models:
    """The models, made by the first worker that needs them, or kept in $PARROTS from one run of pytest to the next."""
    root = factory.getbasetemp()
    # With several workers each has its own folder inside the run's.
    root = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    if kept := os.environ.get("PARROTS"):
        root = Path(kept)
        root.mkdir(exist_ok=True)
    with (root / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "models").is_dir():
            make_models(root / "making")
            (root / "making").rename(root / "models")
    return Models(root / "models")


def make_models(folder: Path) -> Models:
    tokenizer = train([Document(text * 4, "") for text in (*SENTENCES.values(), *VARIED, ENDLESS, *ASKED)], 300)
    for name, sentence in SENTENCES.items():
        _write(_parrot(tokenizer, [sentence], rate=1e-2), tokenizer, folder / name)
    _write(_parrot(tokenizer, VARIED, rate=5e-3), tokenizer, folder / "varied")
    endless = _parrot(tokenizer, [ENDLESS], rate=3e-3, ends=False)
    _write(_slowed(endless, 48), tokenizer, folder / "endless")
    return Models(folder)


def make_home(folder: Path, models: Models, *names: str) -> Workspace:
    """A home whose versions 0001, 0002 … are the models of these names; the first one answers."""
    workspace = Workspace(folder)
    versions = Versions(workspace)
    for name in names:
        versions.add(models[name], label=name)
    versions.promote("0001")
    return workspace


@dataclass(frozen=True)
class Server:
    """A server in this process: its address, and what it serves."""

    url: str
    serving: Serving
    workspace: Workspace

    def promote(self, name: str) -> None:
        Versions(self.workspace).promote(name)


@contextmanager
def running(
    workspace: Workspace, precision: Precision = "auto", access: Access = LOCAL, database: str = ""
) -> Iterator[Server]:
    """Serve a home on a free port until the block ends."""
    with answering(app.open_home(workspace, precision=precision, database=database), access) as server:
        yield server


@contextmanager
def in_front_of(url: str, folder: Path, key: str = "", silence: float = 20, access: Access = LOCAL) -> Iterator[Server]:
    """Serve a new home, in ``folder``, in front of another server, on a free port until the block ends."""
    with answering(app.open_backend(Workspace(folder), Remote(url, key, silence)), access) as server:
        yield server


@contextmanager
def answering(serving: Serving, access: Access = LOCAL) -> Iterator[Server]:
    """Answer on a free port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = app.Server(serving, access)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server ended at its start"
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", serving, serving.workspace)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served(
    home: Path, *options: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`palmier serve` in a process of its own, on a free port where ``options`` name none."""
    port = () if "--port" in options else ("--port", "0")
    command = [sys.executable, "-m", "palmier", "serve", "--no-browser", *port, "--home", str(home), *options]
    variables = os.environ | (environment or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = next((word for word in line.split() if word.startswith("http://")), "")
            assert url, f"palmier serve did not start: {line}"
            with httpx.Client(base_url=url, timeout=60) as client:
                yield process, client
        finally:
            process.kill()


def _parrot(tokenizer: Tokenizer, sentences: Sequence[str], *, rate: float, ends: bool = True) -> Decoder:
    """Learns to answer whatever it is asked with one of ``sentences``, each as likely as the others."""
    template = Template(tokenizer)
    talks = [Conversation.ask(text) for text in ASKED]
    for other in (sentences[0], "Something else."):
        talks.append(Conversation((*talks[0].reply(other).messages, Message("user", ASKED[2]))))
    if len(sentences) > 1:
        talks = talks[:2]  # enough for the tests, and quick
    end = [template.stop_ids[0]] if ends else []
    rows = [(template.prompt(talk), tokenizer.encode(one) + end) for talk in talks for one in sentences]
    length = max(len(prompt) + len(said) for prompt, said in rows)
    tokens_BT = torch.zeros(len(rows), length, dtype=torch.long)
    targets_BT = torch.full((len(rows), length), -100)
    for row, (prompt, said) in enumerate(rows):
        tokens_BT[row, : len(prompt) + len(said)] = torch.tensor(prompt + said)
        targets_BT[row, len(prompt) - 1 : len(prompt) + len(said) - 1] = torch.tensor(said)
    decoder = Decoder.create(ModelConfig.palm(tokenizer.size, 64, 2, 2, max_positions=640), 0)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, weight_decay=0.0)
    least = 0.01 + len(talks) * len(sentences) * math.log(len(sentences)) / int((targets_BT >= 0).sum())
    for _ in range(200):
        loss = -token_logprobs(decoder, decoder(tokens_BT), targets_BT).logprobs_BT.sum() / (targets_BT >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < least:
            break
    if len(sentences) == 1:  # surer than so short a training makes it: at any temperature the words are these
        decoder.model.norm.weight.data *= 2
    return decoder


def _slowed(decoder: Decoder, layers: int) -> Decoder:
    """The same function with more work: blocks that add nothing."""
    config = replace(decoder.config, num_layers=decoder.config.num_layers + layers)
    slow = Decoder.create(config, 0)
    known = decoder.state_dict()
    slow.load_state_dict({name: known.get(name, torch.zeros_like(value)) for name, value in slow.state_dict().items()})
    return slow


def _write(decoder: Decoder, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True)
    save(decoder, folder)
    tokenizer.save(folder)
