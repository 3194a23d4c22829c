"""Pages: counted holders, beginnings that are found again, and the one left first goes first."""

from __future__ import annotations

import random

from palmier.generate.pages import ROOT, Pages


def fill(pages: Pages, text: list[int]) -> list[int]:
    """Hold and enter the whole pages of a text, sharing what is there."""
    held, node = pages.find(text, 0, ROOT), ROOT
    for page in held:
        node = pages.share(page)
    for first in range(len(held) * pages.page, len(text), pages.page):
        page = pages.take(held[-1] if held else None)
        assert page is not None
        held.append(page)
        if first + pages.page <= len(text):
            node = pages.enter(page, node, text[first : first + pages.page])
    return held


def test_a_text_takes_neighbouring_pages_and_gives_them_back() -> None:
    pages = Pages(6, 4)
    held = fill(pages, list(range(10)))
    assert held == [0, 1, 2]
    assert (pages.held, pages.available) == (3, 3)
    pages.release(held)
    assert (pages.held, pages.available) == (0, 6)
    assert fill(pages, list(range(10)))[:2] == [0, 1], "found again, though nobody held them"


def test_texts_begin_apart_so_that_each_finds_neighbours() -> None:
    pages = Pages(8, 1, apart=4)
    one, other = fill(pages, [1]), fill(pages, [2])
    for text in (one, other):
        for _ in range(3):
            text.append(pages.take(text[-1]) or 0)
    assert (one, other) == ([0, 1, 2, 3], [4, 5, 6, 7])


def test_only_the_same_beginning_is_shared() -> None:
    pages = Pages(12, 2)
    one = fill(pages, [1, 2, 3, 4, 5, 6])
    assert fill(pages, [1, 2, 3, 4, 9, 9])[:2] == one[:2]
    assert not set(fill(pages, [3, 4, 5, 6])) & set(one), "the same tokens behind other ones"
    assert pages.find([1, 2, 3, 4, 5], 0, ROOT) == one[:2], "a page that is not full is not found"


def test_the_page_left_first_goes_first_and_a_texts_last_before_its_first() -> None:
    pages = Pages(4, 1)
    old, new = fill(pages, [1, 2]), fill(pages, [7, 8])
    pages.release(old)
    pages.release(new)
    assert pages.take() == old[1]
    assert pages.find([1, 2], 0, ROOT) == old[:1]
    assert pages.take() == old[0]
    assert pages.take() == new[1]
    assert pages.find([7, 8], 0, ROOT) == new[:1]
    assert pages.take() == new[0]
    assert pages.take() is None


def test_an_evicted_pages_heirs_are_not_found_under_another() -> None:
    pages = Pages(3, 1)
    held = fill(pages, [1, 2, 3])
    pages.release(held[:1])  # somebody else holds the rest
    assert pages.take() == held[0]
    assert pages.find([1, 2, 3], 0, ROOT) == []
    pages.enter(held[0], ROOT, [1])
    assert pages.find([1, 2, 3], 0, ROOT) == held[:1]


def test_forgetting_drops_the_index_and_keeps_the_holders() -> None:
    pages = Pages(4, 1)
    held, left = fill(pages, [1, 2]), fill(pages, [5, 6])
    pages.release(left)
    pages.forget()
    assert pages.find([1, 2], 0, ROOT) == pages.find([5, 6], 0, ROOT) == []
    assert pages.held == 2
    pages.release(held)
    pages.forget()
    assert [pages.take(), pages.take(), pages.take(), pages.take(), pages.take()] == [0, 1, 2, 3, None]


def test_after_forgetting_pages_are_taken_as_in_a_new_cache() -> None:
    pages, new = Pages(6, 1, apart=6), Pages(6, 1, apart=6)
    for text in [fill(pages, [1, 2]), fill(pages, [7, 8, 9])]:
        pages.release(text)
    pages.forget()
    assert [pages.take() for _ in range(6)] == [new.take() for _ in range(6)]


def test_whatever_happens_no_page_is_lost_or_given_twice() -> None:
    chance = random.Random(5)
    pages = Pages(9, 2)
    texts: list[list[int]] = []
    for _ in range(2000):
        if texts and chance.random() < 0.5:
            pages.release(texts.pop(chance.randrange(len(texts))))
        elif pages.available >= 3:
            texts.append(fill(pages, chance.choices((0, 1), k=chance.randint(1, 6))))
        if chance.random() < 0.01:
            pages.forget()
        assert pages.held == len({page for text in texts for page in text})
    for text in texts:
        pages.release(text)
    assert pages.available == 9
