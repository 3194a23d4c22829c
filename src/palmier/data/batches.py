"""Batches whose content is a pure function of (seed, step): a resume has no state to restore."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palmier.data.shards import Shards
from palmier.data.template import Template
from palmier.data.tokenizer import Tokenizer
from palmier.errors import Refusal
from palmier.records import Conversation

NO_LOSS = -100
"""The target at positions that carry no loss."""


def generator(*parts: int | str) -> np.random.Generator:
    """A random generator that depends on nothing but ``parts``."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


class Epochs:
    """Which rows make up a step's batch: every epoch takes them in an order of its own.

    With ``keep_rest`` an epoch's last batch may have fewer rows, and every row comes once an
    epoch. Else all batches are full: the rest of an epoch's order is left out, and where
    there are fewer rows than a batch they are repeated.
    """

    def __init__(self, rows: int, batch: int, seed: int, purpose: str, *, keep_rest: bool) -> None:
        if batch < 1:
            raise Refusal(f"a batch of {batch} rows is too small: it needs at least 1")
        self._rows, self._batch, self._seed, self._purpose, self._keep_rest = rows, batch, seed, purpose, keep_rest
        self.steps = -(-rows // batch) if keep_rest else max(1, rows // batch)
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def at(self, step: int) -> tuple[int, list[int]]:
        """A step's epoch and its rows."""
        epoch, place = divmod(step, self.steps)
        if self._order[0] != epoch:
            self._order = (epoch, generator(self._seed, self._purpose, epoch).permutation(self._rows))
        rows = self._order[1][place * self._batch : (place + 1) * self._batch]
        return epoch, (rows if self._keep_rest else np.resize(rows, self._batch)).tolist()


class TokenBatches:
    """Windows of a split's token stream, for pre-training.

    ``batch(step)`` gives ``tokens`` and ``targets`` (each the next token), int64 (B, T). Every
    epoch cuts the stream into windows at other places and shuffles them; ``steps_per_epoch``
    full batches are one. Give ``tokenizer``, so that shards of another one are refused.
    """

    def __init__(
        self, folder: Path, split: str, batch: int, length: int, seed: int, tokenizer: Tokenizer | None = None
    ) -> None:
        if length < 1:
            raise Refusal(f"a length of {length} tokens is too small: it needs at least 1")
        self.tokens = Shards(folder, tokenizer).tokens(split)
        """The ids of the whole split, memory-mapped."""
        windows, self._slack = divmod(len(self.tokens) - 1, length)
        if windows < 1:
            found = f"{folder} holds {len(self.tokens)} tokens for {split}"
            raise Refusal(f"{found}, too few for a window of {length} + 1: give more text, or a shorter length")
        self._epochs = Epochs(windows, batch, seed, f"windows of {split}", keep_rest=False)
        self._length, self._seed = length, seed
        self.steps_per_epoch = self._epochs.steps

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, from 0 without an end."""
        epoch, rows = self._epochs.at(step)
        offset = int(generator(self._seed, "offset of windows", epoch).integers(self._slack + 1))
        starts = [offset + row * self._length for row in rows]
        windows = np.stack([self.tokens[start : start + self._length + 1] for start in starts]).astype(np.int64)
        return {"tokens": torch.from_numpy(windows[:, :-1].copy()), "targets": torch.from_numpy(windows[:, 1:].copy())}


class SFTBatches:
    """Rendered conversations in rows of one shape, for supervised fine-tuning.

    ``batch(step)`` gives int64 tensors (B, T): ``tokens``; ``targets``, the next token where
    the assistant speaks and −100 elsewhere; ``segments``, 1, 2, … for the conversations of a
    row and 0 for padding; ``positions``, from 0 in every conversation. With ``packed`` as
    many conversations as fit share a row, else each has its own. An epoch holds every
    conversation once; its last batch is filled with empty rows. Conversations longer than
    ``length`` are left out and counted in ``too_long``.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        template: Template,
        batch: int,
        length: int,
        seed: int,
        *,
        packed: bool = True,
    ) -> None:
        self._ids: list[npt.NDArray[np.int32]] = []
        self._masks: list[npt.NDArray[np.bool_]] = []
        self.too_long = 0
        for number, conversation in enumerate(conversations):
            try:
                rendered = template.render(conversation)
            except Refusal as refusal:
                raise Refusal(f"conversation {number + 1}: {refusal}") from None
            if len(rendered.ids) > length:
                self.too_long += 1
                continue
            self._ids.append(np.array(rendered.ids, dtype=np.int32))
            self._masks.append(np.array(rendered.mask, dtype=bool))
        if not self._ids:
            reason = (
                f"all {self.too_long} are longer than {length} tokens: raise the length"
                if self.too_long
                else "none given"
            )
            raise Refusal(f"no conversation to train on: {reason}")
        lengths = [len(ids) for ids in self._ids]
        self._rows = pack(lengths, length, seed) if packed else [[index] for index in range(len(lengths))]
        self._epochs = Epochs(len(self._rows), batch, seed, "conversations", keep_rest=True)
        self._shape = (batch, length)
        self._padding = template.stop_ids[-1]
        self.steps_per_epoch = self._epochs.steps

    def __len__(self) -> int:
        """Conversations that are trained on."""
        return len(self._ids)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, from 0 without an end."""
        tokens = np.full(self._shape, self._padding, dtype=np.int64)
        targets = np.full(self._shape, NO_LOSS, dtype=np.int64)
        segments, positions = np.zeros(self._shape, dtype=np.int64), np.zeros(self._shape, dtype=np.int64)
        for row, number in enumerate(self._epochs.at(step)[1]):
            start = 0
            for segment, index in enumerate(self._rows[number], start=1):
                ids, mask = self._ids[index], self._masks[index]
                place = slice(start, start + len(ids))
                tokens[row, place] = ids
                targets[row, start : start + len(ids) - 1] = np.where(mask[1:], ids[1:], NO_LOSS)
                segments[row, place] = segment
                positions[row, place] = np.arange(len(ids))
                start += len(ids)
        arrays = {"tokens": tokens, "targets": targets, "segments": segments, "positions": positions}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def pack(lengths: Sequence[int], capacity: int, seed: int) -> list[list[int]]:
    """Best fit, longest first: row numbers grouped so that each group's lengths fit ``capacity``.

    Equal lengths are taken in an order drawn from ``seed``.
    """
    order = generator(seed, "packing").permutation(len(lengths))
    rows: list[list[int]] = []
    space: dict[int, list[int]] = {}
    sizes: list[int] = []
    for index in sorted((int(item) for item in order), key=lambda item: -lengths[item]):
        place = bisect.bisect_left(sizes, lengths[index])
        if place < len(sizes):
            free = sizes[place]
            row = space[free].pop()
            if not space[free]:
                del space[free], sizes[place]
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        left = free - lengths[index]
        if left not in space:
            space[left] = []
            bisect.insort(sizes, left)
        space[left].append(row)
    return rows
