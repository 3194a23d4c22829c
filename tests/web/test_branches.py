"""Branches of a conversation in a browser: edited messages, answers drawn again, ‹ 2/3 ›, answers that go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from palmier.feedback.store import ROOT
from palmier.records import Answer, Message

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import FIRST, SECOND, ask, asked, idle, path, prose, talked

pytestmark = pytest.mark.web


def edit(page: Page, number: int, text: str) -> None:
    """Change a message of the branch with the mouse."""
    turn = page.locator(".turn").nth(number)
    turn.locator(".asked").hover()
    turn.get_by_role("button", name="Edit").click()
    page.get_by_label("Your message, to be changed").fill(text)
    turn.get_by_role("button", name="Send").click()


def test_an_edited_message_becomes_a_branch_and_both_can_be_gone_to(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer", "x", "Older end")
    page.goto(f"{server.url}/?c={number}")
    page.get_by_role("button", name="Again").last.click()
    expect(prose(page)).to_have_text(["Old answer", FIRST])
    idle(page)
    edit(page, 0, "Who are you?")
    expect(asked(page)).to_have_text(["Who are you?"])
    expect(prose(page)).to_have_text([FIRST])
    idle(page)
    assert path(server) == ["Who are you?", "I am the **first** version."]
    wordings = page.get_by_role("group", name="Wordings of this message")
    expect(wordings).to_contain_text("2/2")
    wordings.get_by_role("button", name="The one before").click()
    expect(asked(page)).to_have_text(["Hello", "x"])
    expect(prose(page)).to_have_text(["Old answer", FIRST])  # the newest end of that branch
    assert path(server) == ["Hello", "Old answer", "x", "I am the **first** version."]
    page.reload()
    expect(asked(page)).to_have_text(["Hello", "x"])
    after = wordings.get_by_role("button", name="The one after")
    after.focus()
    page.keyboard.press("ArrowRight")
    expect(prose(page)).to_have_text([FIRST])
    expect(after).to_be_focused()  # though it is another message's


def test_a_wording_is_gone_back_to_where_one_stood_in_it(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    page.goto(f"{server.url}/?c={number}")
    again = page.get_by_role("button", name="Again")
    answers = page.get_by_role("group", name="Answers to this message")
    for count in (2, 3):
        again.click()
        expect(answers).to_contain_text(f"{count}/{count}")
        idle(page)
    for place in (2, 1):
        answers.get_by_role("button", name="The one before").click()
        expect(answers).to_contain_text(f"{place}/3")
    ask(page, "x")
    expect(prose(page)).to_have_text(["Old answer", FIRST])
    idle(page)
    edit(page, 0, "Who are you?")
    expect(asked(page)).to_have_text(["Who are you?"])
    idle(page)
    wordings = page.get_by_role("group", name="Wordings of this message")
    wordings.get_by_role("button", name="The one before").click()
    expect(asked(page)).to_have_text(["Hello", "x"])
    expect(prose(page)).to_have_text(["Old answer", FIRST])
    # What was only looked at counts too, and a reload changes nothing.
    answers.first.get_by_role("button", name="The one after").click()
    expect(answers.first).to_contain_text("2/3")
    wordings.get_by_role("button", name="The one after").click()
    expect(asked(page)).to_have_text(["Who are you?"])
    page.reload()
    wordings.get_by_role("button", name="The one before").click()
    expect(answers.first).to_contain_text("2/3")
    expect(asked(page)).to_have_text(["Hello"])


def test_a_branch_that_went_on_in_another_window_is_shown_whole(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    store = server.serving.store
    edited = store.add_message(number, Message("user", "Hello!"), under=ROOT)
    page.goto(f"{server.url}/?c={number}")
    expect(asked(page)).to_have_text(["Hello!"])
    store.add_message(number, Message("user", "x"), under=edited - 1)
    page.get_by_role("button", name="The one before").click()
    expect(asked(page)).to_have_text(["Hello", "x"])


def test_a_message_is_edited_with_the_keyboard_alone(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer", "x", "Older end")
    page.goto(f"{server.url}/?c={number}")
    expect(prose(page)).to_have_count(2)
    page.keyboard.press("Alt+ArrowUp")
    field = page.get_by_label("Your message, to be changed")
    expect(field).to_be_focused()
    expect(field).to_have_value("x")
    page.keyboard.type(" and y")
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(asked(page)).to_have_text(["Hello", "x"])
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Enter")  # nothing was changed: nothing is sent
    expect(field).to_have_count(0)
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Control+A")
    page.keyboard.type("Who are you?")
    page.keyboard.press("Enter")
    expect(asked(page)).to_have_text(["Hello", "Who are you?"])
    expect(prose(page)).to_have_text(["Old answer", FIRST])
    idle(page)
    assert len(server.serving.store.messages(number)) == 6


def test_an_answer_is_drawn_again_in_the_middle_and_the_rest_is_kept(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Who are you?", "Old answer", "x", "Older end")
    page.goto(f"{server.url}/?c={number}")
    page.get_by_role("button", name="Again").first.click()
    expect(prose(page)).to_have_text([FIRST])
    idle(page)
    answers = page.get_by_role("group", name="Answers to this message")
    expect(answers).to_contain_text("2/2")
    after = answers.get_by_role("button", name="The one after")
    expect(after).to_have_attribute("aria-disabled", "true")
    before = answers.get_by_role("button", name="The one before")
    before.focus()
    page.keyboard.press("ArrowLeft")
    expect(prose(page)).to_have_text(["Old answer", "Older end"])
    expect(before).to_be_focused()  # the keyboard keeps its place
    assert path(server) == ["Who are you?", "Old answer", "x", "Older end"]
    page.keyboard.press("ArrowRight")
    expect(prose(page)).to_have_text([FIRST])
    ask(page, "Tell me more, please.")  # the conversation goes on from the branch that is shown
    expect(prose(page)).to_have_count(2)
    idle(page)
    assert path(server)[:3] == ["Who are you?", "I am the **first** version.", "Tell me more, please."]


def test_below_an_answer_that_is_written_there_is_nothing(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    number = talked(server, "Hello", "Old answer", "x", "Older end")
    page.goto(f"{server.url}/?c={number}")
    page.get_by_role("button", name="Again").first.click()
    expect(prose(page)).to_contain_text(["la la la"])
    expect(page.locator(".turn")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".why")).to_have_text("stopped")
    assert path(server)[1].startswith("la la")


def test_an_answer_that_was_cut_goes_on(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    number = server.serving.store.new_conversation()
    server.serving.store.note(number, settings={"max_tokens": 12})
    page.goto(f"{server.url}/?c={number}")
    ask(page)
    expect(page.locator(".why")).to_contain_text("cut off")
    begun = prose(page).inner_text()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".pager")).to_contain_text("2/2")
    idle(page)
    (_, short, long) = server.serving.store.messages(number)
    assert long.message.content.startswith(short.message.content)
    assert len(long.message.content) > len(short.message.content)
    assert prose(page).inner_text().startswith(begun)
    page.get_by_role("button", name="The one before").click()
    expect(prose(page)).to_have_text(begun)


def test_an_answer_that_came_to_its_end_offers_nothing_to_continue(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    ask(page)
    expect(prose(page)).to_have_text(FIRST)
    expect(page.get_by_role("button", name="Again")).to_be_visible()
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)


def test_where_reading_begins_stays_in_the_conversation(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    long = "Tell me more, please. " * 12
    number = talked(server, *[text for n in range(8) for text in (f"{n} {long}", f"Answer {n}")])
    page.goto(f"{server.url}/?c={number}")
    expect(prose(page)).to_have_count(8)
    line = page.get_by_role("note")
    expect(line).to_have_count(0)  # nobody knows it before an answer was drawn
    ask(page, "Who are you?")
    expect(line).to_contain_text("The model no longer reads what stands above this line:")
    idle(page)
    # Where the line stands is what the server says: so many turns are above it.
    left_out = int(line.inner_text().split(": ")[1].split()[0])
    assert 0 < left_out < 8
    assert (
        page.evaluate("[...document.querySelectorAll('#turns > *')].findIndex((n) => n.matches('.unread'))") == left_out
    )
    page.reload()
    expect(line).to_contain_text(f"{left_out} earlier turns" if left_out > 1 else "1 earlier turn")
    edit(page, 0, "Who are you?")  # another branch is short: all of it is read
    expect(prose(page)).to_have_text([FIRST])
    expect(line).to_have_count(0)


def test_where_reading_begins_is_told_of_the_version_that_it_is_true_of(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first", "second")
    store = server.serving.store
    number = store.new_conversation()
    hello = store.add_message(number, Message("user", "Hello"))
    # Side by side each goes on from its own words: what the first one said fills its context.
    for version, said in (("0001", "Tell me more, please. " * 80), ("0002", "Hi.")):
        store.add_message(number, Message("assistant", said), Answer(said, version, finish="stop"), hello)
    page.goto(f"{server.url}/?c={number}&compare=0001,0002")
    expect(prose(page)).to_have_count(2)
    ask(page)
    expect(prose(page)).to_have_count(4)
    idle(page)
    line = page.get_by_role("note")
    sentence = "What stands above this line is no longer read by 0001 · first: 1 earlier turn."
    expect(line).to_have_text(sentence)
    page.reload()
    expect(line).to_have_text(sentence)
    page.get_by_role("button", name="Side by side").click()  # one at a time: it speaks of the answer that is shown
    answers = page.get_by_role("group", name="Answers to this message").last
    for step in ("The one before", "The one after"):
        answers.get_by_role("button", name=step).click()
        expect(answers).to_contain_text("1/2" if step.endswith("before") else "2/2")
        is_cut = "0001" in page.locator(".answer .badge").last.inner_text()
        told = ["The model no longer reads what stands above this line: 1 earlier turn."] if is_cut else []
        expect(line).to_have_text(told)


def test_a_message_that_is_edited_side_by_side(serve: Callable[..., Server], page: Page) -> None:
    page.goto(f"{serve('first', 'second').url}/?compare=0001,0002")
    ask(page, "Hello")
    expect(prose(page)).to_have_text([FIRST, SECOND])
    idle(page)
    edit(page, 0, "Who are you?")
    expect(asked(page)).to_have_text(["Who are you?"])
    expect(prose(page)).to_have_text([FIRST, SECOND])
    idle(page)
    page.get_by_role("button", name="The one before").click()
    expect(asked(page)).to_have_text(["Hello"])
    expect(prose(page)).to_have_text([FIRST, SECOND])
    page.get_by_role("button", name="Side by side").click()  # one at a time again: the branch, and ‹ ›
    expect(prose(page)).to_have_count(1)
    expect(page.get_by_role("group", name="Answers to this message")).to_contain_text("/2")


def test_an_answer_goes_on_while_another_conversation_is_open(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    number = talked(server, "Hello", "Old answer")
    page.goto(server.url)
    ask(page, "Who are you?")
    expect(prose(page)).to_contain_text("la la la")
    page.get_by_role("link", name="Hello").click()
    expect(prose(page)).to_have_text("Old answer")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    page.get_by_role("link", name="Who are you?").click()
    before = len(prose(page).inner_text())
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.wait_for_function("n => document.querySelector('.prose').textContent.length > n", arg=before)
    page.keyboard.press("Escape")
    expect(page.locator(".why")).to_have_text("stopped")
    page.go_back()
    expect(prose(page)).to_have_text("Old answer")
    assert page.url.endswith(f"?c={number}")
