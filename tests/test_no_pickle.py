"""No pickle is ever read: none of our files could, and none is while models are loaded, exported and talked to.

A pickle runs code when it is opened. The first half reads the source; the second watches a process, since a library
may do what our own lines do not say.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .serve.home import Models, shared_models

SOURCE = Path(__file__).parent.parent / "src"

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickletools",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "copyreg",
}
"""Whose readers run what they read, or that are made for nothing else."""

CALLS = {("torch", "load"), ("torch", "package"), ("pandas", "read_pickle"), ("jit", "load")}
"""Readers of pickles in modules that are otherwise welcome."""


def complaints(text: str) -> Iterator[str]:
    """What in a source could read a pickle."""
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            case ast.Call(func=ast.Name(id="__import__" | "import_module"), args=[ast.Constant(value=str(name)), *_]):
                names = [name]
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                names = [name]
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=attribute):
                names = [f"{owner}.{attribute}"]
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield f"line {value.lineno}: allow_pickle"
        for name in names:
            if name.partition(".")[0] in MODULES or tuple(name.split(".")) in CALLS:
                yield f"line {getattr(node, 'lineno', 0)}: {name}"


def test_nothing_of_ours_can_read_a_pickle() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 100
    found = [f"{path.relative_to(SOURCE)} {one}" for path in files for one in complaints(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "__import__('dill')",
        "importlib.import_module('shelve')",
        "from importlib import import_module\nimport_module('marshal')",
        "torch.load(path)",
        "from torch import load",
        "torch.jit.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
    ],
)
def test_the_reading_of_the_source_sees_it(line: str) -> None:
    assert list(complaints(line)), line


def test_the_reading_of_the_source_lets_the_rest_be() -> None:
    fine = "import torch, json\njson.load(f)\nnp.load(path, allow_pickle=False)\nx = 'pickle'\nmodel.load(folder)"
    assert list(complaints(fine)) == []


WATCHED = """
import json, sys
seen = []
sys.addaudithook(lambda event, args: seen.append([event, str(args)]) if event == "pickle.find_class" else None)
import pickle
pickle.loads(pickle.dumps(sys.implementation.__class__))
assert seen, "the watch sees nothing"
seen.clear()

import threading, time, socket
from pathlib import Path
import httpx
import palmier
from palmier.cli import app as command
from palmier.serve import app
from palmier.workspace import Workspace

model, work = Path(sys.argv[1]), Path(sys.argv[2])
with palmier.load(model, home=work / "home") as loaded:
    assert loaded.generate("Who are you?", max_tokens=4)[0].text
assert command.run(["export", str(model), "--out", str(work / "out.gguf")]) == 0
assert command.run(["import", str(work / "out.gguf"), "--out", str(work / "back")]) == 0
with palmier.load(work / "back", home=work / "home") as loaded:
    assert loaded.generate("Who are you?", max_tokens=4)[0].text

serving = app.open_home(Workspace(work / "served"), str(model))
listener = socket.create_server(("127.0.0.1", 0))
server = app.Server(serving)
thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
thread.start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
with httpx.Client(base_url=url, timeout=60) as client:
    number = client.post("/api/conversations", json={}).raise_for_status().json()["id"]
    client.post(f"/api/conversations/{number}/messages", json={"content": "Who are you?"}).raise_for_status()
    said = client.post(f"/api/conversations/{number}/answers", json={"max_tokens": 4}).raise_for_status()
    assert '"end"' in said.text
    draw = client.post("/api/rank/draws", json={"prompt": "x", "n": 2, "max_tokens": 4}).raise_for_status().json()
    order = {"draw": draw["id"], "ranks": [1, 2]}
    client.post("/api/rank/rankings", json=order).raise_for_status()
    client.get(f"/api/conversations/{number}/export").raise_for_status()
server.should_exit = True
thread.join()
print(json.dumps(seen))
"""


def test_no_pickle_is_read_while_models_are_loaded_served_and_exported(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models: Models = shared_models(tmp_path_factory)
    program = tmp_path / "watched.py"
    program.write_text(WATCHED, "utf-8")
    done = subprocess.run(
        [sys.executable, program, models["first"], tmp_path],
        env=os.environ | {"PALMIER_HOME": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
