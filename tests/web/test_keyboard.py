"""The chat page by the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import FIRST, ask, asked, idle, path, prose, talked

pytestmark = pytest.mark.web


def test_the_keys_are_listed_and_the_list_gives_the_focus_back(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "Hello", "Old answer")
    page.goto(server.url)
    link = page.get_by_role("link", name="Hello")
    link.focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    for words in (
        "begin a new conversation",
        "search the conversations",
        "copy the last answer",
        "change the last message",
    ):
        expect(dialog).to_contain_text(words)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(link).to_be_focused()
    page.get_by_label("Your message", exact=True).focus()
    page.keyboard.type("Really?")  # where text is typed, a key is a letter
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Keys").click()
    expect(dialog).to_be_visible()


def test_every_key_does_what_the_list_says(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    page.goto(server.url)
    box = page.get_by_label("Your message", exact=True)
    expect(box).to_be_focused()
    page.keyboard.type("Who are")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("you?")
    page.keyboard.press("Enter")
    expect(asked(page)).to_have_text(["Who are\nyou?"])
    expect(prose(page)).to_have_text([FIRST])
    idle(page)
    page.keyboard.press("Control+Shift+c")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "I am the **first** version."
    page.keyboard.press("Alt+r")
    expect(page.locator(".answer .pager")).to_contain_text("2/2")
    idle(page)
    page.keyboard.press("Control+k")
    expect(page.get_by_label("Search conversations")).to_be_focused()
    page.keyboard.press("Shift+Escape")
    expect(box).to_be_focused()
    page.keyboard.press("Control+Shift+o")
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
    expect(box).to_be_focused()
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator("#chats a")).to_have_text(["Hello", "Who are you?"])
    idle(page)
    page.keyboard.press("Control+k")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#chats a").last).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#chats a").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Search conversations")).to_be_focused()


def test_escape_stops_and_what_was_said_is_kept(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    page.goto(server.url)
    ask(page)
    expect(prose(page)).to_contain_text("la la la")
    page.keyboard.press("?")  # an open dialog takes Escape for itself
    page.locator("#scroll").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".why")).to_have_text("stopped")
    idle(page)
    assert path(server)[1].startswith("la la")


def test_what_tab_reaches_shows_where_it_is(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    page.goto(f"{server.url}/?c={number}")
    expect(prose(page)).to_have_count(1)
    page.locator(".skip").focus()
    reached = []
    for _ in range(60):
        name = page.evaluate("""() => {
            const node = document.activeElement;
            if (node === document.body || node.dataset.reached) return "";
            node.dataset.reached = "yes";
            const box = node.getBoundingClientRect();
            const style = getComputedStyle(node);
            const isSeen = box.width > 0 && style.visibility === "visible" && style.opacity !== "0";
            const hasRing = style.outlineStyle !== "none" || node.id === "text";  // the box around it changes its colour
            return `${isSeen && hasRing ? "" : "UNSEEN "}${node.ariaLabel ?? node.textContent.trim()} ${node.id}`;
        }""")
        reached.append(name)
        if not name and len(reached) > 5:
            break
        page.keyboard.press("Tab")
    assert not [name for name in reached if name.startswith("UNSEEN")], reached
    every = " | ".join(reached)
    for wanted in (
        "New conversation",
        "search",
        "Hello",
        "What to do with “Hello”",
        "Appearance",
        "Keys",
        "Take in a file",
    ):
        assert wanted in every, f"{wanted} is not reached: {every}"
    for wanted in ("version", "Side by side", "Settings", "Edit", "Copy", "Again", "Rank answers", "text", "send"):
        assert wanted in every, f"{wanted} is not reached: {every}"
