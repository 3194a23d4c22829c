"""AdamW over float32 masters against a plain AdamW, and what bfloat16 alone would lose."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.scale.runtime import generator
from palmier.train.optimizer import MasterAdamW, Optimization

HOW = Optimization(lr=1e-2, weight_decay=0.1, schedule="constant", beta1=0.8, beta2=0.9, eps=1e-6, clip=1e9)


class Net(nn.Module):
    """An embedding, a kernel, a norm."""

    def __init__(self) -> None:
        super().__init__()
        draw = generator("net")
        self.table = nn.Embedding(5, 4)
        self.kernel = nn.Linear(4, 3, bias=False)
        self.norm = nn.LayerNorm(4, bias=False)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw))

    def forward(self, ids: Tensor) -> Tensor:
        return self.kernel(self.norm(self.table(ids)))


def gradients(net: nn.Module, step: int) -> None:
    for index, weight in enumerate(net.parameters()):
        weight.grad = torch.randn(weight.shape, generator=generator("gradient", step, index)).to(weight.dtype)


def run(net: nn.Module, how: Optimization, steps: int, dtype: torch.dtype = torch.float32) -> MasterAdamW:
    optimizer = MasterAdamW({"model": (net, how.lr)}, how, dtype)
    for step in range(steps):
        gradients(net, step)
        optimizer.collect()
        optimizer.step(step, steps, optimizer.norms())
    return optimizer


def slow_adamw(weight: Tensor, index: int, steps: int, lr: float, decay: float) -> Tensor:
    """Algorithm 2 of Loshchilov & Hutter 2019, in float64."""
    w = weight.double()
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    for step in range(steps):
        g = torch.randn(weight.shape, generator=generator("gradient", step, index)).double()
        mean = HOW.beta1 * mean + (1 - HOW.beta1) * g
        square = HOW.beta2 * square + (1 - HOW.beta2) * g * g
        mean_hat, square_hat = mean / (1 - HOW.beta1 ** (step + 1)), square / (1 - HOW.beta2 ** (step + 1))
        w = w - lr * decay * w - lr * mean_hat / (square_hat.sqrt() + HOW.eps)
    return w


def test_it_is_adamw_with_decay_on_kernels_alone_and_its_own_rate_on_embeddings() -> None:
    net, start = Net(), Net()
    run(net, replace(HOW, embedding_lr=3.0), 20)
    for index, (name, weight) in enumerate(start.named_parameters()):
        lr = HOW.lr * (3.0 if name == "table.weight" else 1.0)
        decay = HOW.weight_decay if name == "kernel.weight" else 0.0
        expected = slow_adamw(weight.detach(), index, 20, lr, decay)
        torch.testing.assert_close(net.get_parameter(name).detach().double(), expected, atol=1e-5, rtol=1e-5)


def test_masters_keep_the_steps_that_bfloat16_rounds_away() -> None:
    kernel = nn.Linear(8, 8, bias=False)
    nn.init.ones_(kernel.weight)
    how = Optimization(lr=1e-4, schedule="constant")
    optimizer = MasterAdamW({"model": (kernel, how.lr)}, how, torch.bfloat16)
    for step in range(100):
        kernel.weight.grad = torch.ones_like(kernel.weight)
        optimizer.collect()
        optimizer.step(step, 100, optimizer.norms())
    master = optimizer.parts["model"].masters["weight"]
    assert kernel.weight.dtype == torch.bfloat16
    # 100 steps of 1e-4 each; one alone is far below bfloat16's spacing of 2**-8 at 1.
    torch.testing.assert_close(master, torch.full_like(master, 0.99), atol=2e-4, rtol=0)
    assert torch.equal(kernel.weight, master.to(torch.bfloat16))


def test_gradients_of_micro_batches_are_summed_in_float32() -> None:
    kernel = nn.Linear(1, 1, bias=False)
    optimizer = MasterAdamW({"model": (kernel, 1.0)}, HOW, torch.bfloat16)
    for value in (256.0, 1.0, 1.0):
        kernel.weight.grad = torch.full_like(kernel.weight, value)
        optimizer.collect()
    gradient = optimizer.parts["model"].masters["weight"].grad
    assert gradient is not None
    assert gradient.item() == 258.0  # in bfloat16 256 + 1 is 256


def test_clipping_scales_the_whole_gradient_of_one_module_to_the_norm() -> None:
    policy, value = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    how = replace(HOW, clip=1.0, eps=1.0)
    optimizer = MasterAdamW({"policy": (policy, 0.1), "value": (value, 0.1)}, how, torch.float32)
    policy.weight.grad, value.weight.grad = torch.full((3, 3), 4.0), torch.full((3, 3), 0.01)
    norms = optimizer.norms()
    assert norms == pytest.approx({"policy": 12.0, "value": 0.03})
    optimizer.step(0, 1, norms)
    moments = [optimizer.parts[n].adam.state[optimizer.parts[n].masters["weight"]] for n in ("policy", "value")]
    torch.testing.assert_close(moments[0]["exp_avg"], torch.full((3, 3), (1 - how.beta1) / 3.0))
    torch.testing.assert_close(moments[1]["exp_avg"], torch.full((3, 3), (1 - how.beta1) * 0.01))


def test_modules_have_their_own_rate_and_one_without_a_gradient_stands_still() -> None:
    nets = {name: nn.Linear(2, 2, bias=False) for name in ("policy", "value")}
    for net in nets.values():
        nn.init.ones_(net.weight)
    how = replace(HOW, weight_decay=0.0)
    optimizer = MasterAdamW({"policy": (nets["policy"], 0.1), "value": (nets["value"], 0.3)}, how, torch.float32)
    nets["value"].weight.grad = torch.ones(2, 2)
    optimizer.step(0, 2, optimizer.norms())
    assert torch.equal(nets["policy"].weight.detach(), torch.ones(2, 2))
    torch.testing.assert_close(nets["value"].weight.detach(), torch.full((2, 2), 0.7))
    nets["policy"].weight.grad = torch.ones(2, 2)
    optimizer.step(1, 2, optimizer.norms())
    torch.testing.assert_close(nets["policy"].weight.detach(), torch.full((2, 2), 0.9))
    torch.testing.assert_close(nets["value"].weight.detach(), torch.full((2, 2), 0.7))


def test_a_scalar_head_stays_float32() -> None:
    net = nn.ModuleDict({"score": nn.Linear(4, 1, bias=False), "body": nn.Linear(4, 4, bias=False)})
    MasterAdamW({"model": (net, 1.0)}, HOW, torch.bfloat16)
    assert (net["score"].weight.dtype, net["body"].weight.dtype) == (torch.float32, torch.bfloat16)


def test_masters_are_what_is_saved_and_the_rounded_weights_come_back() -> None:
    net = Net()
    optimizer = run(net, HOW, 3, torch.bfloat16)
    rounded = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    with optimizer.masters_in_place():
        for name, weight in net.named_parameters():
            assert weight.dtype == torch.float32
            assert torch.equal(weight, optimizer.parts["model"].masters[name])
    assert all(torch.equal(weight, rounded[name]) for name, weight in net.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_optimizer_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    whole, first, second = Net(), Net(), Net()
    run(whole, HOW, 6, dtype)
    state = {k: v.clone() for k, v in run(first, HOW, 3, dtype).state().items()}
    optimizer = MasterAdamW({"model": (second, HOW.lr)}, HOW, dtype)
    optimizer.load_state(state)
    for step in range(3, 6):
        gradients(second, step)
        optimizer.collect()
        optimizer.step(step, 6, optimizer.norms())
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, second.get_parameter(name)), name


def test_the_state_of_another_model_is_refused() -> None:
    state = run(Net(), HOW, 1).state()
    with pytest.raises(Refusal, match="does not fit this model at model:weight"):
        MasterAdamW({"model": (nn.Linear(2, 2), 1.0)}, HOW, torch.float32).load_state(state)
    bigger = Net()
    bigger.kernel = nn.Linear(4, 4, bias=False)
    with pytest.raises(Refusal, match=r"does not fit this model at model:kernel\.weight"):
        MasterAdamW({"model": (bigger, 1.0)}, HOW, torch.float32).load_state(state)
    smaller = Net()
    del smaller.norm
    with pytest.raises(Refusal, match=r"norm\.weight"):
        MasterAdamW({"model": (smaller, 1.0)}, HOW, torch.float32).load_state(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", 0.0), ("lr", float("nan")), ("clip", 0.0), ("eps", 0.0), ("beta1", 1.0), ("beta2", -0.1), ("decay", 1.5),
     ("floor", -1.0), ("warmup", -1), ("weight_decay", -0.1), ("micro_batch", -1), ("save_every", -1)],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(Refusal, match=key):
        replace(Optimization(lr=1.0), **{key: value}).check()
