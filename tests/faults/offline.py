"""A program for a network namespace without any route: a server under strace, and a browser that chats, compares, ranks.

    python offline.py HOME TRACE CHROMIUM

HOME holds two versions; TRACE gets the server's system calls. Prints as JSON what the browser asked for.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright

CALLS = "connect,sendto,sendmsg,sendmmsg"

OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")

ASK = """async ([path, body]) => {
  const headers = { "content-type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(path + ": " + response.status + " " + (await response.text()));
  return response.json();
}"""


def post(page: Page, path: str, **body: Any) -> Any:
    """Ask as the page's own scripts do."""
    return page.evaluate(ASK, [path, body])


def use(page: Page, url: str) -> None:
    """Talk, compare two versions, put thumbs and better answers, rank, look at every page."""
    page.goto(url)
    page.get_by_label("Your message").fill("Who are you?")
    page.keyboard.press("Enter")
    page.locator(".answer .prose", has_text="first").wait_for()
    number = post(page, "/api/conversations")["id"]
    post(page, f"/api/conversations/{number}/messages", content="Who are you?")
    drawn = post(page, f"/api/conversations/{number}/comparisons", n=2, against="0002", max_tokens=20)
    post(page, f"/api/comparisons/{drawn['id']}", pick=0)
    message = page.evaluate(f"fetch('/api/conversations/{number}').then((r) => r.json())")["messages"][-1]["id"]
    post(page, "/api/feedback/labels", conversation=number, message=message, good=True)
    post(page, "/api/feedback/demonstrations", conversation=number, message=message, text="A better one.")
    page.goto(f"{url}/rank")
    page.get_by_role("heading").first.wait_for()
    draw = post(page, "/api/rank/draws", prompt="x", n=3, max_tokens=10)
    post(page, "/api/rank/rankings", draw=draw["id"], ranks=[1, 2, 3])
    for path in ("/metrics", "/health", "/api/state", "/v1/models"):
        page.goto(url + path)


def routes_beyond_loopback() -> bool:
    """Whether this machine can send to anywhere else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attempt:
        try:
            attempt.connect(("192.0.2.1", 9))  # an address that is nobody's; nothing is sent
        except OSError:
            return False
    return True


def main(home: str, trace: str, chromium: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    assert not routes_beyond_loopback(), "the namespace has a way out"
    strace = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", trace]
    serve = [sys.executable, "-m", "palmier", "serve", "--no-browser", "--port", "0", "--home", home]
    asked: list[str] = []
    with subprocess.Popen([*strace, *serve], stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            assert server.stdout is not None
            url = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
                page = browser.new_page()
                page.set_default_timeout(60_000)
                page.on("request", lambda request: asked.append(request.url))
                use(page, url)
                browser.close()
            os.killpg(server.pid, signal.SIGINT)
            server.wait(timeout=60)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
    print(json.dumps({"url": url, "asked": asked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
