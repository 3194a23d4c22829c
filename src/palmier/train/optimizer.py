"""AdamW over float32 masters, for one or more modules that may compute in bfloat16.

A bfloat16 weight has 8 bits of mantissa: a step of 1e-3 of its size would be rounded away. So
each trained parameter has a float32 master. Gradients are summed into float32 over the
micro-batches, torch's fused AdamW (Loshchilov & Hutter 2019) moves the masters, and the
weights become their rounded copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.model.int8 import is_int8
from palmier.train.schedule import Schedule, factor

EXACT = ("score.weight",)
"""Weights that stay float32 whatever the precision: the scalar head of a reward or value model."""


@dataclass(frozen=True)
class Optimization:
    """How weights move, and how often they are saved. A stage builds one out of its Settings."""

    lr: float  # peak learning rate of the first module
    schedule: Schedule = "cosine"  # see schedule.factor
    warmup: int = 0  # steps of linear rise
    decay: float = 0.4  # wsd only: the share of the steps over which it falls
    floor: float = 0.0  # the factor that the fall ends at
    beta1: float = 0.9  # memory of the mean of gradients
    beta2: float = 0.95  # memory of their squares; .95 forgets a spike sooner than .999
    eps: float = 1e-8  # added to the root of the squares
    weight_decay: float = 0.0  # a step's pull to zero, times lr; never on norms and embeddings
    clip: float = 1.0  # the largest global norm of one module's gradient
    embedding_lr: float = 1.0  # factor on lr for embeddings, which are drawn larger than kernels
    micro_batch: int = 0  # rows that are computed at once, 0 = all: memory against speed, never the result
    save_every: int = 0  # steps between saves, 0 = only at the end
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of weights and activations; masters are float32
    compile: Literal["auto", "yes", "no"] = "auto"  # torch.compile; auto: where it pays

    def check(self) -> None:
        """Raise Refusal where the numbers cannot work."""
        for name in ("lr", "clip", "eps", "embedding_lr"):
            if not getattr(self, name) > 0.0:
                raise Refusal(f"{name} {getattr(self, name)} must be above 0")
        for name in ("beta1", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise Refusal(f"{name} {getattr(self, name)} is outside [0, 1)")
        for name in ("decay", "floor"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise Refusal(f"{name} {getattr(self, name)} is outside 0 … 1")
        for name in ("warmup", "weight_decay", "micro_batch", "save_every"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} {getattr(self, name)} is negative")


@dataclass
class Part:
    """One trained module: its live weights, their float32 masters and the AdamW over those."""

    module: nn.Module
    lr: float
    weights: dict[str, nn.Parameter]
    masters: dict[str, Tensor]
    adam: torch.optim.AdamW
    factors: list[float] = field(default_factory=list)  # on lr, one a group of adam

    @property
    def rounded(self) -> list[tuple[nn.Parameter, Tensor]]:
        """(weight, master) where the two are different tensors."""
        return [(w, self.masters[n]) for n, w in self.weights.items() if w is not self.masters[n]]


class MasterAdamW:
    """The optimiser of all modules of a run."""

    def __init__(self, modules: Mapping[str, tuple[nn.Module, float]], how: Optimization, dtype: torch.dtype) -> None:
        """Take float32 masters of each module's trained parameters, then make the module ``dtype``.

        ``modules`` maps a name to (module, peak learning rate).
        """
        self.how = how
        for name, (module, _) in modules.items():
            if is_int8(module):
                raise Refusal(f"{name}: int8 weights are for answering and can't be trained: load it as fp32 or bf16")
        self.parts = {name: _part(module, lr, how, dtype) for name, (module, lr) in modules.items()}

    def collect(self) -> None:
        """Add the live weights' gradients to their masters' and clear them (after each micro-batch)."""
        for part in self.parts.values():
            for weight, master in part.rounded:
                if weight.grad is not None:
                    if master.grad is None:
                        master.grad = weight.grad.float()
                    else:
                        master.grad.add_(weight.grad)
                    weight.grad = None

    def norms(self) -> dict[str, float]:
        """The global L2 norm of each module's gradient; modules without a gradient are left out."""
        norms = {}
        for name, part in self.parts.items():
            gradients = [m.grad for m in part.masters.values() if m.grad is not None]
            if gradients:
                norms[name] = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        return norms

    def step(self, step: int, steps: int, norms: Mapping[str, float]) -> float:
        """Clip by ``norms``, move the masters, copy them into the weights; gives the factor on lr."""
        how = self.how
        rate = factor(step, steps, schedule=how.schedule, warmup=how.warmup, decay=how.decay, floor=how.floor)
        for name, norm in norms.items():
            part = self.parts[name]
            moved = [m for m in part.masters.values() if m.grad is not None]
            if norm > how.clip:
                torch._foreach_mul_([m.grad for m in moved if m.grad is not None], how.clip / norm)
            for group, embedding in zip(part.adam.param_groups, part.factors, strict=True):
                group["lr"] = part.lr * rate * embedding
            part.adam.step()
            part.adam.zero_grad(set_to_none=True)
            self._round(part)
        return rate

    def drop_gradients(self) -> None:
        for part in self.parts.values():
            part.module.zero_grad(set_to_none=True)
            part.adam.zero_grad(set_to_none=True)

    @contextlib.contextmanager
    def masters_in_place(self) -> Iterator[None]:
        """While it lasts the modules hold their float32 masters, so that what is saved is exact."""
        held = [(weight, weight.data) for part in self.parts.values() for weight, _ in part.rounded]
        try:
            for part in self.parts.values():
                for weight, master in part.rounded:
                    weight.data = master.data
            yield
        finally:
            for weight, data in held:
                weight.data = data

    def state(self) -> dict[str, Tensor]:
        """Masters, moments and step counts by name: all that the next step depends on."""
        tensors = {}
        for name, part in self.parts.items():
            for key, master in part.masters.items():
                tensors[f"{name}:{key}:master"] = master.detach()
                for slot, value in part.adam.state.get(master, {}).items():
                    tensors[f"{name}:{key}:{slot}"] = value
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` gave; raises Refusal where it belongs to other modules."""
        left = set(tensors)
        with torch.no_grad():
            for name, part in self.parts.items():
                for key, master in part.masters.items():
                    found = {s: f"{name}:{key}:{s}" for s in ("master", "step", "exp_avg", "exp_avg_sq")}
                    found = {slot: full for slot, full in found.items() if full in tensors}
                    if "master" not in found or tensors[found["master"]].shape != master.shape:
                        raise Refusal(f"the saved optimizer does not fit this model at {name}:{key}")
                    master.copy_(tensors[found.pop("master")])
                    left -= {f"{name}:{key}:master", *found.values()}
                    if found:
                        part.adam.state[master] = {slot: tensors[full].clone() for slot, full in found.items()}
                self._round(part)
        if left:
            raise Refusal(f"the saved optimizer holds {min(left)}, which this model has not")

    @staticmethod
    def _round(part: Part) -> None:
        with torch.no_grad():
            for weight, master in part.rounded:
                weight.copy_(master)


def _part(module: nn.Module, lr: float, how: Optimization, dtype: torch.dtype) -> Part:
    weights, masters = {}, {}
    with torch.no_grad():
        for name, weight in module.named_parameters():
            before = weight.data
            # A copy in any case: what was loaded may be a mapped file.
            weight.data = before.to(torch.float32 if name in EXACT else dtype, copy=True)
            if weight.requires_grad:
                weights[name] = weight
                exact = weight.dtype == torch.float32
                masters[name] = weight if exact else before.float().clone().requires_grad_()
    embeddings = {
        f"{owner}.{name}".lstrip(".")
        for owner, layer in module.named_modules()
        if isinstance(layer, nn.Embedding)
        for name, _ in layer.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, master in masters.items():
        plain = name in embeddings or master.ndim < 2
        key = (0.0 if plain else how.weight_decay, how.embedding_lr if name in embeddings else 1.0)
        groups.setdefault(key, []).append(master)
    adam = torch.optim.AdamW(
        [{"params": members, "weight_decay": decay} for (decay, _), members in groups.items()],
        lr=lr,
        betas=(how.beta1, how.beta2),
        eps=how.eps,
        fused=True,
    )
    return Part(module, lr, weights, masters, adam, [embedding for _, embedding in groups])
