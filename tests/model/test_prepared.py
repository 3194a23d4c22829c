"""Decoding with prepared weights: the plain numbers, and never those of weights that lie elsewhere since."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.prepared import Prepared

from .shapes import PALM, QWEN2, SHAPES, decoder, tokens


def needs_an_order() -> None:
    if Prepared.of(torch.zeros(32, 32)) is None:
        pytest.skip("this machine's products have no order of their own")


def decoded(module: Decoder, ids: Tensor) -> Tensor:
    """Hidden states of a prompt and two steps through a cache."""
    cache = KVCache(module.config, len(ids), 32, module.dtype)
    parts = [module(ids[:, :-2], cache=cache)]
    for position in range(ids.shape[1] - 2, ids.shape[1]):
        at = torch.full((len(ids), 1), position)
        parts += [module(ids[:, position : position + 1], at, cache=cache)]
    return torch.cat(parts, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 16, 40, 300])
def test_a_product_is_the_plain_one(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight, x, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((80, 48), (rows, 1, 48), (80,)))
    prepared = Prepared.of(weight)
    if prepared is None:
        pytest.skip("this machine's products have no order of their own")
    for added in (None, bias):
        exact = F.linear(x.double(), weight.double(), None if added is None else added.double())
        error = 2e-6 if dtype == torch.float32 else 2**-8
        torch.testing.assert_close(prepared(x, added).double(), exact, atol=20 * error, rtol=error)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_prepared_decoder_decodes_as_before(name: str) -> None:
    module = decoder(SHAPES[name])
    ids = tokens(3, 12)
    expected = decoded(module, ids)
    module.prepare()
    torch.testing.assert_close(decoded(module, ids), expected, atol=1e-5, rtol=1e-5)
    logits = module.sharp_logits(expected[:, -1])
    torch.testing.assert_close(logits, module.logits(expected[:, -1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [PALM, QWEN2], ids=["palm", "qwen2"])
@torch.no_grad()
def test_the_copy_is_what_decodes_until_it_is_made_again(config: ModelConfig) -> None:
    """Whoever changes weights in place says so by ``prepare``; training reads the weights themselves at once."""
    needs_an_order()
    module, ids = decoder(config), tokens(2, 8)
    module.prepare()
    before = decoded(module, ids)
    for layer in (*(block.mlp.down_proj for block in module.model.layers), module.model.layers[0].self_attn.v_proj):
        layer.weight.mul_(1.5)
    assert not torch.allclose(module(ids), before, atol=1e-3)
    torch.testing.assert_close(decoded(module, ids), before)
    module.prepare()
    torch.testing.assert_close(decoded(module, ids), module(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", ["double", "loaded"])
@torch.no_grad()
def test_weights_in_other_memory_are_never_answered_from_the_copy(change: str) -> None:
    module, other, ids = decoder(PALM, seed=1), decoder(PALM, seed=2), tokens(2, 8)
    module.prepare()
    decoded(module, ids)
    if change == "loaded":
        module.load_state_dict(other.state_dict(), assign=True)
    else:
        module = module.double()
    torch.testing.assert_close(decoded(module, ids), module(ids), atol=1e-5, rtol=1e-5)
    hidden = module(ids)[:, -1]
    torch.testing.assert_close(module.sharp_logits(hidden), module.logits(hidden), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_small_last_layer_in_fp32_is_that_of_the_weights() -> None:
    module, hidden_BD = decoder(PALM).bfloat16(), torch.randn(3, PALM.hidden_size).bfloat16()

    def exact() -> Tensor:
        return hidden_BD.float() @ module.output_weight.float().T * module.config.logit_scale

    module.prepare()
    torch.testing.assert_close(module.sharp_logits(hidden_BD), exact(), atol=1e-5, rtol=1e-5)
    module.output_weight.mul_(1.5)
    module.prepare()
    torch.testing.assert_close(module.sharp_logits(hidden_BD), exact(), atol=1e-5, rtol=1e-5)
    module.load_state_dict(decoder(PALM, seed=2).bfloat16().state_dict(), assign=True)  # other memory, not prepared
    torch.testing.assert_close(module.sharp_logits(hidden_BD), exact(), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_where_torch_has_onednn_products_are_prepared() -> None:
    assert Prepared.of(torch.zeros(32, 32)) is not None
    narrow = Prepared.of(torch.zeros(32, 32, dtype=torch.bfloat16))
    assert (narrow is not None) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


@torch.no_grad()
def test_without_onednn_the_plain_product_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert Prepared.of(torch.zeros(32, 32)) is None
    module, ids = decoder(PALM), tokens(2, 8)
    module.prepare()
    torch.testing.assert_close(decoded(module, ids), module(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bf16_without_its_own_instructions_is_not_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_an_order()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert Prepared.of(torch.zeros(32, 32, dtype=torch.bfloat16)) is None
    assert Prepared.of(torch.zeros(32, 32, dtype=torch.float64)) is None
