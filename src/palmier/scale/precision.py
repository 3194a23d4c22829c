"""In which number format a model answers: fp32, bf16 or int8 weights, chosen by what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from palmier.model import checkpoint
from palmier.model.decoder import Decoder
from palmier.model.int8 import to_int8
from palmier.scale.runtime import default_dtype

Precision = Literal["auto", "fp32", "bf16", "int8"]

SMALL = 16_000_000
"""Parameters below which a decoding step takes 1 to 4 ms in bf16: a reader can't tell, so the weights stay as trained."""


BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
"""Memory of one weight."""


def choose(precision: Precision, count: int) -> Precision:
    """What a ``precision`` of auto means for a model of ``count`` parameters on this machine.

    int8 where it was measured to be the quickest for one sequence: torch's kernel for it is written for AVX-512 and for
    AVX2. The latter is not good enough to beat bf16 where the processor multiplies that, but well fp32, of whose bytes it
    reads a quarter. Elsewhere, and for a model that is quick anyway, it is what training computes in.
    """
    if precision != "auto":
        return precision
    plain: Precision = "fp32" if default_dtype() == torch.float32 else "bf16"
    kernels = {"AVX512", "AVX2"} if plain == "fp32" else {"AVX512"}
    return "int8" if count >= SMALL and torch.backends.cpu.get_cpu_capability() in kernels else plain


def parameters(folder: Path) -> int:
    """How many numbers the model in a Hugging Face folder has, by its config.json."""
    return sum(one.numel() for one in Decoder(checkpoint.load_config(folder)).parameters())  # a shape: no memory


def load(folder: Path, precision: Precision = "auto") -> Decoder:
    """The decoder in a Hugging Face folder, ready to answer in this precision; raises Refusal as `checkpoint.load`."""
    chosen = choose(precision, parameters(folder)) if precision == "auto" else precision
    if chosen == "int8":
        # Out of the stored numbers, which stay mapped to the file: never a second copy in memory.
        return to_int8(checkpoint.load(folder), default_dtype())
    return checkpoint.load(folder, torch.float32 if chosen == "fp32" else torch.bfloat16).eval()
