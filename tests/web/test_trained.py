"""What people give in the page is what trains: each kind, through the browser, with consent, without it, taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from palmier.cli.feedback import export

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .judge import QUESTION, chat, compare, confirm, consented, fates, turned
from .talk import FIRST, ask, idle

pytestmark = pytest.mark.web

Form = Literal["rankings", "preference", "unpaired", "messages"]
FORMATS: tuple[Form, ...] = ("rankings", "preference", "unpaired", "messages")


@dataclass(frozen=True)
class Given:
    """What a kind of feedback is, when it may be used: lines of each of the export's forms, by what is good and bad."""

    good: str
    bad: str
    formats: tuple[Form, ...]


def pick(page: Page, server: Server) -> Given:
    compare(page, against="0002")
    draw = turned(page, server)
    page.get_by_role("button", name="Answer 1 is best").click()
    confirm(page)
    best, other = (draw.answers[index].text for index in draw.shown)
    return Given(best, other, ("rankings", "preference"))


def thumbs(page: Page, _: Server) -> Given:
    """A thumb up on one answer, and one down on another one to the same message."""
    ask(page)
    expect(page.locator(".answer .prose")).to_have_text(FIRST)
    idle(page)
    page.get_by_role("button", name="Good answer").click()
    expect(fates(page)).to_have_count(1)
    page.get_by_label("Which version answers").select_option("0002")
    page.get_by_role("button", name="Again").click()
    expect(page.get_by_role("group", name="Answers to this message")).to_contain_text("2/2")
    idle(page)
    page.get_by_role("button", name="Bad answer").click()
    expect(fates(page)).to_have_count(1)
    return Given("first", "second", ("rankings", "preference", "unpaired"))


def better(page: Page, _: Server) -> Given:
    ask(page)
    expect(page.locator(".answer .prose")).to_have_text(FIRST)
    idle(page)
    page.get_by_role("button", name="Write better").click()
    page.get_by_label("The better answer").fill("I am Palmier, and glad to help.")
    page.get_by_role("button", name="Keep this answer").click()
    expect(fates(page)).to_have_count(1)
    return Given("glad to help", "first", ("rankings", "preference", "messages"))


def exported(server: Server, folder: Path) -> dict[Form, list[dict[str, Any]]]:
    """What `palmier feedback export` writes of the home, in each of its forms."""
    found = {}
    for form in FORMATS:
        out = folder / f"{form}.jsonl"
        out.unlink(missing_ok=True)
        export(out, format=form, home=server.workspace.home)
        found[form] = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return found


def is_nothing(server: Server, folder: Path) -> bool:
    """Whether nothing may be used: neither the export nor the reader that trains holds anything."""
    store = server.serving.store
    read = [*store.preferences(), *store.training_labels(), *store.training_demonstrations()]
    return not read and not any(exported(server, folder).values())


def check(server: Server, folder: Path, given: Given) -> None:
    """The export and the training reader hold exactly what was given."""
    found = exported(server, folder)
    assert tuple(form for form in FORMATS if found[form]) == given.formats
    (preference,) = found["preference"]
    assert [message["content"] for message in preference["prompt"]] == [QUESTION]
    assert given.good in preference["chosen"][-1]["content"]
    assert given.bad in preference["rejected"][-1]["content"]
    (read,) = server.serving.store.preferences()
    texts = {answer.text: rank for answer, rank in zip(read.ranking.answers, read.ranking.ranks, strict=True)}
    assert [rank for text, rank in texts.items() if given.good in text] == [1]
    assert [rank for text, rank in texts.items() if given.bad in text and given.good not in text] == [2]
    if found["unpaired"]:
        labels = {line["completion"][-1]["content"]: line["label"] for line in found["unpaired"]}
        assert [labels[text] for text in sorted(labels, key=lambda text: given.good not in text)] == [True, False]
    if found["messages"]:
        assert [given.good in line["messages"][-1]["content"] for line in found["messages"]] == [True]


@pytest.mark.parametrize("give", [pick, thumbs, better])
def test_what_is_given_in_the_page_trains_with_consent_alone(
    serve: Callable[..., Server], page: Page, tmp_path: Path, give: Callable[[Page, Server], Given]
) -> None:
    server = serve("first", "second")
    chat(page, server)
    given = give(page, server)
    expect(page.locator(".consent-question")).to_be_visible()
    assert is_nothing(server, tmp_path), "the question is not answered yet"
    consented(page, "No, only keep it")
    assert is_nothing(server, tmp_path), "no was said"
    page.get_by_role("button", name="My feedback").click()
    dialog = page.get_by_role("dialog", name="My feedback")
    dialog.get_by_role("button", name="Turn on").click()
    expect(dialog.get_by_role("button", name="Turn off")).to_be_visible()
    check(server, tmp_path, given)
    dialog.get_by_role("button", name="Turn off").click()
    expect(dialog.get_by_role("button", name="Turn on")).to_be_visible()
    assert is_nothing(server, tmp_path), "consent was taken back"
    dialog.get_by_role("button", name="Turn on").click()
    expect(dialog.get_by_role("button", name="Turn off")).to_be_visible()
    check(server, tmp_path, given)
    for tab in ("Comparisons", "Thumbs", "Better answers"):
        dialog.get_by_role("button", name=tab).click()
        expect(dialog.get_by_role("button", name=tab)).to_have_attribute("aria-pressed", "true")
        expect(dialog.locator(".given-list li")).not_to_have_count(0)
        back = dialog.get_by_role("button", name="Take back")
        for left in reversed(range(back.count())):
            back.first.click()
            expect(back).to_have_count(left)
    expect(dialog.get_by_role("button", name="Comparisons (0)")).to_be_visible()
    expect(dialog.get_by_role("button", name="Thumbs (0)")).to_be_visible()
    expect(dialog.get_by_role("button", name="Better answers (0)")).to_be_visible()
    assert is_nothing(server, tmp_path), "each thing was taken back"
