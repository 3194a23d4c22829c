"""OpenAI's API: their own client, streaming, what is refused, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from palmier.workspace import Workspace

from .home import SENTENCES, Server, running

ASK: list[Any] = [{"role": "user", "content": "Who are you?"}]


def complete(server: Server, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", json={"messages": ASK} | fields, timeout=30)


def text(response: httpx.Response) -> str:
    return str(response.raise_for_status().json()["choices"][0]["message"]["content"])


def under_way(server: Server) -> int:
    return int(httpx.get(f"{server.url}/health").json()["under_way"])


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_openai_client_answers_and_streams_the_same(first: Server) -> None:
    client = openai.OpenAI(base_url=f"{first.url}/v1", api_key="none", max_retries=0)
    whole = client.chat.completions.create(model="current", messages=ASK, temperature=0, max_tokens=60)
    assert whole.choices[0].message.content == SENTENCES["first"]
    assert (whole.choices[0].finish_reason, whole.model) == ("stop", "0001")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    with client.chat.completions.create(
        model="0001", messages=ASK, temperature=0, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        got = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in got if c.choices) == SENTENCES["first"]
    assert [c.choices[0].finish_reason for c in got if c.choices][-1] == "stop"
    assert got[-1].usage == whole.usage
    # The client sends an answer back as it came, empty fields included.
    talk = [*ASK, whole.choices[0].message, {"role": "user", "content": "Tell me more, please."}]
    assert client.chat.completions.create(model="current", messages=talk, max_tokens=5).choices
    assert [model.id for model in client.models.list()] == ["0001"]
    assert client.models.retrieve("0001").id == "0001"
    with pytest.raises(openai.NotFoundError, match="there is no version 'gpt-4'"):
        client.chat.completions.create(model="gpt-4", messages=ASK)


def test_seed_decides_and_n_answers_differ(home: Callable[..., Workspace]) -> None:
    with running(home("varied")) as server:
        wish = {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 12}
        one, same, other = (complete(server, **wish, seed=seed).json()["choices"] for seed in (1, 1, 2))
    texts = [choice["message"]["content"] for choice in one]
    assert texts == [choice["message"]["content"] for choice in same]
    assert texts != [choice["message"]["content"] for choice in other]
    assert len(set(texts)) > 1
    assert [choice["index"] for choice in one] == [0, 1, 2, 3]


def test_stop_string_ends_the_answer_before_it(first: Server) -> None:
    answer = complete(first, temperature=0, stop=["version", "zzz"]).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("I am the **first** ", "stop")
    response = complete(first, temperature=0, stop="version.!", stream=True).text
    events = [json.loads(line[6:]) for line in response.splitlines() if line.startswith("data: {")]
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert said == SENTENCES["first"], "what was held back as a possible stop string comes in the end"


def test_no_piece_of_a_stream_breaks_a_character(home: Callable[..., Workspace]) -> None:
    with running(home("unicode")) as server:
        response = complete(server, temperature=0, stream=True).text
    events = [json.loads(line[6:]) for line in response.splitlines() if line.startswith("data: {")]
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == SENTENCES["unicode"]
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temprature": 1}, "temprature"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 101}, "presence_penalty"),
        ({"frequency_penalty": -101}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_p": 1}, "min_p"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"n": 0}, "n"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_k": 10**30}, "top_k"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"temperature": True}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 2**63}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"prompt": "x"}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [5]}, "messages"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": 5}]}, "content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content: a part of type 'image_url'",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
    ],
)
def test_what_does_not_work_is_refused_by_name(first: Server, fields: dict[str, Any], named: str) -> None:
    response = complete(first, **fields)
    assert response.status_code == 400, response.text
    assert named in response.json()["error"]["message"]


def test_fields_that_ask_for_nothing_work(first: Server) -> None:
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False, "user": "me"}
    neutral |= {"response_format": {"type": "text"}, "tools": None, "tool_choice": "auto", "stop": None, "seed": None}
    assert text(complete(first, **neutral, temperature=0)) == SENTENCES["first"]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Who are "}, {"type": "text", "text": "you?"}]}]
    assert text(complete(first, messages=parts, temperature=0)) == SENTENCES["first"]


def test_a_body_that_is_no_json_is_a_sentence(first: Server) -> None:
    response = httpx.post(
        f"{first.url}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert "not JSON" in response.json()["error"]["message"]


def test_a_prompt_longer_than_the_context_tells_both_numbers(first: Server) -> None:
    response = complete(first, messages=[{"role": "user", "content": "word " * 700}])
    assert response.status_code == 400
    sentence = response.json()["error"]["message"]
    assert sentence.startswith("the prompt has ")
    numbers = [int(word) for word in re.findall(r"\d+", sentence)]
    assert numbers[0] > 700
    assert numbers[1] == 640


def leave(server: Server, path: str, wish: dict[str, Any]) -> None:
    """Ask for a long answer, go away while it is drawn, and see that nothing of it is left soon after."""
    body = json.dumps(wish).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    wait_until(lambda: under_way(server) == 1)
    if wish["stream"]:
        assert client.recv(100)
    began = time.monotonic()
    client.close()
    wait_until(lambda: under_way(server) == 0)
    # The answer alone would have taken several seconds.
    assert time.monotonic() - began < 1.5
    engine = server.serving.live.answering.engine
    assert (engine.running, engine.waiting) == (0, 0)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_goes_away_frees_its_slot(home: Callable[..., Workspace], streaming: bool) -> None:
    with running(home("endless")) as server:
        leave(server, "/v1/chat/completions", {"messages": ASK, "stream": streaming})


def test_a_full_queue_says_when_to_come_again(home: Callable[..., Workspace]) -> None:
    async def ask_all(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            wish = {"messages": ASK, "max_tokens": 30}
            return await asyncio.gather(*(client.post(f"{url}/v1/chat/completions", json=wish) for _ in range(100)))

    with running(home("endless")) as server:
        responses = asyncio.run(ask_all(server.url))
    refused = [response for response in responses if response.status_code != 200]
    assert refused
    assert {(response.status_code, response.headers["retry-after"]) for response in refused} == {(429, "2")}
    assert len(responses) - len(refused) >= 64, "those that had a place are answered"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_engine_dies_nobody_waits_for_ever(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server:
        results: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: results.append(complete(server)))
        waiting.start()
        wait_until(lambda: under_way(server) == 1)

        def bug() -> None:
            raise ZeroDivisionError("a planted bug")

        server.serving.live._commands.put(bug)
        waiting.join(10)
        assert results
        assert results[0].status_code == 503
        assert httpx.get(f"{server.url}/health").status_code == 503
        late = complete(server)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "stopped")


def test_a_stopped_sample_frees_its_row_while_the_others_go_on(home: Callable[..., Workspace]) -> None:
    """Two samples, of which one says the stop string and the other does not: the engine ends the first."""
    with running(home("varied")) as server:
        wish = {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 40, "seed": 1}
        free = complete(server, **wish).json()["choices"]
        engine = server.serving.live._loaded["0001"].engine
        ended: list[int | None] = []
        cancel = engine.cancel
        engine.cancel = lambda id, index=None: ended.append(index) or cancel(id, index)
        stopped = complete(server, **wish, stop=["a"]).json()["choices"]
        wait_until(lambda: (engine.running, engine.pages[0]) == (0, 0))
    assert len({choice["message"]["content"] for choice in free}) > 1
    for whole, cut in zip(free, stopped, strict=True):
        assert cut["message"]["content"] == whole["message"]["content"].partition("a")[0]
    said = {choice["index"] for choice in free if "a" in choice["message"]["content"]}
    assert said
    assert said <= set(ended)


def test_settings_of_a_draw_reach_the_engine(first: Server) -> None:
    """Each setting changes what is drawn, or how likely it is told to be."""
    template = server_template(first)
    start = template.tokenizer.encode("I")[0]
    other = template.tokenizer.encode("x")[0]
    assert text(complete(first, temperature=0, max_tokens=1)) == "I"
    assert text(complete(first, temperature=0, max_tokens=1, logit_bias={start: -100})) != "I"
    assert text(complete(first, temperature=0, max_tokens=3, logit_bias={other: 100})) == "xxx"
    bent = {"temperature": 0, "logit_bias": {other: 60}, "max_tokens": 3}
    assert text(complete(first, **bent)) == "xxx"
    assert text(complete(first, **bent, presence_penalty=100)) != "xxx"
    assert text(complete(first, **bent, frequency_penalty=60)) != "xxx"
    assert text(complete(first, **bent, repetition_penalty=50)) != "xxx"
    hot = {"temperature": 90, "top_p": 1.0, "max_tokens": 12, "seed": 3}
    assert text(complete(first, **hot)) not in SENTENCES["first"]
    assert text(complete(first, **hot, min_p=0.99)) in SENTENCES["first"], "the likeliest token alone is left"


def test_logprobs_in_openais_shape_streamed_and_not(first: Server) -> None:
    client = openai.OpenAI(base_url=f"{first.url}/v1", api_key="none", max_retries=0)
    wish: dict[str, Any] = {"model": "current", "messages": ASK, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    told = client.chat.completions.create(**wish).choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(one.token for one in told.content) == SENTENCES["first"]
    for one in told.content:
        assert (one.token, one.logprob) == (one.top_logprobs[0].token, one.top_logprobs[0].logprob)
        assert len(one.top_logprobs) == 3
        assert bytes(one.bytes or []).decode() == one.token
        assert 0 >= one.top_logprobs[0].logprob > one.top_logprobs[1].logprob >= one.top_logprobs[2].logprob
    with client.chat.completions.create(**wish, stream=True, stop="second") as chunks:
        streamed = [
            one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content or []
        ]
    assert [one.logprob for one in streamed] == pytest.approx([one.logprob for one in told.content], abs=1e-4)


def server_template(server: Server) -> Any:
    return server.serving.live._loaded["0001"].template
