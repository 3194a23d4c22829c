"""The question of consent in the chat: asked once and without a hurry, in the words that were read, off until then."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, ViewportSize, expect
from sqlalchemy import select

from palmier.feedback import schema
from palmier.feedback.consent import GERMAN, WORDING, WORDS

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import chat, consented, fates
from .talk import talked

pytestmark = pytest.mark.web

OVERVIEW = "**/api/feedback?*"
ASKED = "There is a question about your feedback above the message box."
OFF = "Thumb up: kept, not used: you have not agreed to its use"


def question(page: Page) -> Locator:
    return page.get_by_role("region", name="May your feedback be used for training?")


def begin(serve: Callable[..., Server], page: Page) -> Server:
    """Ada, who was never asked, looks at two answers."""
    server = serve("first")
    chat(page, server, talked(server, "Hello", "One", "x", "Two", annotator="ada"))
    expect(page.locator(".answer")).to_have_count(2)
    return server


def like(page: Page, answer: int = 0) -> None:
    page.get_by_role("button", name="Good answer").nth(answer).click()


def unasked(page: Page, press: Callable[[], None]) -> None:
    """Give something, and see that no question follows once the page has looked whether to ask."""
    with page.expect_response(lambda response: "/api/feedback?" in response.url):
        press()
    page.wait_for_timeout(300)
    expect(question(page)).to_have_count(0)


def answers(server: Server) -> list[tuple[str, bool, str, int]]:
    """The log of consent: who, what, the words that were read, their number."""
    with server.serving.store._reading() as connection:
        rows = connection.execute(select(schema.consent).order_by(schema.consent.c.id))
        return [(row.annotator, bool(row.granted), row.words, row.wording) for row in rows]


def test_the_question_comes_with_the_first_thing_given_and_hinders_nothing(
    serve: Callable[..., Server], page: Page
) -> None:
    server = begin(serve, page)
    expect(question(page)).to_have_count(0)
    like(page)
    expect(question(page)).to_contain_text(WORDS[WORDING])
    expect(page.get_by_role("button", name="Good answer").first).to_be_focused()
    assert server.serving.store.count("ada", "label") == 1, "it is stored, whatever the answer will be"
    assert [*server.serving.store.training_labels()] == []
    expect(fates(page)).to_contain_text([OFF])
    like(page, 1)  # unanswered, it stands there and nothing waits for it
    expect(question(page)).to_have_count(1)
    assert answers(server) == []
    consented(page)
    assert answers(server) == [("ada", True, WORDS[WORDING], WORDING)]
    assert len([*server.serving.store.training_labels()]) == 2, "what was given before is covered too"
    expect(fates(page).first).to_have_text(
        "Thumb up: kept: it is used once another answer to the same message gets the opposite thumb"
    )
    page.get_by_role("button", name="Bad answer").first.click()
    expect(fates(page).first).to_contain_text("Thumb down")
    expect(question(page)).to_have_count(0)
    page.reload()
    like(page)
    expect(fates(page).first).to_contain_text("Thumb up")
    expect(question(page)).to_have_count(0)


def test_an_answer_is_not_overtaken_by_an_older_look_whether_to_ask(serve: Callable[..., Server], page: Page) -> None:
    """The second thumb looks whether to ask, and hears "not asked yet" only after the question was answered."""
    begin(serve, page)
    like(page)
    expect(question(page)).to_be_visible()
    late: list[Route] = []
    page.route(OVERVIEW, lambda route: late.append(route))  # Playwright writes into the function
    like(page, 1)
    expect(fates(page)).to_have_count(2)
    page.wait_for_timeout(300)
    before = [route.fetch() for route in late]
    assert before
    consented(page)
    for route, heard in zip(late, before, strict=True):
        route.fulfill(response=heard)
    page.unroute(OVERVIEW)
    page.wait_for_timeout(300)
    expect(question(page)).to_have_count(0)


def test_no_is_no_and_is_not_asked_again(serve: Callable[..., Server], page: Page) -> None:
    server = begin(serve, page)
    like(page)
    consented(page, "No, only keep it")
    assert answers(server) == [("ada", False, WORDS[WORDING], WORDING)]
    like(page, 1)
    expect(fates(page)).to_have_count(2)
    page.reload()
    unasked(page, page.get_by_role("button", name="Bad answer").first.click)
    expect(fates(page).first).to_contain_text("Thumb down: kept, not used")
    assert [*server.serving.store.training_labels()] == []
    assert server.serving.store.count("ada", "label") == 2


def test_not_now_is_no_answer_and_the_question_stays_in_reach(serve: Callable[..., Server], page: Page) -> None:
    server = begin(serve, page)
    like(page)
    consented(page, "Not now")
    assert answers(server) == []
    page.reload()
    unasked(page, lambda: like(page, 1))
    expect(fates(page)).to_contain_text([OFF, OFF])
    page.locator(".fate").first.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="My feedback")
    expect(dialog).to_contain_text(WORDS[WORDING])
    dialog.get_by_role("button", name="Turn on").click()
    expect(dialog).to_contain_text("Your feedback is used to train the next version.")
    assert answers(server) == [("ada", True, WORDS[WORDING], WORDING)]


def test_the_question_is_answered_with_the_keyboard_alone(serve: Callable[..., Server], page: Page) -> None:
    server = begin(serve, page)
    page.get_by_role("button", name="Good answer").nth(1).focus()
    page.keyboard.press("Enter")
    expect(question(page)).to_be_visible()
    expect(page.locator("#said p")).to_have_text([re.compile("^kept"), ASKED])  # one does not drown the other
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Yes, use it":
            break
    page.keyboard.press("Enter")
    expect(question(page)).to_have_count(0)
    expect(page.get_by_label("Your message", exact=True)).to_be_focused()
    assert [granted for _, granted, _, _ in answers(server)] == [True]


def test_who_agreed_to_older_words_is_asked_again(serve: Callable[..., Server], page: Page) -> None:
    server = begin(serve, page)
    server.serving.store.set_consent("ada", True, WORDS[1], 1)
    like(page)
    expect(question(page)).to_be_visible()
    expect(fates(page)).to_contain_text([OFF])  # the older words spoke of rankings alone
    page.get_by_role("button", name="My feedback").click()
    dialog = page.get_by_role("dialog", name="My feedback")
    expect(dialog).to_contain_text("the question has new words")
    dialog.get_by_role("button", name="Close").click()
    consented(page)
    assert [(granted, wording) for _, granted, _, wording in answers(server)] == [(True, 1), (True, WORDING)]


def test_the_words_are_stored_in_the_language_that_they_were_read_in(
    serve: Callable[..., Server], browser: Browser
) -> None:
    server = serve("first")
    number = talked(server, "Hello", "One", annotator="ada")
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.goto(f"{server.url}/?as=ada&c={number}")
    page.get_by_role("button", name="Gute Antwort").click()
    asked = page.get_by_role("region", name="Dürfen Ihre Rückmeldungen zum Training verwendet werden?")
    expect(asked).to_contain_text(GERMAN[WORDING])
    expect(fates(page)).to_contain_text(
        ["Daumen hoch: aufbewahrt, nicht verwendet: Sie haben der Verwendung nicht zugestimmt"]
    )
    asked.get_by_role("button", name="Nein, nur aufbewahren").click()
    expect(asked).to_have_count(0)
    page.goto(f"{server.url}/rank?as=bob")
    expect(page.locator("#consent-words")).to_have_text(GERMAN[WORDING])
    page.get_by_role("button", name="Ja, verwenden").click()
    expect(page.get_by_text("Sie dürfen zum Training verwendet werden.")).to_be_visible()
    words = GERMAN[WORDING]
    assert answers(server) == [("ada", False, words, WORDING), ("bob", True, words, WORDING)]
    context.close()


SMALL: list[ViewportSize] = [
    {"width": 390, "height": 844},
    {"width": 390, "height": 664},
    {"width": 640, "height": 450},  # 1280 × 900 at 200 %
    {"width": 320, "height": 568},
]
SEEN = "node => new Promise((done) => new IntersectionObserver(([one]) => done(one.intersectionRatio)).observe(node))"
WHOLE = "node => node.scrollHeight <= node.clientHeight && getComputedStyle(node).overflowY === 'visible'"


def read_before_answered(words: Locator, yes: Locator) -> None:
    """Nobody comes to the button but past the words: they are not cut, and it stands in sight below all of them only."""
    expect(words).to_be_visible()
    assert words.evaluate(WHOLE)
    end, begin = words.bounding_box(), yes.bounding_box()
    assert end
    assert begin
    assert end["y"] + end["height"] <= begin["y"]
    assert yes.evaluate(SEEN) == 0 or words.evaluate(SEEN) > 0.99 or end["y"] < 0


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
@pytest.mark.parametrize("size", SMALL, ids=str)
def test_whoever_presses_yes_has_had_all_the_words(
    serve: Callable[..., Server], browser: Browser, size: ViewportSize, locale: str
) -> None:
    server = serve("first")
    number = talked(server, "Hello", "One", annotator="ada")
    context = browser.new_context(viewport=size, locale=locale)
    page = context.new_page()
    page.goto(f"{server.url}/?as=ada&c={number}")
    page.locator(".thumb.down").click()
    card = page.locator(".consent-question")
    expect(card).to_be_visible()
    expect(page.locator(".why-bad")).to_be_in_viewport(ratio=0.4)  # what was begun before goes on beside it
    room = page.locator("#scroll").bounding_box()
    assert room
    assert room["height"] >= 0.25 * size["height"], "the conversation keeps its room"
    page.locator(".why-bad input").fill("because")
    read = card.get_by_role("button", name="Read the question" if locale == "en-GB" else "Die Frage lesen")
    if read.count():
        read.click()
        expect(page.get_by_role("dialog").get_by_role("heading")).to_be_in_viewport(ratio=1)
    words = page.get_by_text((WORDS if locale == "en-GB" else GERMAN)[WORDING])
    yes = page.get_by_role("button", name="Yes, use it" if locale == "en-GB" else "Ja, verwenden")
    read_before_answered(words, yes)
    yes.click()
    expect(card).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(0)
    if read.count():
        expect(page.locator("#text")).to_be_focused()
    assert [granted for _, granted, _, _ in answers(server)] == [True]
    page.goto(f"{server.url}/rank?as=bob")
    yes = page.locator("#consent-yes")
    expect(yes).to_be_visible()
    read_before_answered(page.locator("#consent-words"), yes)
    context.close()


def test_a_question_that_is_read_in_a_dialog_waits_when_it_is_closed(serve: Callable[..., Server], page: Page) -> None:
    server = begin(serve, page)
    page.set_viewport_size({"width": 640, "height": 450})
    like(page)
    card = page.locator(".consent-question")
    card.get_by_role("button", name="Read the question").click()
    dialog = page.get_by_role("dialog", name="May your feedback be used for training?")
    expect(dialog).to_contain_text(WORDS[WORDING])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(card.get_by_role("button", name="Read the question")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_have_count(0)
    expect(card).to_have_count(0)
    assert answers(server) == []


def test_the_question_takes_no_room_of_a_form_in_the_middle(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    page.set_viewport_size({"width": 640, "height": 450})
    chat(page, server, talked(server, "Hello", "One", "x", "Two\n\n" * 40, annotator="ada"))
    expect(page.locator(".answer")).to_have_count(2)
    page.locator(".thumb.down").first.click()
    expect(question(page)).to_be_visible()
    expect(page.locator(".why-bad input")).to_be_in_viewport(ratio=1)
