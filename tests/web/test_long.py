"""Speed: the page's first paint, and a conversation of a thousand messages that is opened and scrolled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour
from .talk import prose, talked

pytestmark = pytest.mark.web

MESSAGES = 1000
INTERACTIVE, STALL, PAINT, SHIFT = 2000, 200, 1000, 0.1
"""Milliseconds to the first use, of the longest task while scrolling, to the first paint, on a machine that does
nothing else; the sum of layout shifts, whatever the machine."""


def busy() -> float:
    """How many times as long everything takes here: the processes that want a core, over the cores."""
    # Beside another worker at least twice: the average of a minute tells of it too late.
    least = 2.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0
    return max(least, os.getloadavg()[0] / (os.cpu_count() or 1))


WATCH = """
    window.seen = { tasks: [], shift: 0 };
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) seen.tasks.push([Math.round(entry.startTime), Math.round(entry.duration)]);
    }).observe({ type: "longtask", buffered: true });
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) seen.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""

ANSWER = """Here is what I would do, number {n}:

1. **Knead** the dough for ten minutes, then let it *rest*.
2. Set the oven to `220 °C`.

```python
def loaf(flour, water):
    return flour + water  # {n}
```

Then wait, and read [about bread](https://example.org/bread). {words}
"""


def thousand(server: Server) -> int:
    texts = []
    for n in range(MESSAGES // 2):
        texts += [f"Question {n}: how is bread baked?", ANSWER.format(n=n, words="Flour and water. " * (n % 20))]
    return talked(server, *texts)


@pytest.mark.long
def test_a_thousand_messages_open_and_scroll_without_a_stall(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first")
    number = thousand(server)
    page.add_init_script(WATCH)
    # Interactive: the newest answer is drawn, and the message box takes text.
    page.add_init_script("""
        const look = () => {
            const last = [...document.querySelectorAll(".turn")].at(-1);
            if (last?.querySelector(".answer.done .tools")) window.interactive = performance.now();
            else requestAnimationFrame(look);
        };
        look();
    """)
    page.goto(f"{server.url}/?c={number}")
    page.wait_for_function("() => window.interactive")
    expect(page.locator(".turn")).to_have_count(MESSAGES // 2)
    expect(page.locator(".turn").last).to_be_in_viewport()
    interactive = page.evaluate("window.interactive")
    page.get_by_label("Your message").fill("Hello")
    before = page.evaluate("performance.now()")
    page.mouse.move(700, 400)
    tops = []
    for _ in range(60):
        page.mouse.wheel(0, -1500)
        page.wait_for_timeout(30)
        tops.append(page.evaluate("document.getElementById('scroll').scrollTop"))
    page.evaluate("document.getElementById('scroll').scrollTop = 0")
    expect(page.locator(".turn").first.locator(".prose strong")).to_be_in_viewport()
    page.wait_for_timeout(300)
    tasks = [duration for begun, duration in page.evaluate("seen.tasks") if begun >= before]
    print(f"busy {busy():.1f}: interactive after {interactive:.0f} ms; long tasks while scrolling {tasks}")
    assert tops[-1] < tops[0] - 10_000, "it did scroll"
    assert interactive < INTERACTIVE * busy()
    assert max(tasks, default=0) < STALL * busy()
    # What is far from the window is bare text, which a search in the page finds all the same.
    drawn = page.locator(".turn .prose").count()
    assert 6 <= drawn < 400, f"{drawn} of {MESSAGES // 2} answers are drawn"
    assert page.evaluate("document.getElementById('turns').textContent").count("Question 250:") == 1


def test_the_place_of_the_reader_stays_when_something_happens(serve: Callable[..., Server], page: Page) -> None:
    server = serve("first", "second")
    number = thousand(server)
    page.goto(f"{server.url}/?c={number}")
    expect(page.locator(".turn").last).to_be_in_viewport()
    page.mouse.move(700, 400)
    for _ in range(10):
        page.mouse.wheel(0, -1000)
        page.wait_for_timeout(50)
    question, top = still(page)
    select = """() => {
        const turn = document.elementFromPoint(640, 450).closest(".turn");
        getSelection().selectAllChildren(turn.querySelector(".prose strong"));
    }"""
    page.evaluate(select)
    server.promote("0002")
    expect(page.locator(".notice")).to_contain_text("answers from now on")
    page.wait_for_timeout(200)
    # A turn's own place, not which one lies under a point: where a border runs there, a quarter of a pixel decides.
    assert still(page, question) == (question, pytest.approx(top, abs=2))
    assert page.evaluate("String(getSelection())") == "Knead"


def still(page: Page, question: str = "") -> tuple[str, float]:
    """A question (without one: the one in the middle of the window) and where its turn begins, in pixels below the
    window's top, once it has lain there for half a second."""
    find = """(question) => {
        const turn = question
            ? [...document.querySelectorAll(".turn")].find((turn) => turn.ariaLabel === question)
            : document.elementFromPoint(640, 450).closest(".turn");
        return [turn.ariaLabel, turn.getBoundingClientRect().top];
    }"""
    seen: list[tuple[str, float]] = []
    while len(seen) < 6 or len(set(seen[-6:])) > 1:
        found, top = page.evaluate(find, question)
        assert re.fullmatch(r"Question \d+", found)
        seen.append((found, top))
        assert len(seen) < 100, f"it never comes to rest: {seen[-6:]}"
        page.wait_for_timeout(100)
    return seen[-1]


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_the_first_paint_comes_at_once_and_nothing_jumps(
    serve: Callable[..., Server], browser: Any, locale: str
) -> None:
    server = serve("first")
    number = talked(server, "Question", "Answer", "Another", "And its answer")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale=locale)
    page = context.new_page()
    page.add_init_script(WATCH)
    for address in (server.url, f"{server.url}/?c={number}"):
        paints = []
        for _ in range(3):  # one of them may meet a moment in which nothing runs
            page.goto(address)
            expect(page.locator("#chats a")).to_have_count(1)
            expect(page.locator("#version option")).not_to_have_count(0)
            page.wait_for_timeout(300)
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            assert page.evaluate("seen.shift") < SHIFT
        print(f"busy {busy():.1f}: {locale} {address}: painted after {', '.join(f'{one:.0f}' for one in paints)} ms")
        assert min(paints) < PAINT * busy()
    expect(prose(page)).to_have_count(2)
    context.close()
