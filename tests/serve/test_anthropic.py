"""Anthropic's API: their own client, streaming, stop sequences, errors in their shape, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest

from palmier.records import Conversation
from palmier.serve.guard import MOST_BYTES, POLICY
from palmier.workspace import Workspace

from .home import SENTENCES, Server, running
from .test_completions import leave, under_way, wait_until

ASK: list[Any] = [{"role": "user", "content": "Who are you?"}]
GREEDY = {"temperature": 0}  # their client offers this field no more, older ones and other clients send it


def client(server: Server, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, **options)


def ask(server: Server, **fields: Any) -> httpx.Response:
    body = {"model": "current", "max_tokens": 60, "messages": ASK, "temperature": 0} | fields
    return httpx.post(f"{server.url}/v1/messages", json=body, timeout=30)


def said(response: httpx.Response) -> str:
    (block,) = response.raise_for_status().json()["content"]
    return str(block["text"])


def test_their_client_answers_and_streams_the_same(first: Server) -> None:
    messages = client(first).messages
    whole = messages.create(model="current", max_tokens=60, messages=ASK, extra_body=GREEDY)
    assert [(block.type, block.text) for block in whole.content if block.type == "text"] == [
        ("text", SENTENCES["first"])
    ]
    assert (whole.role, whole.model, whole.stop_reason, whole.stop_sequence) == ("assistant", "0001", "end_turn", None)
    prompt = first.serving.live.answering.template.prompt(Conversation.ask("Who are you?"))
    assert whole.usage.input_tokens == len(prompt) == messages.count_tokens(model="current", messages=ASK).input_tokens
    with messages.stream(model="0001", max_tokens=60, messages=ASK, extra_body=GREEDY) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == SENTENCES["first"]
    assert [block.text for block in streamed.content if block.type == "text"] == [SENTENCES["first"]]
    assert (streamed.stop_reason, streamed.stop_sequence, streamed.model) == ("end_turn", None, "0001")
    assert streamed.usage.output_tokens == whole.usage.output_tokens > 5
    # The client sends an answer back as it came.
    talk = [*ASK, {"role": "assistant", "content": whole.content}, {"role": "user", "content": "Tell me more, please."}]
    again = messages.create(model="current", max_tokens=5, messages=talk, system="Be brief.")
    assert again.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens
    assert again.stop_reason in ("max_tokens", "end_turn")


def test_events_come_in_their_order_and_each_is_named(first: Server) -> None:
    lines = ask(first, stream=True).raise_for_status().text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [
        event["type"] for event in events
    ]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    begun = events[0]["message"]
    assert (begun["content"], begun["stop_reason"], begun["usage"]["output_tokens"]) == ([], None, 0)
    assert begun["usage"]["input_tokens"] > 3
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_why_an_answer_ended_is_told_streamed_and_not(first: Server) -> None:
    messages = client(first).messages
    wish: dict[str, Any] = {"model": "current", "messages": ASK, "extra_body": GREEDY}
    for fields, text, reason, string in (
        ({"stop_sequences": ["zzz", "version"], "max_tokens": 60}, "I am the **first** ", "stop_sequence", "version"),
        ({"stop_sequences": ["version.!"], "max_tokens": 60}, SENTENCES["first"], "end_turn", None),
        ({"max_tokens": 1}, "I", "max_tokens", None),
    ):
        whole = messages.create(**wish, **fields)
        with messages.stream(**wish, **fields) as stream:
            streamed = stream.get_final_message()
        for found in (whole, streamed):
            (block,) = found.content
            assert block.type == "text"
            assert (block.text, found.stop_reason, found.stop_sequence) == (text, reason, string)


def test_system_and_blocks_reach_the_template(first: Server) -> None:
    template = first.serving.live.answering.template

    def tokens(**fields: Any) -> int:
        wish = {"model": "current", "messages": ASK} | fields
        response = httpx.post(f"{first.url}/v1/messages/count_tokens", json=wish)
        return int(response.raise_for_status().json()["input_tokens"])

    told = Conversation.from_json([{"role": "system", "content": "Be brief.\nBe kind."}, *ASK])
    cached = {"type": "ephemeral"}
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": cached}, {"type": "text", "text": "Be kind."}]
    assert tokens(system="Be brief.\nBe kind.") == tokens(system=blocks) == len(template.prompt(told)) > tokens()
    parts = [{"role": "user", "content": [{"type": "text", "text": "Who are you?", "citations": None}]}]
    assert tokens(messages=parts) == tokens() == ask(first).json()["usage"]["input_tokens"]
    first_of_all = [{"role": "system", "content": "Be brief.\nBe kind."}, *ASK]
    assert tokens(messages=first_of_all, cache_control=cached) == tokens(system=blocks)


def test_settings_of_a_draw_reach_the_engine(first: Server) -> None:
    hot = {"temperature": 90, "top_p": 1.0, "max_tokens": 12}
    # One may end with its first token, by chance, and the empty text is in every sentence.
    assert any(said(ask(first, **hot)) not in SENTENCES["first"] for _ in range(3))
    assert said(ask(first, **hot, top_k=1)) in SENTENCES["first"]
    assert said(ask(first, **hot | {"top_p": 1e-9})) in SENTENCES["first"]
    assert said(ask(first, max_tokens=3)) == SENTENCES["first"][: len(said(ask(first, max_tokens=3)))]


def test_fields_that_ask_for_nothing_work(first: Server) -> None:
    neutral = {"tools": [], "tool_choice": {"type": "auto"}, "thinking": {"type": "disabled"}, "service_tier": "auto"}
    neutral |= {"metadata": {"user_id": "me"}, "stop_sequences": [], "system": None, "container": None}
    assert said(ask(first, **neutral)) == SENTENCES["first"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temprature": 1}, "temprature"),
        ({"tools": [{"name": "weather", "input_schema": {}}]}, "tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "60"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 101}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": [1]}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences"),
        ({"stop_sequences": ["a" * 1001]}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"user": "me"}}, "metadata.user"),
        ({"metadata": "me"}, "metadata"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system: a part of type 'image'"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": []}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "a part of type 'image'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "name"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"role": "user", "content": "word " * 700}]}, "640"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_does_not_work_is_refused_by_name_in_their_shape(
    first: Server, fields: dict[str, Any], named: str
) -> None:
    body = {"model": "current", "max_tokens": 60, "messages": ASK} | fields
    content = json.dumps(body)  # NaN too, which httpx would not write
    response = httpx.post(f"{first.url}/v1/messages", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    told = response.json()
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert named in told["error"]["message"]
    assert set(told) == {"type", "error"}


def test_their_client_raises_its_own_errors(first: Server) -> None:
    messages = client(first).messages
    with pytest.raises(anthropic.NotFoundError, match="there is no version 'claude'") as missing:
        messages.create(model="claude", max_tokens=5, messages=ASK)
    assert missing.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "there is no version 'claude'; known: current, 0001"},
    }
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        messages.create(model="current", max_tokens=0, messages=ASK)
    with pytest.raises(anthropic.NotFoundError):
        messages.count_tokens(model="claude", messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="last message"):
        messages.count_tokens(model="current", messages=[{"role": "assistant", "content": "x"}])
    with pytest.raises(anthropic.PermissionDeniedError):
        client(first, default_headers={"origin": "null"}).messages.create(model="current", max_tokens=5, messages=ASK)


def kind(response: httpx.Response) -> tuple[int, str]:
    told = response.json()
    if told.get("type") == "error":
        return response.status_code, f"anthropic {told['error']['type']}"
    assert set(told["error"]) == {"message", "type", "param", "code"}
    return response.status_code, f"openai {told['error']['type']}"


def test_each_path_has_its_own_shape_whoever_refuses(first: Server) -> None:
    """The routes, the validation, the router and the guard."""
    json_type = {"content-type": "application/json"}
    broken = b'{"model": "current", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}'
    wrong: dict[str, tuple[dict[str, Any], int, str]] = {
        "a broken name": ({"content": broken, "headers": json_type}, 400, "invalid_request_error"),
        "no JSON": ({"content": b"{", "headers": json_type}, 400, "invalid_request_error"),
        "no UTF-8": ({"content": b'{"model": "\xff\xfe"}', "headers": json_type}, 400, "invalid_request_error"),
        "too deep": ({"content": b"[" * 100_000, "headers": json_type}, 400, "invalid_request_error"),
        "no object": ({"content": b"5", "headers": json_type}, 400, "invalid_request_error"),
        "no body": ({}, 400, "invalid_request_error"),
        "a foreign page": ({"json": {}, "headers": {"origin": "http://evil.example"}}, 403, "permission_error"),
        "a foreign name": ({"json": {}, "headers": {"host": "evil.example"}}, 421, "invalid_request_error"),
    }
    for name, (request, status, told) in wrong.items():
        found = httpx.post(f"{first.url}/v1/messages", **request)
        assert kind(found) == (status, f"anthropic {told}"), name
        other = httpx.post(f"{first.url}/v1/chat/completions", **request)
        assert kind(other) == (status, "openai invalid_request_error"), name
    assert kind(httpx.get(f"{first.url}/v1/messages")) == (405, "anthropic invalid_request_error")
    assert kind(httpx.get(f"{first.url}/v1/messages/batches")) == (404, "anthropic not_found_error")
    assert kind(httpx.get(f"{first.url}/v1/nothing")) == (404, "openai invalid_request_error")
    assert kind(httpx.get(f"{first.url}/v1/messagesandmore")) == (404, "openai invalid_request_error")


def test_a_body_beyond_the_limit_is_too_large_in_their_shape(first: Server) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 65536 + 2):
            yield b" " * 65536

    for _ in range(5):  # wherever the chunks are cut on their way
        response = httpx.post(f"{first.url}/v1/messages", content=parts())
        assert kind(response) == (413, "anthropic request_too_large")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_goes_away_frees_its_slot(home: Callable[..., Workspace], streaming: bool) -> None:
    with running(home("endless")) as server:
        wish = {"model": "current", "max_tokens": 500, "messages": ASK, "stream": streaming}
        leave(server, "/v1/messages", wish)


def test_leaving_their_clients_stream_cancels_the_answer(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server:
        with client(server).messages.stream(model="current", max_tokens=500, messages=ASK) as stream:
            assert next(iter(stream.text_stream))
            assert under_way(server) == 1
        wait_until(lambda: under_way(server) == 0, 1.5)


def test_a_full_queue_is_a_rate_limit_and_says_when_to_come_again(home: Callable[..., Workspace]) -> None:
    async def ask_all(url: str) -> list[anthropic.types.Message | BaseException]:
        async with anthropic.AsyncAnthropic(
            base_url=url,
            api_key="none",
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(limits=httpx.Limits(max_connections=None)),
        ) as several:
            wish: dict[str, Any] = {"model": "current", "max_tokens": 20, "messages": ASK}
            return await asyncio.gather(*(several.messages.create(**wish) for _ in range(100)), return_exceptions=True)

    with running(home("endless")) as server:
        found = asyncio.run(ask_all(server.url))
    refused = [one for one in found if isinstance(one, BaseException)]
    assert refused
    assert all(isinstance(one, anthropic.RateLimitError) for one in refused)
    one = refused[0]
    assert isinstance(one, anthropic.RateLimitError)
    assert one.response.headers["retry-after"] == "2"
    assert one.response.json()["error"]["type"] == "rate_limit_error"
    assert len(found) - len(refused) >= 64, "those that had a place are answered"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_engine_dies_a_stream_ends_with_an_error(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server:

        def bug() -> None:
            raise ZeroDivisionError("a planted bug")

        with client(server).messages.stream(model="current", max_tokens=500, messages=ASK) as stream:
            pieces = iter(stream.text_stream)
            assert next(pieces)
            server.serving.live._commands.put(bug)
            with pytest.raises(anthropic.APIStatusError, match="the engine has stopped"):
                list(pieces)
        late = ask(server)
        assert (late.status_code, late.json()["error"]["type"]) == (500, "api_error")


def test_no_room_for_another_version_is_overloaded(home: Callable[..., Workspace]) -> None:
    """Three versions that answer, and a fourth is wanted."""
    with running(home("endless", "endless", "endless", "first")) as server:
        streams = [
            client(server).messages.create(model=f"000{n}", max_tokens=500, messages=ASK, stream=True)
            for n in (1, 2, 3)
        ]
        wait_until(lambda: under_way(server) == 3)
        with pytest.raises(anthropic.APIStatusError) as refused:
            client(server).messages.create(model="0004", max_tokens=5, messages=ASK)
        assert refused.value.status_code == 529
        assert refused.value.response.json()["error"]["type"] == "overloaded_error"
        for stream in streams:
            stream.close()


def test_a_bug_is_told_in_each_shape_and_under_the_policy(first: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError("a planted bug")

    monkeypatch.setattr(type(first.serving.live), "draw", bug)
    theirs = ask(first)
    assert kind(theirs) == (500, "anthropic api_error")
    assert theirs.headers["content-security-policy"] == POLICY
    assert "ZeroDivisionError" not in theirs.text
    other = httpx.post(f"{first.url}/v1/chat/completions", json={"messages": ASK})
    assert kind(other) == (500, "openai server_error")
