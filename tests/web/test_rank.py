"""The ranking page in a browser: mouse, keyboard alone, reload, undo, consent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour

pytestmark = pytest.mark.web

PROMPT = "Who are you?"


def draw(page: Page, server: Server, name: str = "ada", k: str = "4") -> None:
    """Open the page, draw K answers, and wait until they can be ordered."""
    page.goto(f"{server.url}/rank?as={name}")
    page.get_by_label("What shall be answered?").fill(PROMPT)
    page.get_by_label("How many answers").select_option(k)
    page.get_by_role("button", name="Draw answers").click()
    expect(confirm(page)).to_be_enabled()


def confirm(page: Page) -> Locator:
    return page.get_by_role("button", name="Confirm order")


def letters(page: Page) -> str:
    """The answers from best to worst, by the letters they were shown under."""
    return "".join(text[-1] for text in page.locator("#order > li .said header strong").all_inner_texts())


def places(page: Page) -> list[str]:
    return page.locator("#order .place").all_inner_texts()


def stored(server: Server) -> list[Any]:
    """Everything that may train."""
    return server.serving.store.training_rankings()


def by_letter(ranking: Any) -> dict[str, int]:
    """The stored ranks under the letters of the screen."""
    return {"ABCDEFGHI"[place]: ranking.ranks[answer] for place, answer in enumerate(ranking.shown)}


def test_rank_with_the_mouse(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    page.get_by_role("button", name="Yes, use it").click()
    expect(page.get_by_text("They may be used for training.")).to_be_visible()
    assert letters(page) == "ABCD"
    drag(page, "D", above="A")
    assert letters(page) == "DABC"
    drag(page, "A", above=None)
    assert letters(page) == "DBCA"
    page.get_by_role("button", name="Tie answer C with the one above").click()
    assert places(page) == ["1", "2", "2", "3"]
    confirm(page).click()
    expect(page.locator("#saved")).to_contain_text("Saved as your ranking number 1.")
    (ranking,) = stored(server)
    assert by_letter(ranking) == {"D": 1, "B": 2, "C": 2, "A": 3}
    assert ranking.conversation.messages[0].content == PROMPT
    assert ranking.annotator == "ada"
    assert 0 < ranking.milliseconds < 60_000


def drag(page: Page, letter: str, above: str | None) -> None:
    """Drag an answer's handle above another answer, or to the end."""

    def card(which: str) -> Locator:
        return page.locator("#order > li").filter(has=page.get_by_text(f"Answer {which}", exact=True))

    handle = card(letter).locator(".handle")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    target = card(above) if above else page.locator("#order > li").last
    over = target.bounding_box()
    assert over
    page.mouse.move(box["x"] + 20, over["y"] + (5 if above else over["height"] - 5), steps=5)
    expect(page.locator("#gap")).to_be_visible()
    page.mouse.up()


def test_rank_with_a_finger(serve: Callable[..., Server], page: Page) -> None:
    draw(page, serve("varied"), k="2")
    handle = page.locator("#order .handle").first
    box = page.locator("#order > li").nth(1).bounding_box()
    assert box
    assert handle.evaluate("node => getComputedStyle(node).touchAction") == "none"
    session = page.context.new_cdp_session(page)
    start = handle.bounding_box()
    assert start
    x, y = start["x"] + 20, start["y"] + 20
    touches: list[tuple[str, list[dict[str, float]]]] = [("touchStart", [{"x": x, "y": y}])]
    touches += [("touchMove", [{"x": x, "y": y + (box["y"] + box["height"] - y) * part}]) for part in (0.3, 0.7, 0.98)]
    for kind, points in [*touches, ("touchEnd", [])]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert letters(page) == "BA"


