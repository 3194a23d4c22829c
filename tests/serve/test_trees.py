"""Stored conversations as trees through the routes: edit, again, go on, branch, settings, a full context, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from palmier.data.template import Template
from palmier.records import Answer, Conversation, Message
from palmier.serve.context import fit
from palmier.workspace import Workspace

from .home import SENTENCES, Models, Server, running
from .test_conversations import begin, draw, messages

XSS = '<script>alert(1)</script> "quoted" </textarea>'


def say(client: httpx.Client, number: int, text: str, **where: Any) -> int:
    body = {"content": text} | where
    return int(client.post(f"/api/conversations/{number}/messages", json=body).raise_for_status().json()["message"])


def tree(client: httpx.Client, number: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/conversations/{number}").raise_for_status().json()
    return found


def path(client: httpx.Client, number: int) -> list[str]:
    found = tree(client, number)
    texts = {message["id"]: message["content"] for message in found["messages"]}
    return [texts[one] for one in found["path"]]


def refused(response: httpx.Response, status: int, word: str) -> None:
    assert response.status_code == status, response.text
    assert word in response.json()["error"]["message"]


def test_edit_again_and_branch(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client)
        draw(client, number)
        question, answer = (message["id"] for message in messages(client, number))
        edited = say(client, number, "Hello", parent=None)
        assert path(client, number) == ["Hello"]
        draw(client, number)
        more = say(client, number, "Tell me more, please.", parent=answer)
        assert path(client, number) == ["Who are you?", SENTENCES["first"], "Tell me more, please."]
        draw(client, number, to=question)
        assert len([m for m in messages(client, number) if m["parent"] == question]) == 2
        client.post(f"/api/conversations/{number}/branch", json={"message": edited}).raise_for_status()
        assert path(client, number) == ["Hello", SENTENCES["first"]]
        client.post(f"/api/conversations/{number}/branch", json={"message": more}).raise_for_status()
        assert path(client, number)[-1] == "Tell me more, please."
        answers = f"/api/conversations/{number}/answers"
        refused(client.post(answers, json={"to": answer}), 400, "assistant's")
        refused(client.post(answers, json={"to": 99}), 404, "no message 99")
        refused(client.post(answers, json={"to": question, "continue": answer}), 400, "not both")
        refused(client.post(answers, json={"continue": answer}), 400, "by itself")
        refused(client.post(f"/api/conversations/{number}/branch", json={"message": 99}), 404, "no message 99")
        refused(client.post(f"/api/conversations/{number}/messages", json={"content": "x", "parent": 99}), 404, "99")


def test_an_answer_that_was_cut_goes_on(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client)
        whole = draw(client, number)[-1]["tokens"]
        draw(client, number, max_tokens=4)
        cut = messages(client, number)[-1]
        assert (cut["finish"], SENTENCES["first"].startswith(cut["content"])) == ("length", True)
        events = draw(client, number, **{"continue": cut["id"]})
        assert events[0]["text"] == cut["content"]
        assert cut["content"] + "".join(event.get("text", "") for event in events[1:]) == SENTENCES["first"]
        assert events[-1]["tokens"] == whole - 4
        longer = messages(client, number)[-1]
        assert (longer["content"], longer["finish"], longer["parent"]) == (SENTENCES["first"], "stop", cut["parent"])
        assert path(client, number) == ["Who are you?", SENTENCES["first"]], "the longer one is the branch"
    stored = first.serving.store.messages(number)
    assert stored[-1].answer is not None
    assert stored[1].answer is not None
    assert stored[-1].answer.tokens == stored[1].answer.tokens, "as if it had been drawn at once"
    assert len(stored[-1].answer.logprobs) == len(stored[-1].answer.tokens)


def test_half_a_character_goes_on_whole(home: Callable[..., Workspace]) -> None:
    with running(home("unicode")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        for size in range(1, 20):
            draw(client, number, max_tokens=size)
            cut = messages(client, number)[-1]
            if cut["content"].endswith("\ufffd"):
                break
        else:
            pytest.fail("no cut fell inside a character")
        events = draw(client, number, **{"continue": cut["id"]})
        assert "".join(event.get("text", "") for event in events) == SENTENCES["unicode"]
        assert messages(client, number)[-1]["content"] == SENTENCES["unicode"]


def test_settings_of_a_conversation_change_its_answers(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        address = f"/api/conversations/{number}"
        client.patch(address, json={"settings": {"max_tokens": 5, "temperature": 0}}).raise_for_status()
        assert draw(client, number)[-1]["tokens"] == 5
        assert draw(client, number, max_tokens=3)[-1]["tokens"] == 3, "what is asked for here wins"
        client.patch(address, json={"settings": {"system": "Be brief."}}).raise_for_status()
        assert tree(client, number)["settings"] == {"system": "Be brief."}, "settings are replaced whole"
        found = server.serving.store.tree(number)
        asked = found.question()
        assert asked is not None
        assert found.thread(asked.id).messages[0] == Message("system", "Be brief.")
        for bad, word in (
            ({"temprature": 1}, "temprature"),
            ({"temperature": -1}, "temperature"),
            ({"top_k": "x"}, "top_k"),
            ({"system": "x" * 20_001}, "system"),
        ):
            refused(client.patch(address, json={"settings": bad}), 400, word)
        refused(client.patch(address, json={"colour": "red"}), 400, "colour")
        refused(client.post(f"{address}/answers", json={"system": "x"}), 400, "PATCH")
        refused(client.patch("/api/conversations/99", json={"title": "x"}), 404, "no conversation 99")


def test_each_sampling_setting_reaches_the_engine(home: Callable[..., Workspace]) -> None:
    settings = {
        "temperature": 0.7,
        "top_k": 9,
        "top_p": 0.8,
        "min_p": 0.1,
        "max_tokens": 4,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
    }
    with running(home("first")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        client.patch(f"/api/conversations/{number}", json={"settings": settings}).raise_for_status()
        with client.stream("POST", f"/api/conversations/{number}/answers", json={"seed": 5}) as response:
            response.read()
        answer = server.serving.store.messages(number)[-1].answer
        assert answer is not None
        assert {name: getattr(answer.sampling, name) for name in settings} == settings


def test_a_full_context_leaves_the_oldest_turns_out_and_says_so(first: Server) -> None:
    store = first.serving.store
    number = store.new_conversation()
    store.note(number, settings={"system": "Be the system prompt."})
    for turn in range(30):
        store.add_message(number, Message("user", f"Who are you? {turn}"))
        store.add_message(number, Message("assistant", "x " * 20), Answer("x " * 20, "0001"))
    store.add_message(number, Message("user", "Hello"))
    with httpx.Client(base_url=first.url) as client:
        start, *_, end = draw(client, number, max_tokens=5)
        assert 1 <= start["left_out"] <= 29
        assert end["finish"] in ("stop", "length")
        store.add_message(number, Message("user", "word " * 700))
        refused(client.post(f"/api/conversations/{number}/answers", json={}), 400, "context holds")
        short = begin(client)
        assert draw(client, short)[0]["left_out"] == 0


def test_what_fits(models: Models) -> None:
    template = Template.load(models["first"])
    turns = [[Message("user", f"question {n}"), Message("assistant", f"answer {n}")] for n in range(6)]
    system, last = Message("system", "Be brief."), Message("user", "last")
    whole = Conversation((system, *(message for turn in turns for message in turn), last))
    full = len(template.prompt(whole))
    assert fit(template, whole, full) == (whole, 0)
    for most in range(0, full):
        kept, left_out = fit(template, whole, most)
        assert (kept.messages[0], kept.messages[-1]) == (system, last)
        assert kept.messages[1:-1] == tuple(message for turn in turns[left_out:] for message in turn)
        size = len(template.prompt(kept))
        assert size <= most or left_out == 6
        if left_out:
            one_more = Conversation((system, *(m for turn in turns[left_out - 1 :] for m in turn), last))
            assert len(template.prompt(one_more)) > most, "no turn is left out without need"


def test_rename_pin_search_and_delete(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        older, newer = begin(client, "Hello"), begin(client)
        client.patch(f"/api/conversations/{older}", json={"title": XSS, "pinned": True, "folder": "work"})
        listed = client.get("/api/conversations").json()
        assert [(chat["id"], chat["title"], chat["pinned"]) for chat in listed] == [
            (older, XSS, True),
            (newer, "Who are you?", False),
        ]
        for query, found in (
            ({"search": "WHO ARE"}, [newer]),
            ({"search": "hello"}, [older]),
            ({"search": "%"}, []),
            ({"search": "' OR '1'='1"}, []),
            ({"folder": "work"}, [older]),
            ({"pinned": "false"}, [newer]),
        ):
            assert [chat["id"] for chat in client.get("/api/conversations", params=query).json()] == found, query
        refused(client.get("/api/conversations", params={"search": "x" * 201}), 400, "search")
        assert client.delete(f"/api/conversations/{newer}").status_code == 204
        refused(client.get(f"/api/conversations/{newer}"), 404, "no conversation")
        refused(client.delete(f"/api/conversations/{newer}"), 404, "no conversation")
        refused(client.post(f"/api/conversations/{newer}/answers", json={}), 404, "no conversation")


def test_a_conversation_that_is_deleted_while_it_is_answered(home: Callable[..., Workspace]) -> None:
    with running(home("endless")) as server, httpx.Client(base_url=server.url) as client:
        number = begin(client)
        with client.stream("POST", f"/api/conversations/{number}/answers", json={"max_tokens": 40}) as response:
            lines = response.iter_lines()
            next(lines)
            httpx.delete(f"{server.url}/api/conversations/{number}").raise_for_status()
            rest = [line for line in lines if line]
        assert "no conversation" in rest[-1]
        assert server.serving.turns == {}


def test_files_of_conversations(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client, XSS)
        draw(client, number)
        say(client, number, "Hello", parent=None)
        client.patch(f"/api/conversations/{number}", json={"title": XSS, "settings": {"system": XSS}})
        file = client.get(f"/api/conversations/{number}/export")
        assert "conversation-1.json" in file.headers["content-disposition"]
        taken = client.post("/api/conversations/import", json=file.json()).raise_for_status().json()["id"]
        assert client.get(f"/api/conversations/{taken}/export").json() == file.json()
        assert path(client, taken) == ["Hello"]
        text = client.get(f"/api/conversations/{taken}/export", params={"format": "markdown"})
        assert text.headers["content-type"].startswith("text/markdown")
        assert XSS in text.text
        for bad, word in (
            ({"format": "x"}, "no conversation"),
            (file.json() | {"settings": {"temprature": 1}}, "temprature"),
            (file.json() | {"leaf": 99}, "leaf"),
        ):
            refused(client.post("/api/conversations/import", json=bad), 400, word)
        refused(client.get(f"/api/conversations/{number}/export", params={"format": "pdf"}), 400, "format")
