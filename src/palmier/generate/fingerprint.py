"""A short fingerprint of a module's weights, to show that two holders have the same ones."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

_WIDTH = 256
"""Words of 8 bytes in a row of the table that is summed."""


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits over the names, shapes, formats and exact bits of all parameters.

    As fast as memory is read. Any single changed bit changes it, and so do exchanged rows or
    columns; it is no defence against somebody who wants two sets of weights to agree.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in module.named_parameters():
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} {_sums(parameter)}\n".encode())
    return digest.hexdigest()


def _sums(parameter: Tensor) -> tuple[int, ...]:
    """Sums over the memory as a table of words, modulo 2**64: rows weighted by their place, columns by theirs."""
    data = parameter.detach().contiguous().flatten().view(torch.uint8)
    whole = len(data) // (8 * _WIDTH) * (8 * _WIDTH)
    table, rest = data[:whole].view(torch.int64).view(-1, _WIDTH), data[whole:].to(torch.int64)
    return _weighted(table.sum(dim=1)), _weighted(table.sum(dim=0)), _weighted(rest)


def _weighted(sums: Tensor) -> int:
    odd = 2 * torch.arange(len(sums), dtype=torch.int64, device=sums.device) + 1
    return int((sums * odd).sum())
