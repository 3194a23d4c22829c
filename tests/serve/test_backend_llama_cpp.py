"""In front of llama.cpp's own server: the same words, stored as text, stopped and drawn again by their seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.model.gguf_export import export_gguf

from ..model.llama_cpp import LlamaCpp  # noqa: TID252  # tests are no package: the one way to a neighbour
from .home import VARIED, Models, Server, in_front_of
from .test_completions import ASK, complete, text, under_way, wait_until
from .test_conversations import begin, draw, messages
from .test_ranking import drawn, rank


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[str]:
    """The address of llama.cpp's server, with the parrot that says several things."""
    path = tmp_path_factory.mktemp("gguf") / "varied.gguf"
    export_gguf(models["varied"], path, "f16")
    server = LlamaCpp(path, endless=True)  # it serves as long as it is held
    yield server.address
    del server


@pytest.fixture
def front(llama: str, tmp_path: Path) -> Iterator[Server]:
    with in_front_of(llama, tmp_path / "front", silence=60) as front:
        yield front


def test_llama_cpp_answers_in_conversations_and_is_ranked(llama: str, front: Server) -> None:
    with httpx.Client(base_url=front.url, timeout=60) as client:
        state = client.get("/api/state").json()
        assert state["current"].endswith(f"@{llama}")
        number = begin(client, "Write an e-mail.")
        end = draw(client, number, temperature=0, max_tokens=80)[-1]
        assert (end["type"], end["finish"]) == ("end", "stop")
        said = messages(client, number)[-1]["content"]
        assert (len(said) > 1, end["tokens"] > 1) == (True, True)
        assert text(complete(front, temperature=0, max_tokens=80, messages=asked("Write an e-mail."))) == said
        cut = draw(client, number, temperature=0, max_tokens=2)[-1]
        assert (cut["finish"], cut["tokens"]) == ("length", 2)
        client.post("/api/rank/consent", json={"annotator": "ada", "granted": True}).raise_for_status()
        some = drawn(client, n=4, temperature=1.0, seed=3, max_tokens=60)
        assert len({answer["text"] for answer in some["answers"]}) > 1
        rank(client, some, [1, 2, 3, 4]).raise_for_status()
    (ranking,) = front.serving.store.training_rankings()
    assert all(answer.version == state["current"] and not answer.tokens for answer in ranking.answers)


def test_what_only_some_know_reaches_llama_cpp(front: Server) -> None:
    """top_k 1 is greedy whatever the temperature; min_p keeps to what was learnt; a heavy penalty changes what is said."""
    hot = {"temperature": 20, "top_p": 1.0, "max_tokens": 40, "seed": 5}
    with httpx.Client(base_url=front.url, timeout=60) as client:
        number = begin(client, "Write an e-mail.")

        def drawn_with(**wish: Any) -> str:
            return said(draw(client, number, **{"max_tokens": 40} | wish))

        greedy = drawn_with(temperature=0)
        assert drawn_with(**hot, top_k=1) == greedy
        # What is not sent is llama.cpp's own default, which cuts: so nearly nothing is cut by saying so.
        wild, learnt = (
            [drawn_with(**hot | {"seed": seed}, top_k=300, min_p=least) for seed in range(4)] for least in (1e-30, 0.5)
        )
        other = drawn_with(temperature=0, repetition_penalty=5)
    assert all(any(one.startswith(text) for one in VARIED) for text in learnt), learnt
    assert any(learnt)
    assert not all(any(one.startswith(text) for one in VARIED) for text in wild), wild
    assert other != greedy


def test_a_stream_that_is_left_ends_at_llama_cpp(llama: str, front: Server) -> None:
    wish = {"messages": ASK, "max_tokens": 100_000, "stream": True, "ignore_eos": True, "temperature": 0}
    with httpx.stream("POST", f"{front.url}/v1/chat/completions", json=wish, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()  # held: one that is thrown away takes the connection with it
        assert next(lines).startswith("data: ")
        assert under_way(front) == 1
    wait_until(lambda: under_way(front) == 0, 3)

    def idle() -> bool:
        return not any(slot["is_processing"] for slot in httpx.get(f"{llama}/slots").raise_for_status().json())

    wait_until(idle, 5)


def test_its_refusals_are_told(front: Server) -> None:
    long = complete(front, messages=asked("x " * 5_000))
    assert (long.status_code, long.json()["error"]["code"]) == (400, "backend_refuses")
    assert "context" in long.json()["error"]["message"]
    with httpx.Client(base_url=front.url, timeout=60) as client:
        number = begin(client, "x " * 5_000)
        response = client.post(f"/api/conversations/{number}/answers", json={})
        assert (response.status_code, "context" in response.text) == (400, True)


def asked(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def said(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "text")
