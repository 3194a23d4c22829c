"""Rankings through the page's routes: drawn, ordered, saved once, undone, and used only with consent."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from palmier.data.prompts import write_jsonl
from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.records import Conversation
from palmier.workspace import Workspace

from .home import Models, Server, make_home, running, served

PROMPT = "Write an e-mail."
WISH = {"prompt": PROMPT, "n": 3, "max_tokens": 20, "annotator": "ada"}


def drawn(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/api/rank/draws", json=WISH | fields, timeout=60).raise_for_status().json()
    return answer


def rank(client: httpx.Client, draw: dict[str, Any], ranks: list[int], **fields: Any) -> httpx.Response:
    order = {"annotator": "ada", "draw": draw["id"], "ranks": ranks, "milliseconds": 4200}
    return client.post("/api/rank/rankings", json=order | fields)


def overview(client: httpx.Client, annotator: str = "ada") -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/api/rank", params={"annotator": annotator}).raise_for_status().json()
    return answer


def test_a_draw_is_ranked_and_everything_about_it_is_stored(home: Callable[..., Workspace]) -> None:
    with running(home("varied")) as server, httpx.Client(base_url=server.url) as client:
        draw = drawn(client, n=4, temperature=1.0, seed=7)
        assert draw["state"] == "ready"
        assert sorted(draw["shown"]) == [0, 1, 2, 3]
        client.post("/api/rank/consent", json={"annotator": "ada", "granted": True}).raise_for_status()
        assert rank(client, draw, [2, 1, 2, 3], all_bad=True).json()["count"] == 1
        (ranking,) = server.serving.store.training_rankings()
    assert ranking.conversation == Conversation.ask(PROMPT)
    assert [answer.text for answer in ranking.answers] == [answer["text"] for answer in draw["answers"]]
    assert (ranking.ranks, list(ranking.shown), ranking.all_bad) == ((2, 1, 2, 3), draw["shown"], True)
    assert (ranking.annotator, ranking.milliseconds) == ("ada", 4200)
    assert all(answer.tokens and answer.version == "0001" for answer in ranking.answers)
    assert len({answer.sampling.seed for answer in ranking.answers}) == 4
    assert {(answer.sampling.temperature, answer.sampling.top_p) for answer in ranking.answers} == {(1.0, 1.0)}


def test_what_improve_can_use_is_counted_over_all_people_with_consent_and_a_clear_order(
    home: Callable[..., Workspace],
) -> None:
    with running(home("varied")) as server, httpx.Client(base_url=server.url) as client:
        for annotator in ("ada", "bo"):
            client.post("/api/rank/consent", json={"annotator": annotator, "granted": True}).raise_for_status()

        def usable(prompt: str, ranks: list[int], annotator: str = "ada") -> int:
            for seed in range(20):  # until the answers differ: an order of equal ones says nothing
                draw = drawn(client, prompt=prompt, annotator=annotator, n=2, seed=seed, temperature=1.0)
                if len({answer["text"] for answer in draw["answers"]}) == 2:
                    break
            found = rank(client, draw, ranks, annotator=annotator).raise_for_status().json()
            return int(found["usable"])

        assert usable("one", [1, 2]) == 1
        assert usable("one", [1, 2]) == 1, "the same request again"
        assert usable("two", [1, 1]) == 1, "ties alone"
        assert usable("three", [1, 2], "cy") == 1, "without consent"
        assert usable("four", [1, 2], "bo") == 2, "another person"
        assert overview(client, "dee") | {"count": 0, "usable": 2} == overview(client, "dee")
        said = client.post("/api/rank/consent", json={"annotator": "cy", "granted": True}).json()
        assert (said["count"], said["usable"]) == (1, 3)


def test_the_stored_seed_draws_each_answer_again(home: Callable[..., Workspace]) -> None:
    # In fp32: bf16 rounds otherwise where other answers are drawn beside it.
    with running(home("varied"), "fp32") as server, httpx.Client(base_url=server.url) as client:
        draw = drawn(client, temperature=1.0)
        rank(client, draw, [1, 2, 3])
        for answer in server.serving.draws.get(draw["id"]).answers:
            wish = {"messages": [{"role": "user", "content": PROMPT}], "seed": answer.sampling.seed}
            wish |= {"temperature": 1.0, "top_p": 1.0, "max_tokens": 20}
            again = client.post("/v1/chat/completions", json=wish).json()
            assert again["choices"][0]["message"]["content"] == answer.text


def test_without_consent_rankings_are_kept_and_never_train(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        assert overview(client)["consent"] is None
        assert "never used for training" in overview(client)["words"]
        rank(client, drawn(client), [1, 2, 3]).raise_for_status()
        assert first.serving.store.training_rankings() == []
        for granted, usable in ((False, 0), (True, 1), (False, 0)):
            client.post("/api/rank/consent", json={"annotator": "ada", "granted": granted}).raise_for_status()
            assert overview(client)["consent"] is granted
            assert len(first.serving.store.training_rankings()) == usable
        assert overview(client)["count"] == 1


def test_an_order_sent_twice_counts_once_and_another_is_refused(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        draw = drawn(client)
        numbers = {rank(client, draw, [1, 2, 3]).raise_for_status().json()["id"] for _ in range(3)}
        assert len(numbers) == 1
        assert rank(client, draw, [3, 2, 1]).status_code == 400
        assert overview(client)["count"] == 1


def test_undo_withdraws_the_last_one_and_brings_it_back(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        client.post("/api/rank/consent", json={"annotator": "ada", "granted": True}).raise_for_status()
        older, newer = drawn(client), drawn(client, prompt="Hello")
        rank(client, older, [1, 2, 3]).raise_for_status()
        rank(client, newer, [3, 1, 1]).raise_for_status()
        answer = client.post("/api/rank/undo", json={"annotator": "ada"}).json()
        assert (answer["undone"], answer["count"]) == (True, 1)
        assert (answer["draw"]["id"], answer["draw"]["ranks"]) == (newer["id"], [3, 1, 1])
        assert overview(client)["draw"]["id"] == newer["id"]
        rank(client, newer, [1, 2, 3]).raise_for_status()
        assert [r.ranks for r in first.serving.store.training_rankings()] == [(1, 2, 3), (1, 2, 3)]
        for left in (1, 0):
            assert client.post("/api/rank/undo", json={"annotator": "ada"}).json()["count"] == left
        assert client.post("/api/rank/undo", json={"annotator": "ada"}).json()["undone"] is False


def test_undo_takes_a_chats_comparison_back_and_brings_no_draw_for_it(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        ranked = drawn(client)
        rank(client, ranked, [1, 2, 3]).raise_for_status()
        chat = client.post("/api/conversations", json={"annotator": "ada"}).json()["id"]
        client.post(f"/api/conversations/{chat}/messages", json={"content": "Hello"}).raise_for_status()
        compared = client.post(f"/api/conversations/{chat}/comparisons", json={"annotator": "ada"}).json()
        choice = {"annotator": "ada", "pick": 0}
        client.post(f"/api/comparisons/{compared['id']}", json=choice).raise_for_status()
        undo = [client.post("/api/rank/undo", json={"annotator": "ada"}).json() for _ in range(2)]
        assert [one["undone"] for one in undo] == [True, True]
        assert undo[0]["draw"] is None, "its answers stand in their conversation"
        assert undo[1]["draw"]["id"] == ranked["id"]


def test_a_skipped_draw_leaves_nothing(home: Callable[..., Workspace]) -> None:
    workspace = home("endless")
    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        draw = drawn(client, wait=False, max_tokens=400)
        assert draw["state"] == "drawing"
        assert rank(client, draw, [1, 2, 3]).status_code == 400
        assert client.delete(f"/api/rank/draws/{draw['id']}").status_code == 204
        deadline = time.monotonic() + 5
        while client.get("/health").json()["under_way"]:
            assert time.monotonic() < deadline, "a skipped draw frees its slots"
        assert overview(client)["draw"] is None
        assert list(workspace.draws.iterdir()) == []
        assert rank(client, draw, [1, 2, 3]).status_code == 404


def test_a_draw_goes_on_while_nobody_watches_and_survives_a_new_server(home: Callable[..., Workspace]) -> None:
    workspace = home("varied")
    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        name = drawn(client, wait=False)["id"]
        with client.stream("GET", f"/api/rank/draws/{name}/events") as response:
            next(response.iter_lines())
        while client.get(f"/api/rank/draws/{name}").json()["state"] == "drawing":
            time.sleep(0.05)
        before = overview(client)["draw"]
    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        assert overview(client)["draw"] == before
        rank(client, before, [1, 1, 2]).raise_for_status()


def test_a_full_disk_is_said_and_nothing_is_left_half_done(
    home: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = home("varied")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with running(workspace) as server, httpx.Client(base_url=server.url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            response = client.post("/api/rank/draws", json=WISH)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "unable")
            assert "No space left on device" in response.json()["error"]["message"]
        assert list(workspace.draws.iterdir()) == []
        rank(client, drawn(client), [1, 2, 3]).raise_for_status()


def test_a_damaged_draw_is_named(home: Callable[..., Workspace]) -> None:
    workspace = home("varied")
    workspace.draws.mkdir()
    (workspace.draws / "x.json").write_text("[]", "utf-8")
    with pytest.raises(Refusal, match=r"x\.json is no draw"), running(workspace):
        pass


def test_suggestions_come_from_the_home_and_from_own_chats(first: Server) -> None:
    workspace = first.workspace
    with httpx.Client(base_url=first.url) as client:

        def suggested(place: int, who: str = "ada") -> tuple[str, str]:
            found = client.get("/api/rank/prompt", params={"annotator": who, "place": place}).json()
            return found["messages"][-1]["content"], found["source"]

        assert suggested(0)[1] == "examples"
        assert suggested(0) == suggested(0)
        write_jsonl(workspace.prompts, [Conversation.ask("one"), Conversation.ask("two")])
        number = first.serving.store.new_conversation("ada")
        client.post(f"/api/conversations/{number}/messages", json={"content": "three"}).raise_for_status()
        assert {suggested(place) for place in range(3)} == {("one", "prompts"), ("two", "prompts"), ("three", "chat")}
        assert {suggested(place, "bo")[0] for place in range(3)} == {"one", "two"}
        asked = client.get(f"/api/rank/conversations/{number}").json()["messages"]
        assert asked == [{"role": "user", "content": "three"}]
        assert client.get(f"/api/rank/conversations/{number}", params={"turn": 1}).status_code == 404


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"n": 1}, "n"),
        ({"n": 10}, "n"),
        ({"prompt": " "}, "empty"),
        ({"prompt": None}, "prompt"),
        ({"messages": [{"role": "assistant", "content": "x"}], "prompt": None}, "last message"),
        ({"messages": [{"role": "robot", "content": "x"}], "prompt": None}, "role"),
        ({"prompt": "word " * 700}, "context"),
        ({"kk": 3}, "kk"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_draws_are_refused_by_name(first: Server, fields: dict[str, Any], word: str) -> None:
    response = httpx.post(f"{first.url}/api/rank/draws", json=WISH | fields)
    assert response.status_code == 400, response.text
    assert word in response.json()["error"]["message"]


def test_bad_orders_are_refused(first: Server) -> None:
    with httpx.Client(base_url=first.url) as client:
        draw = drawn(client)
        assert rank(client, draw, [1, 2]).status_code == 400
        assert rank(client, draw, [0, 1, 2]).status_code == 400
        assert rank(client, draw, [1, 2, 3], annotator="bo").status_code == 400
        assert rank(client, {"id": "nowhere"}, [1, 2, 3]).status_code == 404
        assert overview(client)["count"] == 0


@pytest.mark.long
def test_what_was_confirmed_survives_kill_9(tmp_path: Path, models: Models) -> None:
    workspace = make_home(tmp_path / "home", models, "varied")
    with served(workspace.home) as (process, client):
        client.post("/api/rank/consent", json={"annotator": "ada", "granted": True}).raise_for_status()
        confirmed, waiting = drawn(client), drawn(client)
        number = rank(client, confirmed, [2, 1, 3]).raise_for_status().json()["id"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = Store(workspace.store)
    assert [ranking.ranks for ranking in store.training_rankings()] == [(2, 1, 3)]
    store.close()
    with served(workspace.home) as (_, client):
        assert overview(client)["draw"]["id"] == waiting["id"], "the draw that waited is there again"
        assert rank(client, confirmed, [2, 1, 3]).json()["id"] == number, "sent again, it counts once"
        assert overview(client)["count"] == 1
