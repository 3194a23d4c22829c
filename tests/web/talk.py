"""What the tests of the chat page do again and again: ask, read, and put a conversation into the store."""

from __future__ import annotations

from collections.abc import Sequence

from playwright.sync_api import Locator, Page, expect

from palmier.feedback.trees import StoredMessage
from palmier.records import Answer, Message

from ..serve.home import SENTENCES, Server  # noqa: TID252  # tests are no package: the one way to a neighbour

FIRST = "I am the first version."  # as shown: the asterisks became bold letters
SECOND = SENTENCES["second"]


def ask(page: Page, text: str = "Who are you?") -> None:
    """Send a message."""
    page.get_by_label("Your message", exact=True).fill(text)
    page.keyboard.press("Enter")


def prose(page: Page) -> Locator:
    """The answers' texts."""
    return page.locator(".answer .prose")


def asked(page: Page) -> Locator:
    """The person's messages."""
    return page.locator(".asked")


def idle(page: Page) -> None:
    """Wait until nothing is written any more."""
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def talked(server: Server, *texts: str, annotator: str = "") -> int:
    """Store a conversation of messages and answers in turn, as version 0001 would have given them; its number."""
    return stored(server, [(text, "user" if at % 2 == 0 else "assistant") for at, text in enumerate(texts)], annotator)


def stored(server: Server, messages: Sequence[tuple[str, str]], annotator: str = "") -> int:
    """Store a conversation of (text, role), each following the one before; its number."""
    tree = []
    for number, (text, role) in enumerate(messages, 1):
        answer = Answer(text, "0001", finish="stop") if role == "assistant" else None
        tree.append(StoredMessage(Message(role, text), answer, number, number - 1 or None))
    return server.serving.store.add_tree(annotator, tree, {})


def path(server: Server, number: int = 1) -> list[str]:
    """The texts of the branch where a stored conversation stands."""
    return [one.message.content for one in server.serving.store.tree(number).path()]
