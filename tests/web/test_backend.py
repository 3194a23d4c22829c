"""The chat page where another server answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ..serve.home import Server, in_front_of  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import ask

pytestmark = pytest.mark.web


def test_the_page_says_who_answers(serve: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    behind = serve("first")
    page.goto(behind.url)
    expect(page.locator("#where")).to_have_text("Everything stays on this computer.")
    with in_front_of(behind.url, tmp_path / "front") as front:
        page.goto(front.url)
        expect(page.locator("#where")).to_have_text(
            f"Conversations and feedback stay on this computer; {behind.url} answers."
        )
        expect(page.locator("#who")).to_have_text(f"The server at {behind.url} answers.")
        ask(page)
        expect(page.locator(".answer .prose")).to_have_text("I am the first version.")
        expect(page.locator(".answer .badge")).to_contain_text(behind.url)
