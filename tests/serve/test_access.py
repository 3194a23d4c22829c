"""Who is let in, and in whose shape a refusal is told: the rules alone, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.serve.guard import COOKIE, Access, objection
from palmier.serve.shapes import Fault, fault_body, fault_response, fault_status

KEY = "a-key-of-some-length"


def scope(*headers: tuple[str, str]) -> dict[str, Any]:
    found = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "path": "/v1/models", "headers": found}


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.0.7", "chat.example", "127.0.0.1.example", ""])
def test_others_are_let_in_with_a_key_alone(address: str) -> None:
    with pytest.raises(Refusal, match="--api-key KEY or PALMIER_API_KEY"):
        Access(address)
    assert Access(address, KEY).key == KEY
    with pytest.raises(Refusal, match="--api-key"):
        Access(names=("chat.example",))
    for local in ("127.0.0.1", "127.0.0.5", "::1", "localhost"):
        assert Access(local, names=("localhost",)).key == ""


@pytest.mark.parametrize("key", ["short", "with a space in it", "line\nfeed-and-more", "schlüssel-aus-umlauten"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Refusal, match="the API key must be"):
        Access(key=key)
    assert KEY not in repr(Access(key=KEY)), "it must not come into a log by chance"


@pytest.mark.parametrize("name", ["", "http://chat.example", "chat.example:80", "chat.example/", "a b", "*", "[::1]"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="--allow-host"):
        Access(key=KEY, names=(name,))


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("192.168.0.7:8000", None, None),
        ("127.0.0.1:8000", None, None),
        ("chat.example", None, None),
        ("CHAT.example:443", None, None),
        ("other.example", None, 421),
        ("0.0.0.0:8000", None, 421),
        ("192.168.0.8:8000", None, 421),
        ("chat.example.evil.example", None, 421),
        ("chat.example", "https://chat.example", None),
        ("chat.example", "http://chat.example", None),
        ("chat.example:8000", "http://chat.example:8000", None),
        ("chat.example:8000", "http://chat.example", 403),
        ("chat.example", "https://evil.example", 403),
        ("chat.example", "null", 403),
        ("chat.example", "ftp://chat.example", 403),
        ("192.168.0.7:8000", "http://192.168.0.7:8000", None),
        ("192.168.0.7:8000", "http://127.0.0.1:8000", 403),
        ("127.0.0.1:8000", "http://localhost:8000", None),
        ("127.0.0.1:8000", "http://chat.example:8000", 403),
    ],
)
def test_beyond_loopback_the_address_and_the_given_names_are_answered(
    host: str, origin: str | None, status: int | None
) -> None:
    access = Access("192.168.0.7", KEY, ("chat.example",))
    sent = [("host", host), ("x-api-key", KEY)] + ([("origin", origin)] if origin is not None else [])
    found = objection(scope(*sent), access)
    assert (None if found is None else found.status) == status
    everywhere = Access("0.0.0.0", KEY)
    assert objection(scope(("host", "0.0.0.0"), ("x-api-key", KEY)), everywhere), "no browser calls a server so"


@pytest.mark.parametrize(
    ("header", "value", "welcome"),
    [
        ("authorization", f"Bearer {KEY}", True),
        ("authorization", f"bearer  {KEY} ", True),
        ("x-api-key", KEY, True),
        ("cookie", f"a=b; {COOKIE}={Access(key=KEY).cookie}; c=d", True),
        ("authorization", KEY, False),
        ("authorization", f"Basic {KEY}", False),
        ("authorization", "Bearer", False),
        ("authorization", "Bearer ", False),
        ("authorization", f"Bearer {KEY}x", False),
        ("authorization", f"Bearer {KEY[:-1]}", False),
        ("x-api-key", "", False),
        ("x-api-key", "\xff\xfe", False),
        ("x-api-key", KEY.upper(), False),
        ("cookie", f"{COOKIE}={KEY}", False),
        ("cookie", f"x{COOKIE}={Access(key=KEY).cookie}", False),
        ("cookie", f"{COOKIE}={Access(key=KEY + 'x').cookie}", False),
        ("cookie", "=;;", False),
    ],
)
def test_the_key_opens_and_nothing_else(header: str, value: str, welcome: bool) -> None:
    found = objection(scope(("host", "127.0.0.1"), (header, value)), Access(key=KEY))
    assert (None if found is None else found.status) == (None if welcome else 401)


@pytest.mark.parametrize(
    ("status", "code", "theirs", "kind"),
    [
        (400, None, 400, "invalid_request_error"),
        (401, None, 401, "authentication_error"),
        (403, None, 403, "permission_error"),
        (404, None, 404, "not_found_error"),
        (405, None, 405, "invalid_request_error"),
        (413, None, 413, "request_too_large"),
        (429, None, 429, "rate_limit_error"),
        (500, None, 500, "api_error"),
        (503, "busy", 529, "overloaded_error"),
        (503, "stopped", 500, "api_error"),
    ],
)
def test_a_fault_is_told_in_the_shape_of_the_path(status: int, code: str | None, theirs: int, kind: str) -> None:
    fault = Fault(status, "half a \ud83d", "a_kind", "a.field", code, retry="2")
    told = {"type": "error", "error": {"type": kind, "message": "half a ?"}}
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/nothing"):
        assert (fault_status(path, fault), fault_body(path, fault)) == (theirs, told)
    told = {"error": {"message": "half a ?", "type": "a_kind", "param": "a.field", "code": code}}
    for path in ("/v1/chat/completions", "/v1/messagesandmore", "/", "/v1"):
        assert (fault_status(path, fault), fault_body(path, fault)) == (status, told)
    assert fault_response("/", fault).headers["retry-after"] == "2"
    assert ("www-authenticate" in fault_response("/", fault).headers) == (status == 401)
