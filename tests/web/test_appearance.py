"""Themes and languages in a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import ask, prose, talked

pytestmark = pytest.mark.web

LIGHT, DARK = "rgb(247, 246, 242)", "rgb(18, 22, 20)"


def paper(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_theme_is_kept_and_both_pages_follow_it(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    page.emulate_media(color_scheme="light")
    page.goto(server.url)
    assert paper(page) == LIGHT
    page.get_by_role("button", name="Appearance").click()
    page.get_by_label("Dark").click()
    assert paper(page) == DARK
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Appearance")).to_be_focused()
    page.reload()
    assert paper(page) == DARK
    page.goto(f"{server.url}/rank")
    assert paper(page) == DARK
    # With the keyboard: arrows choose.
    page.goto(server.url)
    page.get_by_role("button", name="Appearance").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Dark")).to_be_focused()
    page.keyboard.press("ArrowUp")
    assert paper(page) == LIGHT
    page.emulate_media(color_scheme="dark")
    assert paper(page) == LIGHT, "what was chosen holds whatever the system says"
    page.keyboard.press("ArrowUp")
    assert paper(page) == DARK, "as the system"
    page.emulate_media(color_scheme="light")
    assert paper(page) == LIGHT


def test_the_theme_stands_before_the_first_paint(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    page.evaluate("localStorage.setItem('palmier.theme', '\"dark\"')")
    # At the moment when the body begins, before any module has run.
    page.add_init_script("""
        new MutationObserver((_, watcher) => {
            if (!document.body) return;
            window.atFirst = document.documentElement.dataset.theme;
            watcher.disconnect();
        }).observe(document, { childList: true, subtree: true });
    """)
    page.reload()
    assert page.evaluate("window.atFirst") == "dark"


def test_german_is_chosen_and_what_was_typed_stays(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    page.goto(f"{server.url}/?c={number}")
    page.get_by_label("Your message", exact=True).fill("Half a thought")
    page.get_by_role("button", name="Appearance").click()
    page.get_by_label("Deutsch").click()
    expect(page.get_by_role("button", name="Neue Unterhaltung")).to_be_visible()
    expect(page.get_by_label("Ihre Nachricht", exact=True)).to_have_value("Half a thought")
    assert page.evaluate("document.documentElement.lang") == "de"
    expect(page.get_by_role("button", name="Noch einmal")).to_be_visible()
    expect(page.locator("#chats h2")).to_have_text(["Heute"])
    page.get_by_role("button", name="Neue Unterhaltung").click()
    expect(page.get_by_text("Die Modelle hier können nur wenig Deutsch")).to_be_visible()
    page.get_by_role("button", name="Eine Erklärung").click()
    expect(page.locator(".asked")).to_contain_text("warum der Himmel blau ist")
    page.get_by_role("button", name="Darstellung").click()
    page.get_by_label("English").click()
    expect(page.get_by_role("button", name="New conversation")).to_be_visible()


def test_the_browsers_language_is_the_first_choice(serve: Callable[..., Server], browser: Browser) -> None:
    context = browser.new_context(locale="de-CH")
    page = context.new_page()
    page.goto(serve("first").url)
    expect(page.get_by_role("heading", name="Was soll ich schreiben?")).to_be_visible()
    context.close()


def test_the_starters_are_what_everybody_tries_first(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    starters = page.locator("#examples button")
    expect(starters).to_have_count(4)
    expect(starters.nth(0)).to_contain_text("e-mail to my landlord")
    expect(starters.nth(1)).to_contain_text("Explain to a six-year-old")
    expect(starters.nth(2)).to_contain_text("Python function")
    expect(page.locator("#weak-language")).to_be_hidden()
    starters.nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".asked")).to_have_text("Explain to a six-year-old why the sky is blue.")
    expect(prose(page)).not_to_be_empty()
    ask(page, "Who are you?")
