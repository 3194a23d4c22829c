"""`palmier serve --backend`: another real `palmier serve` answers, and our page, store and feedback stand in front."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from palmier.data.pairs import RankedGroups
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.evaluate.comparison import collected_sampling
from palmier.serve.guard import Access
from palmier.workspace import Workspace

from .home import SENTENCES, Models, Server, in_front_of, make_home, running, served
from .test_completions import ASK, complete, text, under_way, wait_until
from .test_conversations import begin, draw, messages
from .test_feedback import ADA, agree, choose, compare
from .test_monitoring import told
from .test_ranking import drawn, rank
from .test_trees import tree

KEY = "a-key-of-the-backend"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    """The server that answers: two parrots."""
    home = make_home(tmp_path_factory.mktemp("behind") / "home", models, "first", "second")
    with running(home, "fp32") as server:
        yield server


@pytest.fixture
def front(behind: Server, tmp_path: Path) -> Iterator[Server]:
    """The server in front of it, with a home of its own."""
    with in_front_of(behind.url, tmp_path / "front") as server:
        yield server


@pytest.fixture
def client(front: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, timeout=30) as client:
        yield client


@pytest.fixture
def endless(home: Callable[..., Workspace], tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A backend that talks for a long time, and the server in front of it."""
    with running(home("endless")) as behind, in_front_of(behind.url, tmp_path / "front") as front:
        yield behind, front


def drawn_by(server: Server) -> float:
    """The tokens that its first version has drawn."""
    return told(server)["palmier_generated_tokens_total"]["0001",]


def name(behind: Server, version: str) -> str:
    return f"{version}@{behind.url}"


def test_an_answer_is_stored_as_text_with_the_model_and_the_address(
    behind: Server, front: Server, client: httpx.Client
) -> None:
    number = begin(client)
    events = draw(client, number, temperature=0)
    assert [event["type"] for event in events][:: len(events) - 1] == ["start", "end"]
    assert events[0]["version"] == name(behind, "0001")
    assert "".join(event["text"] for event in events if event["type"] == "text") == SENTENCES["first"]
    assert sum(event["type"] == "text" for event in events) > 1, "it comes in pieces"
    assert (events[-1]["finish"], events[-1]["tokens"] > 5) == ("stop", True)
    (answer,) = [one.answer for one in front.serving.store.tree(number, drawn=True).messages if one.answer]
    assert (answer.text, answer.version, answer.finish) == (SENTENCES["first"], name(behind, "0001"), "stop")
    assert (answer.tokens, answer.logprobs, answer.sampling.temperature) == ((), (), 0)
    cut = draw(client, number, temperature=0, max_tokens=3, model=name(behind, "0002"))
    assert (cut[-1]["finish"], cut[-1]["tokens"]) == ("length", 3)
    assert SENTENCES["second"].startswith("".join(event.get("text", "") for event in cut))
    refused = client.post(f"/api/conversations/{number}/answers", json={"continue": cut[-1]["message"]})
    assert (refused.status_code, refused.json()["error"]["message"].count("can't go on with an answer")) == (400, 1)


def test_no_model_is_loaded_and_the_home_holds_no_version(front: Server, client: httpx.Client) -> None:
    draw(client, begin(client))
    assert not front.workspace.versions.exists()
    assert not front.workspace.current.exists()


