"""The question of consent in the chat: asked once and without a hurry, in the words that were read, off until then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from sqlalchemy import select

from palmier.feedback import schema
from palmier.feedback.consent import GERMAN, WORDING, WORDS

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import chat, consented, fates
from .talk import talked

pytestmark = pytest.mark.web

OVERVIEW = "**/api/feedback?*"
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
    expect(page.locator("#said")).to_have_text("There is a question about your feedback above the message box.")
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
