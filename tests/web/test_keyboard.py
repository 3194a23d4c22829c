"""The chat page by the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import FIRST, SECOND, ask, asked, idle, path, prose, talked

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
        "comparing: answer 1",
        "comparing: a tie",
        "comparing: all bad",
        "comparing: confirm the choice",
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


@pytest.mark.parametrize("name", ["Again", "Continue"])
def test_who_presses_a_button_of_a_turn_is_on_stop_meanwhile_and_back_on_it(
    serve: Callable[..., Server], page: Page, name: str
) -> None:
    server = serve("endless")
    page.goto(server.url)
    ask(page)
    expect(prose(page)).to_contain_text("la la la")
    page.keyboard.press("Escape")
    idle(page)
    for count in (2, 3):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Stop")).to_be_focused()
        expect(prose(page)).to_contain_text("la la la")
        page.keyboard.press("Escape")
        expect(page.locator(".pager")).to_contain_text(f"{count}/{count}")
        expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(prose(page)).to_contain_text("la la la")
    search = page.get_by_label("Search conversations")
    search.focus()
    page.get_by_role("button", name="Stop").dispatch_event("click")
    expect(page.locator(".pager")).to_contain_text("4/4")
    expect(search).to_be_focused()  # who has gone on is left there


def test_side_by_side_the_focus_comes_back_to_the_same_column(serve: Callable[..., Server], page: Page) -> None:
    page.goto(f"{serve('first', 'second').url}/?compare=0001,0002")
    ask(page)
    expect(prose(page)).to_have_count(2)
    idle(page)
    again = page.get_by_role("button", name="Again")
    again.last.focus()
    with page.expect_response("**/answers"):
        page.keyboard.press("Enter")
    expect(prose(page).last).to_have_text(SECOND)
    idle(page)
    expect(again.last).to_be_focused()


def test_who_begins_with_a_starter_is_on_stop_meanwhile_and_in_the_message_box_then(
    serve: Callable[..., Server], page: Page
) -> None:
    page.goto(serve("endless").url)
    page.get_by_role("button", name="An explanation").focus()
    page.keyboard.press("Enter")
    expect(prose(page)).to_contain_text("la la la")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Enter")
    idle(page)
    expect(page.get_by_label("Your message", exact=True)).to_be_focused()


def test_what_has_to_wait_for_an_answer_is_said(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    page.goto(server.url)
    ask(page)
    expect(prose(page)).to_contain_text("la la la")
    wait = page.locator(".notice").filter(has_text="Wait until the answer is written, or stop it.")
    page.keyboard.press("Enter")  # there is nothing to be sent
    expect(wait).to_have_count(0)
    box = page.get_by_label("Your message", exact=True)
    for begin in (
        lambda: page.get_by_role("button", name="Edit").click(),
        lambda: page.keyboard.press("Alt+ArrowUp"),
        lambda: ask(page, "Hello"),
        lambda: page.keyboard.press("Enter"),
    ):
        begin()
        expect(wait).to_have_count(1)  # and once, however often it is asked for
        expect(page.get_by_label("Your message, to be changed")).to_have_count(0)
    expect(box).to_have_value("Hello")
    wait.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    idle(page)
    assert len(server.serving.store.messages(1)) == 2


def test_what_tab_reaches_shows_where_it_is(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    page.goto(f"{server.url}/?c={number}")
    expect(prose(page)).to_have_count(1)
    expect(page.get_by_role("link", name="Hello")).to_be_visible()  # the list comes by itself
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
