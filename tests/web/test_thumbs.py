"""Thumbs and better answers in the chat in a browser: by mouse and by keyboard, taken back, kept over a reload."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import chat, fates
from .talk import path, talked

pytestmark = pytest.mark.web

UP, DOWN = "Good answer", "Bad answer"


@pytest.fixture
def server(serve: Callable[..., Server], page: Page) -> Server:
    """Ada, who has agreed, looks at two answers."""
    server = serve("first", "second")
    number = talked(server, "Hello", "One", "x", "Two", annotator="ada")
    server.serving.store.set_consent("ada", True, "yes")
    chat(page, server, number)
    expect(page.locator(".answer")).to_have_count(2)
    return server


def labels(server: Server) -> list[tuple[str, bool, str]]:
    """The thumbs that may be used: what they are on, where they point, why."""
    return [(one.answer.text, one.good, one.reason) for one in server.serving.store.training_labels()]


def thumb(page: Page, name: str, answer: int = 0) -> Locator:
    return page.locator(".answer").nth(answer).get_by_role("button", name=name)


def is_up(page: Page, name: str, answer: int = 0, yes: bool = True) -> None:
    expect(thumb(page, name, answer)).to_have_attribute("aria-pressed", "true" if yes else "false")


def test_a_thumb_is_given_changed_and_taken_back_with_the_mouse(server: Server, page: Page) -> None:
    thumb(page, UP).click()
    is_up(page, UP)
    expect(fates(page)).to_have_text(
        ["Thumb up: kept: it is used once another answer to the same message gets the opposite thumb"]
    )
    assert labels(server) == [("One", True, "")]
    page.reload()
    is_up(page, UP)
    is_up(page, UP, 1, yes=False)
    thumb(page, DOWN).click()
    is_up(page, DOWN)
    is_up(page, UP, yes=False)
    assert labels(server) == [("One", False, "")]
    page.get_by_label("What was bad about it?").fill("It is too short.")
    page.locator(".why-bad").get_by_role("button", name="Send").click()
    expect(page.locator(".why-bad")).to_have_count(0)
    assert labels(server) == [("One", False, "It is too short.")]
    thumb(page, DOWN).click()
    is_up(page, DOWN, yes=False)
    expect(fates(page)).to_have_count(0)
    expect(page.locator("#said")).to_have_text("The thumb is taken back.")
    assert labels(server) == []
    page.reload()
    is_up(page, DOWN, yes=False)


def test_a_thumb_is_given_and_taken_back_with_the_keyboard_alone(server: Server, page: Page) -> None:
    press = page.keyboard.press
    thumb(page, DOWN, 1).focus()
    press("Enter")
    is_up(page, DOWN, 1)
    expect(thumb(page, DOWN, 1)).to_be_focused()
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.matches('.complaint')"):
            break
    press("Enter")
    expect(page.locator(".why-bad")).to_have_count(0)
    expect(thumb(page, DOWN, 1)).to_be_focused()
    assert labels(server) == [("Two", False, "Not true")]
    press("Space")
    is_up(page, DOWN, 1, yes=False)
    assert labels(server) == []
    press("Space")
    field = page.get_by_label("What was bad about it?")
    expect(field).to_be_visible()
    field.focus()
    press("Escape")
    expect(field).to_have_count(0)
    expect(thumb(page, DOWN, 1)).to_be_focused()
    assert labels(server) == [("Two", False, "")]


def test_two_thumbs_that_point_both_ways_are_a_preference(server: Server, page: Page) -> None:
    page.locator(".answer").nth(1).get_by_role("button", name="Again").click()
    answers = page.locator(".answer").nth(1).get_by_role("group", name="Answers to this message")
    expect(answers).to_contain_text("2/2")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    thumb(page, UP, 1).click()
    expect(fates(page)).to_contain_text(["gets the opposite thumb"])
    answers.get_by_role("button", name="The one before").click()
    expect(answers).to_contain_text("1/2")
    thumb(page, DOWN, 1).click()
    expect(fates(page)).to_have_text(["Thumb down: used from the next improve on"])
    answers.get_by_role("button", name="The one after").click()
    expect(fates(page)).to_have_text(["Thumb up: used from the next improve on"])
    (ranking,) = server.serving.store.training_rankings()
    assert [(answer.text == "Two", rank) for answer, rank in zip(ranking.answers, ranking.ranks, strict=True)] == [
        (False, 1),
        (True, 2),
    ]


def test_what_was_begun_stays_while_the_page_draws_itself_anew(server: Server, page: Page) -> None:
    page.get_by_role("button", name="Write better").first.click()
    text = page.get_by_label("The better answer")
    text.fill("A better o")
    page.keyboard.type("ne")
    with server.workspace.exclusively("improve"):
        expect(page.locator("#bar")).to_contain_text("answers come more slowly")
        expect(text).to_be_focused()
        page.keyboard.type("!")
    expect(text).to_have_value("A better one!")


def test_a_better_answer_is_written_with_the_mouse(server: Server, page: Page) -> None:
    page.get_by_role("button", name="Write better").first.click()
    text = page.get_by_label("The better answer")
    expect(text).to_be_focused()
    expect(text).to_have_value("One")
    page.get_by_role("button", name="Keep this answer").click()  # it is not another one yet
    expect(text).to_be_focused()
    assert server.serving.store.count("ada", "demonstration") == 0
    text.fill("One, and kindly.")
    page.get_by_role("button", name="Keep this answer").click()
    expect(page.locator(".answer .prose")).to_have_text(["One, and kindly."])
    assert path(server) == ["Hello", "One, and kindly."]
    expect(page.get_by_role("group", name="Answers to this message")).to_contain_text("2/2")
    expect(fates(page)).to_have_text(["Your answer: used from the next improve on"])
    (better,) = server.serving.store.training_demonstrations()
    assert (better.text, better.answer and better.answer.text) == ("One, and kindly.", "One")
    page.reload()
    expect(page.locator(".answer .prose")).to_have_text(["One, and kindly."])
    expect(fates(page)).to_have_text(["Your answer: used from the next improve on"])


def test_a_better_answer_is_written_with_the_keyboard_alone(server: Server, page: Page) -> None:
    press = page.keyboard.press
    write = page.get_by_role("button", name="Write better").nth(1)
    write.focus()
    press("Enter")
    press("Escape")
    expect(write).to_be_focused()
    press("Enter")
    press("Control+a")
    page.keyboard.type("Two, in short")
    press("Enter")
    page.keyboard.type("and on two lines")
    press("Control+Enter")
    expect(page.locator(".answer .prose").nth(1)).to_contain_text("and on two lines")
    assert path(server)[-1] == "Two, in short\nand on two lines"
    expect(page.get_by_role("button", name="Write better").nth(1)).to_be_focused()


def test_what_the_server_refuses_is_said_and_the_thumb_stays_as_it_was(server: Server, page: Page) -> None:
    page.route("**/api/feedback/labels", lambda route: route.abort())
    thumb(page, UP).click()
    expect(page.locator(".notice.bad")).to_contain_text("The server can't be reached")
    is_up(page, UP, yes=False)
    assert labels(server) == []


def test_what_was_given_tells_the_version_that_it_made(server: Server, page: Page) -> None:
    page.get_by_role("button", name="Write better").first.click()
    page.get_by_label("The better answer").fill("One, and kindly.")
    page.keyboard.press("Control+Enter")
    expect(fates(page)).to_have_text(["Your answer: used from the next improve on"])
    server.serving.store.note_uses("0002", [("demonstration", 1)])
    server.promote("0002")  # as `palmier improve` does in the end: the open page tells it
    expect(fates(page)).to_have_text(["Your answer: used in version 0002"])
