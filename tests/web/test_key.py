"""A server with a key, in a browser: asked once, then the page is as ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from palmier.serve.guard import Access

from ..serve.home import Models, Server, make_home, running  # noqa: TID252  # tests are no package: the one way to a neighbour

pytestmark = pytest.mark.web

KEY = "a-key-of-some-length"


@pytest.fixture
def locked(tmp_path: Path, models: Models) -> Iterator[Server]:
    with running(make_home(tmp_path / "home", models, "first"), access=Access(key=KEY)) as server:
        yield server


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_asks_for_the_key_once(locked: Server, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(locked.url)
    field = page.get_by_label("Key")
    expect(field).to_be_focused()
    field.fill("another-key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the key.")
    field.fill(KEY)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
    page.get_by_label("Your message").fill("Who are you?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .prose")).to_have_text("I am the first version.")
    assert page.evaluate("document.cookie") == "", "scripts can't read it"
    page.reload()
    expect(page.locator(".answer .prose")).to_have_text("I am the first version.")
    page.goto(f"{locked.url}/rank")
    expect(page.get_by_role("heading", name="Rank answers")).to_be_visible()


def test_when_the_key_is_wanted_again_what_was_typed_stays(locked: Server, page: Page) -> None:
    page.goto(locked.url)
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
    page.get_by_label("Your message").fill("Who are you?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .prose")).to_have_text("I am the first version.")
    page.get_by_label("Your message").fill("A second message that I would not like to lose")
    page.context.clear_cookies()  # as when the days for which it is remembered are over
    page.keyboard.press("Enter")
    expect(page.get_by_label("Key")).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".answer .prose")).to_have_text("I am the first version.")
    expect(page.get_by_label("Your message")).to_have_value("A second message that I would not like to lose")
    expect(page.locator(".notice")).to_contain_text("What you had typed is back in the message box.")
    page.reload()
    expect(page.get_by_label("Your message")).to_have_value("")


def test_who_types_the_key_before_the_page_has_its_words_is_heard(locked: Server, page: Page) -> None:
    page.route("**/page/words.js", lambda _: None)
    page.goto(locked.url, wait_until="commit")
    page.get_by_label("Key").fill(KEY)
    page.keyboard.press("Enter")
    page.unroute("**/page/words.js")  # goes on with what was held
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()


def test_the_page_that_asks_for_the_key_follows_the_theme(locked: Server, page: Page) -> None:
    page.goto(locked.url)
    page.evaluate("localStorage.setItem('palmier.theme', '\"dark\"')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 20)"


def test_the_page_that_asks_for_the_key_speaks_german(locked: Server, browser: Browser) -> None:
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.goto(locked.url)
    page.get_by_label("Schlüssel").fill("another-key")
    page.get_by_role("button", name="Öffnen").click()
    expect(page.get_by_role("alert")).to_have_text("Das ist nicht der Schlüssel.")
    page.get_by_label("Schlüssel").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Was soll ich schreiben?")).to_be_visible()
    context.close()
