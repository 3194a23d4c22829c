"""Scores over HTTP: those of `palmier reward score`, by reward models of the home alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.cli import app
from palmier.feedback.reward import ModelReward
from palmier.model.checkpoint import load, load_reward, save
from palmier.model.heads import RewardModel
from palmier.workspace import Workspace

from ..conftest import TinyWorld  # noqa: TID252  # tests are no package: the one way to a neighbour
from .home import Server, running

ASK = [{"role": "user", "content": "Who met Ada?"}]


@pytest.fixture
def judged(home: Callable[..., Workspace], tiny_world: TinyWorld) -> Iterator[Server]:
    """A server in whose home lies the reward model ``taste``, and the same as a run's last step."""
    workspace = home("first")
    shutil.copytree(tiny_world.reward, workspace.models / "taste")
    shutil.copytree(tiny_world.reward, workspace.home / "improve" / "0003" / "reward" / "step-4")
    (workspace.home / "improve" / "0003" / "reward" / "latest").write_text("step-4", "utf-8")
    with running(workspace) as server:
        yield server


def score(server: Server, **fields: Any) -> httpx.Response:
    body = {"model": "taste", "messages": ASK, "answers": ["Bo did.", "tea"]} | fields
    return httpx.post(f"{server.url}/v1/score", json=body, timeout=30)


def scores(server: Server, **fields: Any) -> list[float]:
    return list(score(server, **fields).raise_for_status().json()["scores"])


def test_they_are_those_of_the_command(judged: Server, tiny_world: TinyWorld, tmp_path: Path) -> None:
    lines = [
        {"messages": ASK, "answers": ["Bo did.", "Ada paid 3 coins.", "tea", ""]},
        {"messages": [{"role": "system", "content": "Be brief."}, *ASK], "answers": ["Bo did."]},
        {
            "messages": [*ASK, {"role": "assistant", "content": "Bo."}, {"role": "user", "content": "Why?"}],
            "answers": ["x", "y"],
        },
    ]
    file, out = tmp_path / "lines.jsonl", tmp_path / "scored.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert app.run(["reward", "score", str(file), "--model", str(tiny_world.reward), "--out", str(out)]) == 0
    expected = [[one["score"] for one in json.loads(line)["answers"]] for line in out.read_text("utf-8").splitlines()]
    found = [scores(judged, **line) for line in lines]
    assert found == [pytest.approx(one, abs=1e-5) for one in expected]
    assert len({round(one, 5) for one in found[0]}) == 4
    assert scores(judged, model="improve/0003/reward") == scores(judged)
    told = score(judged).json()
    assert (told["model"], set(told)) == ("taste", {"object", "model", "scores"})


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "/etc",
        "{reward}",
        "..",
        "../models/taste",
        "models/../models/taste",
        "taste/",
        "./taste",
        ".hidden",
        "taste\x00",
        "judge.py:taste",
        "{judge}:taste",
        "os:getcwd",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "smollm2",
        "file.gguf",
        "~/taste",
        "a" * 200,
    ],
)
def test_nothing_outside_of_the_home_can_be_named(judged: Server, tiny_world: TinyWorld, name: str) -> None:
    name = name.format(reward=tiny_world.reward, judge=tiny_world.judge)
    before = os.getcwd()
    response = score(judged, model=name)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert f"there is no reward model {name!r}" in response.json()["error"]["message"]
    assert os.getcwd() == before


def test_a_model_that_scores_nothing_is_a_sentence_without_the_homes_place(judged: Server, tmp_path: Path) -> None:
    """Versions answer, they do not score."""
    response = score(judged, model="versions/0001")
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("versions/0001 is no reward model")
    os.truncate(judged.workspace.models / "taste" / "model.safetensors", 2_000)
    response = score(judged)
    assert response.status_code == 400
    assert "taste" in response.json()["error"]["message"]
    assert str(tmp_path) not in response.text


def test_one_is_kept_and_one_that_was_trained_anew_is_read_again(
    judged: Server, tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = ModelReward.load
    monkeypatch.setattr(ModelReward, "load", lambda folder: read.append(folder.name) or original(folder))
    before = scores(judged)
    assert scores(judged) == before
    assert read == ["taste"], "the second request finds it in memory"
    other = RewardModel.from_decoder(load(tiny_world.model), 7)
    save(other, judged.workspace.models / "taste")
    os.utime(judged.workspace.models / "taste" / "model.safetensors", (1, 1))
    after = scores(judged)
    assert after != before
    shutil.copytree(tiny_world.reward, judged.workspace.models / "second")
    assert scores(judged, model="second") == before
    assert scores(judged) == after
    assert read == ["taste", "taste", "second", "taste"], "at most one is in memory"
    assert load_reward(tiny_world.reward).config.max_positions == 64


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "a" * 201}, "model"),
        ({"model": 5}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": 5}]}, "content"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"answers": None}, "answers"),
        ({"answers": []}, "answers"),
        ({"answers": "Bo did."}, "answers"),
        ({"answers": [5]}, "answers"),
        ({"answers": ["x"] * 65}, "answers"),
        ({"answers": ["word " * 100]}, "the reward model reads at most 64"),
        ({"best": 1}, "best"),
    ],
)
def test_what_does_not_work_is_refused_by_name(judged: Server, fields: dict[str, Any], named: str) -> None:
    response = score(judged, **fields)
    assert response.status_code == 400, response.text
    assert named in response.json()["error"]["message"]


def test_health_answers_while_answers_are_scored(judged: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are computed beside the event loop: a slow reward model stops nobody."""
    import threading

    begun, going = threading.Event(), threading.Event()
    original = ModelReward.score

    def slow(self: ModelReward, *given: Any) -> list[float]:
        begun.set()
        assert going.wait(20)
        return original(self, *given)

    monkeypatch.setattr(ModelReward, "score", slow)
    found: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: found.append(score(judged)))
    asking.start()
    assert begun.wait(20)
    assert httpx.get(f"{judged.url}/health", timeout=5).status_code == 200
    going.set()
    asking.join()
    assert found[0].status_code == 200
