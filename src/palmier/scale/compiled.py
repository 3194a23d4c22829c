"""torch.compile for a module's blocks, only while a training step computes.

All blocks of a model share one compiled graph. Outside of training the same module may
generate with a cache, whose shapes change from call to call: that runs as it is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


class CompiledBlocks:
    """The blocks (members of a ModuleList named ``layers``) of a module, compiled for one shape."""

    def __init__(self, module: nn.Module) -> None:
        self._on = False
        self.count = 0
        for name, owner in module.named_modules():
            if isinstance(owner, nn.ModuleList) and name.rpartition(".")[2] == "layers":
                for block in owner:
                    self._attach(block)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While it lasts the blocks run compiled; the first call with a new shape compiles."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _attach(self, block: nn.Module) -> None:
        written: Callable[..., Any] = block.forward
        compiled = torch.compile(written, dynamic=False)

        def forward(*args: Any, **kwargs: Any) -> Any:
            return compiled(*args, **kwargs) if self._on else written(*args, **kwargs)

        block.forward = forward
        self.count += 1
