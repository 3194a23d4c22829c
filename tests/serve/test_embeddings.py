"""Embeddings: the mean of the last hidden states, equal to transformers', whatever is asked together and meanwhile."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
import torch

from palmier.serve import embeddings as module
from palmier.workspace import Workspace

from .home import Models, Server, running
from .test_completions import wait_until

TEXTS = ["Who are you?", "Grüße aus 東京", "x", "Dear Ms Palm, the heating is broken. " * 10, "Hello"]


@pytest.fixture
def exact(home: Callable[..., Workspace]) -> Iterator[Server]:
    with running(home("first"), "fp32") as server:
        yield server


def embed(server: Server, given: Any, **fields: Any) -> list[list[float]]:
    response = httpx.post(f"{server.url}/v1/embeddings", json={"input": given} | fields, timeout=60)
    data = response.raise_for_status().json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return [one["embedding"] for one in data]


@torch.no_grad()
def test_they_are_transformers_mean_of_the_last_hidden_states(exact: Server, models: Models) -> None:
    """From one token to the whole context, which takes more than one slice; alone, and many of any length together."""
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(models["first"], dtype=torch.float32).eval()
    vocabulary = exact.serving.live.answering.decoder.config.vocab_size
    generator = torch.Generator().manual_seed(1)
    lengths = [1, 640, 2, 17, 511, 512, 513, 30, 100, 639, 16, 5]
    assert max(lengths) > module.SLICE
    rows = [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]
    expected = torch.stack([theirs(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows])
    together = torch.tensor(embed(exact, rows))
    torch.testing.assert_close(together, expected, atol=2e-5, rtol=1e-5)
    for row, vector in zip(rows[:4], expected, strict=False):
        torch.testing.assert_close(torch.tensor(embed(exact, row)), vector.unsqueeze(0), atol=2e-5, rtol=1e-5)


def test_every_form_of_input_and_of_numbers_says_the_same(exact: Server) -> None:
    tokenizer = exact.serving.live.answering.template.tokenizer
    ids = [tokenizer.encode(text) for text in TEXTS]
    vectors = embed(exact, TEXTS)
    assert vectors == embed(exact, ids)
    assert vectors[0] != vectors[1]
    alone = torch.tensor([embed(exact, text)[0] for text in TEXTS])
    torch.testing.assert_close(torch.tensor(vectors), alone, atol=1e-5, rtol=1e-5)
    client = openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none", max_retries=0)
    theirs = client.embeddings.create(model="0001", input=TEXTS)  # asks for base64, and decodes it
    assert [one.embedding for one in theirs.data] == [pytest.approx(vector, rel=1e-6) for vector in vectors]
    assert (theirs.model, theirs.usage.prompt_tokens) == ("0001", sum(map(len, ids)))
    width = len(vectors[0])
    plain = client.embeddings.create(
        model="current", input=ids[0], encoding_format="float", dimensions=width, user="me"
    )
    assert plain.data[0].embedding == pytest.approx(vectors[0], abs=1e-5)
    assert width == 64


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_are_close(home: Callable[..., Workspace], precision: Any) -> None:
    workspace = home("first")
    with running(workspace, "fp32") as server:
        expected = torch.tensor(embed(server, TEXTS))
    with running(workspace, precision) as server:
        found = torch.tensor(embed(server, TEXTS))
    assert float(torch.cosine_similarity(found, expected).min()) > 0.99
    assert not torch.equal(found, expected)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 5]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [[1], ["a"]]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [[3], [999_999]]}, "input 1 has the token 999999, outside the vocabulary"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": ["a", "word " * 700]}, "input 1 has"),
        ({"input": [5] * 641}, "input 0 has 641 tokens and the context holds 640"),
        ({"input": "a", "dimensions": 63}, "dimensions 63"),
        ({"input": "a", "dimensions": "64"}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "model": 5}, "model"),
        ({"input": "a", "user": 5}, "user"),
        ({"input": "a", "truncate": True}, "truncate"),
    ],
)
def test_what_does_not_work_is_refused_by_name(first: Server, fields: dict[str, Any], named: str) -> None:
    response = httpx.post(f"{first.url}/v1/embeddings", json=fields)
    assert response.status_code == 400, response.text
    assert named in response.json()["error"]["message"]


def test_a_version_that_there_is_not_is_404_and_another_one_is_loaded(home: Callable[..., Workspace]) -> None:
    with running(home("first", "second"), "fp32") as server:
        response = httpx.post(f"{server.url}/v1/embeddings", json={"input": "a", "model": "gpt-4"})
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert embed(server, "Hello", model="0002") != embed(server, "Hello")


@pytest.mark.long
def test_streams_go_on_while_many_long_texts_are_embedded(home: Callable[..., Workspace]) -> None:
    """Between any two slices the stream gets a token: its longest pause is a slice, not the whole request."""
    with running(home("endless"), "fp32") as server:
        arrived: list[float] = []

        def listen() -> None:
            wish = {"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 450}
            with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=wish, timeout=60) as stream:
                arrived.extend(time.monotonic() for line in stream.iter_lines() if '"content"' in line)

        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: len(arrived) > 5)
        began = time.monotonic()
        embed(server, [[5] * 600] * 24)
        took = time.monotonic() - began
        meanwhile = [one for one in arrived if began < one < began + took]
        listener.join()
    # Each of the 24 texts is two slices; a token came after each, but a few may have been told together.
    assert len(meanwhile) > 24
    pauses = [late - early for early, late in itertools.pairwise(meanwhile)]
    assert max(pauses) < took / 4


def test_a_client_that_goes_away_ends_the_job(home: Callable[..., Workspace]) -> None:
    with running(home("endless"), "fp32") as server:
        loaded = server.serving.live.answering
        body = json.dumps({"input": [[5] * 640] * 300})
        client = http.client.HTTPConnection(server.url.removeprefix("http://"))
        client.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        wait_until(lambda: bool(loaded.work), 20)
        client.close()
        wait_until(lambda: not loaded.work, 5)


def test_damaged_weights_are_a_sentence(first: Server) -> None:
    for parameter in first.serving.live.answering.decoder.parameters():
        parameter.data.fill_(float("nan"))
    response = httpx.post(f"{first.url}/v1/embeddings", json={"input": "a"})
    assert response.status_code == 400
    assert "its weights are damaged" in response.json()["error"]["message"]
