"""Who runs, with which pages, and what is computed in this step.

Samples start in order of arrival and nobody overtakes: the first one that waits starts as soon as there is a row for
it and room for what is known of its text. Pages are not reserved for an answer's longest end, because most answers
end long before it and the room would stand empty. Where the pages run out, the sample that came last gives its own
back and computes its text again later (what nobody needed meanwhile it finds in the index). The oldest sample can
always take every page from the younger ones, and a request fits into the cache alone or is refused, so that somebody
always gets on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

from palmier.generate.pages import ROOT, Pages
from palmier.generate.requests import Likelihood, Request
from palmier.generate.sampling import sample_seed

PIECE = 512
"""Tokens of a prompt that are computed at a time."""
BUDGET_BUSY = 512
"""Prompt tokens a step while other samples wait for their next token: it bounds the hiccup in their streams."""
BUDGET_IDLE = 8192
"""Prompt tokens a step while nobody waits: it bounds the memory of the activations."""


@dataclass(eq=False)
class Group:
    """A request that is not finished: how many of its samples have started and ended."""

    request: Request
    stop_ids: frozenset[int]
    started: int = 0
    unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.unfinished = self.request.n


@dataclass(eq=False)
class Sample:
    """One answer under way. ``tokens`` are prompt and answer; the first ``cached`` are in ``pages``.

    ``node`` is the index's node of the last page that is full; ``end`` is the length at which the answer is cut.
    ``likelihoods`` are those of the prompt's tokens so far; None where nobody wants them, or has them already.
    """

    group: Group
    index: int
    order: int
    end: int
    tokens: list[int]
    cached: int = 0
    pages: list[int] = field(default_factory=list)
    node: int = ROOT
    runs: bool = False
    likelihoods: list[Likelihood] | None = None

    @cached_property
    def seed(self) -> int:
        """What its draws are made of."""
        return sample_seed(self.group.request.sampling.seed, self.index)

    @property
    def unread(self) -> bool:
        """Whether the prompt's own logits are still wanted: a page that another text has computed brings none."""
        return self.likelihoods is not None and len(self.likelihoods) < len(self.group.request.prompt) - 1

    @property
    def lacking(self) -> int:
        return len(self.tokens) - self.cached

    @property
    def fresh(self) -> bool:
        """Whether nothing was drawn yet and the prompt is not computed: another sample's copy of it will do."""
        return self.lacking > 1 and self.drawn == 0 and self.runs

    @property
    def drawn(self) -> int:
        """How many tokens the answer has."""
        return len(self.tokens) - len(self.group.request.prompt)


