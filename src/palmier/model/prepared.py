"""Matrices in the order in which the CPU's product reads them, for weights that stay for a while.

oneDNN's product works on blocks of the weights. Called with a plain matrix it puts them into that order at every
call; for the few rows of a decoding step that takes longer than the product (in fp32 a plain product is another
library's, and slower still). The numbers are the same, in bf16 to the last bit. The copy takes the matrix's own
memory once more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 16
"""Rows of activations that the order is chosen for; others are multiplied too, a little less quickly."""

MOST_WIDE_ROWS = 64
"""Rows of fp32 up to which the order is used: oneDNN keeps a program of its own for every number of rows, which in long
prompts are many, and plain fp32 products of many rows, another library's, need none."""


class Prepared:
    """One matrix (out, in) as it was when this was made: whoever changes it makes another one."""

    def __init__(self, weight: Tensor) -> None:
        self._address, self._dtype = weight.data_ptr(), weight.dtype
        self._ordered = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)

    @classmethod
    def of(cls, weight: Tensor) -> Prepared | None:
        """The matrix prepared, or None where this machine's products have no order of their own."""
        if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
            return None
        wide = weight.dtype == torch.float32
        if not wide and not (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            return None
        with torch.inference_mode(False), torch.no_grad():
            return cls(weight.detach().contiguous())

    def holds(self, weight: Tensor) -> bool:
        """Whether it was made of the matrix that lies there (its numbers may have changed since)."""
        return weight.data_ptr() == self._address and weight.dtype == self._dtype

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (…, in) · weightᵀ + bias → (…, out). For inference: it carries no gradient."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._ordered, bias, "none", [], "")
        return out


def product(x: Tensor, weight: Tensor, bias: Tensor | None, prepared: Prepared | None) -> Tensor:
    """x (…, in) · weightᵀ + bias → (…, out), by ``prepared`` where it was made of this very matrix."""
    few = x.dtype != torch.float32 or x.numel() <= MOST_WIDE_ROWS * x.shape[-1]
    if few and prepared is not None and prepared.holds(weight):
        return prepared(x, bias)
    return F.linear(x, weight, bias)
