"""int8 weights: a decoder that answers out of a quarter of fp32's memory, and is never trained.

Every matrix W (out, in) is held as whole numbers Q and one scale s a row (an output channel):

    s = max |W| over the row / 127, rounded to the activations' format;  Q = round(W / s);  W ≈ s · Q

It is symmetric, so there is no zero point. The scale is rounded before it divides: its own rounding
is then no error. One token's product reads every weight once, so that half of bf16's bytes is
nearly half of its time. Activations, norms, keys and values keep their format, bf16 or fp32; torch's kernel takes
bf16 alone, so that fp32 activations are narrowed for it and its results widened.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.errors import Refusal
from palmier.model.decoder import Decoder
from palmier.model.layers import Packed, RMSNorm

LEVELS = 127
"""Largest whole number: -127 … 127, the same on both sides of 0."""

FEW = 16
"""Up to this many rows of activations torch's int8 kernel is the faster way; it reads the weights
again for every four rows. Beyond, they are widened first and multiplied as usual."""

LANES = 32
"""The kernel takes whole vectors of inputs; where some are left over it reads on past the row, and the process
dies. Measured, it wants a multiple of 16 with AVX-512 and of 8 with AVX2: this is on the safe side of both."""

TILE = 4096
"""Rows of weights that are widened at a time: as bf16 they still fit into a cache."""


def quantise(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Q (out, in) as int8 and s (out,) as ``dtype`` of a matrix (out, in) in any floating format."""
    numbers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), dtype=dtype, device=weight.device)
    for start in range(0, len(weight), TILE):
        rows = slice(start, start + TILE)
        wide = weight[rows].float()
        # A row of zeros may have any scale but 0. The scale's rounding takes the largest number to 127.25 at most.
        scale[rows] = (wide.abs().amax(1) / LEVELS).clamp_(min=torch.finfo(dtype).tiny)
        numbers[rows] = (wide / scale[rows].float().unsqueeze(1)).round_()
    return numbers, scale


