"""What lies over what, and what is cut off: a phone and a desk, the pages' states in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from palmier.versions import Versions

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import candidates, chat, compare, fates

pytestmark = pytest.mark.web

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 800}

COVERED = """() => {
    // Of what can be pressed: what is in the window, and yet something else lies over its middle or its lower edge.
    const found = [];
    for (const node of document.querySelectorAll("main section button, main form button, main textarea, main select")) {
        const box = node.getBoundingClientRect();
        if (!box.width || box.top < 0 || box.bottom > innerHeight) continue;
        for (const y of [box.top + box.height / 2, box.bottom - 2]) {
            const over = document.elementFromPoint(box.left + box.width / 2, y);
            if (!node.contains(over)) found.push(`${node.id} under ${over?.id || over?.className}`);
        }
    }
    return found;
}"""


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found
    return dict(found)


def overlap(one: Locator, other: Locator) -> bool:
    a, b = box(one), box(other)
    return a["y"] < b["y"] + b["height"] - 0.5 and b["y"] < a["y"] + a["height"] - 0.5


def test_nothing_lies_over_what_is_asked_on_the_ranking_page(serve: Callable[..., Server], page: Page) -> None:
    page.goto(f"{serve('varied').url}/rank")
    expect(page.get_by_role("button", name="No, only keep it")).to_be_visible()
    expect(page.get_by_role("button", name="Draw answers")).to_be_visible()
    for size in (PHONE, DESK):
        # A window that cuts through the page at any height: below the header there is nothing but the page.
        for height in range(500, size["height"] + 1, 20):
            page.set_viewport_size({"width": size["width"], "height": height})
            assert page.evaluate(COVERED) == [], f"{size['width']} by {height} pixels"


@pytest.mark.parametrize("path", ["/", "/rank"])
def test_a_notice_leaves_the_bar_readable(serve: Callable[..., Server], page: Page, path: str) -> None:
    server = serve("first", "second")
    page.goto(server.url + path)
    with server.workspace.exclusively("palmier improve"):
        expect(page.locator("#bar")).to_contain_text("answers come more slowly")
        server.promote("0002")
        expect(page.locator(".notice")).to_contain_text("answers from now on")
        for size in (PHONE, DESK):
            page.set_viewport_size(size)
            assert not overlap(page.locator(".notice"), page.locator("#bar"))
            assert not overlap(page.locator(".notice"), page.locator("header.top"))


def test_the_chosen_answer_stands_clear_of_both_bars(serve: Callable[..., Server], page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 600})
    page.goto(f"{serve('varied').url}/rank")
    page.get_by_label("How many answers").select_option("5")
    page.get_by_role("button", name="Draw answers").click()
    expect(page.get_by_role("button", name="Confirm order")).to_be_enabled()
    page.locator("#order > li").first.focus()
    for key in ["Tab"] * 4 + ["Shift+Tab"] * 4:
        page.keyboard.press(key)
        card = page.locator("#order > li:focus")
        assert not overlap(card, page.locator("#actions")), key
        assert not overlap(card, page.locator(".masthead")), key


def test_the_name_of_a_version_is_whole_where_there_is_room(
    serve: Callable[..., Server], page: Page, models: Any
) -> None:
    server = serve("first")
    label = "SmolLM2-135M-Instruct + DPO + DPO + DPO + DPO"
    versions = Versions(server.workspace)
    versions.promote(versions.add(models["second"], label=label).name)
    page.set_viewport_size(DESK)
    page.goto(server.url)
    menu = page.get_by_label("Which version answers")
    expect(menu.locator("option").first).to_have_text(f"0002 · {label} (current)")
    whole = menu.evaluate("""node => {
        const style = getComputedStyle(node);
        const pen = document.createElement("canvas").getContext("2d");
        pen.font = style.font;
        return pen.measureText(node.selectedOptions[0].textContent).width + parseFloat(style.paddingLeft);
    }""")
    assert box(menu)["width"] > whole
    # On a phone it gives way to the buttons beside it.
    page.set_viewport_size(PHONE)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert box(menu)["x"] + box(menu)["width"] <= box(page.locator("#compare"))["x"]


def test_many_versions_leave_room_for_the_conversation(serve: Callable[..., Server], page: Page, models: Any) -> None:
    server = serve("first")
    versions = Versions(server.workspace)
    for number in range(24):
        versions.add(models["first"], label=f"a version with a name of some length, {number}")
    page.set_viewport_size(PHONE)
    page.goto(f"{server.url}/?compare=0001,0002")
    expect(page.locator("#compare-list label")).to_have_count(25)
    assert box(page.locator("#scroll"))["height"] > 300
    page.locator("#compare-list label").last.scroll_into_view_if_needed()
    expect(page.locator("#compare-list label").last).to_be_in_viewport()


def test_a_new_conversation_begins_at_its_top(serve: Callable[..., Server], page: Page) -> None:
    page.set_viewport_size({"width": 844, "height": 390})  # a phone on its side
    page.goto(serve("first").url)
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_in_viewport()
    expect(page.locator("#chats p")).to_be_attached()
    assert page.evaluate("document.getElementById('scroll').scrollTop") == 0


@pytest.mark.parametrize(("count", "rows"), [(4, (2, 2)), (3, (3,))])
def test_compared_answers_stand_beside_those_they_are_compared_with(
    serve: Callable[..., Server], page: Page, count: int, rows: tuple[int, ...]
) -> None:
    chat(page, serve("varied"))
    compare(page, n=count)
    for width in (1280, 1440, 1920) if count == 3 else (1024, 1280, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        tops = [box(card)["y"] for card in candidates(page).all()]
        assert tuple(tops.count(top) for top in sorted(set(tops))) == rows, width
    page.set_viewport_size(PHONE)
    assert len({box(card)["y"] for card in candidates(page).all()}) == count


def test_what_a_comparison_did_is_in_sight_below_a_long_answer(serve: Callable[..., Server], page: Page) -> None:
    chat(page, serve("first"))
    page.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(".prose { min-height: 1500px !important }");
        document.adoptedStyleSheets.push(sheet);
    }""")
    compare(page)
    page.keyboard.press("1")
    page.mouse.move(640, 300)
    page.mouse.wheel(0, 600)
    page.wait_for_timeout(300)
    page.mouse.wheel(0, -5000)  # to the beginning of what is compared: nobody follows its end there
    page.wait_for_timeout(300)
    page.keyboard.press("Enter")
    expect(candidates(page)).to_have_count(0)
    expect(page.locator(".consent-question")).to_be_visible()
    expect(fates(page)).to_be_in_viewport(ratio=1)
