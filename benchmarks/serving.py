"""How long a person waits: from `palmier serve` to the first word of its first answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx

PROMPT = "Write a short e-mail to my landlord about the broken heating."

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""How threads wait is each program's own affair: told to sleep, a program loses half of its speed or more."""


def environment() -> dict[str, str]:
    """This process's environment for a program that is measured, without what says how its threads wait."""
    return {name: value for name, value in os.environ.items() if name not in WAITING}


def free_port() -> int:
    """A port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_answer(rounds: int) -> dict[str, Any]:
    """Seconds to /health and to the first streamed token, over ``rounds`` starts of one home."""
    ready, first = [], []
    with tempfile.TemporaryDirectory() as home:
        for number in range(rounds + 1):
            seconds = _start(home)
            if number:  # the very first start unpacks the model
                ready.append(seconds[0])
                first.append(seconds[1])
    return {"ready": ready, "first_token": first}


def _start(home: str) -> tuple[float, float]:
    port = free_port()
    command = [sys.executable, "-m", "palmier", "serve", "--port", str(port), "--no-browser"]
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment() | {"PALMIER_HOME": home}, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while True:
                try:
                    client.get("/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    if process.poll() is not None:
                        raise SystemExit("palmier serve ended by itself") from None
                    time.sleep(0.02)
            ready = time.perf_counter() - begun
            wish = {"messages": [{"role": "user", "content": PROMPT}], "stream": True, "max_tokens": 16}
            with client.stream("POST", "/v1/chat/completions", json=wish) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        if delta.get("content"):
                            return ready, time.perf_counter() - begun
        raise SystemExit("palmier serve gave no answer")
    finally:
        process.terminate()
        process.wait()
