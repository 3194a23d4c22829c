"""The engine: many requests at once over one paged cache. Token ids in, token ids and log-probs out.

It is a synchronous core: `add` and `cancel` note something, `step` computes. It has no clock, no
thread and no text. Call it from one thread; the server gives it one, training calls `run`.

How a step goes. The scheduler admits requests in order of arrival while there are rows and pages. Samples
that lack more than their last token are prefilled: everything up to that last token, batched by
similar length, long prompts in pieces so that the streams beside them go on; what another text with the
same beginning has computed is shared, not computed again. Then every sample that lacks its last token
alone makes one decoding step together, and each gets one new token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from palmier.errors import TOO_LONG, Refusal
from palmier.generate.fingerprint import fingerprint
from palmier.generate.likelihoods import likelihoods
from palmier.generate.pages import Pages
from palmier.generate.penalties import Text, is_changed
from palmier.generate.requests import Completion, Event, Likelihood, QueueFull, Request
from palmier.generate.sampling import Rows, sample
from palmier.generate.scheduler import Group, Sample, Scheduler
from palmier.model.cache import KVCache, page_bytes
from palmier.model.decoder import Decoder
from palmier.model.int8 import is_int8
from palmier.records import Finish
from palmier.scale import runtime

Progress = Callable[[int, int], None]
"""Called with (samples finished, samples in all)."""

MEMORY = 1 << 30
"""Most bytes of keys and values where nobody says another bound."""

_PAGE = 32
"""Positions of a page: smaller ones share more of equal beginnings, larger ones are gathered faster."""
_PADDING = 1.25
"""How much larger than its tokens a padded prefill batch may be …"""
_CHEAP = 128
"""… beside so many tokens, which cost less than another pass over the weights."""
_ROUND = 16
"""In bf16, prefill widths are multiples of it: oneDNN makes and keeps a kernel for every shape that it meets."""


class Engine:
    """Continuous batching over a decoder's own weights (they are referred to, not copied)."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        slots: int = 16,
        context: int | None = None,
        queue: int = 256,
        memory: int = MEMORY,
    ) -> None:
        """At most ``slots`` samples run at once, with prompt and answer of up to ``context`` tokens each.

        ``memory`` bounds the bytes of keys and values; no more is taken than ``slots`` texts of ``context`` tokens
        can use. Where ``context`` is None, it is the model's own or as much as the memory holds. ``queue`` bounds
        the requests that wait for a slot. Raises Refusal where the memory does not hold one text.
        """
        if queue < 1:
            raise Refusal(f"queue is {queue}: at least one request must be able to wait")
        if slots < 1:
            raise Refusal(f"slots is {slots}: at least one sample must be able to run")
        config, dtype = decoder.config, decoder.dtype
        longest = config.max_positions if context is None else context
        if not 1 <= longest <= config.max_positions:
            raise Refusal(f"a context of {longest} tokens: the model knows 1 … {config.max_positions} positions")
        page = min(_PAGE, longest)
        size = page_bytes(config, page, dtype.itemsize)
        count = min(slots * -(-longest // page), memory // size - 1)  # one more is the cache's own
        if count < 1 or (context is not None and count * page < context):
            raise Refusal(
                f"a cache of {memory:,} bytes holds {max(count, 0) * page} positions and a context of {longest} was "
                f"asked for: it needs {(-(-longest // page) + 1) * size:,} bytes, or a shorter context"
            )
        runtime.keep_memory()
        self.decoder = decoder
        self.slots, self.context, self.queue = slots, min(longest, count * page), queue
        self.weights_version = 0
        self._device = decoder.model.norm.weight.device
        self._cache = KVCache(config, count, page, dtype, self._device)
        self._pages = Pages(count, page, apart=max(1, count // slots))
        self._schedule = Scheduler(self._pages, slots, self.context)
        self._groups: dict[str, Group] = {}
        self._ready: list[Sample] = []
        self._settings = Rows([], [])
        self._cancelled: list[Event] = []
        self._checksum = fingerprint(self.decoder)
        self.decoder.prepare()

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do or to tell."""
        return bool(self._groups or self._cancelled)

    @property
    def running(self) -> int:
        """How many samples have a slot."""
        return len(self._schedule.running)

    @property
    def waiting(self) -> int:
        """How many requests still have samples that have not started."""
        return len(self._schedule.queue)

    @property
    def pages(self) -> tuple[int, int]:
        """(pages of the cache that running samples hold, all pages)."""
        return self._pages.held, self._pages.count

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values, used or not."""
        return self._cache.bytes

    def add(self, request: Request) -> None:
        """Queue a request. Raises QueueFull, or Refusal where it cannot be answered at all."""
        self._check(request)
        if self.waiting >= self.queue:
            raise QueueFull(f"the queue is full ({self.queue} requests wait): try again in a moment")
        group = Group(request, frozenset(request.stop_ids))
        self._groups[request.id] = group
        self._schedule.queue.append(group)

    def cancel(self, id: str, index: int | None = None) -> bool:
        """End a request at once, in whatever state, or one started sample of it; False where there is none.

        Its pages are free when this returns. The next `step` brings an event with finish
        "cancelled" for each sample that this ended.
        """
        group = self._groups.get(id)
        if group is None:
            return False
        lost = [one for one in self._schedule.started(group) if index in (None, one.index)]
        if index is not None and not lost:
            return False
        indices = [one.index for one in lost]
        for one in lost:
            self._schedule.release(one)
        if index is None:
            indices += self._schedule.withdraw(group)
        self._cancelled += [Event(id, i, None, 0.0, "cancelled") for i in sorted(indices)]
        self._end(group, len(indices))
        return True

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Do one round of prefill and decoding; return one event for each token that was drawn.

        A sample that draws nothing has one event, when its prompt has been read.
        """
        events, self._cancelled = self._cancelled, []
        self._schedule.admit()
        self._copy()
        for batch in _by_length(self._schedule.prefill(), self.context):
            self._feed(batch)
        self._copy()
        events += self._end_read()
        ready = self._schedule.decode()
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
                while left and self.waiting < self.queue:
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

    def forget(self) -> None:
        """Be as new: no text is in the cache, and its pages are taken in their first order.

        What comes next is then a function of weights and requests alone, to the last bit: what a resumed run must
        draw again may not depend on what was asked before. Raises RuntimeError where the engine is not idle.
        """
        if self.busy:
            raise RuntimeError("Engine.forget needs an idle engine: its samples would lose their texts")
        self._pages.forget()

    def weights_changed(self) -> None:
        """Take note of new weights: raise ``weights_version`` and forget all that the old ones computed.

        A sample that is running keeps its tokens so far; their keys and values are computed again.
        Raises Refusal for int8 weights, which are never trained: whoever trains holds other ones.
        """
        if is_int8(self.decoder):
            raise Refusal("int8 weights never change: give an engine whose policy is trained the fp32 or bf16 one")
        self.weights_version += 1
        for one in list(self._schedule.running):
            self._schedule.interrupt(one)
        for one in self._schedule.interrupted:
            if one.likelihoods is not None:  # nobody has heard them yet: those of the new weights will be told
                one.likelihoods.clear()
        self._pages.forget()
        self._checksum = fingerprint(self.decoder)
        self.decoder.prepare()

    def checksum(self) -> str:
        """The fingerprint of the weights at the last hand-over (creation or `weights_changed`).

        Equal to `fingerprint` of the trainer's module unless a hand-over was skipped.
        """
        return self._checksum

    def _check(self, request: Request) -> None:
        if request.id in self._groups or any(event.id == request.id for event in self._cancelled):
            raise Refusal(f"{request.id} is already running: ids must differ")
        if len(request.prompt) + (not request.prompt_only) > self.context:
            raise Refusal(
                f"{request.id}: the prompt has {len(request.prompt)} tokens and the context holds {self.context}, "
                "the answer included: shorten the prompt",
                code=TOO_LONG,
            )
        vocab = self.decoder.config.vocab_size
        if not 0 <= min(request.prompt) <= max(request.prompt) < vocab:
            raise Refusal(f"{request.id}: the prompt has a token outside the vocabulary 0 … {vocab - 1}")
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < vocab:
                sentence = f"{request.id}: logit_bias names token {token}, outside the vocabulary 0 … {vocab - 1}"
                raise Refusal(sentence, "logit_bias")

    def _copy(self) -> None:
        """Give the samples of a prompt that one of them has computed what it has."""
        source_of = self._schedule.copies()
        if source_of:
            self._cache.copy(list(source_of.values()), list(source_of))

    def _feed(self, batch: list[tuple[Sample, int]]) -> None:
        """Compute keys and values of each sample's next tokens, and how likely those of its prompt are where wanted."""
        starts = [one.cached for one, _ in batch]
        longest = max(size for _, size in batch)
        if self._cache.dtype != torch.float32:
            longest = min(-(-longest // _ROUND) * _ROUND, self.context - max(starts))
        # Right padding is harmless: it is written past a sample's text, or nowhere.
        pieces = [one.tokens[one.cached : one.cached + size] + [0] * (longest - size) for one, size in batch]
        positions_BT = None
        if any(starts):
            positions_BT = self._tensor([list(range(start, start + longest)) for start in starts])
        table_BP = self._table([one for one, _ in batch], max(starts) + longest)
        hidden_BTD = self.decoder(self._tensor(pieces), positions_BT, cache=self._cache, pages_BP=table_BP)
        for (one, size), hidden_TD in zip(batch, hidden_BTD, strict=True):
            if one.likelihoods is not None:
                self._read(one, hidden_TD[:size])
            self._schedule.computed(one, size)

    def _read(self, one: Sample, hidden_TD: Tensor) -> None:
        """Note how likely the prompt's next tokens are; the states are those of the tokens from ``one.cached`` on."""
        assert one.likelihoods is not None
        prompt, top = one.group.request.prompt, one.group.request.prompt_logprobs
        # What an interrupted sample computes again has been noted before.
        first = len(one.likelihoods)
        last = min(one.cached + len(hidden_TD), len(prompt) - 1)
        if first < last:
            targets = list(prompt[first + 1 : last + 1])
            wanted_ND = hidden_TD[first - one.cached : last - one.cached]
            one.likelihoods += likelihoods(self.decoder, wanted_ND, targets, top or 0)

    def _end_read(self) -> list[Event]:
        """End the samples that have read their prompts and are to draw nothing."""
        events = []
        for one in list(self._schedule.running):
            if one.group.request.prompt_only and one.lacking == 1:
                self._schedule.release(one)
                self._end(one.group, 1)
                events.append(Event(one.group.request.id, one.index, None, 0.0, "length", prompt=_told(one)))
        return events

    def _decode(self, ready: list[Sample]) -> list[Event]:
        """One token for every sample of ``ready``."""
        if ready != self._ready:
            self._ready, self._settings = ready, _settings(ready)
        tokens_B1 = self._tensor([[one.tokens[-1]] for one in ready])
        positions_B1 = self._tensor([[one.cached] for one in ready])
        table_BP = self._table(ready, max(len(one.tokens) for one in ready))
        hidden_B1D = self.decoder(tokens_B1, positions_B1, cache=self._cache, pages_BP=table_BP)
        logits_BV = self.decoder.sharp_logits(hidden_B1D[:, 0]).cpu()
        drawn = sample(logits_BV, self._settings, [one.drawn for one in ready])
        events = []
        tokens, logprobs = drawn.tokens_B.tolist(), drawn.logprobs_B.tolist()
        for one, token, logprob, top in zip(ready, tokens, logprobs, drawn.top, strict=True):
            self._schedule.computed(one, 1)
            one.tokens.append(token)
            finish: Finish | None = None
            if token in one.group.stop_ids:
                finish = "stop"
            elif len(one.tokens) == one.end:
                finish = "length"
            if finish is not None:
                self._schedule.release(one)
                self._end(one.group, 1)
            events.append(Event(one.group.request.id, one.index, token, logprob, finish, top, _told(one)))
        return events

    def _end(self, group: Group, samples: int) -> None:
        group.unfinished -= samples
        if not group.unfinished:
            del self._groups[group.request.id]

    def _table(self, samples: list[Sample], length: int) -> Tensor:
        """Pages (B, P) of texts of up to ``length`` tokens, filled up with the page that is nowhere."""
        width = self._pages.needed(length)
        nowhere = self._cache.nowhere
        return self._tensor([one.pages[:width] + [nowhere] * (width - len(one.pages)) for one in samples])

    def _tensor(self, numbers: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _told(one: Sample) -> tuple[Likelihood, ...] | None:
    """What was noted of the prompt, once."""
    if one.likelihoods is None:
        return None
    told, one.likelihoods = tuple(one.likelihoods), None
    return told


def _text(one: Sample) -> Text:
    prompt = one.group.request.prompt
    return prompt, one.tokens[len(prompt) :]


def _settings(samples: list[Sample]) -> Rows:
    requests = [one.group.request for one in samples]
    return Rows(
        [request.sampling for request in requests],
        [one.seed for one in samples],
        [_text(one) if is_changed(one.group.request.sampling) else ((), ()) for one in samples],
        [request.top_logprobs for request in requests],
    )


def _by_length(fed: list[tuple[Sample, int]], context: int) -> list[list[tuple[Sample, int]]]:
    """Split what is prefilled into batches that waste little on padding; none reaches past the context.

    Texts that begin and texts that go on stay apart: the first see nothing but themselves.
    """
    batches: list[list[tuple[Sample, int]]] = []
    for begun in (False, True):
        batch: list[tuple[Sample, int]] = []
        used = furthest = 0
        for one, size in sorted((item for item in fed if bool(item[0].cached) == begun), key=lambda item: -item[1]):
            widest = batch[0][1] if batch else size
            furthest = max(furthest, one.cached)
            wasteful = (len(batch) + 1) * widest > _PADDING * (used + size) + _CHEAP
            if batch and (wasteful or furthest + widest > context):
                batches.append(batch)
                batch, used, furthest = [], 0, one.cached
            batch.append((one, size))
            used += size
        if batch:
            batches.append(batch)
    return batches
