"""A conversation's own settings in a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from palmier.records import Sampling
from palmier.serve.chat import CHAT_TEMPERATURE, CHAT_TOKENS, CHAT_TOP_P

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import ask, idle, prose, talked

pytestmark = pytest.mark.web


def test_they_are_kept_with_the_conversation_and_change_its_answers(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    number = talked(server, "Hello", "Old answer")
    page.goto(f"{server.url}/?c={number}")
    button = page.get_by_role("button", name="Settings of this conversation")
    button.click()
    dialog = page.get_by_role("dialog", name="Settings of this conversation")
    dialog.get_by_label("System prompt: how the assistant shall behave").fill("Be brief.")
    dialog.get_by_label("Longest answer, in tokens").fill("5")
    dialog.get_by_label("Temperature").fill("0.25")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    own = page.get_by_role("button", name="Settings: this conversation has its own")
    expect(own).to_be_focused()
    assert server.serving.store.tree(number).settings == {"system": "Be brief.", "max_tokens": 5, "temperature": 0.25}
    ask(page)
    expect(page.locator(".why")).to_contain_text("cut off")
    idle(page)
    answer = server.serving.store.messages(number)[-1].answer
    assert answer is not None
    assert len(answer.tokens) == 5
    page.reload()
    own.click()
    expect(dialog.get_by_label("Longest answer, in tokens")).to_have_value("5")
    dialog.get_by_role("button", name="As usual").click()
    dialog.get_by_role("button", name="Save").click()
    expect(button).to_be_visible()
    assert server.serving.store.tree(number).settings == {}


def test_they_can_be_chosen_before_the_first_message(serve: Callable[..., Server], page: Page) -> None:
    server = serve("endless")
    page.goto(server.url)
    expect(page.locator("#version option")).not_to_have_count(0)
    page.keyboard.press("Alt+s")
    expect(page.get_by_label("System prompt: how the assistant shall behave")).to_be_focused()
    page.keyboard.type("Be kind.")
    page.get_by_label("Longest answer, in tokens").focus()
    page.keyboard.type("4")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Settings: this conversation has its own")).to_be_visible()
    assert server.serving.store.conversations() == []
    ask(page)
    expect(page.locator(".why")).to_contain_text("cut off")
    assert server.serving.store.tree(1).settings == {"system": "Be kind.", "max_tokens": 4}
    page.get_by_role("button", name="New conversation").click()  # they were that conversation's alone
    expect(page.get_by_role("button", name="Settings of this conversation")).to_be_visible()


def test_what_is_out_of_range_is_said_and_nothing_is_lost(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    page.set_viewport_size({"width": 1280, "height": 850})  # the dialog is as high as it may be: its foot lies over it
    page.goto(f"{server.url}/?c={number}")
    expect(prose(page)).to_have_count(1)
    page.keyboard.press("Alt+s")
    for label, value, sentence in (
        ("Temperature", "-1", "temperature -1.0 is outside 0 … 100"),
        ("Top-p", "2", "top_p 2.0 is outside (0, 1]"),
        ("Min-p", "1", "min_p 1.0 is outside [0, 1)"),
        ("Top-k", "-1", "top_k -1 is outside 0"),
        ("Longest answer, in tokens", "0", "max_tokens 0 must be at least 1"),
        ("Repetition penalty", "0", "repetition_penalty 0.0 is outside (0, 100]"),
    ):
        field = page.get_by_label(label)
        field.fill(value)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(sentence)
        said, buttons = (page.locator(f"dialog {one}").bounding_box() for one in ("[role=alert]", ".buttons.end"))
        assert said
        assert buttons
        assert said["y"] + said["height"] <= buttons["y"]
        expect(field).to_have_value(value)
        field.fill("")
    page.get_by_label("Temperature").press_sequentially("1e")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is no number: Temperature")
    assert server.serving.store.tree(number).settings == {}


def test_what_is_usual_is_what_the_server_does(serve: Callable[..., Server], page: Page) -> None:
    page.goto(serve("first").url)
    page.keyboard.press("Alt+s")
    plain = Sampling()
    usual = {
        "temperature": CHAT_TEMPERATURE,
        "top_p": CHAT_TOP_P,
        "top_k": plain.top_k,
        "min_p": plain.min_p,
        "max_tokens": CHAT_TOKENS,
        "repetition_penalty": plain.repetition_penalty,
    }
    for name, value in usual.items():
        expect(page.locator(f"dialog input[name={name}]")).to_have_attribute("placeholder", f"usual: {value:g}")
    expect(page.locator("dialog input[type=number]")).to_have_count(len(usual))


def test_settings_that_the_dialog_does_not_show_stay(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = talked(server, "Hello", "Old answer")
    server.serving.store.note(number, settings={"presence_penalty": 0.5})
    page.goto(f"{server.url}/?c={number}")
    page.get_by_role("button", name="Settings: this conversation has its own").click()
    page.get_by_label("Top-k").fill("7")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert server.serving.store.tree(number).settings == {"presence_penalty": 0.5, "top_k": 7}
