"""Causality, packing, initialisation, determinism, and the scalar head."""

from __future__ import annotations

import copy

import pytest
import torch

from palmier.model import attention
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder, token_logprobs
from palmier.model.heads import RewardModel

from .shapes import LLAMA, PALM, QWEN2, QWEN3, SHAPES, decoder, tokens


@pytest.fixture(params=["short", "long"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to attend: plain products, and the fused kernel that long texts take."""
    if request.param == "long":
        monkeypatch.setattr(attention, "SHORT", 4)
    return request.param


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_no_token_sees_a_later_one(name: str, kernel: str) -> None:
    module = decoder(SHAPES[name])
    ids = tokens(2, 20)
    changed = ids.clone()
    changed[:, 13:] = (changed[:, 13:] + 1) % 97
    torch.testing.assert_close(module(ids)[:, :13], module(changed)[:, :13], atol=1e-5, rtol=0)
    assert (module(ids)[:, 13:] - module(changed)[:, 13:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_packed_texts_equal_each_text_alone(name: str, kernel: str) -> None:
    """Hidden states and gradients; padding in between and behind."""
    module = decoder(SHAPES[name])
    first, second, third = tokens(1, 7, seed=1), tokens(1, 5, seed=2), tokens(1, 9, seed=3)
    padding = torch.zeros(1, 3, dtype=torch.long)
    rows = [torch.cat((first, second, padding), 1), torch.cat((third, padding, padding), 1)]
    segments = torch.tensor([[1] * 7 + [2] * 5 + [0] * 3, [4] * 9 + [0] * 6])
    hidden = module(torch.cat(rows), segments_BT=segments)
    assert hidden.isfinite().all()
    pieces = [hidden[0, :7], hidden[0, 7:12], hidden[1, :9]]
    sum(piece.square().sum() * weight for piece, weight in zip(pieces, (1.0, 2.0, 3.0), strict=True)).backward()
    packed = {key: parameter.grad.clone() for key, parameter in module.named_parameters() if parameter.grad is not None}
    module.zero_grad()
    for text, piece, weight in zip((first, second, third), pieces, (1.0, 2.0, 3.0), strict=True):
        alone = module(text)[0]
        torch.testing.assert_close(piece, alone, atol=2e-5, rtol=1e-4)
        (alone.square().sum() * weight).backward()
    for key, gradient in packed.items():
        expected = dict(module.named_parameters())[key].grad
        torch.testing.assert_close(gradient, expected, atol=2e-3, rtol=2e-3, msg=key)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_positions_count_by_distance_alone(name: str) -> None:
    """Rotary positions are relative: a text moved as a whole keeps its hidden states."""
    module = decoder(SHAPES[name])
    ids = tokens(2, 12)
    moved = module(ids, torch.stack((torch.arange(12), torch.arange(30, 42))))
    torch.testing.assert_close(moved, module(ids), atol=2e-5, rtol=1e-4)
    stretched = module(ids, torch.arange(12).mul(2).expand(2, 12))
    assert (stretched - module(ids)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["palm", "llama"])
def test_training_is_deterministic(name: str) -> None:
    def gradients() -> list[torch.Tensor]:
        module = decoder(SHAPES[name]).bfloat16()
        ids = tokens(4, 33)
        found = token_logprobs(module, module(ids[:, :-1]), ids[:, 1:])
        (-found.logprobs_BT.mean() + 1e-4 * found.logsumexp_BT.square().mean()).backward()
        return [parameter.grad for parameter in module.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_palm_starts_as_published() -> None:
    """Embeddings N(0, 1), kernels N(0, 1 / fan-in), and logits of about N(0, 1) from the first step on."""
    module = Decoder.create(ModelConfig.palm(2000, 128, 2, 2), seed=1)
    assert module.model.embed_tokens.weight.std().item() == pytest.approx(1.0, abs=0.02)
    layer = module.model.layers[0]
    assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(128**-0.5, rel=0.03)
    assert layer.mlp.down_proj.weight.std().item() == pytest.approx(512**-0.5, rel=0.03)
    ids = tokens(8, 40, vocabulary=2000)
    with torch.no_grad():
        logits = module.logits(module(ids))
    # Scaled by d**-0.5, a LayerNorm'd state of length √d against N(0, 1) embeddings spreads by about 1.
    assert logits.std().item() == pytest.approx(1.0, abs=0.2)


def test_creation_follows_the_seed_and_leaves_torchs_own_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (Decoder.create(LLAMA, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
        assert value.dim() == 1 or not torch.equal(value, other.state_dict()[key])
    assert one.model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_biases_start_at_0_and_norms_at_1() -> None:
    layer = Decoder.create(QWEN2, 1).model.layers[0]
    assert not layer.self_attn.k_proj.bias.any()
    assert (layer.input_layernorm.weight == 1).all()
    assert (Decoder.create(QWEN3, 1).model.layers[0].self_attn.q_norm.weight == 1).all()


def test_a_copy_stands_alone() -> None:
    """PPO's reference is a deepcopy: training the policy must not move it, packed or not."""
    module = decoder(PALM)
    with torch.no_grad():
        from palmier.model.cache import KVCache

        module(tokens(1, 4), cache=KVCache(PALM, 1, 8, torch.float32))
        frozen = copy.deepcopy(module)
        before = frozen(tokens(1, 9))
        for parameter in module.parameters():
            parameter.add_(1.0)
        assert torch.equal(frozen(tokens(1, 9)), before)
        cached = frozen(tokens(1, 9), cache=KVCache(PALM, 1, 16, torch.float32))
        torch.testing.assert_close(cached, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [PALM, LLAMA])
@torch.no_grad()
def test_a_score_does_not_depend_on_padding_or_company(config: ModelConfig) -> None:
    """bugs.md 11: any padding, batch 1 or many, an end token inside the prompt."""
    model = RewardModel.from_decoder(decoder(config), seed=3)
    lengths = [3, 17, 9, 1]
    texts = [tokens(1, length, seed=length) for length in lengths]
    texts[1][0, 5] = 1  # an end token in the middle
    alone = torch.cat([model.scores(text, torch.tensor([text.shape[1] - 1])) for text in texts])
    for width in (17, 40):
        for filler in (0, 1, 96):
            padded = torch.full((4, width), filler)
            for row, text in enumerate(texts):
                padded[row, : text.shape[1]] = text
            scores = model.scores(padded, torch.tensor(lengths) - 1)
            torch.testing.assert_close(scores, alone, atol=1e-5, rtol=0)
    values = model.values(texts[1])
    assert values.shape == (1, 17)
    torch.testing.assert_close(values[0, -1], alone[1], atol=1e-5, rtol=0)


def test_a_fresh_head_is_small_and_follows_its_seed() -> None:
    body = decoder(PALM)
    one, same, other = (RewardModel.from_decoder(body, seed) for seed in (1, 1, 2))
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    assert one.score.weight.std().item() == pytest.approx((48 + 1) ** -0.5, rel=0.3)


def test_a_reward_in_bfloat16_is_computed_in_float32() -> None:
    model = RewardModel.from_decoder(decoder(PALM), seed=1)
    model.model.bfloat16()
    values = model.values(tokens(2, 9))
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.bfloat16().float())


@pytest.mark.long
@pytest.mark.parametrize("name", ["palm", "llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("whole", [False, True])
def test_compiled_equals_eager(name: str, whole: bool) -> None:
    """Per block and as a whole; a cache after compiling still decodes by the eager path."""
    from palmier.model.cache import KVCache

    ids = tokens(4, 33)
    results = []
    for compiled in (False, True):
        module = decoder(SHAPES[name])
        if compiled and whole:
            module.compile(dynamic=False, fullgraph=False)
        elif compiled:
            for layer in module.model.layers:
                layer.compile(dynamic=False, fullgraph=True)
        hidden = module(ids[:, :-1])
        token_logprobs(module, hidden, ids[:, 1:]).logprobs_BT.sum().backward()
        with torch.no_grad():
            cached = module(ids[:, :-1], cache=KVCache(module.config, 4, 40, torch.float32))
        results.append([hidden.detach(), cached, *(parameter.grad for parameter in module.parameters())])
    for eager, compiled_result in zip(*results, strict=True):
        torch.testing.assert_close(compiled_result, eager, atol=1e-3, rtol=1e-3)
