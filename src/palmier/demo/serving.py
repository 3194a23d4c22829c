"""The demo's last stages: versions in a home, and a look whether the real server answers with them."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palmier.demo.comparison import METHODS
from palmier.demo.making import add_version
from palmier.demo.pipeline import Demo
from palmier.demo.tasks import load_tasks
from palmier.errors import Refusal
from palmier.versions import Versions

START_SECONDS = 60.0


def promote_best(demo: Demo) -> dict[str, Any]:
    """Add DPO's and PPO's versions; the one that wins more often answers from now on, where it wins at all."""
    versions, found = Versions(demo.home), demo.found("compare")
    parent = demo.found("sft")["sft"]
    names, rates = {}, {}
    for label, run in METHODS.items():
        rate = found["against_sft"]["sampled"][label]["win_rate"]
        facts = {"win_rate": rate, "kl": found["kl"][label], "judge": "the small world's gold judge"}
        names[label] = add_version(demo, label, demo.runs / run, parent, **facts).name
        rates[label] = rate
    best = max(rates, key=lambda label: rates[label]["mean"])
    promoted = rates[best]["low"] > 0.5
    if promoted:
        versions.promote(names[best])
    return {"versions": names, "best": best if promoted else "SFT", "promoted": promoted}


def ask_server(demo: Demo) -> dict[str, Any]:
    """Start `palmier serve` on the home, ask the promoted version a test request over HTTP, stop it."""
    current = Versions(demo.home).current()
    if current is None:
        raise Refusal(f"{demo.home.home} has no version that answers")
    task = load_tasks(demo.requests / "test.json")[0]
    with _server(demo.home.home) as port:
        question = {"messages": [{"role": "user", "content": task.prompt}], "temperature": 0, "max_tokens": 80}
        answer = _post(port, "/v1/chat/completions", question)
    text = answer["choices"][0]["message"]["content"]
    if not text.strip():
        raise Refusal(f"the server answered {task.prompt!r} with nothing")
    return {
        "version": current.name,
        "label": current.label,
        "model": answer["model"],
        "prompt": task.prompt,
        "answer": text,
    }


def chat_page(demo: Demo) -> str:
    """The page that shows base, SFT and the promoted version side by side."""
    names = demo.found("sft")
    compared = [names["base"], names["sft"]]
    current = Versions(demo.home).current()
    if current is not None and current.name not in compared:
        compared.append(current.name)
    return f"http://127.0.0.1:8000/?compare={','.join(compared)}"


def chat_command(demo: Demo) -> str:
    return f"palmier serve --home {demo.home.home}"


@contextlib.contextmanager
def _server(home: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "palmier", "serve", "--home", str(home), "--port", str(port), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Refusal(f"the server did not start: try {' '.join(command)}")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:  # refused, not yet there, or too busy to answer: ask again
        return False


def _post(port: int, path: str, value: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(value).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer
