"""Whatever JSON comes, a route answers it or says what is wrong with it, in its API's shape; never a server's error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palmier.workspace import Workspace

from .home import Models, Server, make_home, running

ASK = [{"role": "user", "content": "Who are you?"}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "model": "current",
        "max_tokens": 3,
        "messages": ASK,
        "system": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "stop_sequences": ["x"],
        "stream": False,
        "metadata": {"user_id": "me"},
        "tools": [],
        "thinking": {"type": "disabled"},
        "cache_control": {"type": "ephemeral"},
    },
    "/v1/messages/count_tokens": {"model": "current", "messages": ASK, "system": "Be brief."},
    "/v1/embeddings": {
        "input": ["a", "b"],
        "model": "current",
        "encoding_format": "float",
        "dimensions": 64,
        "user": "me",
    },
    "/v1/score": {"model": "taste", "messages": ASK, "answers": ["x"]},
    "/api/key": {"key": "a-key-of-some-length"},
}

letters = st.text(st.characters(exclude_categories=[]), max_size=8)  # lone surrogates and control characters too
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(2**62, 2**70), st.floats(), letters)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(letters, inner, max_size=3)),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Iterator[Server]:
    workspace: Workspace = make_home(tmp_path_factory.mktemp("any") / "home", models, "first")
    with running(workspace) as server:
        server.serving.live.request_seconds = 0.2
        yield server


@pytest.mark.parametrize("path", ROUTES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_is_answered_or_refused(server: Server, path: str, data: st.DataObject) -> None:
    body = dict(ROUTES[path])
    # A good body of which some fields became anything, or were left out, or joined by one that nobody knows.
    for name in data.draw(st.lists(st.sampled_from([*body]), max_size=2, unique=True)):
        body[name] = data.draw(anything)
    for name in data.draw(st.lists(st.sampled_from([*body]), max_size=1)):
        del body[name]
    body |= data.draw(st.dictionaries(letters, anything, max_size=1))
    response = httpx.post(server.url + path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code in (200, 204, 400, 404), response.text
    if response.status_code >= 400:
        told = response.json()
        assert told["error"]["message"]
        assert ("type" in told) == path.startswith("/v1/messages")
