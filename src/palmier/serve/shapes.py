"""The shape of an error, chosen by the path: Anthropic's on its own routes, OpenAI's everywhere else."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.responses import JSONResponse

MESSAGES = "/v1/messages"
"""Anthropic's route; those below it are Anthropic's too."""

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    504: "api_error",
    529: "overloaded_error",
}
"""Anthropic's names of what went wrong, by HTTP status."""


NOT_JSON = "the body is not JSON in UTF-8, or it nests too deep or holds too long a number"


class Fault(NamedTuple):
    """Why a request is not answered. ``kind``, ``param`` and ``code`` are OpenAI's; ``retry`` is a number of seconds."""

    status: int
    sentence: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry: str = ""


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI tells it."""
    return {"error": {"message": _sendable(message), "type": kind, "param": param and _sendable(param), "code": code}}


def fault_status(path: str, fault: Fault) -> int:
    """The HTTP status: Anthropic says 529 where a server has no room, 500 where it is broken, and OpenAI 503."""
    if _is_anthropics(path) and fault.status == 503:
        return 529 if fault.code in ("busy", "backend_busy") else 500
    return fault.status


def fault_body(path: str, fault: Fault) -> dict[str, Any]:
    """The body of the answer, in the shape of the path's API."""
    if not _is_anthropics(path):
        return error_body(fault.sentence, fault.kind, fault.param, fault.code)
    kind = KINDS.get(fault_status(path, fault), "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": _sendable(fault.sentence)}}


def fault_response(path: str, fault: Fault) -> JSONResponse:
    """The whole answer."""
    headers = {"retry-after": fault.retry} if fault.retry else {}
    if fault.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(fault_body(path, fault), fault_status(path, fault), headers)


def _is_anthropics(path: str) -> bool:
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def _sendable(text: str) -> str:
    """Text without lone surrogates, which JSON can smuggle into a name that an error repeats."""
    return text.encode("utf-8", "replace").decode()
