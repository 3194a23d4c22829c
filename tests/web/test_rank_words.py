"""The ranking page in German: everything that it says, and it follows the theme that was chosen."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour

pytestmark = pytest.mark.web

ENGLISH = re.compile(r"\b(the|answers?|ranking|request|order|skip|draw|keys|better|first|with|and)\b", re.IGNORECASE)


def test_the_ranking_page_speaks_german_and_follows_the_theme(serve: Callable[..., Server], browser: Browser) -> None:
    context = browser.new_context(locale="de-DE", color_scheme="light")
    page = context.new_page()
    page.goto(f"{serve('varied').url}/rank?as=ada")
    expect(page.get_by_role("heading", name="Antworten ordnen")).to_be_visible()
    expect(page.get_by_role("button", name="Antworten ziehen")).to_be_visible()
    page.get_by_label("Was soll beantwortet werden?").fill("x")
    page.get_by_role("button", name="Ja, verwenden").click()
    expect(page.get_by_text("Sie dürfen zum Training verwendet werden.")).to_be_visible()
    said = [page.locator("body").inner_text()]
    page.get_by_role("button", name="Antworten ziehen").click()
    expect(page.get_by_role("button", name="Reihenfolge bestätigen")).to_be_enabled()
    card = page.locator("#order > li:focus")
    expect(card).to_have_attribute("aria-label", "Antwort A, 1. Platz, 1 von 4")
    page.keyboard.press("2")
    page.keyboard.press("t")
    expect(card).to_have_attribute("aria-label", "Antwort A, 1. Platz, gleichauf, 2 von 4")
    assert card.evaluate("node => getComputedStyle(node, '::before').content") == '"gleich"'
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("die Reihenfolge bestätigen")
    said.append(dialog.inner_text())
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_have_text("Gespeichert als Ihre Rangfolge Nummer 1.")
    said.append(page.locator("header, #progress, #choose, #saved, #undo").all_inner_texts().__str__())
    assert ENGLISH.findall(" ".join(said)) == []
    assert page.title() == "Antworten ordnen · Palmier"
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("localStorage.setItem('palmier.theme', '\"dark\"')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    context.close()
