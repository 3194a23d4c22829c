"""Comparing answers in the chat in a browser: mouse, keyboard alone, reload, cancel, a network that loses answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ..serve.home import SENTENCES, Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import QUESTION, box, candidates, chat, compare, confirm, fates, ready, turned, waiting
from .talk import path, talked

pytestmark = pytest.mark.web


def test_two_versions_are_compared_with_the_mouse_and_named_afterwards(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first", "second")
    server.serving.store.set_consent("ada", True, "yes")
    chat(page, server)
    compare(page, against="0002")
    draw = turned(page, server)
    said = page.locator(".comparison").inner_text()
    assert "0001" not in said, "the names are hidden"
    assert "0002" not in said
    assert page.locator(".comparison .badge").count() == 0
    told = page.evaluate("async (id) => (await fetch(`/api/rank/draws/${id}`)).json()", draw.id)
    assert "version" not in told or told["version"] == "", "the page itself does not know them"
    texts = [text.replace("**", "") for text in (draw.answers[index].text for index in draw.shown)]
    expect(candidates(page).locator(".prose")).to_have_text(texts)
    tops = {round(found["y"]) for found in (candidates(page).nth(n).bounding_box() for n in range(2)) if found}
    assert len(tops) == 1, "they stand beside one another"
    page.get_by_role("button", name="Answer 1 is best").click()
    page.get_by_role("button", name="Clearly better").click()
    page.get_by_label("Why? (if you like)").fill("it is kinder")
    confirm(page)
    best = draw.shown[0]
    (ranking,) = server.serving.store.training_rankings()
    assert [ranking.ranks[best], ranking.ranks[1 - best]] == [1, 2]
    assert (ranking.strength, ranking.reason, ranking.annotator) == (2, "it is kinder", "ada")
    assert ranking.shown == draw.shown
    assert 0 < ranking.milliseconds < 60_000
    assert path(server) == [QUESTION, draw.answers[best].text]
    other = {"0001": "0001 · first", "0002": "0002 · second"}[draw.answers[1 - best].version]
    expect(fates(page)).to_have_text([f"Chosen over {other}: used from the next improve on"])
    expect(page.locator(".answer .badge")).to_contain_text(draw.answers[best].version)
    expect(page.locator("#said")).to_contain_text(f"The best answer is of version {draw.answers[best].version}")
    expect(page.get_by_role("group", name="Answers to this message")).to_be_visible()


def test_whose_answers_they_were_is_heard_though_a_question_is_asked(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second")
    chat(page, server)
    compare(page, against="0002")
    page.keyboard.press("1")
    confirm(page)
    expect(page.locator(".consent-question")).to_be_visible()
    names = re.compile(r"^The best answer is of version 000\d · \w+, the others are of version 000\d · \w+: kept")
    expect(page.locator("#said p")).to_have_text(
        [names, "There is a question about your feedback above the message box."]
    )


def test_answers_are_compared_with_the_keyboard_alone(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    chat(page, server)
    press = page.keyboard.press
    box(page).focus()
    page.keyboard.type(QUESTION)
    tab_to(page, "document.activeElement.matches('.compare-how')")
    press("Enter")
    expect(page.get_by_label("Draw", exact=True)).to_be_focused()
    press("ArrowDown")
    press("Escape")
    expect(page.get_by_role("button", name="How to compare: 3 answers")).to_be_focused()
    tab_to(page, "document.activeElement.matches('.compare-send')", "Shift+Tab")
    press("Enter")
    ready(page, 3)
    expect(page.locator(".comparison")).to_be_focused()
    draw = waiting(server)
    press("Enter")  # nothing is chosen yet: nothing happens
    press("9")
    press("3")
    expect(page.get_by_role("button", name="Answer 3 is best")).to_have_attribute("aria-pressed", "true")
    tab_to(page, "document.activeElement.dataset.strength === 'strong'")
    press("Space")
    press("Tab")
    page.keyboard.type("because 1")  # what is typed is no choice
    press("Enter")
    expect(candidates(page)).to_have_count(0)
    expect(box(page)).to_be_focused()
    ranking = stored(server)
    best = draw.shown[2]
    same = [place for place, answer in enumerate(draw.answers) if answer.text == draw.answers[best].text]
    assert [place for place, rank in enumerate(ranking.ranks) if rank == 1] == same
    assert (ranking.strength, ranking.reason) == (3, "because 1")


def tab_to(page: Page, condition: str, key: str = "Tab") -> None:
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate(condition):
            return
    raise AssertionError(f"{condition} is not reached with {key}")


def stored(server: Server) -> Any:
    """The one ranking that ada gave."""
    server.serving.store.set_consent("ada", True, "yes")
    (ranking,) = server.serving.store.training_rankings()
    return ranking


@pytest.mark.parametrize(
    ("key", "button", "all_bad", "told"),
    [
        ("t", "Tie", False, "A tie"),
        ("b", "All bad", True, "All bad"),
        ("", "Tie", False, "A tie"),
        ("", "All bad", True, "All bad"),
    ],
    ids=["tie by key", "all bad by key", "tie by mouse", "all bad by mouse"],
)
def test_a_tie_and_all_bad(
    serve: Callable[..., Server], page: Page, key: str, button: str, all_bad: bool, told: str
) -> None:
    server = serve("first", "second")
    server.serving.store.set_consent("ada", True, "yes")
    chat(page, server)
    compare(page, against="0002")
    page.keyboard.press("1")
    page.get_by_role("button", name="Much better").click()
    verdict = page.get_by_role("button", name=button, exact=True)
    if key:
        page.keyboard.press(key)
    else:
        verdict.click()
    expect(verdict).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Much better")).to_be_hidden()
    confirm(page)
    ranking = stored(server)
    assert (ranking.ranks, ranking.all_bad, ranking.strength) == ((1, 1), all_bad, 0)
    sentence = f"{told}: kept: all answers tied, so there is no order to learn from"
    expect(fates(page)).to_have_text([sentence])


def test_a_comparison_that_waits_comes_back_after_a_reload(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    chat(page, server)
    compare(page)
    time.sleep(2.5)  # the time before the reload counts too
    texts = candidates(page).locator(".prose").all_inner_texts()
    page.reload()
    ready(page)
    assert candidates(page).locator(".prose").all_inner_texts() == texts
    expect(box(page)).to_be_focused()
    # What is ready is thrown away by Cancel alone: there is nothing to stop.
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".notice")).to_contain_text("Choose one of the answers first, or press Cancel.")
    page.locator(".comparison").focus()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(candidates(page)).to_have_count(0)
    assert stored(server).milliseconds >= 2000
    page.reload()
    expect(page.locator(".answer .prose")).to_be_visible()
    expect(candidates(page)).to_have_count(0)


def test_answers_stream_and_a_reload_follows_them_and_stop_ends_them(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    chat(page, server)
    box(page).fill(QUESTION)
    page.locator("#composer").get_by_role("button", name="Compare", exact=True).click()
    expect(candidates(page).locator(".prose").first).to_contain_text("la la")
    expect(page.locator(".comparison [role=status]")).to_contain_text("0 of 2 are ready")
    expect(page.get_by_role("button", name="Answer 1 is best")).to_be_disabled()
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="Confirm")).to_be_disabled()
    page.reload()
    expect(candidates(page).locator(".prose").first).to_contain_text("la la")
    page.get_by_role("button", name="Stop").click()
    expect(candidates(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Answer this")).to_be_visible()
    assert server.serving.draws.pending("ada", 1) is None


def test_who_goes_away_without_choosing_leaves_nothing(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    chat(page, server)
    compare(page)
    expect(page.get_by_role("button", name="Answer this")).to_be_hidden()  # it is being answered
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Answer 2 is best")).to_be_enabled()
    box(page).fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("Choose one of the answers first, or press Cancel.")
    assert path(server) == [QUESTION]
    page.locator(".notice").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Edit").click()
    expect(page.locator(".notice")).to_have_text("Choose one of the answers first, or press Cancel.Close")
    expect(page.get_by_label("Your message, to be changed")).to_have_count(0)
    page.get_by_role("button", name="Cancel").click()
    expect(candidates(page)).to_have_count(0)
    expect(box(page)).to_have_value("Hello")
    expect(page.locator("#said")).to_have_text("Cancelled: nothing was stored.")
    assert (server.serving.store.count("ada"), server.serving.draws.pending("ada", 1)) == (0, None)
    page.get_by_role("button", name="Answer this").click()
    expect(page.locator(".answer .prose")).to_have_count(1)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".answer .prose")).to_have_count(2)


def test_a_question_that_was_answered_already_is_compared_and_its_branch_goes_on(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("second")
    number = talked(server, QUESTION, "Old answer", "x", "Older end", annotator="ada")
    chat(page, server, number)
    page.locator(".answer").first.get_by_role("button", name="Compare").click()
    ready(page)
    assert page.locator(".turn").first.locator(".comparison").count() == 1, "below the question that it answers"
    page.get_by_role("button", name="Answer 2 is best").click()
    confirm(page)
    assert path(server) == [QUESTION, SENTENCES["second"]]
    expect(page.get_by_role("group", name="Answers to this message")).to_contain_text("3/3")
    expect(page.locator(".asked")).to_have_count(1)


def test_a_choice_whose_answer_was_lost_is_sent_again_and_counts_once(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second")
    chat(page, server)
    compare(page, against="0002")
    draw = turned(page, server)
    sent: list[str] = []

    def lose(route: Any) -> None:
        sent.append(route.request.post_data)
        if len(sent) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/comparisons/*", lose)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Not saved")).to_contain_text("Confirm again.")
    confirm(page)
    assert (len(sent), server.serving.store.count("ada")) == (2, 1)
    assert stored(server).ranks[draw.shown[0]] == 1, "the key chose what stood in the first place"


def test_another_conversation_takes_the_comparison_away_and_it_waits(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    chat(page, server)
    compare(page)
    page.get_by_role("button", name="New conversation").click()
    expect(candidates(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("link", name=QUESTION).click()
    ready(page)


@pytest.mark.parametrize("how", ["a key, from another answer's button", "the mouse"])
def test_enter_confirms_though_a_button_was_used_before(serve: Callable[..., Server], page: Page, how: str) -> None:
    server = serve("first", "second")
    server.serving.store.set_consent("ada", True, "yes")
    chat(page, server)
    compare(page, against="0002")
    draw = waiting(server)
    if how == "the mouse":
        page.get_by_role("button", name="Answer 2 is best").click()
    else:
        page.get_by_role("button", name="Answer 1 is best").focus()
        page.keyboard.press("2")
    expect(page.get_by_role("button", name="Answer 2 is best")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Enter")
    expect(candidates(page)).to_have_count(0)
    (ranking,) = server.serving.store.training_rankings()
    assert ranking.ranks[draw.shown[1]] < ranking.ranks[draw.shown[0]]


def test_a_button_that_enter_pressed_is_not_confirmed_by_a_second_enter(
    serve: Callable[..., Server], page: Page
) -> None:
    """A key that is held down says Enter again and again."""
    server = serve("first")
    chat(page, server)
    compare(page)
    page.get_by_role("button", name="Answer 2 is best").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Answer 2 is best")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    expect(page.get_by_role("button", name="Answer 2 is best")).to_have_attribute("aria-pressed", "true")
    expect(candidates(page)).to_have_count(2)


def test_the_open_conversation_chosen_again_leaves_the_comparison_as_it_is(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first")
    chat(page, server)
    compare(page)
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="Answer 2 is best")).to_have_attribute("aria-pressed", "true")
    with page.expect_response("**/api/conversations/1?*"):
        page.get_by_role("link", name=QUESTION).click()
    expect(page.get_by_role("button", name="Answer this")).to_have_count(0)
    expect(page.get_by_role("button", name="Answer 2 is best")).to_have_attribute("aria-pressed", "true")
    assert page.locator(".turn").first.locator(".comparison").count() == 1, "below the question that it answers"
    # By keyboard: the focus is still on the line of the list, and Enter opens it once more.
    page.keyboard.press("1")
    with page.expect_response("**/api/conversations/1?*"):
        page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Answer 1 is best")).to_have_attribute("aria-pressed", "true")
    confirm(page)
    expect(page.locator(".answer .prose")).to_have_count(1)
    assert server.serving.store.count("ada") == 1


def test_what_can_not_be_drawn_is_said(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    chat(page, server)
    box(page).fill("word " * 700)
    page.locator("#composer").get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".notice.bad")).to_contain_text("tokens and the context holds 640")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
