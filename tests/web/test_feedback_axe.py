"""Feedback in the chat under axe-core: each state of it on a desk in the light and on a phone in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import QUESTION, box, chat, confirm, consented, ready
from .test_axe import DESK, PHONE, check, seen

pytestmark = pytest.mark.web


@pytest.fixture(params=[(DESK, "light"), pytest.param((PHONE, "dark"), marks=pytest.mark.long)], ids=["desk", "phone"])
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    with seen(browser, *request.param) as page:
        yield page


def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_every_state_of_feedback(serve: Callable[..., Server], view: Page) -> None:
    page = view
    chat(page, serve("first", "second"))
    box(page).fill(QUESTION)
    page.get_by_role("button", name="How to compare").click()
    page.get_by_label("Against", exact=True).select_option("0002")
    check(page, "what is compared")
    page.keyboard.press("Escape")
    page.locator("#composer").get_by_role("button", name="Compare", exact=True).click()
    ready(page)
    check(page, "answers side by side")
    fits(page)
    page.get_by_role("button", name="Answer 2 is best").click()
    page.get_by_role("button", name="Much better").click()
    check(page, "one is chosen")
    fits(page)
    confirm(page)
    expect(page.locator(".consent-question")).to_be_visible()
    expect(page.locator(".consent-question").get_by_role("button", name="Yes, use it")).to_be_in_viewport()
    check(page, "the question of consent")
    fits(page)
    consented(page)
    page.get_by_role("button", name="Bad answer").click()
    expect(page.get_by_label("What was bad about it?")).to_be_visible()
    check(page, "a thumb and its reason")
    page.get_by_role("button", name="Write better").click()
    check(page, "a better answer")
    fits(page)
    page.get_by_label("The better answer").fill("Better.")
    page.get_by_role("button", name="Keep this answer").click()
    expect(page.locator(".answer .badge")).to_have_text("Written by a person")
    if page.locator("#history-open").is_visible():
        page.locator("#history-open").click()
    page.get_by_role("button", name="My feedback").click()
    dialog = page.get_by_role("dialog", name="My feedback")
    for name in ("Comparisons (1)", "Thumbs (1)", "Better answers (1)"):
        dialog.get_by_role("button", name=name).click()
        expect(dialog.locator(".given-list > li")).to_have_count(1)
        check(page, name)
    dialog.get_by_role("button", name="Turn off").click()
    expect(dialog.get_by_role("button", name="Turn on")).to_be_focused()
    check(page, "turned off")


def test_the_ranking_page(serve: Callable[..., Server], view: Page) -> None:
    view.goto(f"{serve('varied').url}/rank")
    expect(view.get_by_role("button", name="Yes, use it")).to_be_visible()
    check(view, "asking")
    view.get_by_role("button", name="Draw answers").click()
    expect(view.get_by_role("button", name="Confirm order")).to_be_enabled()
    check(view, "ordering")
    fits(view)
