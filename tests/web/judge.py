"""What the tests of feedback in the chat do again and again: open it as somebody, compare, find what was stored."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from palmier.serve.draws import Draw

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import idle

QUESTION = "Who are you?"
MOST_DRAWS = 12


def chat(page: Page, server: Server, number: int | None = None, name: str = "ada") -> None:
    """Open the chat, or one of its conversations, as somebody."""
    page.goto(f"{server.url}/?as={name}" + ("" if number is None else f"&c={number}"))
    expect(page.get_by_role("button", name="How to compare")).to_be_visible()


def box(page: Page) -> Locator:
    return page.get_by_label("Your message", exact=True)


def candidates(page: Page) -> Locator:
    """The answers side by side."""
    return page.locator(".candidate")


def compare(page: Page, text: str = QUESTION, n: int = 2, against: str = "") -> None:
    """Draw answers to a text with the mouse, and wait until one can be chosen."""
    box(page).fill(text)
    page.get_by_role("button", name="How to compare").click()
    page.get_by_label("Draw", exact=True).select_option(str(n))
    if against:
        page.get_by_label("Against", exact=True).select_option(against)
    page.keyboard.press("Escape")
    page.locator("#composer").get_by_role("button", name="Compare", exact=True).click()
    ready(page, n)


def ready(page: Page, n: int = 2) -> None:
    expect(candidates(page)).to_have_count(n)
    expect(page.get_by_role("button", name="Answer 1 is best")).to_be_enabled()


def waiting(server: Server, name: str = "ada", number: int = 1) -> Draw:
    """The draw that stands on the screen, as the server has it: with the names."""
    draw = server.serving.draws.pending(name, number)
    assert draw is not None
    return draw


def turned(page: Page, server: Server, n: int = 2) -> Draw:
    """Draw once more until the first place on the screen shows another answer than the draw's own first one."""
    for times in range(MOST_DRAWS):
        draw = waiting(server)
        if draw.shown[0] != 0:
            return draw
        page.get_by_role("button", name="Cancel").click()
        expect(candidates(page)).to_have_count(0)
        if times == 0:  # from then on there is an answer
            page.get_by_role("button", name="Answer this").click()
        expect(page.locator(".answer")).to_have_count(1)
        idle(page)
        page.locator(".answer").last.get_by_role("button", name="Compare").click()
        ready(page, n)
    raise AssertionError(f"{MOST_DRAWS} draws were shown in their own order")


def confirm(page: Page) -> None:
    page.get_by_role("button", name="Confirm").click()
    expect(candidates(page)).to_have_count(0)


def fates(page: Page) -> Locator:
    """What stands beside the answers about what was given to them."""
    return page.locator(".answer .fate li")


def consented(page: Page, answer: str = "Yes, use it") -> None:
    """Answer the question of consent."""
    page.get_by_role("button", name=answer).click()
    expect(page.locator(".consent-question")).to_have_count(0)
