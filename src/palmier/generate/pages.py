"""Who holds which page of the cache, and which pages already hold the beginning of a text.

A page that is full is entered under what stands in it and in all pages before it. Whoever comes with the same
beginning shares those pages instead of computing them: a conversation's next turn, another user's same system
prompt, the other samples of a prompt. The key is the tokens themselves, so that two texts are never taken for one
another. A page that nobody holds any more keeps its content until the room is needed; then the one that was left
first goes first, and of one text the last page before the first one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

ROOT = 0
"""The node before a text's first page."""


class Pages:
    """``count`` pages of ``page`` positions: counted holders, and an index of beginnings.

    Texts begin ``apart`` pages from one another where they can, so that each finds empty neighbours to grow into.
    """

    def __init__(self, count: int, page: int, apart: int = 1) -> None:
        self.count, self.page = count, page
        self._starts = range(0, count, apart)
        self._holders = [0] * count
        self._empty = dict.fromkeys(reversed(range(count)))  # in order: the last one is taken first
        self._left: OrderedDict[int, None] = OrderedDict()
        """Entered pages that nobody holds, the one left first in front."""
        self._entries: dict[tuple[int, tuple[int, ...]], int] = {}
        """(node of the page before, tokens) → page."""
        self._keys: dict[int, tuple[int, tuple[int, ...]]] = {}
        """Page → the key under which it was entered."""
        self._nodes: dict[int, int] = {}
        """Page → its node: a number that is never used again, so that an evicted page's heirs are not found."""
        self._made = ROOT

    @property
    def available(self) -> int:
        """Pages that can be taken: empty ones, and those that nobody holds."""
        return len(self._empty) + len(self._left)

    @property
    def held(self) -> int:
        """Pages that somebody holds."""
        return self.count - self.available

    def is_held(self, page: int) -> bool:
        return self._holders[page] > 0

    def needed(self, positions: int) -> int:
        """How many pages hold so many positions."""
        return -(-positions // self.page)

    def take(self, after: int | None = None) -> int | None:
        """Hold a page with nothing in it; None where every page is held.

        The neighbour of page ``after`` if it is empty: a text in neighbouring pages is read without a copy.
        """
        wanted = self._starts if after is None else (after + 1,)
        page = next((one for one in wanted if one in self._empty), None)
        if page is not None:
            del self._empty[page]
        elif self._empty:
            page, _ = self._empty.popitem()
        elif self._left:
            page, _ = self._left.popitem(last=False)
            self._forget(page)
        else:
            return None
        self._holders[page] = 1
        return page

    def find(self, tokens: Sequence[int], start: int, node: int) -> list[int]:
        """The pages that go on with ``tokens[start:]`` behind ``node``; nobody holds them for it yet."""
        found = []
        for first in range(start, len(tokens) - self.page + 1, self.page):
            page = self._entries.get((node, tuple(tokens[first : first + self.page])))
            if page is None:
                break
            found.append(page)
            node = self._nodes[page]
        return found

    def share(self, page: int) -> int:
        """Hold a page that was found; returns its node."""
        self._left.pop(page, None)
        self._holders[page] += 1
        return self._nodes[page]

    def enter(self, page: int, node: int, tokens: Sequence[int]) -> int:
        """Enter a full page behind ``node``; returns the node of its content, another page's where that came first."""
        key = (node, tuple(tokens))
        known = self._entries.get(key)
        if known is not None:
            return self._nodes[known]
        self._made += 1
        self._entries[key], self._keys[page], self._nodes[page] = page, key, self._made
        return self._made

    def release(self, pages: Sequence[int]) -> None:
        """Let go of a text's pages."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if self._holders[page] == 0:
                if page in self._keys:
                    self._left[page] = None
                else:
                    self._empty[page] = None

    def forget(self) -> None:
        """Drop the index: nothing that was computed so far is found again.

        Where nobody holds a page, all is as it was at the beginning: what is computed from here on lies in the same
        pages as it would in a new cache, and is equal to the bit.
        """
        self._empty = dict.fromkeys(page for page in reversed(range(self.count)) if not self._holders[page])
        self._left.clear()
        self._entries.clear()
        self._keys.clear()
        self._nodes.clear()

    def _forget(self, page: int) -> None:
        del self._entries[self._keys.pop(page)], self._nodes[page]
