"""Feedback in the chat through the routes: compare, thumbs, better answers, consent and what each did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from palmier.feedback import schema
from palmier.feedback.consent import GERMAN, WORDING, WORDS
from palmier.records import Answer, Message
from palmier.workspace import Workspace

from .home import Models, Server, make_home, running
from .test_conversations import begin, draw, messages
from .test_trees import path, refused, tree

ADA = {"annotator": "ada"}


def agree(client: httpx.Client, granted: bool = True) -> dict[str, Any]:
    response = client.post("/api/feedback/consent", json=ADA | {"granted": granted}).raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def compare(client: httpx.Client, number: int, **wish: Any) -> dict[str, Any]:
    response = client.post(f"/api/conversations/{number}/comparisons", json=ADA | wish).raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def choose(client: httpx.Client, name: str, **choice: Any) -> httpx.Response:
    return client.post(f"/api/comparisons/{name}", json=ADA | choice)


def test_two_versions_are_compared_without_their_names(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second")) as server, httpx.Client(base_url=server.url) as client:
        agree(client)
        number = begin(client, annotator="ada")
        drawn = compare(client, number, n=4, against="0002", temperature=0)
        assert sorted(drawn["shown"]) == [0, 1, 2, 3]
        assert "0001" not in json.dumps({key: value for key, value in drawn.items() if key != "id"})
        assert tree(client, number)["compare"] is None, "it is another person's"
        assert client.get(f"/api/conversations/{number}", params=ADA).json()["compare"] == drawn["id"]
        assert client.get("/api/rank", params=ADA).json()["draw"] is None, "it does not wait at /rank"
        best = next(place for place, one in enumerate(drawn["answers"]) if "better" in one["text"])
        chosen = choose(client, drawn["id"], pick=best, strength="strong", reason="kinder").raise_for_status().json()
        assert sorted(chosen["versions"]) == ["0001", "0001", "0002", "0002"]
        assert chosen["versions"][best] == "0002"
        assert chosen["fate"]["sentence"] == "used from the next improve on"
        again = choose(client, drawn["id"], pick=best, strength="strong", reason="kinder").raise_for_status().json()
        assert again["id"] == chosen["id"], "sent twice, it counts once"
        refused(choose(client, drawn["id"], outcome="tie"), 400, "ranked already")
        (ranking,) = server.serving.store.training_rankings()
        assert (ranking.ranks[best], ranking.strength, ranking.reason) == (1, 3, "kinder")
        assert list(ranking.shown) == drawn["shown"]
        assert path(client, number) == ["Who are you?", drawn["answers"][best]["text"]]
        assert len(messages(client, number)) == 5
        assert client.get(f"/api/conversations/{number}", params=ADA).json()["compare"] is None


@pytest.mark.parametrize(("outcome", "all_bad"), [("tie", False), ("all_bad", True)])
def test_ties_and_all_bad(first: Server, outcome: str, all_bad: bool) -> None:
    with httpx.Client(base_url=first.url) as client:
        agree(client)
        number = begin(client, annotator="ada")
        drawn = compare(client, number)
        chosen = choose(client, drawn["id"], outcome=outcome).raise_for_status().json()
        assert chosen["fate"]["state"] == "waiting"
        (ranking,) = first.serving.store.training_rankings()
        assert (ranking.ranks, ranking.all_bad, ranking.strength) == ((1, 1), all_bad, 0)


def test_a_comparison_survives_a_new_server_and_goes_with_its_conversation(home: Callable[..., Workspace]) -> None:
    workspace = home("varied")
    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        kept, gone = begin(client, annotator="ada"), begin(client, annotator="ada")
        drawn, other = compare(client, kept), compare(client, gone)
        client.delete(f"/api/conversations/{gone}").raise_for_status()
        refused(choose(client, other["id"], pick=0), 404, "no draw")
        assert len([*workspace.draws.iterdir()]) == 1
    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        assert client.get(f"/api/conversations/{kept}", params=ADA).json()["compare"] == drawn["id"]
        again = client.get(f"/api/rank/draws/{drawn['id']}").json()
        assert (again["shown"], again["version"]) == (drawn["shown"], "")
        choose(client, drawn["id"], pick=1).raise_for_status()
        assert path(client, kept)[-1] == drawn["answers"][1]["text"]


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        ({}, "needs pick"),
        ({"pick": 2}, "none of the 2"),
        ({"pick": 0, "outcome": "tie"}, "go without"),
        ({"outcome": "tie", "strength": "slight"}, "strength"),
        ({"pick": 0, "strength": "mighty"}, "strength"),
        ({"outcome": "whatever"}, "outcome"),
        ({"pick": 0, "colour": "red"}, "colour"),
        ({"pick": 0, "annotator": "bob"}, "belongs to"),
        ({"pick": 0, "reason": "x" * 2001}, "reason"),
    ],
)
def test_bad_choices_are_sentences(first: Server, choice: dict[str, Any], word: str) -> None:
    with httpx.Client(base_url=first.url) as client:
        drawn = compare(client, begin(client))
        refused(choose(client, drawn["id"], **choice), 400, word)
        refused(choose(client, "nowhere", pick=0), 404, "no draw")
        ranked = client.post("/api/rank/draws", json=ADA | {"prompt": "Hello", "n": 2}).json()
        refused(choose(client, ranked["id"], pick=0), 400, "/rank")
        assert first.serving.store.count() == 0


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"n": 1}, "n"),
        ({"n": 5}, "n"),
        ({"against": "0001"}, "itself"),
        ({"against": "0009"}, "no version"),
        ({"own_thread": True}, "own_thread"),
        ({"to": 2}, "no message 2"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_bad_comparisons_are_sentences(first: Server, wish: dict[str, Any], word: str) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client)
        response = client.post(f"/api/conversations/{number}/comparisons", json=ADA | wish)
        assert response.status_code in (400, 404)
        assert word in response.json()["error"]["message"]


def test_thumbs_and_better_answers_say_what_they_did(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        number = begin(client, annotator="ada")
        for _ in range(2):
            draw(client, number)
        question, one, two = (message["id"] for message in messages(client, number))
        where = ADA | {"conversation": number}

        def thumb(message: int, good: bool | None) -> dict[str, Any]:
            response = client.post("/api/feedback/labels", json=where | {"message": message, "good": good})
            found: dict[str, Any] = response.raise_for_status().json()
            return found

        assert thumb(one, True)["fate"]["sentence"] == "kept, not used: you have not agreed to its use"
        assert agree(client)["asked"] is True
        assert thumb(two, True)["fate"]["state"] == "waiting"
        assert thumb(two, False)["fate"]["sentence"] == "used from the next improve on"
        marks = {m["id"]: m["good"] for m in client.get(f"/api/conversations/{number}", params=ADA).json()["messages"]}
        assert marks == {question: None, one: True, two: False}
        assert thumb(two, None)["fate"] is None
        better = client.post("/api/feedback/demonstrations", json=where | {"message": one, "text": "I am better."})
        better = better.raise_for_status().json()
        assert better["fate"]["state"] == "next"
        assert path(client, number) == ["Who are you?", "I am better."]
        first.serving.store.note_uses("0002", [("demonstration", better["id"])])
        (item,) = client.get("/api/feedback/items", params=ADA | {"kind": "demonstration"}).json()
        assert (item["sentence"], item["about"]) == ("used in version 0002", "Who are you?")
        assert len(client.get("/api/feedback/items", params=ADA).json()) == 2
        labels = "/api/feedback/labels"
        refused(client.post(labels, json=where | {"message": question, "good": True}), 400, "no answer")
        refused(client.post(labels, json=where | {"message": 99, "good": True}), 404, "no message 99")
        refused(client.post(labels, json=where | {"message": one}), 400, "good")
        demonstrations = "/api/feedback/demonstrations"
        refused(client.post(demonstrations, json=where | {"message": one, "text": " "}), 400, "empty")
        refused(client.post(demonstrations, json=where | {"message": one, "text": ""}), 400, "text")
        refused(client.post(demonstrations, json=ADA | {"conversation": 99, "message": 1, "text": "x"}), 404, "99")


def test_consent_is_asked_once_and_taken_back_with_its_reach(first: Server) -> None:
    store = first.serving.store
    with httpx.Client(base_url=first.url) as client:
        before = client.get("/api/feedback", params=ADA).json()
        assert (before["consent"], before["asked"], before["wording"]) == (None, False, 0)
        assert "never used for training" in before["words"]
        number = begin(client, annotator="ada")
        drawn = compare(client, number)
        choose(client, drawn["id"], pick=0).raise_for_status()
        answer = messages(client, number)[1]["id"]
        where = ADA | {"conversation": number, "message": answer}
        client.post("/api/feedback/labels", json=where | {"good": False}).raise_for_status()
        client.post("/api/feedback/demonstrations", json=where | {"text": "better"}).raise_for_status()
        assert store.training_rankings() == [], "off until the question is answered"
        assert agree(client)["given"] == {"rankings": 1, "labels": 1, "demonstrations": 1}
        assert len(store.training_rankings()) == 2
        store.note_uses("0004", [item for preference in store.preferences() for item in preference.items])
        reach = {"rankings": 1, "labels": 1, "demonstrations": 1, "versions": ["0004"]}
        assert client.get("/api/feedback", params=ADA).json()["reach"] == reach
        withdrawn = agree(client, False)
        assert (withdrawn["consent"], withdrawn["reach"]) == (False, reach)
        assert (store.training_rankings(), [*store.training_labels()], [*store.training_demonstrations()]) == (
            [],
            [],
            [],
        )
        agree(client)
        one = {"kind": "ranking", "id": 1}
        assert client.post("/api/feedback/withdraw", json=ADA | one).json()["given"]["rankings"] == 0
        refused(client.post("/api/feedback/withdraw", json=ADA | one), 400, "already")
        refused(client.post("/api/feedback/withdraw", json={"annotator": "bob"} | one), 400, "no ranking 1 of bob")
        store.set_consent("cid", True, "the older words", 1)
        assert client.get("/api/feedback", params={"annotator": "cid"}).json()["asked"] is False


def test_consent_is_stored_in_the_words_that_were_read(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        for path in ("/api/feedback", "/api/rank"):
            shown = client.get(path, params=ADA | {"language": "de"}).json()
            assert (shown["words"], shown["today"]) == (GERMAN[WORDING], WORDING)
            assert client.get(path, params=ADA).json()["words"] == WORDS[WORDING]
            german = ADA | {"granted": True, "language": "de", "wording": WORDING}
            client.post(f"{path}/consent", json=german).raise_for_status()
            client.post(f"{path}/consent", json=ADA | {"granted": False, "wording": 1}).raise_for_status()
            refused(client.post(f"{path}/consent", json=german | {"wording": 1}), 400, "no wording 1")
            refused(client.post(f"{path}/consent", json=german | {"wording": 99}), 400, "no wording 99")
            refused(client.post(f"{path}/consent", json=german | {"language": "fr"}), 400, "language")
    with first.serving.store._reading() as connection:
        rows = connection.execute(select(schema.consent).order_by(schema.consent.c.id)).all()
    log = [(bool(row.granted), row.words, row.wording) for row in rows]
    assert log == [(True, GERMAN[WORDING], WORDING), (False, WORDS[1], 1)] * 2


def test_what_was_given_in_a_conversation_is_told(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second")) as server, httpx.Client(base_url=server.url) as client:
        agree(client)
        number = begin(client, annotator="ada")
        drawn = compare(client, number, against="0002", temperature=0)
        assert drawn["message"] == messages(client, number)[0]["id"]
        chosen = choose(client, drawn["id"], pick=1).raise_for_status().json()
        (item,) = client.get(f"/api/feedback/conversations/{number}", params=ADA).json()
        other, best = (message["id"] for message in messages(client, number)[1:])
        assert (item["kind"], item["sentence"]) == ("ranking", "used from the next improve on")
        judged = {one["message"]: (one["version"], one["rank"]) for one in item["answers"]}
        assert judged == {other: (chosen["versions"][0], 2), best: (chosen["versions"][1], 1)}
        assert client.get(f"/api/feedback/conversations/{number}").json() == [], "it is another person's"
        refused(client.get("/api/feedback/conversations/99", params=ADA), 404, "99")


def test_a_served_postgresql_holds_the_same(tmp_path: Path, models: Models, database: str) -> None:
    workspace = make_home(tmp_path / "home", models, "first")
    for round_ in range(2):
        with running(workspace, database=database) as server, httpx.Client(base_url=server.url) as client:
            number = begin(client, annotator="ada")
            draw(client, number)
            drawn = compare(client, number)
            choose(client, drawn["id"], pick=0).raise_for_status()
            listed = client.get("/api/conversations", params=ADA | {"search": "WHO"}).json()
            assert len(listed) == round_ + 1
            assert server.serving.store.count("ada") == round_ + 1
    assert not workspace.store.is_file()


def test_what_is_learnt_is_what_the_model_read(first: Server) -> None:
    store = first.serving.store
    number = store.new_conversation("ada")
    for turn in range(40):
        store.add_message(number, Message("user", f"Who are you? {turn}"))
        store.add_message(number, Message("assistant", "x " * 20), Answer("x " * 20, "0001"))
    with httpx.Client(base_url=first.url) as client:
        agree(client)
        where = ADA | {"conversation": number, "message": store.messages(number)[-1].id}
        client.post("/api/feedback/labels", json=where | {"good": True}).raise_for_status()
        client.post("/api/feedback/demonstrations", json=where | {"text": "better"}).raise_for_status()
    (label,), (better,) = store.training_labels(), store.training_demonstrations()
    template, context = first.serving.live.answering.template, first.serving.live.answering.engine.context
    for conversation in (label.conversation, better.conversation):
        assert 2 < len(conversation.messages) < 79
        assert len(template.prompt(conversation)) + template.size(Message("assistant", "x " * 20)) <= context
