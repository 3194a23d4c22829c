"""What is wrong with a request is a sentence in OpenAI's shape, and too many at once are asked to come again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from palmier.workspace import Workspace

from .home import Server, running
from .test_completions import under_way, wait_until
from .test_text_completions import NEVER_ENDS, ask, client


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "the prompt holds no token"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "the prompt holds no token"),
        ({"prompt": [""]}, "the prompt holds no token"),
        ({"prompt": ["Dear", ""]}, "prompt 2 of 2: the prompt holds no token"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": True}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [[1, "a"]]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [None]}, "prompt"),
        ({"prompt": ["x"] * 33}, "33 prompts: give 1 … 32"),
        ({"prompt": ["x"] * 9, "n": 16}, "144 choices: at most 128"),
        ({"prompt": [10**6]}, "outside the vocabulary"),
        ({"prompt": [10**30]}, "outside the vocabulary"),
        ({"prompt": [-1]}, "outside the vocabulary"),
        ({"prompt": [[1], [2, 999999]]}, "prompt 2 of 2: the prompt has a token outside the vocabulary"),
        ({"prompt": "word " * 700}, "the context holds 640"),
        ({"prompt": [1] * 640}, "the prompt has 640 tokens and the context holds 640"),
        ({"prompt": [1] * 641, "max_tokens": 0, "echo": True}, "641 tokens"),
        ({"max_tokens": 0}, "set echo to true"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": "yes"}, "echo"),
        ({"echo": 1}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": True}, "best_of"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"tools": []}, "tools"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": "2"}, "n"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options.other"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 101}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": float("inf")}, "top_p"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 10**30}, "top_k"),
        ({"top_k": 1.0}, "top_k"),
        ({"min_p": 1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 101}, "presence_penalty"),
        ({"frequency_penalty": "high"}, "frequency_penalty"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": "1"}}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x"] * 17}, "stop: give a text, or a list of up to 16 texts"),
        ({"stop": [1]}, "stop: give"),
        ({"stop": 1}, "stop: give"),
        ({"user": 5}, "user"),
        ({"model": 5}, "model"),
        ({"return_token_ids": "yes"}, "return_token_ids"),
        ({"\ud800": 1}, "the body"),
    ],
)
def test_bad_input_is_refused_by_name(varied: Server, fields: dict[str, Any], named: str) -> None:
    body = json.dumps({"prompt": "Dear", "max_tokens": 2} | fields)
    response = httpx.post(
        f"{varied.url}/v1/completions", content=body, headers={"content-type": "application/json"}, timeout=30
    )
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert named in error["message"]
    assert error["type"] == "invalid_request_error"
    assert under_way(varied) == 0
    assert ask(varied, prompt="Dear", max_tokens=1).status_code == 200, "the engine goes on"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"stop": ["x", ""]}, "stop", None),
        ({"logit_bias": {"999999": 1}}, "logit_bias", None),
        ({"max_tokens": 0}, "max_tokens", None),
        ({"prompt": ["x"] * 9, "n": 16}, "n", None),
        ({"stream_options": {}}, "stream_options", None),
        ({"temperature": "1"}, "temperature", None),
        ({"prompt": "word " * 700}, None, "context_length_exceeded"),
        ({"prompt": ["x", "word " * 700]}, None, "context_length_exceeded"),
    ],
)
def test_openais_client_is_told_the_field_and_the_code(
    varied: Server, fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        client(varied).completions.create(**({"model": "current", "prompt": "Dear"} | fields))
    assert (found.value.param, found.value.code) == (param, code)


def test_a_conversation_that_is_too_long_has_openais_code(varied: Server) -> None:
    talk: Any = [{"role": "user", "content": "word " * 700}]
    with pytest.raises(openai.BadRequestError) as found:
        client(varied).chat.completions.create(model="current", messages=talk)
    assert found.value.code == "context_length_exceeded"


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "the body"),
        (b"{", "not JSON"),
        (b"[]", "the body"),
        (b"null", "the body"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"prompt": "\xff\xff"}', "not JSON"),
        (b'{"prompt": "a\x00"}', "not JSON"),
        (b'{"prompt": ' + b"[" * 100_000, "not JSON"),
        (b'{"prompt": "x", "seed": ' + b"1" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_none_is_a_sentence(varied: Server, path: str, content: bytes, named: str) -> None:
    response = httpx.post(f"{varied.url}/v1/{path}", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert named in response.json()["error"]["message"]


def test_json_under_another_name_is_told_what_it_lacks(varied: Server) -> None:
    """What `curl -d` sends where nobody gives it a header."""
    response = httpx.post(
        f"{varied.url}/v1/chat/completions",
        content=b'{"messages": [{"role": "user", "content": "x"}]}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "the body: send JSON, with the header content-type: application/json",
    )


def test_an_unknown_model_address_or_method_has_openais_shape(varied: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no version 'gpt-4'") as found:
        client(varied).completions.create(model="gpt-4", prompt="x")
    assert found.value.code == "model_not_found"
    long = ask(varied, model="x" * 70_000, prompt="x")
    assert long.status_code == 404
    assert len(long.text) < 1000, "what is not known is not sent back whole"
    for method, path, status in (("POST", "/v1/nowhere", 404), ("GET", "/v1/completions", 405)):
        response = httpx.request(method, varied.url + path)
        assert response.status_code == status
        assert response.json()["error"]["message"]


def test_a_body_of_50_mb_is_refused(varied: Server) -> None:
    response = ask(varied, prompt="x" * 50_000_000)
    assert response.status_code == 413
    assert "at most" in response.json()["error"]["message"]
    assert ask(varied, prompt="Dear", max_tokens=1).status_code == 200


@pytest.mark.long
def test_two_hundred_at_once_are_answered_or_asked_to_come_again(home: Callable[..., Workspace]) -> None:
    async def ask_all(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as many:
            wish = {"prompt": "la la la", "max_tokens": 12, "logit_bias": NEVER_ENDS}
            return await asyncio.gather(*(many.post(f"{url}/v1/completions", json=wish) for _ in range(200)))

    with running(home("endless")) as server:
        responses = asyncio.run(ask_all(server.url))
        wait_until(lambda: under_way(server) == 0)
    assert {response.status_code for response in responses} == {200, 429}
    for response in responses:
        if response.status_code == 429:
            assert response.headers["retry-after"] == "2"
            assert response.json()["error"]["code"] == "queue_full"
        else:
            assert response.json()["usage"]["completion_tokens"] == 12
    assert sum(response.status_code == 200 for response in responses) >= 64


def test_several_prompts_are_placed_all_or_none(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server:
        waiting = [f"la {i}" for i in range(32)]

        async def ask_thrice() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=120) as many:
                wish = {"prompt": waiting, "max_tokens": 4}
                return await asyncio.gather(*(many.post(f"{server.url}/v1/completions", json=wish) for _ in range(6)))

        responses = asyncio.run(ask_thrice())
        wait_until(lambda: under_way(server) == 0)
    assert {response.status_code for response in responses} == {200, 429}
    assert all(len(one.json()["choices"]) == 32 for one in responses if one.status_code == 200)


@pytest.mark.parametrize("penalty", [1e-300, 1e-45, 1e-38, 1e-30, 100])
def test_settings_at_the_end_of_their_range_leave_the_engine_whole(varied: Server, penalty: float) -> None:
    wish = {"prompt": "Dear", "max_tokens": 6, "logprobs": 20, "repetition_penalty": penalty}
    for temperature in (0, 1e-45, 1e-38, 1, 100):
        bent = {"temperature": temperature, "logit_bias": {"5": 100, "6": -100}, "frequency_penalty": -100}
        response = ask(varied, **wish, **bent)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["logprobs"]["tokens"]
