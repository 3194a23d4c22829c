"""A short fingerprint of a module's weights, to show that two holders have the same ones."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits over the names, shapes, formats and exact bits of all parameters.

    One pass over the memory. Any single changed bit changes it, and so do exchanged rows or
    columns; it is no defence against somebody who wants two sets of weights to agree.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in module.named_parameters():
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} {_sums(parameter)}\n".encode())
    return digest.hexdigest()


def _sums(parameter: Tensor) -> tuple[int, int]:
    """Sums of the bits as integers, modulo 2**64: rows weighted by their place, and columns by theirs."""
    bits = parameter.detach().contiguous().view(_BITS[parameter.element_size()])
    table = bits.reshape(-1, bits.shape[-1] if bits.dim() > 1 else 1)
    return _weighted(table.sum(dim=1)), _weighted(table.sum(dim=0))


def _weighted(sums: Tensor) -> int:
    odd = torch.arange(1, 2 * len(sums), 2, dtype=torch.int64, device=sums.device)
    return int((sums * odd).sum())
