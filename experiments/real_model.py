"""The loop on the real model: does a plain taste, given as 100 rankings, move SmolLM2-135M?

    python -m experiments.real_model --out DIR [--random] [--seed N] [--wikitext FILE] [--results FILE]

A program with a plain taste (experiments/taste.py) ranks four answers to each of 100 requests
through the HTTP API that the page uses; `palmier improve` runs as a person would run it; then old
and new version answer 100 requests about other subjects, judged by that taste. `--random` gives the
same rankings in a random order instead: nothing may be promoted. Each part is kept in DIR, and the
same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from experiments import taste
from palmier.records import Answer, Sampling
from palmier.versions import Versions
from palmier.workspace import Workspace, write_json

RANKINGS, HELD_OUT, SAMPLES = 100, 100, 2
SAMPLING = Sampling(temperature=0.7, max_tokens=160)


@contextmanager
def server(home: Path, port: int) -> Iterator[httpx.Client]:
    """`palmier serve` in its own process."""
    command = [sys.executable, "-m", "palmier", "serve", "--port", str(port), "--no-browser"]
    environment = os.environ | {"PALMIER_HOME": str(home)}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=environment) as process, httpx.Client(base_url=url, timeout=300) as client:
        try:
            for _ in range(240):
                time.sleep(0.5)
                try:
                    client.get("/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    if process.poll() is not None:
                        raise SystemExit("the server ended by itself") from None
            yield client
        finally:
            process.terminate()


def collect(client: httpx.Client, shuffled: bool, seed: int) -> None:
    """Rank four answers to each request, as the page does; what is there already counts."""
    who = {"annotator": "taste"}
    client.post("/api/rank/consent", json=who | {"granted": True}).raise_for_status()
    done = client.get("/api/rank", params=who).json()["count"]
    for number, request in enumerate(taste.requests(held_out=False)[:RANKINGS]):
        if number < done:
            continue
        wish = {"prompt": request.prompt, "n": 4, "seed": 1000 * seed + number}
        wish |= {"temperature": SAMPLING.temperature, "max_tokens": SAMPLING.max_tokens}
        draw = client.post("/api/rank/draws", json=who | wish).raise_for_status().json()
        answers = [Answer(item["text"], finish=item["finish"]) for item in draw["answers"]]
        scores = [taste.score(request, answer) for answer in answers]
        if shuffled:
            scores = random.Random(f"{seed} {number}").sample(range(4), 4)
        ranks = [1 + sum(other > score + 1e-9 for other in scores) for score in scores]
        order = who | {"draw": draw["id"], "ranks": ranks, "milliseconds": 1}
        client.post("/api/rank/rankings", json=order).raise_for_status()
        print(f"\r{number + 1} of {RANKINGS} rankings", end="", flush=True)
    print()


def improve(home: Path, seed: int) -> float:
    """Run `palmier improve` as a person would; returns its seconds."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "palmier", "improve", *([f"--seed={seed}"] if seed else [])]
    subprocess.run(command, env=os.environ | {"PALMIER_HOME": str(home)}, check=True)
    return time.monotonic() - begin


def answer_held_out(home: Path, name: str, kept: Path, seed: int) -> list[list[Answer]]:
    """The version's answers to the held-out requests; kept, so that they are drawn once."""
    if kept.is_file():
        return [[Answer.from_json(item) for item in group] for group in json.loads(kept.read_text("utf-8"))]
    from palmier.data.template import Template
    from palmier.generate.engine import Engine
    from palmier.generate.rollout import rollout
    from palmier.model.checkpoint import load
    from palmier.scale.runtime import default_dtype

    folder = Versions(Workspace(home)).get(name).folder
    engine = Engine(load(folder, default_dtype()), slots=16, context=512)
    conversations = [taste.conversation(request) for request in taste.requests(held_out=True)[:HELD_OUT]]
    answers = rollout(engine, Template.load(folder), conversations, replace(SAMPLING, seed=seed), SAMPLES, name)
    write_json(kept, [[answer.to_json() for answer in group] for group in answers])
    return answers


def measure(old: list[list[Answer]], new: list[list[Answer]]) -> dict[str, Any]:
    """Win rate of new against old by the taste, ties half, and each part's mean."""
    from palmier.evaluate.winrate import at_equal_length, win_rate

    requests = taste.requests(held_out=True)[:HELD_OUT]
    outcomes, differences = [], []
    for request, before, after in zip(requests, old, new, strict=True):
        pairs = [(taste.score(request, b), taste.score(request, a)) for b, a in zip(before, after, strict=True)]
        outcomes.append([1.0 if a > b else 0.5 if a == b else 0.0 for b, a in pairs])
        differences.append([float(len(a.text) - len(b.text)) for b, a in zip(before, after, strict=True)])
    named = {"win_rate": win_rate(outcomes, 0), "win_rate_at_equal_length": at_equal_length(outcomes, differences, 0)}
    figures: dict[str, Any] = {key: {"mean": i.mean, "low": i.low, "high": i.high} for key, i in named.items()}
    for side, answers in (("old", old), ("new", new)):
        every = [taste.parts(r, a) for r, group in zip(requests, answers, strict=True) for a in group]
        figures[side] = {part: sum(item[part] for item in every) / len(every) for part in every[0]}
    return figures


def fluency(home: Path, name: str, wikitext: Path) -> float:
    """Perplexity on the first 20,000 tokens of the text, fp32."""
    import torch

    from palmier.data.tokenizer import Tokenizer
    from palmier.evaluate.perplexity import perplexity
    from palmier.model.checkpoint import load

    folder = Versions(Workspace(home)).get(name).folder
    ids = Tokenizer.load(folder).encode(wikitext.read_text("utf-8")[:120_000])[:20_000]
    return perplexity(load(folder, torch.float32), ids, 512).value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--random", action="store_true", help="rank at random: nothing may be promoted")
    parser.add_argument("--seed", type=int, default=0, help="of every draw")
    parser.add_argument("--wikitext", type=Path, help="measure perplexity on this text")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    parser.add_argument("--port", type=int, default=8123)
    given = parser.parse_args()
    home = given.out / "home"
    versions = Versions(Workspace(home))
    with server(home, given.port) as client:
        collect(client, given.random, given.seed)
        before = versions.get("0001")
        seconds = improve(home, given.seed)
        time.sleep(3)
        current = versions.current()
        assert current is not None
        ask = {"messages": [{"role": "user", "content": taste.requests(held_out=True)[0].prompt}], "max_tokens": 160}
        served = client.post("/v1/chat/completions", json=ask).raise_for_status().json()
    newest = versions.all()[-1]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    figures: dict[str, Any] = {
        "command": "python -m experiments.real_model" + " --random" * given.random + f" --seed {given.seed}",
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "seed": given.seed,
        "rankings": RANKINGS,
        "temperature": SAMPLING.temperature,
        "improve_seconds": round(seconds, 1),
        "promoted": current.name != before.name,
        "card": {key: value for key, value in newest.card.items() if key not in {"hashes", "source"}},
        "served_by": served["model"],
        "served_answer": served["choices"][0]["message"]["content"],
    }
    if newest.name != before.name:
        old = answer_held_out(home, before.name, given.out / "old.json", given.seed)
        new = answer_held_out(home, newest.name, given.out / "new.json", given.seed)
        figures["held_out"] = measure(old, new)
        if given.wikitext:
            figures["perplexity"] = {v.label: fluency(home, v.name, given.wikitext) for v in (before, newest)}
    print(json.dumps(figures, indent=1))
    if given.results:
        write_json(given.results, figures)


if __name__ == "__main__":
    main()
