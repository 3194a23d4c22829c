"""token_logprobs against the plain formulas on whole logits, forwards and backwards."""

from __future__ import annotations

import pytest
import torch

from palmier.model import logprobs
from palmier.model.decoder import Decoder, token_logprobs

from .shapes import SHAPES, decoder, tokens


def plain(module: Decoder, hidden: torch.Tensor, targets: torch.Tensor, temperature: float) -> list[torch.Tensor]:
    """The three results by log_softmax on the logits of every place."""
    z = module.logits(hidden) / temperature
    log_p = z.log_softmax(-1)
    asked = (targets != -100).float()
    chosen = log_p.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
    return [chosen * asked, z.logsumexp(-1) * asked, -(log_p.exp() * log_p).sum(-1) * asked]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one tile of rows each way, so that the seams between tiles are tested."""
    monkeypatch.setattr(logprobs, "TILE", 40 * 32)
    monkeypatch.setattr(logprobs, "COLUMNS", 40)
    monkeypatch.setattr(logprobs, "ROWS", 16)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_log_softmax(name: str, temperature: float) -> None:
    module = decoder(SHAPES[name])
    ids = tokens(4, 21)
    targets = ids[:, 1:].clone()
    targets[0, :7] = -100
    targets[2] = -100
    weights = [torch.randn(targets.shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    results = {}
    for name_of, formula in (("plain", plain), ("tiled", token_logprobs)):
        module.zero_grad()
        hidden = module(ids[:, :-1])
        if formula is plain:
            found = plain(module, hidden, targets, temperature)
        else:
            found = list(token_logprobs(module, hidden, targets, temperature=temperature))
        sum((x * w).sum() for x, w in zip(found, weights, strict=True)).backward()
        results[name_of] = found, {n: p.grad.clone() for n, p in module.named_parameters()}
    for ours, expected in zip(results["tiled"][0], results["plain"][0], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)
    for key, expected in results["plain"][1].items():
        torch.testing.assert_close(results["tiled"][1][key], expected, atol=1e-4, rtol=1e-4, msg=key)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_result_alone_carries_its_gradient(which: int) -> None:
    """A loss reads one of the three: the others' gradients are absent, not zeros."""
    module = decoder(SHAPES["palm"])
    ids = tokens(2, 18)
    gradients = []
    for formula in (plain, None):
        module.zero_grad()
        hidden = module(ids[:, :-1])
        found = plain(module, hidden, ids[:, 1:], 1.0) if formula else token_logprobs(module, hidden, ids[:, 1:])
        found[which].square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    for expected, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)


def test_backward_agrees_with_finite_differences() -> None:
    hidden = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    targets = tokens(7, vocabulary=11)

    def doubled(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return logprobs._HeadLogProbs.apply(hidden, weight, targets, 0.7)

    # The results are fp32, so the differences must be coarse: 1e-3 of values around 1.
    assert torch.autograd.gradcheck(doubled, (hidden, weight), eps=1e-2, atol=2e-2, rtol=2e-2, nondet_tol=0.0)


def test_places_that_ask_for_nothing_give_zeros_and_no_gradient() -> None:
    module = decoder(SHAPES["palm"])
    ids = tokens(2, 9)
    hidden = module(ids).detach().requires_grad_()
    targets = torch.full((2, 9), -100)
    found = token_logprobs(module, hidden, targets)
    assert all(x.shape == (2, 9) and not x.any() for x in found)
    targets[1, 3] = 5
    found = token_logprobs(module, hidden, targets)
    (gradient,) = torch.autograd.grad(found.logprobs_BT.sum(), hidden)
    assert gradient[1, 3].any()
    gradient[1, 3] = 0
    assert not gradient.any()


def test_nothing_of_the_size_of_the_logits_is_kept_for_backward() -> None:
    module = decoder(SHAPES["palm"])
    hidden = module(tokens(8, 60)).detach().requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        token_logprobs(module, hidden, tokens(8, 60)).logprobs_BT.sum().backward()
    assert max(kept) <= hidden.numel()
    assert hidden.numel() < 8 * 60 * 97


def test_bfloat16_stays_close_to_float32() -> None:
    """Three digits of a logit are what bf16 has; the sums over the vocabulary are fp32."""
    module = decoder(SHAPES["palm"])
    ids = tokens(4, 30)
    exact = token_logprobs(module, module(ids), ids).logprobs_BT
    half = decoder(SHAPES["palm"]).bfloat16()
    rough = token_logprobs(half, half(ids), ids).logprobs_BT
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05


@pytest.mark.parametrize("small", [False, True], ids=["large", "small"])
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_sharp_logits_are_an_fp32_product_for_the_likeliest_tokens(
    name: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last layer in fp32 where bf16 noise moves the ratio (trl#4303); a small one's for every token."""
    if not small:
        monkeypatch.setattr("palmier.model.decoder.SMALL", 0)
    module = decoder(SHAPES[name])
    hidden_BD = module(tokens(8, 30))[:, -1]
    assert torch.equal(module.sharp_logits(hidden_BD), module.logits(hidden_BD))
    half, hidden_BD = module.bfloat16(), 4 * hidden_BD.bfloat16()
    exact_BV = hidden_BD.float() @ half.output_weight.float().T * half.config.logit_scale
    sharp_BV, rough_BV = half.sharp_logits(hidden_BD), half.logits(hidden_BD)
    best_BK = rough_BV.topk(rough_BV.shape[1] if small else 32, dim=-1).indices
    torch.testing.assert_close(sharp_BV.gather(1, best_BK), exact_BV.gather(1, best_BK), atol=1e-5, rtol=1e-5)
    error, rough_error = (
        (logits_BV.log_softmax(-1) - exact_BV.log_softmax(-1)).gather(1, best_BK[:, :4]).abs().max()
        for logits_BV in (sharp_BV, rough_BV)
    )
    assert error < 0.1 * rough_error


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_an_error(temperature: float) -> None:
    module = decoder(SHAPES["palm"])
    ids = tokens(1, 4)
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(module, module(ids), ids, temperature=temperature)