def product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (…, in) · (s · Q)ᵀ + bias → (…, out) in x's format; the way is chosen by the rows of x.

    Scales of fp32 ask for an fp32 product, however few the rows are.
    """
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= FEW and rows.shape[1] % LANES == 0 and scale.dtype == torch.bfloat16 and x.device.type == "cpu":
        out = torch._weight_int8pack_mm(rows.to(torch.bfloat16), weight, scale).to(x.dtype)
    else:
        tiles = (weight[start : start + TILE].to(x.dtype) for start in range(0, len(weight), TILE))
        out = torch.cat([F.linear(rows, tile) for tile in tiles], -1).mul_(scale)
    if bias is not None:
        out = out + bias
    return out.view(*x.shape[:-1], len(weight))


class Int8Linear(nn.Module):
    """A linear layer with int8 weights; ``weight`` (out, in), ``scale`` (out,) and ``bias`` (out,) or none."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.scale = _fixed(weight), _fixed(scale)
        self.bias = None if bias is None else _fixed(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return product(x, self.weight, self.scale, self.bias)


class Int8Embedding(nn.Module):
    """An embedding with int8 weights (V, D) and a scale a token; tied, it is the head's matrix too."""

    def __init__(self, weight: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.scale = _fixed(weight), _fixed(scale)
        self._dtype = dtype

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (…) → (…, D)."""
        return self.weight[tokens].to(self._dtype) * self.scale[tokens].unsqueeze(-1)


class FixedRMSNorm(nn.Module):
    """RMSNorm whose weight never changes: ``weight`` (D,).

    The mean of (x, -x) is 0 and its variance is the mean of x², so that one LayerNorm over the two is
    it. For a single row that kernel takes half the time of torch's RMSNorm, which is eight small ones.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = _fixed(weight)
        self.eps = eps
        self._twice = torch.cat((weight, weight))

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        size = len(self.weight)
        if x.numel() > size:
            return F.rms_norm(x, (size,), self.weight, self.eps)
        return F.layer_norm(torch.cat((x, -x), -1), (2 * size,), self._twice, None, self.eps)[..., :size]


class PackedInt8:
    """What ``layers.Packed`` is, of int8 layers: their weights lie side by side from the start, and stay there."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        self.weight, self.scale, self.bias = weight, scale, bias

    def __call__(self, x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        """All outputs for ``x`` (…, in), split into ``sizes``."""
        return product(x, self.weight, self.scale, self.bias).split_with_sizes(sizes, -1)


class Int8Decoder(Decoder):
    """A decoder of int8 weights; ``to_int8`` makes it. It answers like any other, and can't be trained or saved."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype, scales: torch.dtype) -> None:
        super().__init__(decoder.config)
        self.model = decoder.model
        embedding = Int8Embedding(*quantise(self.model.embed_tokens.weight.detach(), scales), dtype)
        self.model.embed_tokens = embedding  # type: ignore[assignment]  # it stands in for nn.Embedding
        if not self.config.tie_embeddings:
            self.lm_head = _int8(decoder.lm_head, dtype, scales)  # type: ignore[assignment]  # it stands in for nn.Linear
        for block in self.model.layers:
            for name, packed in [(name, value) for name, value in vars(block).items() if isinstance(value, Packed)]:
                setattr(block, name, _pack(block, packed, dtype, scales))
            layers = [layer for layer in block.modules() if isinstance(layer, nn.Linear)]
            _replace(block, {layer: _int8(layer, dtype, scales) for layer in layers})
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(False)
            if parameter.is_floating_point() and not name.endswith(".scale"):
                # A copy in any case: a part of a mapped file would keep the whole of it in the process's memory.
                parameter.data = parameter.data.to(dtype, copy=True)
        for owner in list(self.model.modules()):
            for name, norm in list(owner.named_children()):
                if isinstance(norm, RMSNorm):
                    setattr(owner, name, FixedRMSNorm(norm.weight.detach(), norm.eps))
        self.eval()

    @property
    def precision(self) -> str:
        return "int8"

    @property
    def output_weight(self) -> Tensor:
        """The (V, D) matrix of the head, widened at every call: for evaluation; answers go through ``logits``."""
        head = self._head
        return head.weight.to(self.dtype) * head.scale.unsqueeze(1)

    def prepare(self) -> None:
        """Nothing: int8 weights lie as their product reads them."""

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, V) of hidden states (…, D), scaled as the family does."""
        return product(hidden, self._head.weight, self._head.scale).float() * self.config.logit_scale

    def head_rows(self, tokens: Tensor | slice) -> Tensor:
        """The head's fp32 rows (…, D) of some tokens (…)."""
        return self._head.weight[tokens].float() * self._head.scale[tokens].float().unsqueeze(-1)

    def train(self, mode: bool = True) -> Int8Decoder:
        """Evaluation mode alone: raises Refusal where training is asked for."""
        if mode:
            raise Refusal("int8 weights are for answering and can't be trained: load the model as fp32 or bf16")
        return super().train(mode)

    @property
    def _rounds_logits(self) -> bool:
        return self._head.scale.dtype != torch.float32

    @property
    def _head(self) -> Int8Embedding | Int8Linear:
        head: Any = self.model.embed_tokens if self.config.tie_embeddings else self.lm_head
        return cast(Int8Embedding | Int8Linear, head)


def to_int8(decoder: Decoder, dtype: torch.dtype = torch.bfloat16, scales: torch.dtype = torch.bfloat16) -> Int8Decoder:
    """The same decoder with int8 weights, computing in ``dtype``. ``decoder`` is used up: it can't answer any more.

    ``dtype`` is the activations' format; with ``scales`` of bf16 the products of few rows are torch's int8 kernel's,
    which rounds to bf16, with fp32 nothing but the weights is rounded. The matrices are replaced one by one, so that no
    second copy of the model is ever in memory.
    """
    return Int8Decoder(decoder, dtype, scales)


def is_int8(module: nn.Module) -> bool:
    """Whether a module has int8 weights: then it can be neither trained nor saved."""
    return any(parameter.dtype == torch.int8 for parameter in module.parameters())


def _fixed(value: Tensor) -> nn.Parameter:
    """A parameter (the engine's checksum reads parameters) that no optimiser moves."""
    return nn.Parameter(value, requires_grad=False)


def _int8(layer: nn.Linear, dtype: torch.dtype, scales: torch.dtype) -> Int8Linear:
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)
    return Int8Linear(*quantise(layer.weight.detach(), scales), bias)


def _pack(block: nn.Module, packed: Packed, dtype: torch.dtype, scales: torch.dtype) -> PackedInt8:
    """Quantise layers that read the same input into one memory, and put their parts into the block."""
    parts = [quantise(layer.weight.detach(), scales) for layer in packed.linears]
    weight, scale = torch.cat([numbers for numbers, _ in parts]), torch.cat([scale for _, scale in parts])
    bias = None
    if any(layer.bias is not None for layer in packed.linears):
        given = [
            layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in packed.linears
        ]
        bias = torch.cat([part.detach().to(dtype) for part in given])
    sizes = [layer.out_features for layer in packed.linears]
    biases = len(sizes) * [None] if bias is None else bias.split_with_sizes(sizes)
    views = zip(packed.linears, weight.split_with_sizes(sizes), scale.split_with_sizes(sizes), biases, strict=True)
    _replace(block, {layer: Int8Linear(part, own, added) for layer, part, own, added in views})
    return PackedInt8(weight, scale, bias)


def _replace(block: nn.Module, made: dict[nn.Linear, Int8Linear]) -> None:
    """Let each layer's place in the block hold what was made of it."""
    for owner in list(block.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, nn.Linear) and layer in made:
                setattr(owner, name, made[layer])