def test_rank_with_the_keyboard_alone(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    page.goto(f"{server.url}/rank?as=ada")
    expect(page.get_by_role("button", name="Yes, use it")).to_be_visible()
    expect(page.get_by_label("What shall be answered?")).to_be_visible()
    press = page.keyboard.press
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "consent-yes":
            break
    press("Enter")
    expect(page.get_by_role("button", name="Change")).to_be_focused()
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "prompt":
            break
    press("Control+a")
    page.keyboard.type(PROMPT)
    press("Control+Enter")
    expect(confirm(page)).to_be_enabled()
    focused = page.locator("#order > li:focus")
    expect(focused).to_have_attribute("aria-label", "Answer A, 1st place, 1 of 4")
    press("ArrowDown")
    expect(focused).to_have_attribute("aria-label", "Answer A, 2nd place, 2 of 4")
    press("4")
    assert letters(page) == "BCDA"
    press("Shift+Tab")
    expect(focused).to_have_attribute("aria-label", "Answer D, 3rd place, 3 of 4")
    press("t")
    expect(focused).to_have_attribute("aria-label", "Answer D, 2nd place, tied, 3 of 4")
    press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    press("Escape")
    press("b")
    expect(page.get_by_role("button", name="All are bad")).to_have_attribute("aria-pressed", "true")
    press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved")
    (ranking,) = stored(server)
    assert by_letter(ranking) == {"B": 1, "C": 2, "D": 2, "A": 3}
    assert ranking.all_bad


def test_an_order_that_was_not_touched_is_asked_for_once_more(serve: Callable[..., Server], page: Page) -> None:
    draw(page, serve("varied"))
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Nothing was moved. If the best stands on top as it is, press")
    expect(page.locator("#confirm")).to_have_text("Yes, as it is")
    page.locator("#order > li").first.focus()
    page.keyboard.press("t")  # that ties nothing, since there is nothing above: the question stands
    expect(page.locator("#confirm")).to_have_text("Yes, as it is")
    page.keyboard.press("2")
    expect(page.locator("#confirm")).to_have_text("Confirm order")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved")


def test_an_order_that_was_not_touched_may_be_right(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    confirm(page).click()
    assert server.serving.store.count("ada") == 0
    page.get_by_role("button", name="Yes, as it is").click()
    expect(page.locator("#saved")).to_contain_text("Saved as your ranking number 1.")
    page.get_by_role("button", name="Draw answers").click()
    expect(confirm(page)).to_be_enabled()  # the next one is asked for anew
    # Who says that all are bad has said something: nothing is left to ask.
    confirm(page).click()
    page.get_by_role("button", name="All are bad").click()
    expect(page.locator("#saved")).to_have_text("")
    confirm(page).click()
    expect(page.locator("#saved")).to_contain_text("Saved as your ranking number 2.")


def test_a_reload_in_the_middle_keeps_request_answers_and_order(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    page.keyboard.press("3")
    page.keyboard.press("t")
    time.sleep(1)
    texts = page.locator("#order .prose").all_inner_texts()
    assert (letters(page), places(page)) == ("BCAD", ["1", "2", "2", "3"])
    page.reload()
    expect(confirm(page)).to_be_enabled()
    assert (letters(page), places(page)) == ("BCAD", ["1", "2", "2", "3"])
    assert page.locator("#order .prose").all_inner_texts() == texts
    expect(page.locator("#request")).to_have_text(PROMPT)
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved")
    assert server.serving.store.count("ada") == 1
    page.get_by_role("button", name="Yes, use it").click()
    expect(page.get_by_text("They may be used")).to_be_visible()
    assert stored(server)[0].milliseconds >= 1000, "the time before the reload counts too"


def test_a_reload_while_answers_are_written_follows_them(serve: Callable[..., Server], page: Page) -> None:
    page.goto(f"{serve('endless').url}/rank")
    page.get_by_label("What shall be answered?").fill(PROMPT)
    page.get_by_label("How many answers").select_option("2")
    page.get_by_role("button", name="Draw answers").click()
    expect(page.locator("#order .prose").first).to_contain_text("la la")
    expect(page.locator("#drawing")).to_contain_text("0 of 2 answers are ready")
    page.reload()
    expect(page.locator("#order .prose").first).to_contain_text("la la")
    expect(confirm(page)).to_be_enabled(
        timeout=90_000
    )  # both answers run to their end: half a minute on two slow cores


def test_undo_brings_the_last_ranking_back(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    server.serving.store.set_consent("ada", True, "yes")
    draw(page, server)
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved")
    assert [by_letter(r)["A"] for r in stored(server)] == [4]
    page.get_by_role("button", name="Undo the last").click()
    expect(page.locator("#saved")).to_contain_text("undone")
    assert stored(server) == []
    expect(confirm(page)).to_be_enabled()
    assert letters(page) == "BCDA", "it comes back in the order that it had"
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved as your ranking number 1.")
    assert [by_letter(r)["B"] for r in stored(server)] == [4]


def test_without_consent_nothing_reaches_training(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    page.get_by_role("button", name="No, only keep it").click()
    expect(page.get_by_text("They are kept, and never used for training.")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#order > li").first.focus()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Saved")
    assert server.serving.store.count("ada") == 1
    assert stored(server) == []
    page.get_by_role("button", name="Change").click()
    page.get_by_role("button", name="Yes, use it").click()
    expect(page.get_by_text("They may be used for training.")).to_be_visible()
    assert len(stored(server)) == 1


def test_skip_stores_nothing_and_goes_on(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    page.keyboard.press("s")
    expect(page.locator("#saved")).to_contain_text("Skipped")
    expect(page.get_by_role("button", name="Draw answers")).to_be_visible()
    assert server.serving.store.count("ada") == 0
    expect(page.locator("#saved")).to_have_text("")  # it does not stay beside the next request
    # Where the page goes on by itself, it goes as soon as the next request stands there.
    page.get_by_role("button", name="Another suggestion").click()
    page.get_by_role("button", name="Draw answers").click()
    expect(confirm(page)).to_be_enabled()
    first = page.locator("#request").inner_text()
    page.evaluate("""() => {
        window.seen = [];
        const look = () => seen.push([document.getElementById("request").textContent, document.getElementById("saved").textContent]);
        new MutationObserver(look).observe(document.getElementById("actions"), { childList: true, subtree: true });
        new MutationObserver(look).observe(document.getElementById("request"), { childList: true });
    }""")
    page.keyboard.press("s")
    expect(page.locator("#request")).not_to_have_text(first)
    expect(confirm(page)).to_be_enabled()
    seen = page.evaluate("seen")
    assert [first, "Skipped: nothing was stored."] in seen
    assert {text for request, text in seen if request != first} == {""}


def test_saved_is_said_only_after_the_server_said_so(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server)
    page.route("**/api/rank/rankings", lambda route: route.abort())
    page.evaluate("""() => {
        const saved = document.getElementById("saved");
        window.said = [];
        new MutationObserver(() => said.push(saved.textContent)).observe(saved, { childList: true });
    }""")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Not saved")
    assert not [text for text in page.evaluate("said") if text.startswith("Saved")]
    assert server.serving.store.count("ada") == 0
    page.unroute("**/api/rank/rankings")
    # The answer is lost on its way, though the order was stored: sent again, it counts once.
    lost: list[str] = []

    def lose(route: Any) -> None:
        lost.append(str(json.loads(route.request.post_data or "{}")["draw"]))
        if len(lost) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/rank/rankings", lose)
    confirm(page).click()
    expect(page.locator("#saved")).to_contain_text("Not saved")
    confirm(page).click()
    expect(page.locator("#saved")).to_contain_text("Saved as your ranking number 1.")
    assert len(set(lost)) == 1
    assert server.serving.store.count("ada") == 1


def test_the_command_appears_when_there_are_enough(serve: Callable[..., Server], page: Page) -> None:
    server = serve("varied")
    draw(page, server, k="2")
    page.keyboard.press("2")
    (draw_id,) = server.serving.draws._draws
    drawn = server.serving.draws.get(draw_id)
    from palmier.feedback.split import NEEDED
    from palmier.records import Conversation, Ranking

    for number in range(NEEDED - 1):
        ranking = Ranking(Conversation.ask(f"Request {number}"), drawn.answers, (1, 2), annotator="ada")
        server.serving.store.add_ranking(ranking, f"other-{number}")
    expect(page.locator("#enough")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("#count-more")).to_contain_text(f"0 of {NEEDED} different requests")
    expect(page.locator("#enough")).to_be_hidden()
    page.get_by_role("button", name="Yes, use it").click()
    expect(page.locator("#enough")).to_contain_text("palmier improve")


def test_rank_answers_of_a_chat(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("varied").url)
    page.get_by_label("Your message").fill(PROMPT)
    page.keyboard.press("Enter")
    page.locator(".tools").get_by_role("link", name="Rank answers").click()
    expect(page.get_by_label("What shall be answered?")).to_have_value(PROMPT)
    page.keyboard.press("Enter")
    expect(confirm(page)).to_be_enabled()
    expect(page.locator("#request")).to_have_text(PROMPT)


@pytest.mark.parametrize("number", ["999", "abc"])
def test_a_conversation_that_is_not_there_is_said_and_the_page_goes_on(
    serve: Callable[..., Server], page: Page, number: str
) -> None:
    page.goto(f"{serve('varied').url}/rank?conversation={number}")
    expect(page.locator(".notice.bad")).to_contain_text(number)
    expect(page.get_by_role("button", name="Draw answers")).to_be_visible()