def test_the_page_shows_the_backends_models(behind: Server, client: httpx.Client) -> None:
    state = client.get("/api/state").json()
    assert [version["name"] for version in state["versions"]] == [name(behind, one) for one in ("0001", "0002")]
    assert state["current"] == name(behind, "0001")
    assert (state["problem"], state["running"], state["loading"]) == ("", True, [])
    unknown = client.post(f"/api/conversations/{begin(client)}/answers", json={"model": "0003"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_a_new_model_of_the_backend_is_shown(home: Callable[..., Workspace], models: Models, tmp_path: Path) -> None:
    from palmier.versions import Versions

    workspace = home("first")
    with running(workspace) as behind, in_front_of(behind.url, tmp_path / "front") as front:
        Versions(workspace).add(models["second"], label="second")
        wait_until(lambda: len(front.serving.versions.all()) == 2)
        assert text(complete(front, model="0002", temperature=0)) == SENTENCES["second"]


def test_two_models_are_compared_and_the_choice_is_stored(behind: Server, front: Server, client: httpx.Client) -> None:
    agree(client)
    number = begin(client, annotator="ada")
    compared = compare(client, number, n=4, against=name(behind, "0002"), temperature=0)
    assert behind.url not in json.dumps(compared), "whose each is stays hidden"
    best = next(place for place, one in enumerate(compared["answers"]) if "better" in one["text"])
    chosen = choose(client, compared["id"], pick=best).raise_for_status().json()
    assert sorted(chosen["versions"]) == [name(behind, one) for one in ("0001", "0001", "0002", "0002")]
    (ranking,) = front.serving.store.training_rankings()
    assert {answer.version for answer in ranking.answers} == {name(behind, "0001"), name(behind, "0002")}
    same = client.post(f"/api/conversations/{number}/comparisons", json=ADA | {"against": name(behind, "0001")})
    assert "compared with itself" in same.json()["error"]["message"]


def test_thumbs_and_better_answers(behind: Server, front: Server, client: httpx.Client) -> None:
    agree(client)
    number = begin(client, annotator="ada")
    message = draw(client, number, temperature=0)[-1]["message"]
    where = ADA | {"conversation": number, "message": message}
    assert client.post("/api/feedback/labels", json=where | {"good": False}).raise_for_status().json()["id"]
    better = client.post("/api/feedback/demonstrations", json=where | {"text": "I am better."}).raise_for_status()
    assert better.json()["fate"]["sentence"] == "used from the next improve on"
    rankings = front.serving.store.training_rankings()
    assert [answer.text for answer in rankings[0].answers] == ["I am better.", SENTENCES["first"]]
    assert rankings[0].answers[1].version == name(behind, "0001")


def test_what_was_ranked_trains_from_the_text_alone(
    home: Callable[..., Workspace], models: Models, tmp_path: Path
) -> None:
    """A model with another tokenizer than the backend's, or none that we know, learns from it all the same."""
    with running(home("varied"), "fp32") as behind, in_front_of(behind.url, tmp_path / "front") as front:
        with httpx.Client(base_url=front.url) as client:
            client.post("/api/rank/consent", json={"annotator": "ada", "granted": True}).raise_for_status()
            four = drawn(client, n=4, temperature=1.0, seed=7, max_tokens=60)
            again = drawn(client, n=4, temperature=1.0, seed=7, max_tokens=60)
            assert rank(client, four, [2, 1, 2, 3]).json()["count"] == 1
        (ranking,) = front.serving.store.training_rankings()
    assert [one["text"] for one in four["answers"]] == [one["text"] for one in again["answers"]], "the seeds are sent"
    assert len({answer.sampling.seed for answer in ranking.answers}) == 4
    assert len({answer.text for answer in ranking.answers}) > 1
    assert all(answer.tokens == () and answer.version == name(behind, "0001") for answer in ranking.answers)
    template = Template.load(models["second"])
    groups = RankedGroups([ranking], template, 640)
    batch = groups.batch(0)
    rows = [template.answer_ids(answer) for answer in ranking.answers]
    for place, row in enumerate(rows):
        found = batch["tokens"][0, place][batch["answer_mask"][0, place]].tolist()
        assert found == row
        assert (row[-1] == template.stop_ids[0]) == (ranking.answers[place].finish == "stop")
    sampling = collected_sampling([ranking], 3)
    assert (sampling.temperature, sampling.max_tokens, sampling.seed) == (1.0, 60, 3)


def test_openais_client_gets_what_the_backend_says(behind: Server, front: Server) -> None:
    wish: dict[str, Any] = {"messages": ASK, "temperature": 0, "model": "0002", "max_tokens": 60}
    clients = [openai.OpenAI(base_url=f"{one.url}/v1", api_key="none", max_retries=0) for one in (behind, front)]
    theirs, ours = (client.chat.completions.create(**wish, logprobs=True, top_logprobs=2) for client in clients)
    assert ours.choices == theirs.choices, "log-probs too: the body goes as it came"
    assert (ours.usage, ours.model) == (theirs.usage, "0002")
    for options in ({}, {"stream_options": {"include_usage": True}}):
        with clients[1].chat.completions.create(**wish, stream=True, **options) as chunks:  # type: ignore[call-overload]
            got = list(chunks)
        assert "".join(c.choices[0].delta.content or "" for c in got if c.choices) == SENTENCES["second"]
        assert len(got) > 5
        assert [chunk.usage for chunk in got if chunk.usage] == ([ours.usage] if options else [])
    plain = [client.completions.create(model="", prompt="I am", max_tokens=6, temperature=0) for client in clients]
    assert plain[0].choices == plain[1].choices
    assert [model.id for model in clients[1].models.list()] == ["0001", "0002"]
    assert clients[1].models.retrieve("0002").id == "0002"
    named = clients[1].chat.completions.create(**wish | {"model": name(behind, "0002")})
    assert named.choices[0].message.content == SENTENCES["second"], "under its version's name too"
    with pytest.raises(openai.NotFoundError, match="there is no version 'gpt-4'"):
        clients[1].chat.completions.create(**wish | {"model": "gpt-4"})
    with pytest.raises(openai.NotFoundError, match="lists no model 'gpt-4'"):
        clients[1].models.retrieve("gpt-4")
    with pytest.raises(
        openai.BadRequestError, match=r"the backend at http\S+ refuses the request \(400\): .*temprature"
    ):
        clients[1].chat.completions.create(**wish, extra_body={"temprature": 1})


def test_anthropics_client_talks_to_it(front: Server) -> None:
    client = anthropic.Anthropic(base_url=front.url, api_key="none", max_retries=0)
    wish: dict[str, Any] = {"model": "current", "max_tokens": 60, "messages": ASK, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**wish)
    assert [block.text for block in whole.content if block.type == "text"] == [SENTENCES["first"]]
    assert (whole.stop_reason, whole.usage.input_tokens > 0, whole.usage.output_tokens > 5) == ("end_turn", True, True)
    cut = client.messages.create(**wish | {"stop_sequences": ["version", "zzz"]})
    assert [block.text for block in cut.content if block.type == "text"] == ["I am the **first** "]
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", "version")
    with client.messages.stream(**wish) as stream:
        assert "".join(stream.text_stream) == SENTENCES["first"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/score", "/v1/messages/count_tokens"])
def test_what_needs_a_model_here_says_so(client: httpx.Client, path: str) -> None:
    body = {"model": "current", "messages": ASK, "input": "x", "answers": ["x"]}
    wanted = {"/v1/embeddings": ("input",), "/v1/score": ("model", "messages", "answers")}
    fields = wanted.get(path, ("model", "messages"))
    response = client.post(path, json={key: body[key] for key in fields})
    assert response.status_code == 501
    assert "another server answers here (--backend)" in response.json()["error"]["message"]
    assert (response.json().get("type") == "error") == path.startswith("/v1/messages")


def test_health_and_metrics_are_true(behind: Server, front: Server, client: httpx.Client) -> None:
    health = client.get("/health").raise_for_status().json()
    assert (health["status"], health["version"]) == ("ok", name(behind, "0001"))
    assert (health["backend"], health["problem"], health["memory"]["cache_bytes"]) == (behind.url, "", 0)
    used = [complete(front, temperature=0).json()["usage"]]
    streamed = complete(front, stream=True, temperature=0, model="0002").text
    assert '"usage"' not in streamed, "nobody asked for it"
    used.append(complete(behind, temperature=0, model="0002").json()["usage"])
    end = draw(client, begin(client), temperature=0)[-1]
    found = told(front)
    one, two = name(behind, "0001"), name(behind, "0002")
    drawn_tokens = found["palmier_generated_tokens_total"]
    assert drawn_tokens[one,] == used[0]["completion_tokens"] + end["tokens"]
    assert drawn_tokens[two,] == used[1]["completion_tokens"]
    assert found["palmier_prompt_tokens_total"][two,] == used[1]["prompt_tokens"]
    assert found["palmier_time_to_first_token_seconds_count"][one,] >= 1
    assert found["palmier_time_between_tokens_seconds_count"][two,] >= 3
    assert found["palmier_requests_total"]["/v1/chat/completions", "200"] == 2


@pytest.mark.long
def test_a_backend_that_goes_away_is_told_and_comes_back(home: Callable[..., Workspace], tmp_path: Path) -> None:
    workspace = home("first")
    with served(workspace.home) as (process, direct):
        url = str(direct.base_url).rstrip("/")
        port = str(direct.base_url.port)
        with in_front_of(url, tmp_path / "front") as front, httpx.Client(base_url=front.url, timeout=30) as client:
            process.kill()
            process.wait()
            number = begin(client)
            gone = client.post(f"/api/conversations/{number}/answers", json={})
            assert (gone.status_code, gone.json()["error"]["code"]) == (502, "backend_unreachable")
            assert f"the backend at {url} can't be reached" in gone.json()["error"]["message"]
            wait_until(lambda: client.get("/health").status_code == 503)
            health = client.get("/health").json()
            assert (health["status"], "can't be reached" in health["problem"]) == ("unreachable", True)
            assert "can't be reached" in client.get("/api/state").json()["problem"]
            with served(workspace.home, "--port", port):
                wait_until(lambda: client.get("/health").status_code == 200)
                assert draw(client, number, temperature=0)[-1]["finish"] == "stop"
            assert [m["content"] for m in messages(client, number)][-1] == SENTENCES["first"]


@pytest.mark.parametrize("how", ["answer", "stream", "whole", "compare"])
def test_a_client_that_goes_away_cancels_the_backends_request(endless: tuple[Server, Server], how: str) -> None:
    behind, front = endless
    with httpx.Client(base_url=front.url, timeout=30) as client:
        number = begin(client, annotator="ada")
        wish = {"messages": ASK, "max_tokens": 600}
        if how == "whole":
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=wish, timeout=0.4)
        elif how == "compare":
            name = compare(client, number, n=2, max_tokens=600, wait=False)["id"]
            wait_until(lambda: under_way(behind) == 2)
            client.delete(f"/api/conversations/{number}").raise_for_status()
            assert client.get(f"/api/rank/draws/{name}").status_code == 404
        else:
            path = f"/api/conversations/{number}/answers" if how == "answer" else "/v1/chat/completions"
            body = {"max_tokens": 600} if how == "answer" else wish | {"stream": True}
            with client.stream("POST", path, json=body) as response:
                lines = response.iter_lines()  # held: one that is thrown away takes the connection with it
                assert all("error" not in next(lines) for _ in range(8))
                assert (under_way(behind), under_way(front)) == (1, 1)
        wait_until(lambda: under_way(behind) == 0)
        wait_until(lambda: under_way(front) == 0)
        assert drawn_by(behind) < 600, "it was given up, and not merely over before this test lost its patience"
        if how == "answer":
            kept = tree(client, number)["messages"][-1]
            assert (kept["role"], kept["finish"], kept["content"][:5]) == ("assistant", "cancelled", "la la")


def test_an_answer_is_stopped_and_keeps_what_was_said(endless: tuple[Server, Server]) -> None:
    behind, front = endless
    with httpx.Client(base_url=front.url, timeout=30) as client:
        number = begin(client)
        with client.stream("POST", f"/api/conversations/{number}/answers", json={"max_tokens": 600}) as response:
            lines = (json.loads(line[6:]) for line in response.iter_lines() if line)
            start = next(lines)
            assert next(lines)["type"] == "text"
            client.post(f"/api/answers/{start['answer']}/stop").raise_for_status()
            end = list(lines)[-1]
        assert (end["type"], end["finish"], end["message"] > 0) == ("end", "cancelled", True)
        wait_until(lambda: under_way(behind) == 0)
        assert drawn_by(behind) < 600


def test_an_answer_that_takes_too_long_is_cut(endless: tuple[Server, Server]) -> None:
    behind, front = endless
    front.serving.live.request_seconds = 0.5
    with httpx.Client(base_url=front.url, timeout=30) as client:
        end = draw(client, begin(client), max_tokens=600)[-1]
        assert (end["finish"], 0 < end["tokens"] < 600) == ("length", True)
        late = complete(front, max_tokens=600)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "backend_late")
        assert "has not ended its answer within 0.5 seconds" in complete(front, max_tokens=600, stream=True).text
        wait_until(lambda: under_way(behind) == 0)
        assert drawn_by(behind) < 3 * 600


def test_a_server_that_stops_ends_its_streams_at_once(home: Callable[..., Workspace], tmp_path: Path) -> None:
    with running(home("endless")) as behind:
        with in_front_of(behind.url, tmp_path / "front") as front, httpx.Client(base_url=front.url) as client:
            number = begin(client)
            wishes = [(f"/api/conversations/{number}/answers", {"max_tokens": 600})]
            wishes.append(("/v1/chat/completions", {"messages": ASK, "max_tokens": 600, "stream": True}))
            streams = [client.stream("POST", path, json=body) for path, body in wishes]
            lines = [stream.__enter__().iter_lines() for stream in streams]
            assert all(next(line) for line in lines)
            began = time.monotonic()
            front.serving.live.close()
            ends = [[line for line in some if line][-1] for some in lines]
            assert all("the server is stopping" in end for end in ends)
            assert time.monotonic() - began < 1.5
            for stream in streams:
                stream.__exit__(None, None, None)
        wait_until(lambda: under_way(behind) == 0)
        assert drawn_by(behind) < 2 * 600


def test_the_key_is_sent_and_a_wrong_one_is_one_line(home: Callable[..., Workspace], tmp_path: Path) -> None:
    with running(home("first"), access=Access(key=KEY)) as behind:
        with in_front_of(behind.url, tmp_path / "front", key=KEY) as front:
            assert text(complete(front, temperature=0)) == SENTENCES["first"]
            with httpx.Client(base_url=front.url) as client:
                assert draw(client, begin(client), temperature=0)[-1]["finish"] == "stop"
        with pytest.raises(Refusal, match=r"refuses its key \(401\).*PALMIER_BACKEND_KEY") as refused:  # noqa: SIM117
            with in_front_of(behind.url, tmp_path / "front", key="another-key"):
                pass
        assert "another-key" not in str(refused.value)


def test_the_command_serves_in_front_of_another_and_refuses_what_does_not_go_together(
    behind: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "home", "--backend", f"{behind.url}/v1/") as (_, client):
        assert client.get("/health").json()["backend"] == behind.url
        assert draw(client, begin(client), temperature=0)[-1]["finish"] == "stop"
    from palmier.cli import app

    cases = {
        ("--backend", behind.url, "--model", "0001"): "--backend and --model",
        ("--backend", behind.url, "--precision", "fp32"): "--precision says how weights are held here",
        ("--backend-key", "abc"): "belong to --backend URL",
        ("--backend-seconds", "5"): "belong to --backend URL",
        ("--backend", behind.url, "--backend-seconds", "0"): "give a number above 0",
        ("--backend", behind.url, "--backend-key", ""): "the backend's key is empty",
        ("--backend", behind.url, "--backend-key", "a b"): "must be ASCII characters without spaces",
        ("--backend", "ftp://127.0.0.1"): "give an address such as",
        ("--backend", "file:///etc/passwd"): "give an address such as",
        ("--backend", "127.0.0.1:8080"): "give an address such as",
        ("--backend", ""): "give an address such as",
        ("--backend", "http://user:secret@127.0.0.1"): "leave name and password out",
        ("--backend", "http://127.0.0.1:8080?x=1"): "without ? and #",
        ("--backend", "http://127.0.0.1:1"): "can't be reached",
        ("--backend", "http://no-such-host.invalid"): "can't be reached",
    }
    for options, sentence in cases.items():
        assert app.run(["serve", "--port", "0", "--no-browser", "--home", str(tmp_path / "none"), *options]) == 2
        told_there = capsys.readouterr().err
        assert sentence in told_there, (options, told_there)
        assert told_there.count("\n") == 1
        assert "secret" not in told_there
    assert not (tmp_path / "none").exists(), "nothing was begun"
