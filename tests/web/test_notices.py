"""Notices: their words are whole, Close can be reached, and neither the message box nor what is read lies below them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import talked

pytestmark = pytest.mark.web

PHONE: ViewportSize = {"width": 390, "height": 844}
SIZES: list[ViewportSize] = [PHONE, {"width": 320, "height": 568}, {"width": 640, "height": 450}]
LONG = "averyveryverylongfilename_without_spaces_2026_11_30_backup_copy"
TOP = "node => node.getBoundingClientRect().top"


def break_in(page: Page, name: str) -> None:
    """Take in a file that is no conversation; the notice of it stands."""
    page.locator("#import-file").set_input_files({"name": name, "mimeType": "application/json", "buffer": b"x"})
    expect(page.locator(".notice").filter(has_text=name)).to_have_count(1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_long_name_wraps_and_close_can_be_reached(
    serve: Callable[..., Server], page: Page, size: ViewportSize
) -> None:
    page.set_viewport_size(size)
    page.goto(serve("first").url)
    break_in(page, f"{LONG}.json")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    notice = page.locator(".notice.bad")
    assert notice.evaluate("node => node.scrollWidth <= node.clientWidth")
    close = notice.get_by_role("button", name="Close")
    expect(close).to_be_in_viewport(ratio=1)
    close.click()
    expect(notice).to_have_count(0)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_three_stand_at_a_time_and_the_message_box_is_free(
    serve: Callable[..., Server], page: Page, size: ViewportSize
) -> None:
    page.set_viewport_size(size)
    page.goto(serve("first").url)
    for number in range(5):
        break_in(page, f"{number}_{LONG}.json")
    notices = page.locator(".notice")
    expect(notices).to_contain_text(["2_", "3_", "4_"])
    break_in(page, f"3_{LONG}.json")  # it is said again, and stands there once
    expect(notices).to_contain_text(["2_", "4_", "3_"])
    page.get_by_role("button", name="Side by side").click()  # its panel takes room too, and so does a long message
    page.locator("#text").fill("A line\n" * 30)
    for name in ("#text", "#send"):
        over = "node => { const box = node.getBoundingClientRect(); return node.contains(document.elementFromPoint(box.x + 9, box.y + 9)); }"
        assert page.locator(name).evaluate(over), name
        expect(page.locator(name)).to_be_in_viewport(ratio=1)
    page.locator("#text").fill("")
    expect(notices.last).to_be_in_viewport(ratio=0.9)
    for number in (3, 2, 4):
        notices.filter(has_text=f"“{number}_").get_by_role("button", name="Close").click()
    expect(notices).to_have_count(0)


def test_a_notice_lies_over_no_words_and_moves_no_reader(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, *["Hello", "An answer\n\n" * 30] * 3)
    page.goto(f"{server.url}/?c={number}")
    expect(page.locator(".answer")).to_have_count(3)
    last = page.locator(".answer .tools").last
    expect(last).to_be_in_viewport(ratio=1)
    break_in(page, "at-the-end.json")
    expect(last).to_be_in_viewport(ratio=1)  # who reads at the end stays there
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -900)
    page.wait_for_timeout(300)
    middle = page.locator(".asked").nth(2)
    before = middle.evaluate(TOP)
    break_in(page, "in-the-middle.json")
    page.wait_for_timeout(200)
    assert middle.evaluate(TOP) == pytest.approx(before, abs=1)
    page.locator(".notice").last.get_by_role("button", name="Close").click()
    page.wait_for_timeout(200)
    assert middle.evaluate(TOP) == pytest.approx(before, abs=1)
    page.evaluate("document.getElementById('scroll').scrollTop = 0")
    break_in(page, "at-the-top.json")
    page.wait_for_timeout(200)
    below = page.locator("#notices").evaluate("node => node.getBoundingClientRect().bottom")
    assert page.locator(".asked").first.evaluate(TOP) >= below, "the first line is free"
