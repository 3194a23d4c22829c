"""Through the cache or without it: the same numbers, whoever shares the batch."""

from __future__ import annotations

import pytest
import torch

from palmier.errors import Refusal
from palmier.model.cache import KVCache, page_bytes
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder

from .shapes import PALM, QWEN2, SHAPES, decoder, tokens


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def cache_for(module: Decoder, slots: int = 8, length: int = 64, fill: float = 0.0) -> KVCache:
    cache = KVCache(module.config, slots, length, torch.float32)
    cache.keys.fill_(fill)
    cache.values.fill_(fill)
    return cache


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_prompt_and_single_steps_equal_the_whole(name: str) -> None:
    module = decoder(SHAPES[name])
    ids = tokens(3, 24)
    expected = module(ids)
    cache = cache_for(module, fill=9.0)
    close(module(ids[:, :10], cache=cache), expected[:, :10])
    for position in range(10, 24):
        step = module(ids[:, position : position + 1], torch.full((3, 1), position), cache=cache)
        close(step, expected[:, position : position + 1])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 4, 5], [5, 0, 7, 2]])
@torch.no_grad()
def test_slots_of_mixed_lengths_equal_each_text_alone(name: str, order: list[int]) -> None:
    """Right-padded prompts of 1 to 30 tokens in any slots, then steps at different positions."""
    module = decoder(SHAPES[name])
    lengths = [1, 30, 7, 16]
    ids = tokens(4, 50)
    alone = [module(row.unsqueeze(0))[0] for row in ids]
    cache = cache_for(module, fill=9.0)
    pages = torch.tensor(order).unsqueeze(1)
    padded = torch.zeros(4, 30, dtype=torch.long)
    for row, length in enumerate(lengths):
        padded[row, :length] = ids[row, :length]
    prefill = module(padded, torch.arange(30).expand(4, 30), cache=cache, pages_BP=pages)
    for row, length in enumerate(lengths):
        close(prefill[row, :length], alone[row][:length])
    for step in range(15):
        positions = torch.tensor(lengths) + step
        hidden = module(ids.gather(1, positions.unsqueeze(1)), positions.unsqueeze(1), cache=cache, pages_BP=pages)
        for row, position in enumerate(positions.tolist()):
            close(hidden[row, 0], alone[row][position])


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_prompt_in_pieces_equals_the_whole(name: str) -> None:
    """Several tokens at once behind what is cached, each row at its own position."""
    module = decoder(SHAPES[name])
    ids = tokens(2, 40)
    expected = module(ids)
    cache = cache_for(module, fill=9.0)
    pages = torch.tensor([[4], [5]])
    module(ids[:1, :11], cache=cache, pages_BP=pages[:1])
    module(ids[1:, :3], cache=cache, pages_BP=pages[1:])
    positions = torch.stack((torch.arange(11, 19), torch.arange(3, 11)))
    hidden = module(ids.gather(1, positions), positions, cache=cache, pages_BP=pages)
    close(hidden[0], expected[0, 11:19])
    close(hidden[1], expected[1, 3:11])
    # One row of positions stands for all rows, as elsewhere.
    module(ids[:, :5], cache=cache, pages_BP=pages)
    close(module(ids[:, 5:9], torch.arange(5, 9).unsqueeze(0), cache=cache, pages_BP=pages), expected[:, 5:9])


@torch.no_grad()
def test_long_prompts_take_the_fused_attention_and_agree() -> None:
    """Beyond attention.SHORT positions another kernel runs, with and without the cache."""
    config = PALM.__class__.palm(97, 48, 2, 4, max_positions=700)
    module = decoder(config)
    ids = tokens(1, 600)
    whole = module(ids)
    cache = KVCache(config, 1, 700, torch.float32)
    close(module(ids[:, :560], cache=cache), whole[:, :560])
    close(module(ids[:, 560:], torch.arange(560, 600).unsqueeze(0), cache=cache), whole[:, 560:])
    close(module(ids[:, :300]), whole[:, :300])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("page", [1, 3, 8])
