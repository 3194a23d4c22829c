"""Norms, SwiGLU, and the two blocks: parallel (PaLM) and sequential (Llama)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palmier.model.attention import Attention, Places, Rolled, Rotary, Sight
from palmier.model.config import ModelConfig
from palmier.model.prepared import Prepared, product


class LayerNorm(nn.Module):
    """LayerNorm with a weight and no bias."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    """The family's norm over the hidden size."""
    return (LayerNorm if config.family == "palm" else RMSNorm)(config.hidden_size, config.norm_eps)


class Packed:
    """Linear layers that read the same input, their weights side by side in memory.

    Decoding is many tiny products, each with a fixed cost: one product over the packed weights
    takes the place of two to five. The layers keep their own parameters, which become views of the
    packed memory, so that whoever changes them in place changes both. Where a parameter was given
    other memory since (another dtype, loaded weights), it is packed again. ``prepare`` makes products
    quicker until then, by a copy of the weights as they are at that moment.
    """

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        self.linears = tuple(linears)
        self.sizes = [linear.out_features for linear in linears]
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self._prepared: Prepared | None = None
        self.biased = linears[0].bias is not None

    def __call__(self, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """All outputs for ``x`` (…, in), split into ``sizes``. For inference: it carries no gradient."""
        weight, bias = self._whole_parameters()
        return product(x, weight, bias, self._prepared).split_with_sizes(sizes, -1)

    def prepare(self) -> None:
        """Take the weights as they are now for all products to come; again after every change of them."""
        self._prepared = Prepared.of(self._whole_parameters()[0])

    def _whole_parameters(self) -> tuple[Tensor, Tensor | None]:
        """All weights, and all biases where there are some, packed if they are not yet."""
        if self.weight is None or not _whole(self.weight, [linear.weight for linear in self.linears]):
            self.weight = self._pack([linear.weight for linear in self.linears])
        if self.biased and (self.bias is None or not _whole(self.bias, [linear.bias for linear in self.linears])):
            self.bias = self._pack([linear.bias for linear in self.linears])
        return self.weight, self.bias

    def _pack(self, parameters: Sequence[Tensor]) -> Tensor:
        if len(parameters) == 1:
            return parameters[0].detach()
        # Not an inference tensor, even when the caller infers: the parameters will be trained again.
        with torch.inference_mode(False), torch.no_grad():
            packed = torch.cat([parameter.detach() for parameter in parameters])
            for parameter, part in zip(parameters, packed.split_with_sizes(self.sizes), strict=True):
                parameter.data = part
        return packed


def _whole(packed: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether the parameters are views of ``packed``, one after the other."""
    address = packed.data_ptr()
    for parameter in parameters:
        if parameter.data_ptr() != address or parameter.dtype != packed.dtype:
            return False
        address += parameter.numel() * parameter.element_size()
    return True


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class ParallelBlock(nn.Module):
    """PaLM: y = x + MLP(LN(x)) + Attention(LN(x)), one norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = norm(config)
        a, m = self.self_attn, self.mlp
        self._packed = Packed((a.q_proj, a.k_proj, a.v_proj, m.gate_proj, m.up_proj))
        self._packed_out, self._packed_down = Packed((a.o_proj,)), Packed((m.down_proj,))
        self._sizes = _qkv_sizes(config) + 2 * [config.intermediate_size]
        self._size = [config.hidden_size]

    def forward(self, x: Tensor, rotary: Rotary, sight: Sight) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        normed = self.input_layernorm(x)
        out: Tensor = x + self.self_attn(normed, rotary, sight) + self.mlp(normed)
        return out

    def cached(self, x: Tensor, rotary: Rotary | Rolled, keys: Tensor, values: Tensor, at: Places) -> Tensor:
        """The same through this layer's part of the cache, for inference."""
        qk, v, gate, up = self._packed(self.input_layernorm(x), self._sizes)
        (attended,) = self._packed_out(self.self_attn.cached(qk, v, rotary, keys, values, at), self._size)
        (mixed,) = self._packed_down(F.silu(gate) * up, self._size)
        return x + attended + mixed


class SequentialBlock(nn.Module):
    """Llama and Qwen: x + Attention(norm(x)), then + MLP(norm(·))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = norm(config)
        self.post_attention_layernorm = norm(config)
        a, m = self.self_attn, self.mlp
        self._packed_qkv, self._packed_mlp = Packed((a.q_proj, a.k_proj, a.v_proj)), Packed((m.gate_proj, m.up_proj))
        self._packed_out, self._packed_down = Packed((a.o_proj,)), Packed((m.down_proj,))
        self._sizes, self._mlp_sizes = _qkv_sizes(config), 2 * [config.intermediate_size]
        self._size = [config.hidden_size]

    def forward(self, x: Tensor, rotary: Rotary, sight: Sight) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), rotary, sight)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def cached(self, x: Tensor, rotary: Rotary | Rolled, keys: Tensor, values: Tensor, at: Places) -> Tensor:
        """The same through this layer's part of the cache, for inference."""
        qk, v = self._packed_qkv(self.input_layernorm(x), self._sizes)
        (attended,) = self._packed_out(self.self_attn.cached(qk, v, rotary, keys, values, at), self._size)
        x = x + attended
        gate, up = self._packed_mlp(self.post_attention_layernorm(x), self._mlp_sizes)
        (mixed,) = self._packed_down(F.silu(gate) * up, self._size)
        return x + mixed


def _qkv_sizes(config: ModelConfig) -> list[int]:
    """Widths of queries with keys, and of values."""
    return [(config.num_heads + config.num_kv_heads) * config.head_dim, config.num_kv_heads * config.head_dim]
