"""The chat page under axe-core: no serious or critical complaint, in each state, light and dark, on a desk and a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import FIRST, ask, idle, prose, talked

pytestmark = pytest.mark.web

PHONE, DESK = (390, 844), (1280, 900)
OTHERS = ((DESK, "dark"), (PHONE, "light"), (PHONE, "dark"))
VIEWS = [(DESK, "light"), *(pytest.param(view, marks=pytest.mark.long) for view in OTHERS)]


@contextmanager
def seen(browser: Browser, size: tuple[int, int], scheme: Literal["light", "dark"]) -> Iterator[Page]:
    """An empty page of this size, in the light or in the dark; a narrow one is a phone."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
        has_touch=width < 500,
        is_mobile=width < 500,
    )
    yield context.new_page()
    context.close()


@pytest.fixture(params=VIEWS, ids=str)
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    with seen(browser, *request.param) as page:
        yield page


def check(page: Page, state: str) -> None:
    """Fail with one line a complaint."""
    found: Any = Axe().run(page).response
    grave = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    lines = [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in grave for node in one["nodes"]]
    assert not lines, f"{state}:\n" + "\n".join(lines)
    assert len(found["passes"]) > 10, "it did look"


def test_a_new_page_and_an_open_conversation(serve: Callable[..., Server], view: Page) -> None:
    server = serve("first", "second")
    view.goto(server.url)
    expect(view.locator("#version option")).not_to_have_count(0)
    check(view, "welcome")
    number = talked(
        server, "Hello", "Some **Markdown**:\n\n- one\n- two\n\n```python\nprint('x')\n```\n\n> said\n\nand `code`"
    )
    view.goto(f"{server.url}/?c={number}")
    expect(prose(view)).to_have_count(1)
    ask(view)
    expect(prose(view)).to_have_count(2)
    idle(view)
    view.get_by_role("button", name="Again").last.click()
    expect(view.locator(".answer .pager")).to_contain_text("2/2")
    idle(view)
    view.locator("#turns").get_by_role("button", name="Edit").first.focus()
    check(view, "a conversation")
    view.locator("#turns").get_by_role("button", name="Edit").first.click()
    check(view, "a message that is changed")
    view.goto(f"{server.url}/?compare=0001,0002,0009")
    expect(view.locator(".notice")).to_contain_text("0009")
    ask(view)
    expect(prose(view)).to_have_count(2)
    idle(view)
    check(view, "side by side, with a notice")


def test_a_refusal_and_the_line_where_reading_begins(serve: Callable[..., Server], view: Page) -> None:
    server = serve("first")
    view.goto(server.url)
    ask(view, "word " * 700)
    expect(view.locator(".trouble")).to_contain_text("tokens and the context holds 640")
    ask(view, "Hello")
    expect(prose(view).last).to_have_text(FIRST)
    expect(view.get_by_role("note")).to_be_visible()
    with server.workspace.exclusively("improve"):
        expect(view.locator("#bar")).to_contain_text("answers come more slowly")
        check(view, "trouble, a line, a bar")


def test_dialogs_and_menus(serve: Callable[..., Server], view: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    for title in ("Two", "Three"):
        server.serving.store.note(talked(server, title, "…"), folder="Kitchen")
    view.goto(f"{server.url}/?c={number}")
    expect(prose(view)).to_have_count(1)
    view.locator("#settings-open").click()
    check(view, "settings")
    view.keyboard.press("Escape")
    drawer = view.locator("#history-open")
    if drawer.is_visible():
        drawer.click()
    expect(view.locator("#chats a")).to_have_count(3)
    check(view, "the list")
    for name in ("Keys", "Appearance"):
        view.get_by_role("button", name=name).click()
        check(view, name)
        view.keyboard.press("Escape")
    for item in ("Rename", "Move to a folder", "Delete"):
        view.get_by_role("button", name="What to do with “Hello”").click()
        check(view, "the menu")
        view.get_by_role("menuitem", name=item).click()
        check(view, item)
        view.keyboard.press("Escape")
