"""How quick the chat page is: the first picture, what it loads, a long conversation opened and scrolled through.

    python -m experiments.page --out results/page/cpu.json [--rounds N] [--messages N] [--seed N] [--model FOLDER]

`palmier serve` runs on a home of its own, a headless Chromium opens its page anew in every round (an empty cache, a
warm server). Reported are the first contentful paint; the bytes that come with an empty page and with an answer of
code and formulas; the time from the click on a conversation's address until its newest answer is shown; and, while
it is scrolled to its beginning by half a window a frame, the longest task and the frames that took more than 50 ms.
The conversation is written by a generator seeded by ``--seed``. Without ``--model`` it is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from .recorded import arguments, keep, provenance
from .server import served

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from find_browser import browser as find_browser

OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
END = "This is the newest answer."
"""What the last answer ends with: it is shown when these words are in the window."""

WORDS = ("the", "heater", "broke", "on", "Monday", "and", "my", "landlord", "wants", "a", "letter", "about", "rain")

WATCH = """end => {
    window.measured = { tasks: [], shown: 0 };
    new PerformanceObserver(list => measured.tasks.push(...list.getEntries().map(task => task.duration)))
        .observe({ type: "longtask", buffered: true });
    const look = () => {
        const node = [...document.querySelectorAll(".prose")].at(-1);
        const box = node?.textContent.includes(end) ? node.getBoundingClientRect() : null;
        if (box && box.bottom <= innerHeight + 40 && box.bottom > 0) measured.shown = performance.now();
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""

SCROLL = """async () => {
    const box = document.querySelector("#scroll");
    const frame = () => new Promise(requestAnimationFrame);
    const gaps = [];
    measured.tasks.length = 0;
    let still = 0;
    for (let last = await frame(); still < 20; ) {
        const before = box.scrollTop;
        box.scrollTop -= innerHeight / 2;
        const now = await frame();
        gaps.push(now - last);
        last = now;
        still = box.scrollTop === before && before === 0 ? still + 1 : 0;  // earlier messages may come in at the top
    }
    return { frames: gaps.length, slow: gaps.filter(gap => gap > 50).length, worst: Math.max(...gaps),
             task: Math.max(0, ...measured.tasks), asked: document.querySelectorAll(".asked").length };
}"""

BYTES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(6, 18))).capitalize() + "."


def answer(chance: random.Random) -> str:
    """A few blocks of Markdown, of the kinds and about the lengths of a small model's answers."""
    blocks = []
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(("text", "text", "text", "list", "heading", "code", "formula", "table"))
        if kind == "text":
            blocks.append(" ".join(sentence(chance) for _ in range(chance.randint(1, 4))))
        elif kind == "list":
            blocks.append("\n".join(f"- **{chance.choice(WORDS)}**: {sentence(chance)}" for _ in range(4)))
        elif kind == "heading":
            blocks.append(f"## {sentence(chance)}")
        elif kind == "code":
            lines = [f'    print("{sentence(chance)}", {chance.randint(0, 99)})  # why' for _ in range(6)]
            blocks.append("```python\ndef run():\n" + "\n".join(lines) + "\n```")
        elif kind == "formula":
            blocks.append(f"It is $x^{{{chance.randint(2, 9)}}}$.\n\n$$\\frac{{{chance.randint(1, 99)}}}{{y_1 + 1}}$$")
        else:
            rows = [f"| {chance.choice(WORDS)} | {chance.randint(0, 999)} |" for _ in range(4)]
            blocks.append("\n".join(["| name | number |", "|---|--:|", *rows]))
    return "\n\n".join(blocks)


def conversation(messages: int, seed: int) -> dict[str, Any]:
    """A conversation as an export writes it."""
    chance = random.Random(seed)
    found: list[dict[str, Any]] = []
    for number in range(1, messages + 1):
        role, text = ("user", sentence(chance)) if number % 2 else ("assistant", answer(chance))
        found.append({"id": number, "parent": number - 1 or None, "role": role, "content": text})
    found[-1]["content"] += f"\n\n{END}"
    return {"format": "palmier conversation", "version": 1, "title": "Long", "messages": found}


@contextmanager
def opened(browser: Browser) -> Iterator[Page]:
    """A page with an empty cache, watched from its beginning."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(f"({WATCH})({json.dumps(END)})")
    try:
        yield context.new_page()
    finally:
        context.close()


def first_paint(browser: Browser, url: str) -> tuple[float, int]:
    """Milliseconds until an empty page is painted, and the bytes that came for it."""
    with opened(browser) as page:
        page.goto(url, wait_until="networkidle")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        return float(paint), int(page.evaluate(BYTES))


def long_conversation(browser: Browser, address: str) -> dict[str, float]:
    """Open a conversation and scroll to its beginning. Times in milliseconds, the first from the navigation on."""
    with opened(browser) as page:
        page.goto(address)
        # Playwright's own waiting evaluates a string, which the page's policy forbids.
        deadline = time.monotonic() + 120
        while not (shown := page.evaluate("measured.shown")):
            if time.monotonic() > deadline:
                raise SystemExit("the conversation's newest answer was not shown within two minutes")
            page.wait_for_timeout(50)
        opening = page.evaluate("Math.max(0, ...measured.tasks)")
        page.wait_for_load_state("networkidle")
        found: dict[str, float] = page.evaluate(SCROLL)
        return {"shown": shown, "opening_task": opening, "bytes": page.evaluate(BYTES), **found}


def measure(model: Path | None, rounds: int, messages: int, seed: int) -> dict[str, Any]:
    """Each figure as a list, a value a round."""
    chromium = find_browser()
    options = [] if model is None else ["--model", str(model)]
    with tempfile.TemporaryDirectory() as home, served(Path(home), *options) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        taken = httpx.post(f"{url}/api/conversations/import", json=conversation(messages, seed), timeout=120)
        taken.raise_for_status()
        first_paint(browser, url)  # the server's own first answer is nobody's figure
        empty = [first_paint(browser, url) for _ in range(rounds)]
        long = [long_conversation(browser, f"{url}/?c={taken.json()['id']}") for _ in range(rounds)]
        result = {
            "chromium": browser.version,
            "paint_ms": [one for one, _ in empty],
            "bytes": [one for _, one in empty],
        }
        browser.close()
    return result | {f"long_{name}": [one[name] for one in long] for name in long[0]}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.model, given.rounds, given.messages, given.seed)
    sizes = {"rounds": given.rounds, "messages": given.messages, "seed": given.seed}
    command = " ".join(["python -m experiments.page", *(f"--{name} {value}" for name, value in sizes.items())])
    result = provenance(command, given.model) | sizes | found
    print(json.dumps(result, indent=2))
    print(f"first contentful paint: {median(found['paint_ms']):.0f} ms; {given.messages} messages shown after ", end="")
    print(f"{median(found['long_shown']):.0f} ms", flush=True)
    keep(result, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
