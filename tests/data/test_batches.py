"""Batches: a pure function of seed and step, nothing lost, nothing twice, no conversation sees another."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from palmier.data.batches import Epochs, SFTBatches, TokenBatches, pack
from palmier.data.shards import Shards, prepare
from palmier.data.template import Template
from palmier.data.tokenizer import Tokenizer, train
from palmier.errors import Refusal
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Conversation, Document, Message

TALKS = [
    *(
        Conversation((Message("system", "Be brief."), Message("user", f"Say {n}"))).reply("12 " * (n % 5) + str(n))
        for n in range(23)
    ),
    *(
        Conversation((*Conversation.ask(f"First {n}?").reply("Yes.").messages, Message("user", "Again?"))).reply("No.")
        for n in range(4)
    ),
]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="session")
def folder(documents: list[Document], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    prepare(documents, tokenizer, out, 0.2)
    return out


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.integers(0, 3))
def test_every_epoch_holds_each_row_once(rows: int, batch: int, keep_rest: bool, seed: int) -> None:
    epochs = Epochs(rows, batch, seed, "x", keep_rest=keep_rest)
    for epoch in range(3):
        found = [epochs.at(epoch * epochs.steps + place) for place in range(epochs.steps)]
        assert {number for number, _ in found} == {epoch}
        seen = [row for _, some in found for row in some]
        if keep_rest:
            assert sorted(seen) == list(range(rows))
        else:
            assert len(seen) == epochs.steps * batch
            assert len(set(seen)) == min(rows, len(seen))


def test_epochs_seeds_and_purposes_differ() -> None:
    orders = [
        tuple(Epochs(50, 50, seed, purpose, keep_rest=True).at(epoch)[1])
        for seed in (0, 1)
        for purpose in ("a", "b")
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == len(orders)
    with pytest.raises(Refusal, match="batch of 0"):
        Epochs(50, 0, 0, "x", keep_rest=True)


def test_a_batch_depends_on_seed_and_step_alone(folder: Path, template: Template) -> None:
    for make in (
        lambda seed: TokenBatches(folder, "train", 4, 16, seed),
        lambda seed: SFTBatches(TALKS, template, 3, 96, seed),
    ):
        straight = make(0)
        steps = [straight.batch(step) for step in range(2 * straight.steps_per_epoch + 1)]
        resumed = make(0)
        for step in (len(steps) - 1, 3, 0, straight.steps_per_epoch):
            assert equal(resumed.batch(step), steps[step])
        assert not equal(make(1).batch(0), steps[0])
        assert not equal(steps[straight.steps_per_epoch], steps[0])
        assert len({tuple((name, value.shape) for name, value in step.items()) for step in steps}) == 1


def test_windows_are_of_the_stream_and_targets_are_the_next_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    letters = random.Random(0).choices("bcdfghjkqvwxz", k=1500)  # nothing repeats, so a window shows its place
    prepare([Document("".join(letters), "x")], tokenizer, tmp_path / "out", 0.0)
    batches = TokenBatches(tmp_path / "out", "train", 4, 16, 0, tokenizer)
    stream = Shards(tmp_path / "out").tokens("train").tolist()
    place = {tuple(stream[start : start + 17]): start for start in range(len(stream) - 16)}
    assert len(place) == len(stream) - 16
    for epoch in range(3):
        starts = []
        for step in range(batches.steps_per_epoch):
            batch = batches.batch(epoch * batches.steps_per_epoch + step)
            assert batch["tokens"].shape == batch["targets"].shape == (4, 16)
            assert batch["tokens"].dtype == batch["targets"].dtype == torch.int64
            rows = torch.cat((batch["tokens"], batch["targets"][:, -1:]), dim=1).tolist()
            starts += [place[tuple(row)] for row in rows]
            assert torch.equal(batch["targets"][:, :-1], batch["tokens"][:, 1:])
        assert len(set(starts)) == len(starts) > (len(stream) - 1) // 16 - 4
        assert len({start % 16 for start in starts}) == 1  # one epoch cuts the stream once, without overlap
        assert starts != sorted(starts)


def test_a_few_windows_fill_a_batch_and_too_few_tokens_are_refused(folder: Path, documents: list[Document]) -> None:
    tokens = len(Shards(folder).tokens("validation"))
    batches = TokenBatches(folder, "validation", 8, tokens // 3, 0)
    assert batches.steps_per_epoch == 1
    rows = {tuple(row) for row in batches.batch(0)["tokens"].tolist()}
    assert 2 <= len(rows) <= 3
    with pytest.raises(Refusal, match=f"holds {tokens} tokens for validation, too few"):
        TokenBatches(folder, "validation", 8, tokens, 0)
    with pytest.raises(Refusal, match="another tokenizer"):
        TokenBatches(folder, "train", 8, 16, 0, train(documents, 400))
    with pytest.raises(Refusal, match="length of 0"):
        TokenBatches(folder, "train", 8, 0, 0)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 32), min_size=1, max_size=60), st.integers(0, 5))
def test_packing_places_each_once_within_the_space(lengths: list[int], seed: int) -> None:
    rows = pack(lengths, 32, seed)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    totals = [sum(lengths[index] for index in row) for row in rows]
    assert max(totals) <= 32
    # No two rows could be one: less than half of the space is ever wasted.
    assert all(a + b > 32 for i, a in enumerate(totals) for b in totals[i + 1 :])


@pytest.mark.parametrize("packed", [True, False])
def test_every_conversation_comes_once_an_epoch_with_its_golden_mask(template: Template, packed: bool) -> None:
    batches = SFTBatches(TALKS, template, 4, 96, 0, packed=packed)
    assert (len(batches), batches.too_long) == (len(TALKS), 0)
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for step in range(batches.steps_per_epoch):
        batch = batches.batch(step)
        for row in range(4):
            segments = batch["segments"][row]
            assert all(batch["targets"][row][segments == 0] == -100)
            for segment in range(1, int(segments.max()) + 1):
                inside = segments == segment
                assert batch["positions"][row][inside].tolist() == list(range(int(inside.sum())))
                targets = batch["targets"][row][inside].tolist()
                assert targets[-1] == -100  # the next conversation's first token is nobody's target
                found.append((tuple(batch["tokens"][row][inside].tolist()), tuple(targets)))
            assert packed or segments.max() <= 1
    expected = []
    for talk in TALKS:
        rendered = template.render(talk)
        targets = [token if bit else -100 for token, bit in zip(rendered.ids[1:], rendered.mask[1:], strict=True)]
        expected.append((tuple(rendered.ids), (*targets, -100)))
    assert sorted(found) == sorted(expected)
    ends = sum(message.role == "assistant" for talk in TALKS for message in talk.messages)
    assert sum(targets.count(template.stop_ids[0]) for _, targets in found) == ends


def test_a_packed_conversation_is_computed_as_if_it_were_alone(template: Template) -> None:
    config = ModelConfig.palm(vocab_size=template.tokenizer.size, hidden_size=32, num_layers=2, num_heads=2)
    decoder = Decoder.create(config, 0)
    batch = SFTBatches(TALKS, template, 2, 96, 0).batch(0)
    with torch.no_grad():
        together = decoder(batch["tokens"], batch["positions"], segments_BT=batch["segments"])
        for row in range(2):
            segments = batch["segments"][row]
            assert segments.max() >= 2
            for segment in range(1, int(segments.max()) + 1):
                inside = segments == segment
                alone = decoder(batch["tokens"][row][inside][None])
                assert torch.allclose(together[row][inside], alone[0], atol=1e-5)


def test_conversations_that_teach_nothing_are_refused_or_counted(template: Template) -> None:
    with pytest.raises(Refusal, match=r"conversation 2: .*nothing to learn"):
        SFTBatches([TALKS[0], Conversation.ask("Hi")], template, 2, 96, 0)
    long = Conversation.ask("Hi").reply("word " * 200)
    assert SFTBatches([TALKS[0], long], template, 2, 96, 0).too_long == 1
    exactly = len(template.render(TALKS[0]).ids)
    assert SFTBatches(TALKS[:1], template, 2, exactly, 0).too_long == 0
    with pytest.raises(Refusal, match="all 1 are longer"):
        SFTBatches(TALKS[:1], template, 2, exactly - 1, 0)
    with pytest.raises(Refusal, match="all 1 are longer than 96 tokens"):
        SFTBatches([long], template, 2, 96, 0)
    with pytest.raises(Refusal, match="none given"):
        SFTBatches([], template, 2, 96, 0)
