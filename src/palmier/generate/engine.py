"""The engine: many requests at once over one slot cache. Token ids in, token ids and log-probs out.

It is a synchronous core: `add` and `cancel` note something, `step` computes. It has no clock, no
thread and no text. Call it from one thread; the server gives it one, training calls `run`.

How a step goes. Requests are admitted in order of arrival while slots are free. Rows that lack more
than their last token are prefilled: everything up to that last token, batched by similar length,
long prompts in pieces so that the streams beside them go on. Then every row that lacks its last
token alone makes one decoding step together, and each gets one new token.

Row i of the active rows always lies in slot i of the cache: when a row ends, the last one moves
into its place. So a decoding step reads a contiguous part of the cache, as a view.

The samples of one request share its prompt's keys and values: the first one computes them, the
others copy them, and a sample that had to wait for a slot takes over a sibling's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palmier.errors import Refusal
from palmier.generate.fingerprint import fingerprint
from palmier.generate.requests import Completion, Event, QueueFull, Request
from palmier.generate.sampling import Rows, sample, sample_seed
from palmier.model.cache import KVCache
from palmier.model.decoder import Decoder
from palmier.model.int8 import is_int8
from palmier.records import Finish

Progress = Callable[[int, int], None]
"""Called with (samples finished, samples in all)."""

_PIECE = 512
"""Tokens of a prompt that are prefilled at a time."""
_BUDGET_BUSY = 512
"""Prompt tokens a step while other rows wait for their next token: it bounds the hiccup in their streams."""
_BUDGET_IDLE = 8192
"""Prompt tokens a step while nobody waits: it bounds the memory of the activations."""
_PADDING = 1.25
"""How much larger than its tokens a padded prefill batch may be."""


@dataclass(eq=False)
class _Group:
    """A request that is not finished: its samples that wait, and those that have a row."""

    request: Request
    stop_ids: frozenset[int]
    started: int = 0
    finished: int = 0
    rows: list[_Row] = field(default_factory=list)
    holder: _Row | None = None
    """The row whose slot holds, or is about to hold, the prompt without its last token."""


@dataclass(eq=False)
class _Row:
    """One sample that has a slot. ``tokens`` are prompt and answer; the first ``cached`` are in the cache."""

    group: _Group
    index: int
    slot: int
    order: int
    end: int
    tokens: list[int]
    cached: int = 0
    logprobs: list[float] = field(default_factory=list)

    @property
    def prefix(self) -> int:
        """The length that all samples of the request share in the cache."""
        return len(self.group.request.prompt) - 1

    @property
    def lacking(self) -> int:
        return len(self.tokens) - self.cached


class Engine:
    """Continuous batching over a decoder's own weights (they are referred to, not copied)."""

    def __init__(self, decoder: Decoder, *, slots: int = 16, context: int | None = None, queue: int = 256) -> None:
        """``slots`` samples run at once, ``context`` tokens each (the model's own length where None).

        ``queue`` bounds the requests that wait for a slot. The cache takes
        slots · context · layers · kv_heads · head_dim · 2 numbers of the decoder's format.
        """
        context = decoder.config.max_positions if context is None else context
        if queue < 1:
            raise Refusal(f"queue is {queue}: at least one request must be able to wait")
        weight = decoder.output_weight
        self.decoder = decoder
        self.slots, self.context, self.queue = slots, context, queue
        self.weights_version = 0
        self._device = weight.device
        self._cache = KVCache(decoder.config, slots, context, weight.dtype, weight.device)
        self._groups: dict[str, _Group] = {}
        self._queue: deque[_Group] = deque()
        self._rows: list[_Row] = []
        self._ready: list[_Row] = []
        self._settings = Rows([], [])
        self._cancelled: list[Event] = []
        self._arrivals = 0
        self._checksum = fingerprint(self.decoder)

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do or to tell."""
        return bool(self._groups or self._cancelled)

    @property
    def running(self) -> int:
        """How many samples have a slot."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """How many requests still have samples without a slot."""
        return len(self._queue)

    def add(self, request: Request) -> None:
        """Queue a request. Raises QueueFull, or Refusal where it cannot be answered at all."""
        self._check(request)
        if len(self._queue) >= self.queue:
            raise QueueFull(f"the queue is full ({self.queue} requests wait): try again in a moment")
        group = _Group(request, frozenset(request.stop_ids))
        self._groups[request.id] = group
        self._queue.append(group)

    def cancel(self, id: str) -> bool:
        """End a request at once, in whatever state; False where there is none of this id.

        Its slots are free when this returns. The next `step` brings an event with finish
        "cancelled" for each of its samples that had not finished.
        """
        group = self._groups.pop(id, None)
        if group is None:
            return False
        if group.started < group.request.n:
            self._queue.remove(group)
        lost = [row.index for row in group.rows] + list(range(group.started, group.request.n))
        group.started = group.request.n
        self._release(list(group.rows))
        self._cancelled += [Event(id, index, None, 0.0, "cancelled") for index in sorted(lost)]
        return True

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Do one round of prefill and decoding; return one event for each token that was drawn."""
        events, self._cancelled = self._cancelled, []
        self._admit()
        self._prefill()
        ready = [row for row in self._rows if row.lacking == 1]
        if ready:
            events += self._decode(ready)
        return events

    def run(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Answer all requests, however many; returns their samples in order.

        The engine must be idle, and its weights those of the last hand-over: where an optimiser
        changed them and `weights_changed` was not called, RuntimeError.
        """
        if self.busy:
            raise RuntimeError("Engine.run needs an idle engine: it would swallow others' events")
        if fingerprint(self.decoder) != self._checksum:
            raise RuntimeError("the decoder's weights were changed without Engine.weights_changed()")
        tokens: dict[tuple[str, int], list[int]] = {}
        logprobs: dict[tuple[str, int], list[float]] = {}
        finishes: dict[tuple[str, int], Finish] = {}
        for request in requests:
            self._check(request)
            for index in range(request.n):
                if (request.id, index) in tokens:
                    raise Refusal(f"two requests have the id {request.id}")
                tokens[request.id, index], logprobs[request.id, index] = [], []
        left = deque(requests)
        try:
            while left or self.busy:
                while left and len(self._queue) < self.queue:
                    self.add(left.popleft())
                before = len(finishes)
                for event in self.step():
                    key = (event.id, event.index)
                    if event.token is not None:
                        tokens[key].append(event.token)
                        logprobs[key].append(event.logprob)
                    if event.finish is not None:
                        finishes[key] = event.finish
                if progress is not None and len(finishes) > before:
                    progress(len(finishes), len(tokens))
        finally:
            for id in list(self._groups):
                self.cancel(id)
            self._cancelled.clear()
        return [
            [Completion(tuple(tokens[r.id, i]), tuple(logprobs[r.id, i]), finishes[r.id, i]) for i in range(r.n)]
            for r in requests
        ]

    def weights_changed(self) -> None:
        """Take note of new weights: raise ``weights_version`` and forget all that the old ones computed.

        A sample that is running keeps its tokens so far; their keys and values are computed again.
        Raises Refusal for int8 weights, which are never trained: whoever trains holds other ones.
        """
        if is_int8(self.decoder):
            raise Refusal("int8 weights never change: give an engine whose policy is trained the fp32 or bf16 one")
        self.weights_version += 1
        for row in self._rows:
            row.cached = 0
        self._checksum = fingerprint(self.decoder)

    def checksum(self) -> str:
        """The fingerprint of the weights at the last hand-over (creation or `weights_changed`).

        Equal to `fingerprint` of the trainer's module unless a hand-over was skipped.
        """
        return self._checksum

    def _check(self, request: Request) -> None:
        if request.id in self._groups or any(event.id == request.id for event in self._cancelled):
            raise Refusal(f"{request.id} is already running: ids must differ")
        if len(request.prompt) >= self.context:
            raise Refusal(
                f"{request.id}: the prompt has {len(request.prompt)} tokens and the context holds {self.context}, "
                "the answer included: shorten the prompt"
            )
        vocab = self.decoder.config.vocab_size
        if not 0 <= min(request.prompt) <= max(request.prompt) < vocab:
            raise Refusal(f"{request.id}: the prompt has a token outside the vocabulary 0 … {vocab - 1}")

    def _admit(self) -> None:
        while self._queue and len(self._rows) < self.slots:
            self._rows.append(self._start(self._queue[0], len(self._rows)))

    def _start(self, group: _Group, slot: int) -> _Row:
        """Make the row of the group's next sample."""
        request = group.request
        end = min(len(request.prompt) + request.sampling.max_tokens, self.context)
        row = _Row(group, group.started, slot, self._arrivals, end, list(request.prompt))
        self._arrivals += 1
        group.rows.append(row)
        group.started += 1
        if group.started == request.n:
            self._queue.remove(group)
        return row

    def _prefill(self) -> None:
        """Bring rows to where they lack their last token alone, as far as the step's budget goes."""
        lacking = [row for row in self._rows if row.lacking > 1]
        if not lacking:
            return
        budget = _BUDGET_IDLE if len(lacking) == len(self._rows) else _BUDGET_BUSY
        fed: list[_Row] = []
        for row in sorted(lacking, key=lambda row: row.order):
            if len(row.tokens) == row.prefix + 1:
                row.group.holder = row.group.holder or row
                if row.group.holder is not row:
                    continue
            size = min(row.lacking - 1, _PIECE)
            if fed and size > budget:
                break
            budget -= size
            fed.append(row)
        for batch in _by_length(fed):
            self._feed(batch)
        self._share(lacking)

    def _feed(self, batch: list[_Row]) -> None:
        """Compute keys and values of each row's next piece. Several rows all begin at position 0."""
        start = batch[0].cached
        sizes = [min(row.lacking - 1, _PIECE) for row in batch]
        longest = max(sizes)
        # Right padding is harmless: what it writes is overwritten before any token may see it.
        pieces = [
            row.tokens[start : start + size] + [0] * (longest - size) for row, size in zip(batch, sizes, strict=True)
        ]
        positions_BT = None if start == 0 else self._tensor([list(range(start, start + longest))])
        slots_B = self._tensor([row.slot for row in batch])
        self.decoder(self._tensor(pieces), positions_BT, cache=self._cache, slots_B=slots_B)
        for row, size in zip(batch, sizes, strict=True):
            row.cached += size

    def _share(self, lacking: list[_Row]) -> None:
        """Give samples that lack their prompt a copy of what their sibling has computed."""
        sharing: dict[_Row, list[_Row]] = {}
        for row in lacking:
            holder = row.group.holder
            if holder is not None and row.cached < row.prefix <= holder.cached:
                sharing.setdefault(holder, []).append(row)
        for holder, rows in sharing.items():
            self._cache.copy(holder.slot, [row.slot for row in rows], holder.prefix)
            for row in rows:
                row.cached = row.prefix

    def _decode(self, ready: list[_Row]) -> list[Event]:
        """One token for every row of ``ready``."""
        if ready != self._ready:
            self._ready = ready
            seeds = [sample_seed(row.group.request.sampling.seed, row.index) for row in ready]
            self._settings = Rows([row.group.request.sampling for row in ready], seeds)
        tokens_B1 = self._tensor([[row.tokens[-1]] for row in ready])
        positions_B1 = self._tensor([[row.cached] for row in ready])
        slots_B = self._tensor([row.slot for row in ready])
        hidden_B1D = self.decoder(tokens_B1, positions_B1, cache=self._cache, slots_B=slots_B)
        logits_BV = self.decoder.logits(hidden_B1D[:, 0]).cpu()
        drawn_B, logprobs_B = sample(logits_BV, self._settings, [len(row.logprobs) for row in ready])
        events, ended = [], []
        for row, token, logprob in zip(ready, drawn_B.tolist(), logprobs_B.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.cached += 1
            finish: Finish | None = None
            if token in row.group.stop_ids:
                finish = "stop"
            elif len(row.tokens) == row.end:
                finish = "length"
            if finish is not None:
                ended.append(row)
            events.append(Event(row.group.request.id, row.index, token, logprob, finish))
        self._finish(ended)
        return events

    def _finish(self, ended: list[_Row]) -> None:
        for row in ended:
            group = row.group
            group.finished += 1
            if group.finished == group.request.n:
                del self._groups[group.request.id]
        self._release(ended)

    def _release(self, ended: list[_Row]) -> None:
        """Free the rows' slots; a sibling that waits takes over the slot, and with it the prompt."""
        holes = []
        for row in ended:
            group = row.group
            group.rows.remove(row)
            if group.started < group.request.n:
                heir = self._start(group, row.slot)
                heir.cached = row.prefix
                self._rows[row.slot] = heir
            else:
                holes.append(row.slot)
            if group.holder is row:
                group.holder = next((other for other in group.rows if other.cached >= row.prefix), None)
        self._close(set(holes))

    def _close(self, holes: set[int]) -> None:
        """Move the last rows into the holes, so that the rows fill the first slots again."""
        for hole in sorted(holes):
            while len(self._rows) - 1 in holes and len(self._rows) > hole:
                self._rows.pop()
            if hole >= len(self._rows):
                break
            row = self._rows.pop()
            self._cache.copy(row.slot, [hole], row.cached)
            row.slot = hole
            self._rows[hole] = row

    def _tensor(self, numbers: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _by_length(rows: list[_Row]) -> list[list[_Row]]:
    """Split rows into batches that waste little on padding; a later piece of a long prompt goes alone."""
    batches: list[list[_Row]] = [[row] for row in rows if row.cached > 0]
    batch: list[_Row] = []
    used = 0
    for row in sorted((row for row in rows if row.cached == 0), key=lambda row: -row.lacking):
        size = min(row.lacking - 1, _PIECE)
        widest = min(batch[0].lacking - 1, _PIECE) if batch else size
        if batch and (len(batch) + 1) * widest > _PADDING * (used + size):
            batches.append(batch)
            batch, used = [], 0
        batch.append(row)
        used += size
    return [*batches, batch] if batch else batches
