"""“My feedback” in a browser: what was given, what it did, taken back; consent turned on and off with its reach."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from palmier.feedback.fate import SENTENCES, WAITING, Fate
from palmier.feedback.store import KINDS
from palmier.records import Answer, Conversation, Label, Ranking

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import chat, fates
from .talk import talked

pytestmark = pytest.mark.web

ANSWERS = (Answer("Dear Ann", "0001"), Answer("Go away", "0001"))


@pytest.fixture
def server(serve: Callable[..., Server], page: Page) -> Server:
    """Ada, who has agreed and given some of each kind, looks at a conversation."""
    server = serve("first")
    store = server.serving.store
    number = talked(server, "Hello", "One", annotator="ada")
    store.set_consent("ada", True, "yes")
    asked = Conversation.ask("Write a letter.")
    store.add_ranking(Ranking(asked, ANSWERS, (2, 1), annotator="ada"), "a")
    store.add_ranking(Ranking(asked, ANSWERS, (1, 1), annotator="ada"), "b")
    store.add_ranking(Ranking(asked, ANSWERS, (1, 2), annotator="bob"), "c")
    store.set_label("ada", number, 2, False)
    store.write_better("ada", number, 2, "One, and kindly.")
    store.choose(number, 2)
    store.note_uses("0001", [("ranking", 1)])
    chat(page, server, number)
    expect(page.locator(".answer")).to_have_count(1)
    return server


def opened(page: Page) -> Locator:
    page.get_by_role("button", name="My feedback").click()
    return page.get_by_role("dialog", name="My feedback")


def rows(dialog: Locator) -> Locator:
    return dialog.locator(".given-list > li")


def test_everything_is_listed_with_what_it_did_and_can_be_taken_back(server: Server, page: Page) -> None:
    store = server.serving.store
    dialog = opened(page)
    expect(dialog.get_by_role("button", name="Comparisons (2)")).to_have_attribute("aria-pressed", "true")
    expect(rows(dialog)).to_have_count(2)
    expect(rows(dialog).nth(0)).to_contain_text("A tie")
    expect(rows(dialog).nth(0)).to_contain_text("kept: all answers tied")
    expect(rows(dialog).nth(1)).to_contain_text("Go away")
    expect(rows(dialog).nth(1)).to_contain_text("Asked: Write a letter.")
    expect(rows(dialog).nth(1)).to_contain_text("used in version 0001")
    dialog.get_by_role("button", name="Thumbs (1)").click()
    expect(rows(dialog)).to_contain_text(["Thumb down"])
    expect(rows(dialog)).to_contain_text(["One"])
    dialog.get_by_role("button", name="Better answers (1)").click()
    expect(rows(dialog)).to_contain_text(["One, and kindly."])
    dialog.get_by_role("button", name="Take back").click()
    expect(rows(dialog)).to_contain_text(["taken back: not used any more"])
    expect(dialog.get_by_role("button", name="Better answers (0)")).to_be_visible()
    assert store.count("ada", "demonstration") == 0
    dialog.get_by_role("button", name="Comparisons").click()
    rows(dialog).nth(1).get_by_role("button", name="Take back").click()
    expect(rows(dialog).nth(1)).to_contain_text("taken back: not used any more; version 0001 was made with it")
    assert store.count("ada") == 1
    assert [one.ranking.annotator for one in store.preferences()] == ["ada"], "the tie; bob never agreed"


def test_a_thumb_that_is_taken_back_in_the_list_is_gone_from_the_page(server: Server, page: Page) -> None:
    thumb = page.get_by_role("button", name="Bad answer")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(fates(page)).to_contain_text(["Thumb down"])
    dialog = opened(page)
    dialog.get_by_role("button", name="Thumbs").click()
    dialog.get_by_role("button", name="Take back").click()
    expect(rows(dialog)).to_contain_text(["taken back"])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(thumb).to_have_attribute("aria-pressed", "false")
    expect(fates(page)).to_have_count(0)
    assert [*server.serving.store.training_labels()] == []


def test_consent_is_turned_off_and_on_with_its_reach(server: Server, page: Page) -> None:
    store = server.serving.store
    dialog = opened(page)
    consent = dialog.locator(".my-consent")
    expect(consent).to_contain_text("Your feedback is used to train the next version.")
    expect(consent).to_contain_text(
        "Turned off, this is not used any more: 2 comparisons, 1 thumb, 1 better answer. "
        "What version 0001 has learnt from it stays there."
    )
    consent.get_by_role("button", name="Turn off").click()
    expect(consent).to_contain_text("Your feedback is kept, and not used for training.")
    expect(consent).to_contain_text("Not used any more from now on: 2 comparisons, 1 thumb, 1 better answer.")
    expect(rows(dialog).nth(1)).to_contain_text(
        "kept, not used: you have not agreed to its use; version 0001 was made with it"
    )
    assert store.consent("ada") is False
    assert [*store.preferences()] == []
    page.keyboard.press("Escape")
    expect(fates(page)).to_contain_text(["Thumb down: kept, not used: you have not agreed to its use"])
    dialog = opened(page)
    expect(consent).to_contain_text("Turned on, what you have given so far is used too: 2 comparisons, 1 thumb")
    consent.get_by_role("button", name="Turn on").click()
    expect(consent).to_contain_text("Your feedback is used to train the next version.")
    assert store.consent("ada") is True
    assert len([*store.preferences()]) == 3


def test_it_is_used_with_the_keyboard_alone(server: Server, page: Page) -> None:
    press = page.keyboard.press
    page.get_by_role("button", name="My feedback").focus()
    press("Enter")
    dialog = page.get_by_role("dialog", name="My feedback")
    expect(rows(dialog)).to_have_count(2)

    def tab_to(words: str) -> None:
        for _ in range(30):
            press("Tab")
            here = page.locator("button:focus")
            if here.count() and words in (here.get_attribute("aria-label") or here.inner_text()):
                return
        raise AssertionError(words)

    tab_to("Thumbs (1)")
    press("Enter")
    expect(rows(dialog)).to_have_count(1)
    expect(dialog.get_by_role("button", name="Thumbs (1)")).to_be_focused()
    tab_to("Take back")
    press("Enter")
    expect(rows(dialog).first).to_be_focused()
    press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="My feedback")).to_be_focused()
    assert server.serving.store.count("ada", "label") == 0


def test_a_long_list_comes_in_pages(server: Server, page: Page) -> None:
    many = [(f"l{n}", Label(Conversation.ask(f"Question {n}"), ANSWERS[0], n % 2 == 0, "ada")) for n in range(45)]
    server.serving.store.add_all(many)
    dialog = opened(page)
    dialog.get_by_role("button", name="Thumbs (46)").click()
    expect(rows(dialog)).to_have_count(20)
    more = dialog.get_by_role("button", name="Show more")
    more.click()
    expect(rows(dialog)).to_have_count(40)
    expect(rows(dialog).nth(20)).to_be_focused()
    more.click()
    expect(rows(dialog)).to_have_count(46)
    expect(more).to_be_hidden()
    asked = dialog.locator(".given-list .small.soft").filter(has_text="Asked").all_inner_texts()
    assert len(set(asked)) == 46, "none twice, none left out"


def test_nothing_given_is_said(serve: Callable[..., Server], page: Page) -> None:
    chat(page, serve("first"), name="cid")
    dialog = opened(page)
    expect(dialog).to_contain_text("You have not given any feedback yet.")
    expect(dialog).to_contain_text("No comparisons yet.")


def test_the_page_says_what_the_server_says(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    for state in SENTENCES:
        for kind in KINDS:
            for versions in ((), ("0002", "0003")):
                fate = Fate(kind, 1, "", state, versions, "")
                told = {"kind": kind, "state": state, "versions": versions}
                said = page.evaluate("async (fate) => (await import('/page/fate.js')).sentence(fate)", told)
                assert said == fate.sentence
    assert set(WAITING) == set(KINDS)
