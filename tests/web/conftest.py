"""A real browser on a running server: Playwright's own Chromium, or Debian's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from palmier.workspace import Workspace

from ..serve.home import Models, Server, make_home, running, shared_models  # noqa: TID252  # tests are no package: the one way to a neighbour

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


expect.set_options(timeout=15_000)  # a machine that does other things too


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return shared_models(tmp_path_factory)


@pytest.fixture(scope="module")  # Playwright keeps an event loop running: no other module's test may meet it
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.is_file() else shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        chromium = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def serve(tmp_path: Path, models: Models) -> Iterator[Callable[..., Server]]:
    """Start a server on a home made of models' names; it ends with the test."""
    managers = []

    def start(*names: str) -> Server:
        workspace: Workspace = make_home(tmp_path / "home", models, *names)
        manager = running(workspace)
        managers.append(manager)
        return manager.__enter__()

    yield start
    for manager in managers:
        manager.__exit__(None, None, None)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page in a browser profile of its own; an error in our scripts fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


BENCH = """async () => {
    window.markdown = await import("/page/markdown.js");
    window.bench = document.createElement("div");
    bench.className = "prose";
    bench.id = "bench";
    document.querySelector("main").prepend(bench);
}"""


@pytest.fixture
def bench(serve: Callable[..., Server], page: Page) -> Locator:
    """An empty place for an answer on the chat page; scripts find it as `bench`, and markdown.js as `markdown`."""
    page.goto(serve("first").url)
    page.evaluate(BENCH)
    return page.locator("#bench")
