"""The list of conversations in a browser: search, groups, folders, rename, delete, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import prose, talked

pytestmark = pytest.mark.web


def lines(page: Page) -> Locator:
    return page.locator("#chats a")


def menu(page: Page, title: str, item: str) -> None:
    """Choose an item of a conversation's menu with the mouse."""
    page.get_by_role("link", name=title, exact=True).hover()
    page.get_by_role("button", name=f"What to do with “{title}”").click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def menu_by_keys(page: Page, title: str, item: str) -> None:
    """Choose it with the keyboard alone, from the conversation's line on."""
    page.get_by_role("link", name=title, exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(page.get_by_role("menuitem").count()):
        if page.get_by_role("menuitem", name=item, exact=True).evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def test_search_looks_into_titles_and_messages(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "About bread", "Flour and a lighthouse")
    talked(server, "About rain", "Water")
    page.goto(server.url)
    expect(lines(page)).to_have_text(["About rain", "About bread"])
    page.get_by_label("Search conversations").fill("LIGHTHOUSE")
    expect(lines(page)).to_have_text(["About bread"])
    expect(page.locator("#search-found")).to_have_text("1 conversation found")
    page.get_by_label("Search conversations").fill("lighthouse that is nowhere")
    expect(page.locator("#search-found")).to_have_text("Nothing found.")
    expect(lines(page)).to_have_count(0)
    # With the keyboard: / goes there, ↓ into the list, Enter opens, Escape brings all back.
    page.locator("body").click(position={"x": 1250, "y": 700})  # beside everything
    page.keyboard.press("/")
    page.keyboard.type("lighthouse")
    expect(lines(page)).to_have_text(["About bread"])
    page.keyboard.press("ArrowDown")
    expect(lines(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(prose(page)).to_have_text("Flour and a lighthouse")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(lines(page)).to_have_text(["About rain", "About bread"])


def test_one_look_for_many_letters(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "About bread", "Flour")
    page.goto(server.url)
    expect(lines(page)).to_have_count(1)
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if "search=b" in request.url else None)
    page.get_by_label("Search conversations").press_sequentially("bread", delay=20)
    expect(page.locator("#search-found")).to_have_text("1 conversation found")
    assert [look.rpartition("=")[2] for look in looks] == ["bread"]


def test_pinned_ones_stand_above(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    for title in ("One", "Two", "Three"):
        talked(server, title, "…")
    page.goto(server.url)
    expect(lines(page)).to_have_text(["Three", "Two", "One"])
    menu(page, "One", "Pin")
    expect(lines(page)).to_have_text(["One", "Three", "Two"])
    expect(page.locator("#chats h2")).to_have_text(["Pinned", "Today"])
    page.reload()
    expect(lines(page)).to_have_text(["One", "Three", "Two"])
    # With the keyboard: Tab to its menu, arrows to the item.
    page.get_by_role("link", name="One").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Unpin")).to_be_focused()
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["Three", "Two", "One"])
    expect(page.get_by_role("button", name="What to do with “One”")).to_be_focused()


def test_folders(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    for title in ("One", "Two", "Three"):
        talked(server, title, "…")
    page.goto(server.url)
    menu(page, "Two", "Move to a folder")
    page.get_by_label("A new folder").fill("Kitchen")
    page.keyboard.press("Enter")
    folder = page.locator("details.folder")
    expect(folder.locator("summary")).to_have_text("Kitchen1")
    expect(folder.locator("a")).to_have_text(["Two"])
    menu(page, "One", "Move to a folder")
    page.get_by_role("dialog").get_by_role("button", name="Kitchen").click()
    expect(folder.locator("a")).to_have_text(["Two", "One"])
    folder.locator("summary").click()
    expect(folder.locator("a").first).to_be_hidden()
    page.reload()
    expect(folder.locator("summary")).to_be_visible()
    expect(folder.locator("a").first).to_be_hidden()  # closed folders stay closed
    folder.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(folder.locator("a").first).to_be_visible()
    menu(page, "One", "Move to a folder")
    page.get_by_role("button", name="No folder").click()
    expect(folder.locator("a")).to_have_text(["Two"])
    page.get_by_label("Search conversations").fill("Two")
    expect(lines(page)).to_have_text(["Two"])


def test_rename(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "One", "…")
    page.goto(f"{server.url}/?c={number}")
    menu(page, "One", "Rename")
    field = page.get_by_label("Title")
    expect(field).to_have_value("One")
    field.fill("A better name")
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["A better name"])
    expect(page).to_have_title("A better name · Palmier")
    changes: list[str] = []
    page.on("request", lambda request: changes.append(request.url) if request.method == "PATCH" else None)
    menu(page, "A better name", "Rename")
    page.keyboard.type("Never")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    assert changes == []
    expect(lines(page)).to_have_text(["A better name"])


def test_all_that_a_menu_offers_is_done_with_the_keyboard_alone(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "One", "The answer")
    talked(server, "Two", "…")
    page.goto(server.url)
    menu_by_keys(page, "One", "Rename")
    page.keyboard.type("A better name")
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["Two", "A better name"])
    menu_by_keys(page, "A better name", "Move to a folder")
    page.keyboard.type("Kitchen")
    page.keyboard.press("Enter")
    expect(page.locator("details.folder a")).to_have_text(["A better name"])
    for item, suffix in (("Save as a file (JSON)", ".json"), ("Save to read (Markdown)", ".md")):
        with page.expect_download() as download:
            menu_by_keys(page, "A better name", item)
        assert download.value.suggested_filename.endswith(suffix)
        assert "The answer" in Path(download.value.path()).read_text("utf-8")
    menu_by_keys(page, "Two", "Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["A better name"])


def test_delete_asks_and_says_what_stays(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "One", "…")
    number = talked(server, "Two", "Answer two")
    page.goto(f"{server.url}/?c={number}")
    menu(page, "Two", "Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("What was said of its answers stays")
    dialog.get_by_role("button", name="Cancel").click()
    expect(lines(page)).to_have_text(["Two", "One"])
    menu(page, "Two", "Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(lines(page)).to_have_text(["One"])
    expect(lines(page)).to_be_focused()
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
    assert "c=" not in page.url


def test_a_conversation_leaves_as_a_file_and_comes_back(
    serve: Callable[..., Server], page: Page, tmp_path: Path
) -> None:
    server = serve("first")
    talked(server, "One", "The answer")
    page.goto(server.url)
    with page.expect_download() as download:
        menu(page, "One", "Save as a file (JSON)")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "conversation-1.json"
    assert json.loads(file.read_text("utf-8"))["messages"][1]["content"] == "The answer"
    with page.expect_download() as download:
        menu(page, "One", "Save to read (Markdown)")
    assert "The answer" in Path(download.value.path()).read_text("utf-8")
    take_in = page.get_by_role("button", name="Take in a file")
    with page.expect_file_chooser():
        take_in.click()
    with page.expect_file_chooser() as chooser:
        take_in.focus()
        page.keyboard.press("Enter")
    chooser.value.set_files(file)
    expect(prose(page)).to_have_text("The answer")
    expect(page.locator(".notice")).to_contain_text("“conversation-1.json” was taken in.")
    expect(lines(page)).to_have_text(["One", "One"])
    assert page.url.endswith("?c=2")


def test_a_file_that_is_none_is_one_clear_line(serve: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    page.goto(serve("first").url)
    cases = [
        ("notes.json", "{not json", "“notes.json” can't be taken in: it is no JSON file."),
        ("list.json", "[1, 2]", "“list.json” can't be taken in: it holds no conversation."),
        (
            "other.json",
            '{"format": "something else"}',
            "“other.json” can't be taken in: this is no conversation: expected",
        ),
        ("large.json", " " * (1 << 20) + "{}", "“large.json” can't be taken in: it is larger than 1 MiB."),
    ]
    for name, text, sentence in cases:
        file = tmp_path / name
        file.write_text(text, "utf-8")
        page.locator("#import-file").set_input_files(file)
        expect(page.locator(".notice.bad > span").last).to_contain_text(sentence)
    expect(lines(page)).to_have_count(0)


def test_what_is_older_stands_under_older_headings(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    talked(server, "One", "…")
    page.goto(server.url)
    expect(page.locator("#chats h2")).to_have_text(["Today"])
    for days, heading in ((1, "Yesterday"), (4, "The last seven days"), (40, "Earlier")):
        page.clock.set_fixed_time(datetime.now() + timedelta(days=days))
        page.reload()
        expect(page.locator("#chats h2")).to_have_text([heading])