@pytest.mark.parametrize("far", [0, 256])
@torch.no_grad()
def test_pages_may_lie_anywhere_and_be_shared(name: str, page: int, far: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sequences with one beginning, whose pages are neighbours, scattered, and partly the first one's own.

    Read row by row and all together: ``far`` decides.
    """
    monkeypatch.setattr("palmier.model.attention.FAR", far)
    module = decoder(SHAPES[name])
    ids = tokens(1, 24).repeat(3, 1)
    ids[1:, 12:] = tokens(2, 12, seed=5)
    expected = module(ids)
    count, shared = -(-24 // page), 12 // page
    cache = KVCache(module.config, 4 * count, page, torch.float32)
    cache.keys.fill_(9.0)
    cache.values.fill_(9.0)
    first = list(range(count, 2 * count))
    others = [[*first[:shared], *reversed(range(k * count, k * count + count - shared))] for k in (2, 3)]
    pages = torch.tensor([first, *others])
    close(module(ids[:1, :12], cache=cache, pages_BP=pages[:1]), expected[:1, :12])
    start = shared * page  # the others compute what no whole page holds
    where = torch.arange(start, 18).expand(3, -1)
    close(module(ids[:, start:18], where, cache=cache, pages_BP=pages), expected[:, start:18])
    for position in range(18, 24):
        where = torch.full((3, 1), position)
        step = module(ids[:, position : position + 1], where, cache=cache, pages_BP=pages)
        close(step, expected[:, position : position + 1])
    close(module(ids[:1, 23:], torch.tensor([[23]]), cache=cache, pages_BP=pages[:1]), expected[:1, 23:])
    close(module(ids[1:2, 23:], torch.tensor([[23]]), cache=cache, pages_BP=pages[1:2]), expected[1:2, 23:])


@torch.no_grad()
def test_what_a_padded_row_computes_past_its_end_goes_nowhere() -> None:
    module = decoder(PALM)
    ids = tokens(2, 9)
    cache = KVCache(PALM, 4, 4, torch.float32)
    pages = torch.tensor([[0, 1, 2], [3, cache.nowhere, cache.nowhere]])
    module(ids, cache=cache, pages_BP=pages)
    alone = KVCache(PALM, 4, 4, torch.float32)
    module(ids[:1], cache=alone, pages_BP=pages[:1])
    close(cache.keys[:, :, :9], alone.keys[:, :, :9])
    step = module(ids[1:, 3:4], torch.tensor([[3]]), cache=cache, pages_BP=pages[1:])
    close(step, module(ids[1:, :4])[:, 3:])


def test_the_cache_says_what_it_takes() -> None:
    cache = KVCache(PALM, 4, 32, torch.bfloat16)
    # Keys and values, layers, pages and the one called nowhere, positions, head_dim, bytes.
    assert cache.bytes == 2 * 2 * (4 + 1) * 32 * 12 * 2 == 5 * page_bytes(PALM, 32, 2)
    with pytest.raises(Refusal, match=r"65 positions.*64"):
        KVCache(PALM, 4, 65, torch.float32)
    with pytest.raises(Refusal, match="at least one page"):
        KVCache(PALM, 0, 8, torch.float32)


@torch.no_grad()
def test_a_position_beyond_the_cache_is_refused() -> None:
    module = decoder(PALM)
    cache = cache_for(module, length=16)
    with pytest.raises(Refusal, match="position 16 is beyond the cache's 16"):
        module(tokens(1, 1), torch.tensor([[16]]), cache=cache)
    with pytest.raises(Refusal, match="position 16"):
        module(tokens(1, 17), cache=cache)


@pytest.mark.parametrize("name", SHAPES)
def test_decoding_follows_weights_that_are_trained_in_place(name: str) -> None:
    """The packed weights are the parameters' own memory: an optimiser's step is seen at once."""
    module = decoder(SHAPES[name])
    ids = tokens(2, 8)
    cache = cache_for(module)
    module(ids, cache=cache)  # packs
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05)
    module.logits(module(ids)).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(before[key], value) for key, value in module.state_dict().items())
    with torch.no_grad():
        close(module(ids, cache=cache), module(ids))


@torch.no_grad()
def test_weights_are_packed_once() -> None:
    """A second step finds them packed: packing at every step would be right, and slow."""
    module = decoder(PALM)
    module(tokens(1, 3), cache=cache_for(module))
    packed = module.model.layers[0]._packed.weight
    assert packed.data_ptr() == module.model.layers[0].self_attn.q_proj.weight.data_ptr()
    module(tokens(1, 3), cache=cache_for(module))
    assert module.model.layers[0]._packed.weight is packed


@torch.no_grad()
def test_biases_are_packed_beside_the_weights() -> None:
    module = decoder(QWEN2)
    module(tokens(1, 3), cache=cache_for(module))
    packed, attention = module.model.layers[0]._packed_qkv.bias, module.model.layers[0].self_attn
    assert packed.data_ptr() == attention.q_proj.bias.data_ptr()
    assert torch.equal(packed, torch.cat((attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias)))
    module(tokens(1, 3), cache=cache_for(module))
    assert module.model.layers[0]._packed_qkv.bias is packed


@pytest.mark.parametrize("config", [PALM, QWEN2], ids=["palm", "qwen2"])
@pytest.mark.parametrize("change", ["double", "loaded", "data"])
@torch.no_grad()
def test_decoding_follows_weights_in_other_memory(change: str, config: ModelConfig) -> None:
    module, other = decoder(config, seed=1), decoder(config, seed=2)
    ids = tokens(2, 8)
    module(ids, cache=cache_for(module))
    if change == "loaded":
        module.load_state_dict(other.state_dict(), assign=True)
    elif change == "data":
        part = "weight" if config is PALM else "bias"
        there, here = (one.model.layers[1].self_attn.v_proj.get_parameter(part) for one in (other, module))
        here.data = there.data
    else:
        module = module.double()
    cache = KVCache(config, 2, 16, next(module.parameters()).dtype)
    close(module(ids, cache=cache), module(ids))


def test_a_model_that_was_packed_while_inferring_can_be_trained() -> None:
    module = decoder(PALM)
    with torch.inference_mode():
        module(tokens(2, 8), cache=KVCache(PALM, 2, 16, torch.float32))
    module.logits(module(tokens(2, 8))).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_decoding_keeps_no_graph() -> None:
    module = decoder(PALM)
    cache = cache_for(module)
    assert not module(tokens(2, 8), cache=cache).requires_grad
    assert cache.keys.grad_fn is None


def test_segments_and_a_cache_exclude_each_other() -> None:
    module = decoder(PALM)
    with pytest.raises(ValueError, match="one sequence"):
        module(tokens(1, 4), segments_BT=torch.ones(1, 4, dtype=torch.long), cache=cache_for(module))
