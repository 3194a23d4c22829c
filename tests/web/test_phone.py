"""The chat page on a phone: a drawer, nothing wider than the screen, targets that a thumb can hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import ask, idle, prose, talked

pytestmark = pytest.mark.web

SMALL = """() => {
    // What can be pressed, and is smaller than 40 pixels either way. Links in a text, and boxes in a label that is
    // large enough, are pressed elsewhere.
    const found = [];
    const every = document.querySelectorAll("button, a.button, select, summary, input, label:has(input), #chats a, textarea");
    for (const node of every) {
        const box = node.getBoundingClientRect();
        const isBare = node.matches("input[type=checkbox], input[type=radio]");
        if (!node.checkVisibility({ visibilityProperty: true }) || isBare || node.matches(".skip") || !box.width) continue;
        if (box.height < 39.5 || box.width < 39.5) {
            found.push(`${node.id || node.className || node.localName} “${node.textContent.trim()}” ${box.width} × ${box.height}`);
        }
    }
    return found;
}"""


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def check(page: Page, state: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, state
    wide = "[...document.querySelectorAll('dialog, .menu')].filter((n) => n.scrollWidth > n.clientWidth + 1).length"
    assert page.evaluate(wide) == 0, state
    assert page.evaluate(SMALL) == [], state


def test_everything_fits_and_can_be_hit(serve: Callable[..., Server], phone: Page) -> None:
    server = serve("first", "second")
    number = talked(server, "Hello " * 30, "A long-word-" * 40 + "\n\n```\n" + "x" * 300 + "\n```", "Two", "Answer two")
    server.serving.store.note(talked(server, "Bread", "…"), folder="A folder with quite a long name " * 3)
    phone.goto(server.url)
    expect(phone.locator("#version option")).not_to_have_count(0)
    check(phone, "welcome")
    phone.goto(f"{server.url}/?c={number}")
    expect(prose(phone)).to_have_count(2)
    phone.get_by_role("button", name="Again").last.tap()
    expect(phone.locator(".pager")).to_contain_text("2/2")
    idle(phone)
    check(phone, "a conversation")
    phone.get_by_role("button", name="Edit").last.tap()
    check(phone, "a message that is changed")
    phone.keyboard.press("Escape")
    phone.get_by_role("button", name="Settings").tap()
    check(phone, "settings")
    phone.keyboard.press("Escape")
    phone.get_by_role("button", name="Side by side").tap()
    check(phone, "side by side")


def test_the_list_is_a_drawer(serve: Callable[..., Server], phone: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    phone.goto(server.url)
    drawer = phone.locator("#history")
    expect(drawer).to_be_hidden()
    phone.get_by_role("button", name="Conversations").tap()
    expect(drawer).to_be_visible()
    expect(phone.get_by_role("button", name="Close")).to_be_focused()
    phone.wait_for_timeout(300)  # it slides
    check(phone, "the drawer")
    phone.get_by_role("button", name="What to do with “Hello”").tap()
    check(phone, "the menu")
    phone.get_by_role("menuitem", name="Move to a folder").tap()
    check(phone, "folders")
    phone.keyboard.press("Escape")
    phone.get_by_role("button", name="Appearance").tap()
    check(phone, "appearance")
    phone.keyboard.press("Escape")
    phone.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    phone.get_by_role("button", name="Conversations").tap()
    phone.get_by_role("link", name="Hello").tap()
    expect(drawer).to_be_hidden()
    expect(prose(phone)).to_have_text("Old answer")
    assert phone.url.endswith(f"?c={number}")
    phone.get_by_role("button", name="Conversations").tap()
    phone.locator("#veil").tap(position={"x": 370, "y": 400})
    expect(drawer).to_be_hidden()
    ask(phone)
    idle(phone)


def test_german_words_fit_their_buttons_and_menus(serve: Callable[..., Server], browser: Browser) -> None:
    server = serve("first", "second")
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, locale="de-DE"
    )
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#version option")).not_to_have_count(0)
    page.locator("#settings-open").tap()
    tops = [button.bounding_box() for button in page.locator("dialog .buttons.end > button:not(.quiet)").all()]
    assert len({found["y"] for found in tops if found}) == 1, "side by side"
    assert len({found["width"] for found in tops if found}) == 1
    page.keyboard.press("Escape")
    page.locator(".compare-how").tap()
    against = page.locator("#compare-against")
    expect(against).to_be_visible()
    spare = against.evaluate("""node => {
        const style = getComputedStyle(node);
        const pen = document.createElement("canvas").getContext("2d");
        pen.font = style.font;
        const arrow = 24;
        const room = node.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - arrow;
        return room - pen.measureText(node.selectedOptions[0].textContent).width;
    }""")
    assert spare >= 0
    context.close()
