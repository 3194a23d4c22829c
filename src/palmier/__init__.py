"""Palmier: your own ChatGPT, from raw text to an assistant that people's rankings keep improving.

    model = palmier.load("smollm2")
    print(model.chat("Hello!").text)

What stands here is the public Python API (docs/python.md); it is loaded when it is first used, so that
`palmier --help` needs no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palmier.api import Model, load
    from palmier.errors import Refusal
    from palmier.records import Answer, Conversation, Message, Sampling

# MKL, which torch brings, keeps the buffers of its products for ever and takes a larger one for each larger shape: a
# server grew by it. It reads this when torch is imported, so it stands where nothing of palmier can have done that.
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")

__version__ = "0.1.0"
__all__ = ["Answer", "Conversation", "Message", "Model", "Refusal", "Sampling", "__version__", "load"]

_HOMES = {
    "Model": "palmier.api",
    "load": "palmier.api",
    "Refusal": "palmier.errors",
    "Answer": "palmier.records",
    "Conversation": "palmier.records",
    "Message": "palmier.records",
    "Sampling": "palmier.records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'palmier' has no attribute {name!r}")
    if _HOMES[name] == "palmier.api":
        importlib.import_module("palmier.scale.waiting").briefly()  # before torch comes with it
    return globals().setdefault(name, getattr(importlib.import_module(_HOMES[name]), name))


def __dir__() -> list[str]:
    return __all__
