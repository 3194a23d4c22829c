"""The key, given once by a person: the page then shows a cookie instead."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from palmier.errors import Refusal
from palmier.serve.guard import COOKIE, Access
from palmier.serve.shapes import Fault, fault_response

router = APIRouter(prefix="/api")

REMEMBERED = 30 * 24 * 3600
"""Seconds for which a browser stays signed in."""


class Key(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key: Annotated[str, Field(max_length=1000)]


@router.post("/key", status_code=204)
async def sign_in(request: Request, body: Key) -> Response:
    """Set the cookie where the key is right; 401 where it is not."""
    access: Access = request.app.state.access
    if not access.key:
        raise Refusal("this server asks for no key")
    # Surrogates, which JSON can smuggle in, are in no key.
    if not access.opens(body.key.encode("utf-8", "replace")):
        return fault_response(request.url.path, Fault(401, "this is not the key", code="invalid_api_key"))
    response = Response(status_code=204)
    # Scripts can't read it, and no other site's page can make the browser send it.
    response.set_cookie(COOKIE, access.cookie, max_age=REMEMBERED, httponly=True, samesite="strict")
    return response


@router.delete("/key", status_code=204)
async def sign_out() -> Response:
    """Let the browser forget the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
