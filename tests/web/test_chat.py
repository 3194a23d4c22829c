"""The chat page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from palmier.feedback.store import ROOT
from palmier.generate.engine import Engine
from palmier.generate.requests import Event
from palmier.records import Message

from ..serve.home import SENTENCES, Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import FIRST, ask, talked

pytestmark = pytest.mark.web


def test_a_message_is_answered_and_the_conversation_is_there_after_a_reload(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first")
    page.goto(server.url)
    expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
    expect(page.get_by_text("It makes things up")).to_be_attached()
    ask(page)
    answer = page.get_by_role("article", name="Answer")
    expect(answer.locator(".prose")).to_have_text(FIRST)
    expect(answer.locator(".prose strong")).to_have_text("first")
    expect(answer.locator(".badge")).to_have_text("0001 · first")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.reload()
    expect(answer.locator(".prose")).to_have_text(FIRST)
    page.get_by_role("button", name="New conversation").click()
    expect(answer).to_have_count(0)
    page.get_by_role("link", name="Who are you?").click()
    expect(answer.locator(".prose")).to_have_text(FIRST)


def test_an_answer_streams_and_can_be_stopped(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    page.goto(server.url)
    ask(page)
    prose = page.locator(".answer .prose")
    expect(prose).to_contain_text("la la la")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".why")).to_have_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    (_, stored) = server.serving.store.messages(1)
    assert stored.answer is not None
    assert stored.answer.finish == "cancelled"
    assert 0 < len(stored.answer.tokens) < 500
    assert stored.message.content.strip() == prose.inner_text().strip()


PLACE = """() => {
    const { scrollTop, scrollHeight, clientHeight } = document.getElementById("scroll");
    return [scrollTop, scrollHeight - clientHeight];
}"""


def grown(page: Page, more: int) -> tuple[float, float]:
    """Where the reader is and where the end is, once the end is ``more`` pixels further off."""
    _, end = page.evaluate(PLACE)
    deadline = time.monotonic() + 20
    while (found := page.evaluate(PLACE))[1] < end + more:
        assert time.monotonic() < deadline, found
        page.wait_for_timeout(20)
    return found[0], found[1]


def test_who_goes_up_a_little_while_an_answer_is_written_stays_there(
    serve: Callable[..., Server], page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step

    def slowly(engine: Engine) -> list[Event]:
        time.sleep(0.01)  # however quick the machine is, the answer goes on while the reader moves
        return step(engine)

    monkeypatch.setattr(Engine, "step", slowly)
    page.set_viewport_size({"width": 360, "height": 320})
    server = serve("endless")
    number = server.serving.store.new_conversation()
    server.serving.store.note(number, settings={"max_tokens": 600})
    page.goto(f"{server.url}/?c={number}")
    ask(page)
    expect(page.locator(".answer .prose")).to_contain_text("la la la")
    grown(page, 10)
    page.mouse.move(180, 120)
    page.mouse.wheel(0, -40)
    page.wait_for_timeout(100)
    here, _ = page.evaluate(PLACE)
    there, end = grown(page, 10)  # a line
    assert there == here < end - 40
    page.mouse.wheel(0, 4000)
    page.wait_for_timeout(100)
    there, end = grown(page, 10)
    assert end - there < 40, "whoever goes to the end follows again"
    page.get_by_role("button", name="Stop").click()


def test_a_message_that_was_never_answered_can_be_answered_later(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = server.serving.store.new_conversation()
    server.serving.store.add_message(number, Message("user", "Who are you?"))
    page.goto(f"{server.url}/?c={number}")
    page.get_by_role("button", name="Answer this").click()
    expect(page.locator(".prose")).to_have_text(FIRST)


def test_again_draws_another_answer_and_both_can_be_read(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first", "second").url)
    ask(page)
    expect(page.locator(".prose")).to_have_text(FIRST)
    page.get_by_label("Which version answers").select_option("0002")
    page.get_by_role("button", name="Again").click()
    expect(page.locator(".prose")).to_have_text(SENTENCES["second"])
    page.get_by_role("button", name="The one before").click()
    expect(page.locator(".prose")).to_have_text(FIRST)
    expect(page.locator(".pager")).to_contain_text("1/2")


def test_a_promoted_version_answers_in_the_open_page(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second")
    page.goto(server.url)
    ask(page)
    expect(page.locator(".prose")).to_have_text(FIRST)
    server.promote("0002")
    expect(page.locator(".notice")).to_contain_text("Version 0002 · second answers from now on.")
    ask(page, "Tell me more, please.")
    expect(page.locator(".prose").nth(1)).to_have_text(SENTENCES["second"])
    expect(page.locator(".badge").nth(1)).to_have_text("0002 · second")


def test_three_versions_answer_side_by_side(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second", "unicode")
    page.goto(f"{server.url}/?compare=0001,0002,0003")
    expect(page.get_by_role("button", name="Side by side")).to_have_attribute("aria-pressed", "true")
    ask(page)
    answers = page.locator(".answer .prose")
    expect(answers).to_have_text([FIRST, SENTENCES["second"], SENTENCES["unicode"]])
    tops = {round(box["y"]) for box in (answers.nth(n).bounding_box() for n in range(3)) if box}
    assert len(tops) == 1, "they stand beside one another"
    ask(page, "Tell me more, please.")
    expect(answers.nth(5)).to_have_text(SENTENCES["unicode"])
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.reload()
    expect(answers.nth(5)).to_have_text(SENTENCES["unicode"])


def test_a_version_that_is_not_there_is_said(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second", "unicode", "varied")
    cases: list[tuple[str, list[str], list[str]]] = [
        ("0001,0001,0002", [], ["0001", "0002"]),
        ("0008,0009", ["Versions 0008, 0009 do not exist."], []),
        (
            "0001,0002,0003,0004",
            ["At most 3 versions answer side by side: 0001, 0002, 0003."],
            ["0001", "0002", "0003"],
        ),
        ("0001,0009", ["Version 0009 does not exist."], ["0001"]),
    ]
    for wished, said, compared in cases:
        page.goto(f"{server.url}/?compare={wished}")
        expect(page.locator("#compare-list label")).to_have_count(4)
        expect(page.locator(".notice.bad > span")).to_have_text(said)
        boxes = page.locator("#compare-list input:checked")
        assert [box.get_attribute("value") for box in boxes.all()] == compared
    ask(page)
    expect(page.locator(".badge")).to_have_text(["0001 · first"])
    server.promote("0002")
    expect(page.locator(".notice:not(.bad)")).to_contain_text("0002")  # the page has looked again
    expect(page.locator(".notice.bad > span")).to_have_text(said)  # and says it once


def test_a_conversation_that_is_not_there_is_said(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    for number in ("999", "1.5", "0", "99999999999999999999", "abc"):
        page.goto(f"{server.url}/?c={number}")
        sentence = f"There is no conversation “{number}”: this is a new one."
        expect(page.locator(".notice.bad > span")).to_have_text(sentence)
    ask(page)
    expect(page.locator(".answer .prose")).to_have_text(FIRST)
    assert page.url.endswith("/?c=1")


def test_a_conversation_that_another_window_has_deleted_gives_way_to_a_new_one(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first")
    box = page.get_by_label("Your message", exact=True)
    notice = page.locator(".notice.bad > span")
    for how in ("sent", "edited", "compared", "gone to"):
        number = talked(server, "Hello", "Old answer")
        server.serving.store.add_message(number, Message("user", "Hello!"), under=ROOT)
        page.goto(f"{server.url}/?c={number}", wait_until="networkidle")  # nothing is asked for by itself any more
        server.serving.store.remove(number)
        if how == "edited":
            page.keyboard.press("Alt+ArrowUp")
            page.get_by_label("Your message, to be changed").fill("Who are you?")
            page.keyboard.press("Enter")
        elif how == "gone to":
            page.get_by_role("button", name="The one before").click()
        else:
            box.fill("Who are you?")
            page.get_by_role("button", name="Send" if how == "sent" else "Compare", exact=True).click()
        expect(notice).to_have_text("This conversation was deleted elsewhere: this is a new one.")
        expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
        expect(page.get_by_role("link", name="Hello")).to_have_count(0)
        expect(box).to_have_value("" if how == "gone to" else "Who are you?")
        expect(box).to_be_focused()
        assert page.url == f"{server.url}/"
    ask(page)
    expect(page.locator(".prose")).to_have_text(FIRST)


def test_an_answer_asked_for_in_a_conversation_that_another_window_has_deleted_begins_a_new_one(
    serve: Callable[..., Server], page: Page
) -> None:
    server = serve("first", "second")
    for how in ("Answer this", "Again", "Compare"):
        number = talked(server, "Hello", "Old answer")
        if how == "Answer this":
            server.serving.store.add_message(number, Message("user", "Hello!"), under=ROOT)
        page.goto(f"{server.url}/?c={number}", wait_until="networkidle")
        server.serving.store.remove(number)
        page.locator("#turns").get_by_role("button", name=how, exact=True).click()
        expect(page.locator(".notice.bad > span")).to_have_text(
            "This conversation was deleted elsewhere: this is a new one."
        )
        expect(page.get_by_role("heading", name="What shall I write?")).to_be_visible()
        expect(page.get_by_label("Your message", exact=True)).to_be_focused()
        assert page.url == f"{server.url}/"


def test_a_script_in_an_answer_does_nothing(serve: Callable[..., Server], page: Page) -> None:
    server = serve("rogue")
    page.goto(server.url)
    ask(page)
    prose = page.locator(".answer .prose")
    expect(prose).to_contain_text("window.hacked = 4")
    assert page.evaluate("window.hacked") is None
    assert prose.locator("script, img, a, b").count() == 0, "none of its markup became elements"
    expect(prose).to_contain_text("<script>window.hacked = 1</script>")
    page.get_by_role("link", name="Rank answers").last.click()
    page.get_by_role("button", name="Draw answers").click()
    expect(page.get_by_role("button", name="Confirm order")).to_be_enabled()
    assert page.evaluate("window.hacked") is None
    # And were there a hole, the policy would still hold: an inline script may not run.
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 5";
        document.body.append(script);
    }""")
    assert page.evaluate("window.hacked") is None


def test_a_running_improve_is_told(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    page.goto(server.url)
    bar = page.locator("#bar")
    expect(bar).to_be_hidden()
    with server.workspace.exclusively("improve"):
        expect(bar).to_contain_text("answers come more slowly")
    expect(bar).to_be_hidden()


def test_a_refusal_is_shown_and_the_words_are_not_lost(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    ask(page, "word " * 700)
    expect(page.locator(".trouble")).to_contain_text("tokens and the context holds 640")
    ask(page, "Hello")
    expect(page.locator(".prose").last).to_have_text(FIRST)  # the long message is left out, and that is said
    expect(page.get_by_role("note")).to_contain_text("no longer reads what stands above this line: 1 earlier turn")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Hello")
    expect(page.locator(".prose")).to_have_text(FIRST)


@pytest.mark.parametrize("path", ["/", "/rank", "/?compare=0001"])
def test_nothing_is_wider_than_a_phone(serve: Callable[..., Server], page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(serve("rogue").url + path)
    if path != "/rank":
        ask(page)
        expect(page.locator(".prose").last).to_contain_text("window.hacked")
    else:
        page.get_by_role("button", name="Draw answers").click()
        expect(page.get_by_role("button", name="Confirm order")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