class Scheduler:
    """The samples that wait and those that run, oldest first."""

    def __init__(self, pages: Pages, rows: int, context: int) -> None:
        self.pages, self.rows, self.context = pages, rows, context
        self.running: list[Sample] = []
        self.queue: deque[Group] = deque()
        """Requests of which samples have not started yet."""
        self.interrupted: list[Sample] = []
        """Samples that gave their pages back: older than all that wait, oldest first."""
        self._arrivals = 0

    def admit(self) -> None:
        """Start samples in order of arrival while there are rows and room for their texts."""
        promised: int | None = None
        while (self.interrupted or self.queue) and len(self.running) < self.rows:
            sample = self.interrupted[0] if self.interrupted else self._next(self.queue[0])
            if promised is None:
                promised = sum(self.pages.needed(len(one.tokens)) - len(one.pages) + 1 for one in self.running)
            if self.running and not self._room(sample, promised):
                return
            promised += self.pages.needed(len(sample.tokens)) + 1
            sample.runs = True
            self.running.append(sample)
            # Nobody overtakes, so that whoever starts or goes on is the youngest of those that run.
            if self.interrupted:
                self.interrupted.pop(0)
            else:
                self._start(sample)

    def prefill(self) -> list[tuple[Sample, int]]:
        """Samples that lack more than their last token, with how many tokens of each are computed now.

        Each has the pages for them. What another one of them is about to compute is left to that one.
        """
        lacking = self._behind()
        budget = BUDGET_IDLE if len(lacking) == len(self.running) else BUDGET_BUSY
        chosen: list[tuple[Sample, int]] = []
        begun: set[tuple[int, tuple[int, ...]]] = set()
        for sample in lacking:
            if not sample.runs:  # an older one needed its pages
                continue
            elder = self._elder(sample)
            if elder is not None and elder.lacking > 1:  # it computes the prompt for all of them
                continue
            self._adopt(sample)
            size = min(sample.lacking - 1, PIECE)
            if size == 0:
                continue
            ahead = tuple(sample.tokens[sample.cached : sample.cached + self.pages.page])
            beginning = (sample.node, ahead)
            if beginning in begun and not sample.unread and len(ahead) == self.pages.page and size >= self.pages.page:
                continue
            if chosen and size > budget:
                break
            if self._grow(sample, sample.cached + size):
                budget -= size
                begun.add(beginning)
                chosen.append((sample, size))
        return chosen

    def copies(self) -> dict[int, int]:
        """Let fresh samples take over the prompt that another one of their request has computed.

        Its full pages are shared; the last one, into which both will write, is copied: a page of their own → its page.
        """
        made: dict[int, int] = {}
        page = self.pages.page
        for sample in self._behind():
            elder = self._elder(sample)
            known = len(sample.tokens) - 1
            if elder is None or elder.cached < known:
                continue
            self._adopt(sample)
            rest = known - sample.cached
            if 0 < rest < page and sample.cached % page == 0 and self._grow(sample, known):
                # A page may have changed hands in this very loop: the last one to take it counts.
                made[sample.pages[-1]] = elder.pages[known // page]
                self.computed(sample, rest)
        return made

    def _behind(self) -> list[Sample]:
        """Running samples that lack more than their last token; asked for in every step, and mostly none."""
        return [sample for sample in self.running if len(sample.tokens) - sample.cached > 1]

    def _elder(self, sample: Sample) -> Sample | None:
        """The oldest running sample of a fresh one's request, where that is another one."""
        if not sample.fresh:
            return None
        eldest = next(one for one in self.running if one.group is sample.group)
        return None if eldest is sample else eldest

    def decode(self) -> list[Sample]:
        """Samples that lack their last token alone, each with a page for it."""
        for sample in list(self.running):
            if sample.runs and sample.lacking == 1:
                self._grow(sample, len(sample.tokens))
        return [sample for sample in self.running if sample.lacking == 1]

    def computed(self, sample: Sample, size: int) -> None:
        """Note that ``size`` more tokens are in the cache, and enter the pages that are full now."""
        page = self.pages.page
        full = sample.cached // page
        sample.cached += size
        for number in range(full, sample.cached // page):
            text = sample.tokens[number * page : (number + 1) * page]
            sample.node = self.pages.enter(sample.pages[number], sample.node, text)

    def release(self, sample: Sample) -> None:
        """A sample has ended, or is given up: its pages and its row are free."""
        self.pages.release(sample.pages)
        sample.pages, sample.cached, sample.node = [], 0, ROOT
        (self.running if sample.runs else self.interrupted).remove(sample)
        sample.runs = False

    def started(self, group: Group) -> list[Sample]:
        """The samples of a request that have started and not ended."""
        return [one for one in self.running + self.interrupted if one.group is group]

    def withdraw(self, group: Group) -> list[int]:
        """Give up a request's samples that have not started; returns their indices."""
        lost = list(range(group.started, group.request.n))
        if lost:
            self.queue.remove(group)
            group.started = group.request.n
        return lost

    def interrupt(self, sample: Sample) -> None:
        """Take a running sample's pages; it goes on later, and computes its text again."""
        self.release(sample)
        self.interrupted.append(sample)
        self.interrupted.sort(key=lambda one: one.order)

    def _next(self, group: Group) -> Sample:
        request = group.request
        end = min(len(request.prompt) + request.sampling.max_tokens, self.context)
        wanted: list[Likelihood] | None = [] if group.started == 0 and request.prompt_logprobs is not None else None
        return Sample(group, group.started, self._arrivals, end, list(request.prompt), likelihoods=wanted)

    def _start(self, sample: Sample) -> None:
        self._arrivals += 1
        group = sample.group
        group.started += 1
        if group.started == group.request.n:
            self.queue.popleft()

    def _room(self, sample: Sample, promised: int) -> bool:
        """Whether the text fits beside the pages ``promised``: what the running samples still need, and one for each to go on."""
        # A page that is found but left counts as available, and is held as soon as it is shared.
        wanted = self.pages.needed(len(sample.tokens))
        found = [] if sample.unread else self.pages.find(sample.tokens[:-1], 0, ROOT)
        shared = sum(self.pages.is_held(page) for page in found)
        return wanted - shared + promised <= self.pages.available

    def _adopt(self, sample: Sample) -> None:
        """Share the pages of the index that go on with the sample's text."""
        if sample.cached % self.pages.page or sample.unread:
            return
        for page in self.pages.find(sample.tokens[:-1], sample.cached, sample.node):
            sample.node = self.pages.share(page)
            sample.pages.append(page)
            sample.cached += self.pages.page

    def _grow(self, sample: Sample, length: int) -> bool:
        """Take pages until they hold ``length`` tokens, from the youngest where none is left; False where that is itself."""
        while len(sample.pages) < self.pages.needed(length):
            page = self.pages.take(sample.pages[-1] if sample.pages else None)
            if page is not None:
                sample.pages.append(page)
                continue
            youngest = self.running[-1]
            self.interrupt(youngest)
            if youngest is sample:
                return False
        return True
